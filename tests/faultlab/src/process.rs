//! Scheduling of processes from outside.

use std::process::Command;

use discover_testkit::process::{is_frozen, signal};
use nix::sys::signal::Signal;

use crate::netns::run;
use discover_testkit::clock::wait_until;

/// Sends SIGTERM.
pub fn terminate(pid: u32) {
    signal(pid, Signal::SIGTERM);
}

/// Freezes a process (SIGSTOP): its sockets stay open and nothing answers on them. Returns true once it has stopped.
pub fn freeze(pid: u32) -> bool {
    signal(pid, Signal::SIGSTOP);
    wait_until(2.0, || is_frozen(pid))
}

/// Continues a frozen process (SIGCONT).
pub fn thaw(pid: u32) {
    signal(pid, Signal::SIGCONT);
}

/// Sets the niceness of all threads of a process. New threads inherit that of their creator.
pub fn renice(pid: u32, nice: i32) -> Result<(), String> {
    let threads = format!("renice -n {nice} -p $(ls /proc/{pid}/task)");
    run(Command::new("sh").args(["-ec", &threads])).map(drop)
}

/// Pins all threads of a process to these processors.
pub fn pin(pid: u32, processors: &str) -> Result<(), String> {
    run(Command::new("taskset").args(["-a", "-c", "-p", processors, &pid.to_string()])).map(drop)
}
