//! The committed header equals the one generated from the sources.

mod support;

use std::env;
use std::fmt::Write;
use std::fs;

use discover_core::embed::{ErrorKind, VERSION};
use support::root;

/// The constants that cbindgen cannot derive: the version and the status codes.
fn constants() -> String {
    let mut text = String::from("\n");
    for (name, number) in ["MAJOR", "MINOR", "PATCH"].iter().zip(VERSION.split('.')) {
        let word = name.to_lowercase();
        let _ = writeln!(
            text,
            "/** The {word} version number of this header. */\n\
             #define DISCOVER_VERSION_{name} {number}"
        );
    }
    text.push_str(
        "\n/** True if the version of this header is major.minor.patch or later. */\n\
         #define DISCOVER_VERSION_AT_LEAST(major, minor, patch) \\\n    \
         (DISCOVER_VERSION_NUMBER >= (major) * 1000000 + (minor) * 1000 + (patch))\n\
         \n/** The version as one comparable number: 1.2.3 is 1002003. */\n\
         #define DISCOVER_VERSION_NUMBER \\\n    \
         (DISCOVER_VERSION_MAJOR * 1000000 + DISCOVER_VERSION_MINOR * 1000 + DISCOVER_VERSION_PATCH)\n\
         \n/** Success. */\n#define DISCOVER_OK 0\n",
    );
    for kind in ErrorKind::ALL {
        let name = kind.name().to_uppercase();
        let retriable = if kind.is_retriable() {
            " Retriable."
        } else {
            ""
        };
        let meaning = kind.meaning();
        let code = kind.code();
        let _ = writeln!(
            text,
            "/** {meaning}{retriable} */\n#define DISCOVER_ERR_{name} {code}"
        );
    }
    text
}

fn generate() -> String {
    let ffi = root().join("ffi");
    let mut config =
        cbindgen::Config::from_file(ffi.join("cbindgen.toml")).expect("the configuration");
    let manual = fs::read_to_string(ffi.join("manual.h")).expect("ffi/manual.h");
    config.header = Some(manual.trim_end().to_owned());
    config.after_includes = Some(constants());
    let builder = cbindgen::Builder::new().with_crate(ffi).with_config(config);
    let mut text = Vec::new();
    builder.generate().expect("a header").write(&mut text);
    String::from_utf8(text).expect("a text")
}

#[test]
fn the_header_equals_the_generated_one() {
    let (path, fresh) = (root().join("include/discover.h"), generate());
    if env::var_os("UPDATE_HEADER").is_some() {
        fs::write(&path, &fresh).expect("writes the header");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = fresh
        .lines()
        .zip(committed.lines())
        .position(|(a, b)| a != b);
    assert!(
        fresh == committed,
        "include/discover.h differs from the sources from line {}; \
         UPDATE_HEADER=1 cargo test -p discover-ffi --test header regenerates it",
        differs.unwrap_or_default() + 1
    );
}
