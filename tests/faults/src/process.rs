//! What can be done to a process from outside.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock::wait_until;
use crate::netns::run;

/// Asks a process to end.
pub fn terminate(pid: u32) {
    signal(pid, Signal::SIGTERM);
}

/// Freezes a process: its sockets stay open, and nobody answers on them. True if it stands still afterwards.
pub fn freeze(pid: u32) -> bool {
    signal(pid, Signal::SIGSTOP);
    wait_until(2.0, || is_frozen(pid))
}

/// Lets a frozen process go on.
pub fn thaw(pid: u32) {
    signal(pid, Signal::SIGCONT);
}

/// How nice a process is, in each of its threads: 19 gives way to everybody. The threads that it starts
/// later are as nice as who starts them.
pub fn renice(pid: u32, nice: i32) -> Result<(), String> {
    let threads = format!("renice -n {nice} -p $(ls /proc/{pid}/task)");
    run(Command::new("sh").args(["-ec", &threads])).map(drop)
}

/// Puts a process, with each of its threads, on these processors.
pub fn pin(pid: u32, processors: &str) -> Result<(), String> {
    run(Command::new("taskset").args(["-a", "-c", "-p", processors, &pid.to_string()])).map(drop)
}

fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

fn is_frozen(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| rest.starts_with('T'))
}
