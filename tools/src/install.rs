//! `install`: installs the built C library in the standard layout of packages and build systems. The installed tree is
//! relocatable: it can be moved, or staged with --destdir.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::{root, target_dir};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Libraries that a statically linked program needs in addition: `cargo rustc -p discover-ffi --crate-type
/// staticlib -- --print native-static-libs`.
const SYSTEM_LIBRARIES: [&str; 7] = ["gcc_s", "util", "rt", "pthread", "m", "dl", "c"];

/// The headers in include/ to install.
const HEADERS: [&str; 6] = [
    "discover.h",
    "discover.hpp",
    "discover_base.hpp",
    "discover_descriptor.hpp",
    "discover_scalingo.hpp",
    "discover_snapshot.hpp",
];

const PKG_CONFIG: &str = include_str!("../templates/discover.pc");
const CMAKE_CONFIG: &str = include_str!("../templates/libdiscoverConfig.cmake");
const CMAKE_VERSION: &str = include_str!("../templates/libdiscoverConfigVersion.cmake");

struct Options {
    prefix: PathBuf,
    /// Directory of libraries below the prefix: `lib`, or another name on some distributions.
    libdir: PathBuf,
    destdir: PathBuf,
    profile: String,
}

pub fn run(arguments: &[&str]) -> Result<(), String> {
    let options = parse(arguments)?;
    let destination = under(&options.destdir, &options.prefix);
    install(
        &target_dir().join(&options.profile),
        &root().join("include"),
        &destination,
        &options.libdir,
    )?;
    println!(
        "installed libdiscover {VERSION} in {}",
        destination.display()
    );
    // A staged tree is used from its prefix later.
    if options.destdir.as_os_str().is_empty() {
        print!("{}", guidance(&options.prefix.join(&options.libdir)));
    }
    Ok(())
}

/// Returns the commands that compile a program with the library in this directory and run it. The compiler finds the
/// library by `PKG_CONFIG_PATH`, the program by its rpath.
fn guidance(lib: &Path) -> String {
    let lib = lib.display();
    format!(
        "compile a program and run it:\n\
         \x20 export PKG_CONFIG_PATH={lib}/pkgconfig\n\
         \x20 cc web.c $(pkg-config --cflags --libs discover) -Wl,-rpath,{lib} && ./a.out\n"
    )
}

fn parse(arguments: &[&str]) -> Result<Options, String> {
    let mut prefix = None;
    let mut options = Options {
        prefix: PathBuf::new(),
        libdir: PathBuf::from("lib"),
        destdir: PathBuf::new(),
        profile: "release".to_owned(),
    };
    for pair in arguments.chunks(2) {
        match *pair {
            ["--prefix", dir] => prefix = Some(PathBuf::from(dir)),
            ["--libdir", dir] => options.libdir = PathBuf::from(dir),
            ["--destdir", dir] => options.destdir = PathBuf::from(dir),
            ["--profile", profile] => options.profile = profile.to_owned(),
            _ => return Err(format!("install: unknown option {}", pair.join(" "))),
        }
    }
    options.prefix = prefix.ok_or("install: option --prefix is required")?;
    if !options.prefix.is_absolute() {
        return Err("install: --prefix must be an absolute path".to_owned());
    }
    let plain = |part| matches!(part, Component::Normal(_));
    if !options.libdir.components().all(plain) {
        return Err("install: --libdir must be a relative path below the prefix".to_owned());
    }
    Ok(options)
}

/// Returns the prefix below the destination directory, as the usual DESTDIR of make.
fn under(destdir: &Path, prefix: &Path) -> PathBuf {
    if destdir.as_os_str().is_empty() {
        return prefix.to_owned();
    }
    let relative = prefix
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    destdir.join(relative.collect::<PathBuf>())
}

fn install(built: &Path, include: &Path, destination: &Path, libdir: &Path) -> Result<(), String> {
    let (lib, headers) = (destination.join(libdir), destination.join("include"));
    let cmake = lib.join("cmake/libdiscover");

    let shared = format!("libdiscover.so.{VERSION}");
    let soname = format!("libdiscover.so.{}", abi(VERSION));
    copy(&built.join("libdiscover.so"), &lib.join(&shared))?;
    link(&shared, &lib.join(&soname))?;
    link(&soname, &lib.join("libdiscover.so"))?;
    copy(&built.join("libdiscover.a"), &lib.join("libdiscover.a"))?;

    for header in HEADERS {
        copy(&include.join(header), &headers.join(header))?;
    }

    for (template, place) in [
        (PKG_CONFIG, lib.join("pkgconfig/discover.pc")),
        (CMAKE_CONFIG, cmake.join("libdiscoverConfig.cmake")),
        (CMAKE_VERSION, cmake.join("libdiscoverConfigVersion.cmake")),
    ] {
        write(&fill(template, libdir), &place)?;
    }
    Ok(())
}

/// Returns the ABI version, which is the number in the SONAME: `0.MINOR` below 1.0, `MAJOR` from 1.0 on. ffi/build.rs
/// has the same rule.
fn abi(version: &str) -> String {
    let parts: Vec<&str> = version.split('.').collect();
    let significant = if parts[0] == "0" { 2 } else { 1 };
    parts[..significant.min(parts.len())].join(".")
}

/// Fills in a template. The files compute the prefix from their own location, with `@UP@` as the relative path.
fn fill(template: &str, libdir: &Path) -> String {
    let up = vec![".."; libdir.components().count()].join("/");
    template
        .replace("@VERSION@", VERSION)
        .replace("@LIBDIR@", &libdir.display().to_string())
        .replace("@UP@", &up)
        .replace("@ABI@", &abi(VERSION))
        .replace(
            "@FLAGS@",
            &SYSTEM_LIBRARIES.map(|name| format!("-l{name}")).join(" "),
        )
        .replace("@LIBRARIES@", &SYSTEM_LIBRARIES.join(";"))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    place(to, |new| fs::copy(from, new).map(drop))
        .map_err(|error| format!("install: {} to {}: {error}", from.display(), to.display()))
}

fn write(text: &str, to: &Path) -> Result<(), String> {
    place(to, |new| fs::write(new, text))
        .map_err(|error| format!("install: {}: {error}", to.display()))
}

fn link(target: &str, link: &Path) -> Result<(), String> {
    place(link, |new| std::os::unix::fs::symlink(target, new))
        .map_err(|error| format!("install: {}: {error}", link.display()))
}

/// Writes a new file next to the target and renames it: a failure keeps the old file, and running programs keep the
/// library that they have open.
fn place(to: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut new = to.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => make(&new)?,
    }
    fs::rename(&new, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_abi_is_the_minor_version_below_1_and_the_major_after() {
        assert_eq!(abi("0.1.0"), "0.1");
        assert_eq!(abi("0.12.3"), "0.12");
        assert_eq!(abi("1.2.3"), "1");
        assert_eq!(abi("10.0.0-rc.1"), "10");
    }

    #[test]
    fn destdir_precedes_the_prefix() {
        assert_eq!(under(Path::new(""), Path::new("/usr")), Path::new("/usr"));
        assert_eq!(
            under(Path::new("/stage"), Path::new("/usr/local")),
            Path::new("/stage/usr/local")
        );
    }

    #[test]
    fn the_printed_commands_are_those_of_the_readme() {
        let readme = include_str!("../../README.md");
        let commands = guidance(Path::new("$HOME/.local/lib"));
        for command in commands.lines().skip(1) {
            assert!(readme.contains(command.trim()), "{command}");
        }
    }

    #[test]
    fn templates_are_filled_to_the_last_mark() {
        for template in [PKG_CONFIG, CMAKE_CONFIG, CMAKE_VERSION] {
            let filled = fill(template, Path::new("lib/x86_64-linux-gnu"));
            assert!(!filled.contains('@'), "{filled}");
        }
        let filled = fill(PKG_CONFIG, Path::new("lib/x86_64-linux-gnu"));
        assert!(filled.contains("-lpthread"));
        assert!(
            filled.starts_with("prefix=${pcfiledir}/../../..\n"),
            "{filled}"
        );
    }

    #[test]
    fn options_need_a_prefix_and_are_all_known() {
        let options = parse(&["--prefix", "/usr", "--profile", "debug"]).ok();
        assert_eq!(
            options.map(|options| options.profile).as_deref(),
            Some("debug")
        );
        assert!(parse(&["--destdir", "/stage"]).is_err());
        assert!(parse(&["--prefix", "usr"]).is_err());
        assert!(parse(&["--prefix"]).is_err());
        assert!(parse(&["--prefix", "/usr", "--bindir", "bin"]).is_err());
        for dir in ["/usr/lib64", "../lib"] {
            assert!(parse(&["--prefix", "/usr", "--libdir", dir]).is_err());
        }
    }

    #[test]
    fn installing_again_replaces_the_files_and_a_failure_keeps_them() {
        let scratch =
            std::env::temp_dir().join(format!("libdiscover-install-{}", std::process::id()));
        let (built, include) = (scratch.join("built"), scratch.join("include"));
        for file in ["built/libdiscover.so", "built/libdiscover.a"] {
            write(file, &scratch.join(file)).unwrap();
        }
        for header in HEADERS {
            write(header, &include.join(header)).unwrap();
        }
        let destination = scratch.join("usr");
        for _ in 0..2 {
            install(&built, &include, &destination, Path::new("lib")).unwrap();
        }
        let not_built = scratch.join("not built");
        install(&not_built, &include, &destination, Path::new("lib")).unwrap_err();
        let library = fs::read_to_string(destination.join("lib/libdiscover.so")).unwrap();
        assert_eq!(library, "built/libdiscover.so", "through both links");
        let soname = fs::read_link(destination.join("lib/libdiscover.so")).unwrap();
        assert_eq!(
            soname.to_str(),
            Some(format!("libdiscover.so.{}", abi(VERSION)).as_str())
        );
        fs::remove_dir_all(&scratch).unwrap();
    }
}
