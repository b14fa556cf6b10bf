//! C and C++ programs, built against the library and run with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{library, root, run};

/// How the header promises that programs can be compiled.
const C: &[&str] = &["cc", "-std=c99", "-D_POSIX_C_SOURCE=200809L"];
const CPP: &[&str] = &["c++", "-std=c++17"];
const STRICT: &[&str] = &["-Wall", "-Wextra", "-Werror", "-g", "-pthread"];

/// What a static program links besides the library, as `make install` tells it to.
const SYSTEM_LIBRARIES: &[&str] = &[
    "-lgcc_s",
    "-lutil",
    "-lrt",
    "-lpthread",
    "-lm",
    "-ldl",
    "-lc",
];

/// Of two threads, one that spins must not keep the other from running.
const VALGRIND: &[&str] = &[
    "valgrind",
    "--quiet",
    "--error-exitcode=9",
    "--fair-sched=yes",
];

/// A program that runs longer than this, in seconds, hangs.
const PATIENCE: &str = "300";

/// A program in a folder of its own, which goes with it.
pub struct Program {
    dir: TempDir,
    path: PathBuf,
    library: PathBuf,
}

impl Program {
    /// Compiles sources, told from the top of the repository, in the language of the first.
    pub fn new(sources: &[&str]) -> Program {
        Program::with_library(library(), sources, &[])
    }

    /// The same with the library in another folder, and with further flags for the compiler.
    pub fn with_library(library: &Path, sources: &[&str], flags: &[&str]) -> Program {
        Program::link(
            library,
            sources,
            flags,
            &["-L", path(library), "-ldiscover"],
        )
    }

    /// The same with the header in another folder.
    pub fn with_header(folder: &Path, sources: &[&str]) -> Program {
        Program::with_library(library(), sources, &["-I", path(folder)])
    }

    /// The same with the library inside the program.
    pub fn with_static_library(sources: &[&str]) -> Program {
        let archive = library().join("libdiscover.a");
        let inside = [&[path(&archive)], SYSTEM_LIBRARIES].concat();
        Program::link(library(), sources, &[], &inside)
    }

    /// Compiles one source for a checker, and links it with the checker's own archive: that of the Rust
    /// compiler knows what both compilers have put in.
    pub fn checked_by(library: &Path, source: &str, checker: &str, archive: &str) -> Program {
        let dir = scratch();
        let object = dir.path().join("program.o");
        let language = if source.ends_with(".cc") { CPP } else { C };
        let mut compiler = Command::new(language[0]);
        compiler.args(&language[1..]).args(STRICT);
        compiler.args([checker, "-I", "include", "-c", source, "-o", path(&object)]);
        run(compiler.current_dir(root()));
        let whole = format!("-Wl,--export-dynamic,--whole-archive,{archive},--no-whole-archive");
        let libraries = ["-L", path(library), "-ldiscover", "-lm", "-ldl", "-lrt"];
        // An object is linked in the language whose libraries do for both.
        Program::with(library, &[path(&object)], CPP, &[&whole], &libraries)
    }

    fn link(library: &Path, sources: &[&str], flags: &[&str], libraries: &[&str]) -> Program {
        let language = if sources[0].ends_with(".cc") { CPP } else { C };
        Program::with(library, sources, language, flags, libraries)
    }

    fn with(
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

    /// A place on local:// that goes with the program.
    pub fn local_url(&self) -> String {
        format!("local://{}/registry", path(self.dir.path()))
    }

    /// The command that runs it.
    pub fn command(&self) -> Command {
        self.prepared(&[])
    }

    /// The command that runs it with every use of memory checked, and all of it given back.
    pub fn under_valgrind(&self) -> Command {
        let leaks = [
            "--leak-check=full",
            "--show-leak-kinds=definite",
            "--errors-for-leak-kinds=definite",
        ];
        self.prepared(&[VALGRIND, &leaks].concat())
    }

    /// The same for a program whose forked children cannot give back what their parent's threads hold.
    pub fn under_valgrind_but_leaking(&self) -> Command {
        self.prepared(VALGRIND)
    }

    fn prepared(&self, runner: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg(PATIENCE).args(runner).arg(&self.path);
        command.env("LD_LIBRARY_PATH", &self.library);
        command.env("STORY", root().join("tests/story/story.txt"));
        command.env("DESCRIPTORS", root().join("tests/fixtures/descriptors.tsv"));
        command.env_remove("DISCOVER_URL").current_dir(root());
        command
    }
}

/// A folder for files that go when the test does.
pub fn scratch() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder for the test")
}

pub fn path(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}
