//! C and C++ programs that are compiled against the library and run with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{library, root, run};

/// The compilers and standards that the header promises to support.
const C: &[&str] = &["cc", "-std=c99", "-D_POSIX_C_SOURCE=200809L"];
const CPP: &[&str] = &["c++", "-std=c++17"];
const STRICT: &[&str] = &["-Wall", "-Wextra", "-Werror", "-g", "-pthread"];

/// The libraries that a static program links in addition, as installed in `discover.pc`.
const SYSTEM_LIBRARIES: &[&str] = &[
    "-lgcc_s",
    "-lutil",
    "-lrt",
    "-lpthread",
    "-lm",
    "-ldl",
    "-lc",
];

/// Valgrind with fair scheduling, so that a spinning thread cannot starve the others.
const VALGRIND: &[&str] = &[
    "valgrind",
    "--quiet",
    "--error-exitcode=9",
    "--fair-sched=yes",
];

/// The maximum run time of a program, in seconds; a longer one hangs.
const TIMEOUT_SECONDS: &str = "300";

/// A compiled program in a temporary folder, which is deleted with it.
pub struct Program {
    dir: TempDir,
    path: PathBuf,
    library: PathBuf,
}

impl Program {
    /// Compiles sources, relative to the root of the repository, in the language of the first.
    pub fn new(sources: &[&str]) -> Program {
        Program::with_library(library(), sources, &[])
    }

    /// Compiles sources against the library in another folder, with extra compiler flags.
    pub fn with_library(library: &Path, sources: &[&str], flags: &[&str]) -> Program {
        Program::link(
            library,
            sources,
            flags,
            &["-L", path(library), "-ldiscover"],
        )
    }

    /// Compiles sources against the header in another folder.
    pub fn with_header(folder: &Path, sources: &[&str]) -> Program {
        Program::with_library(library(), sources, &["-I", path(folder)])
    }

    /// Compiles sources and links them to the static library.
    pub fn with_static_library(sources: &[&str]) -> Program {
        let archive = library().join("libdiscover.a");
        let static_libraries = [&[path(&archive)], SYSTEM_LIBRARIES].concat();
        Program::link(library(), sources, &[], &static_libraries)
    }

    /// Compiles one source for a sanitizer and links it to the sanitizer's runtime. The runtime of the Rust
    /// compiler works with the instrumentation of both compilers.
    pub fn with_sanitizer(library: &Path, source: &str, flag: &str, runtime: &str) -> Program {
        let dir = scratch();
        let object = dir.path().join("program.o");
        let language = if source.ends_with(".cc") { CPP } else { C };
        let mut compiler = Command::new(language[0]);
        compiler.args(&language[1..]).args(STRICT);
        compiler.args([flag, "-I", "include", "-c", source, "-o", path(&object)]);
        run(compiler.current_dir(root()));
        let runtime = format!("-Wl,--export-dynamic,--whole-archive,{runtime},--no-whole-archive");
        let libraries = ["-L", path(library), "-ldiscover", "-lm", "-ldl", "-lrt"];
        // C++ links both kinds of objects.
        Program::compile(library, &[path(&object)], CPP, &[&runtime], &libraries)
    }

    fn link(library: &Path, sources: &[&str], flags: &[&str], libraries: &[&str]) -> Program {
        let language = if sources[0].ends_with(".cc") { CPP } else { C };
        Program::compile(library, sources, language, flags, libraries)
    }

    fn compile(
        library: &Path,
        sources: &[&str],
        language: &[&str],
        flags: &[&str],
        libraries: &[&str],
    ) -> Program {
        let dir = scratch();
        let program = dir.path().join("program");
        let mut compiler = Command::new(language[0]);
        compiler.args(&language[1..]).args(STRICT).args(flags);
        compiler.args(["-I", "include", "-o", path(&program)]);
        run(compiler.args(sources).args(libraries).current_dir(root()));
        Program {
            dir,
            path: program,
            library: library.to_owned(),
        }
    }

    /// A local:// URL in the program's folder.
    pub fn local_url(&self) -> String {
        format!("local://{}/registry", path(self.dir.path()))
    }

    /// The command that runs the program.
    pub fn command(&self) -> Command {
        self.command_under(&[])
    }

    /// The command that runs the program under valgrind, which also checks for leaks.
    pub fn under_valgrind(&self) -> Command {
        let leaks = [
            "--leak-check=full",
            "--show-leak-kinds=definite",
            "--errors-for-leak-kinds=definite",
        ];
        self.command_under(&[VALGRIND, &leaks].concat())
    }

    /// The command that runs the program under valgrind without the leak check, because forked child processes
    /// cannot free what their parent's threads hold.
    pub fn under_valgrind_without_leak_check(&self) -> Command {
        self.command_under(VALGRIND)
    }

    fn command_under(&self, runner: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg(TIMEOUT_SECONDS).args(runner).arg(&self.path);
        command.env("LD_LIBRARY_PATH", &self.library);
        command.env("STORY", root().join("tests/story/story.txt"));
        command.env("DESCRIPTORS", root().join("tests/fixtures/descriptors.tsv"));
        command.env_remove("DISCOVER_URL").current_dir(root());
        command
    }
}

/// A temporary folder that is deleted with the test.
pub fn scratch() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder for the test")
}

pub fn path(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}
