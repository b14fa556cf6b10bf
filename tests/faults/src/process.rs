//! What can be done to a process from outside.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock::wait_until;

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

fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

fn is_frozen(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| rest.starts_with('T'))
}
