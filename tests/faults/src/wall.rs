//! The wall clock of the programs under test, which a scenario can move: a small library that they are
//! started with stands before the C library's own. Nobody else's clock moves, and the monotonic one, by
//! which everything here is judged, is left alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::netns::run;

/// See the module.
pub struct Wall {
    /// Two numbers of eight bytes: by how many seconds it is moved, and how often it was asked.
    shared: File,
    folder: PathBuf,
}

impl Wall {
    /// A clock that is right, for the programs of one lab; its files are in this folder.
    pub fn new(folder: &Path) -> Result<Wall, String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("watchers/wall.c");
        let mut compiler = Command::new("cc");
        compiler
            .args([
                "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o",
            ])
            .args([&folder.join(LIBRARY), &source]);
        run(&mut compiler)?;
        let mut options = File::options();
        let shared = options.create(true).truncate(true).read(true).write(true);
        let shared = shared.open(folder.join(SHARED)).map_err(text)?;
        shared.set_len(16).map_err(text)?;
        let folder = folder.to_owned();
        Ok(Wall { shared, folder })
    }

    /// What a program must be started with.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("LD_PRELOAD", self.folder.join(LIBRARY)),
            ("FAULTS_WALL", self.folder.join(SHARED)),
        ]
    }

    /// Moves it so many seconds away from the true time.
    pub fn set(&self, seconds: i64) -> Result<(), String> {
        self.shared
            .write_all_at(&seconds.to_ne_bytes(), 0)
            .map_err(text)
    }

    /// How often the programs have asked for the time.
    pub fn asked(&self) -> Result<u64, String> {
        let mut asked = [0; 8];
        self.shared.read_exact_at(&mut asked, 8).map_err(text)?;
        Ok(u64::from_ne_bytes(asked))
    }
}

const LIBRARY: &str = "wall.so";
const SHARED: &str = "wall";

fn text(error: std::io::Error) -> String {
    format!("the wall clock: {error}")
}
