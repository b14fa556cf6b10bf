//! The library's effects on the process of a C program: descriptors, signals, leaks, and exhausted resources.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use discover_testkit::etcd::Etcd;
use discover_testkit::proxy::FaultProxy;
use support::{Program, rounds, run};

const MEMORY: &str = "memory://process";

fn passes(name: &str) {
    let program = Program::new(&[&format!("ffi/tests/c/{name}")]);
    for url in [MEMORY, &program.local_url()] {
        run(program.command().arg(url));
    }
}

#[test]
fn child_programs_inherit_no_descriptor_and_signals_are_unchanged() {
    passes("process_isolation.c");
}

#[test]
fn child_programs_inherit_no_socket() {
    let Some(etcd) = Etcd::start() else {
        return;
    };
    let program = Program::new(&["ffi/tests/c/process_isolation.c"]);
    run(program
        .command()
        .arg(format!("etcd://{}/process-isolation", etcd.endpoint())));
}

#[test]
fn exhausted_resources_are_errors_and_sets_keep_their_contents() {
    passes("resource_limits.c");
}

#[test]
fn leak_cycles_leave_no_memory_no_descriptor_and_no_thread() {
    let program = Program::new(&["ffi/tests/c/leak_cycles.c"]);
    for url in [MEMORY, &program.local_url()] {
        support::print_in_soak(&run(program.command().arg(url)));
    }
}

#[test]
fn a_leak_is_detected() {
    let program = Program::new(&["ffi/tests/c/leak_cycles.c"]);
    let mut leaking = program.command();
    let output = leaking
        .args([MEMORY, "leak"])
        .output()
        .expect("the program starts");
    assert!(!output.status.success());
}

#[test]
fn a_reset_connection_does_not_end_the_program() {
    let Some(etcd) = Etcd::start() else {
        return;
    };
    let proxy = FaultProxy::start(etcd.endpoint());
    let program = Program::new(&["ffi/tests/c/connection_resets.c"]);
    let mut command = program.command();
    command.arg(format!("etcd://{}/resets", proxy.address()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut output = BufReader::new(child.stdout.take().expect("the stream is piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("the output is text");
    assert_eq!(line, "up\n");
    for _ in 0..rounds(200) {
        proxy.reset_and_wait();
    }
    for _ in 0..rounds(50) {
        proxy.hang_up(2);
    }
    let mut input = child.stdin.take().expect("the stream is piped");
    input
        .write_all(b"end\n")
        .expect("the program reads its input");
    let status = child.wait().expect("the program exits");
    assert!(status.success(), "{status}");
}
