//! Child processes of tests: started so that they cannot outlive the test program, signalled, and inspected.

use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually;

/// Returns a command that the kernel kills when its parent dies: `setpriv --pdeathsig KILL program`.
pub fn dies_with_parent(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Spawns a child from a thread that lives as long as the test program.
///
/// For the kernel, the parent of a child is the thread that spawned it, and the thread of a test ends with the test;
/// a child that is shared by several tests must outlive it.
pub fn spawn(command: Command) -> Child {
    type Request = (Command, Sender<Child>);
    static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox): (Sender<Request>, Receiver<Request>) = channel();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                let child = command.spawn();
                reply
                    .send(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
                    .unwrap();
            }
        });
        requests
    });
    let (reply, child) = channel();
    spawner.send((command, reply)).unwrap();
    child.recv().unwrap()
}

/// Returns a TCP port of the loopback interface that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Sends a signal. A process that no longer exists is ignored.
pub fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

/// Returns the memory that a process has resident, in bytes.
pub fn resident_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line
        .and_then(|line| line.split_whitespace().next())
        .unwrap();
    kilobytes.parse::<usize>().unwrap() * 1024
}

/// Stops a process (SIGSTOP) and waits until all of its threads have stopped. Its sockets stay open.
pub fn freeze(pid: u32) {
    signal(pid, Signal::SIGSTOP);
    eventually("the process stops", || is_frozen(pid).then_some(()));
}

/// Continues a frozen process (SIGCONT).
pub fn thaw(pid: u32) {
    signal(pid, Signal::SIGCONT);
}

/// Returns true if all threads of a process are stopped.
pub fn is_frozen(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ")
            .next()
            .is_none_or(|state| state.starts_with('T'))
    })
}
