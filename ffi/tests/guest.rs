//! A guest in a C program's process: what it opens, which signals it takes, how much it keeps, and what it
//! does when there is nothing left to be had.

#[path = "../../core/tests/support/etcd.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod etcd;
#[path = "guest/proxy.rs"]
mod proxy;
mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use etcd::Etcd;
use proxy::Proxy;
use support::{Program, rounds, run};

/// How long etcd may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

const MEMORY: &str = "memory://guest";

fn holds(name: &str) {
    let program = Program::new(&[&format!("ffi/tests/c/{name}")]);
    for url in [MEMORY, &program.local_url()] {
        run(program.command().arg(url));
    }
}

#[test]
fn no_program_inherits_a_descriptor_and_no_signal_is_taken() {
    holds("manners.c");
}

#[test]
fn that_goes_for_sockets_too() {
    let Some(etcd) = Etcd::start() else {
        return;
    };
    let program = Program::new(&["ffi/tests/c/manners.c"]);
    run(program
        .command()
        .arg(format!("etcd://{}/manners", etcd.endpoint())));
}

#[test]
fn what_cannot_be_had_is_an_error_and_what_was_known_is_kept() {
    holds("exhaustion.c");
}

#[test]
fn cycles_leave_no_memory_no_descriptor_and_no_thread() {
    let program = Program::new(&["ffi/tests/c/cycles.c"]);
    for url in [MEMORY, &program.local_url()] {
        support::tell(&run(program.command().arg(url)));
    }
}

#[test]
fn what_cycles_leave_would_be_found() {
    let program = Program::new(&["ffi/tests/c/cycles.c"]);
    let mut leaking = program.command();
    let output = leaking.args([MEMORY, "leak"]).output().expect("it starts");
    assert!(!output.status.success());
}

#[test]
fn a_registry_that_hangs_up_does_not_end_the_program() {
    let Some(etcd) = Etcd::start() else {
        return;
    };
    let proxy = Proxy::to(etcd.endpoint());
    let program = Program::new(&["ffi/tests/c/resets.c"]);
    let mut command = program.command();
    command.arg(format!("etcd://{}/resets", proxy.address));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("it is text");
    assert_eq!(line, "up\n");
    for _ in 0..rounds(200) {
        proxy.reset();
    }
    for _ in 0..rounds(50) {
        proxy.hang_up(2);
    }
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(b"end\n").expect("it still listens");
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{status}");
}
