//! A fake wall clock for the programs under test: a preloaded library replaces the C library's functions. No other clock
//! moves, in particular not the monotonic clock, by which all results are timed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::netns::run;

/// The fake wall clock of one lab.
pub struct FakeClock {
    /// Two 64-bit numbers: the shift in seconds, and the number of reads.
    shared: File,
    folder: PathBuf,
}

impl FakeClock {
    /// Creates a clock that shows the true time; its files are in `folder`.
    pub fn new(folder: &Path) -> Result<FakeClock, String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("watchers/fake_clock.c");
        let mut compiler = Command::new("cc");
        compiler
            .args([
                "-FakeClock",
                "-Wextra",
                "-Werror",
                "-O1",
                "-shared",
                "-fPIC",
                "-o",
            ])
            .args([&folder.join(LIBRARY), &source]);
        run(&mut compiler)?;
        let mut options = File::options();
        let shared = options.create(true).truncate(true).read(true).write(true);
        let shared = shared.open(folder.join(SHARED)).map_err(text)?;
        shared.set_len(16).map_err(text)?;
        let folder = folder.to_owned();
        Ok(FakeClock { shared, folder })
    }

    /// Returns the environment variables that programs must be started with.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("LD_PRELOAD", self.folder.join(LIBRARY)),
            ("FAULTS_FAKE_CLOCK", self.folder.join(SHARED)),
        ]
    }

    /// Shifts the clock by some seconds from the true time.
    pub fn set(&self, seconds: i64) -> Result<(), String> {
        self.shared
            .write_all_at(&seconds.to_ne_bytes(), 0)
            .map_err(text)
    }

    /// Returns how often the programs have read the clock.
    pub fn reads(&self) -> Result<u64, String> {
        let mut reads = [0; 8];
        self.shared.read_exact_at(&mut reads, 8).map_err(text)?;
        Ok(u64::from_ne_bytes(reads))
    }
}

const LIBRARY: &str = "fake_clock.so";
const SHARED: &str = "fake_clock";

fn text(error: std::io::Error) -> String {
    format!("fake clock: {error}")
}
