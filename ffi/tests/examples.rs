//! Runs the C and C++ examples together on local:// and compares their output.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use support::{Program, scratch};

/// A running example. After its time limit, reading its output gives an empty line.
struct RunningExample {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl RunningExample {
    fn start(command: &mut Command, url: &str) -> RunningExample {
        command.env("DISCOVER_URL", url);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let output = BufReader::new(child.stdout.take().expect("the stream is piped"));
        RunningExample { child, output }
    }

    fn expect_line(&mut self, line: &str) {
        let mut received = String::new();
        self.output
            .read_line(&mut received)
            .expect("the output is text");
        assert_eq!(received.trim_end(), line);
    }

    /// Presses Enter and checks that the program exits with success.
    fn press_enter(mut self) {
        let mut stdin = self.child.stdin.take().expect("the stream is piped");
        stdin.write_all(b"\n").expect("the program reads its input");
        assert!(self.child.wait().expect("the program exits").success());
    }
}

fn register_and_watch(extension: &str) {
    let folder = scratch();
    let url = format!("local://{}/registry", support::path(folder.path()));
    let watch = Program::new(&[&format!("examples/watch.{extension}")]);
    let register = Program::new(&[&format!("examples/register.{extension}")]);

    let mut watcher = RunningExample::start(&mut watch.command(), &url);
    watcher.expect_line("current");
    let mut web = RunningExample::start(register.command().arg("7001"), &url);
    web.expect_line("registered web at 127.0.0.1:7001");
    watcher.expect_line("up 127.0.0.1:7001");
    watcher.expect_line("leader 127.0.0.1:7001");
    web.press_enter();
    watcher.expect_line("down 127.0.0.1:7001");
    watcher.expect_line("leader none");
    watcher.press_enter();
}

fn lead_and_follow(extension: &str) {
    let folder = scratch();
    let url = format!("local://{}/registry", support::path(folder.path()));
    let leader = Program::new(&[&format!("examples/leader.{extension}")]);

    let mut first = RunningExample::start(leader.command().arg("7001"), &url);
    first.expect_line("leading");
    let mut second = RunningExample::start(leader.command().arg("7002"), &url);
    second.expect_line("following 127.0.0.1:7001");
    first.press_enter();
    second.expect_line("leading");
    second.press_enter();
}

#[test]
fn register_and_watch_in_c() {
    register_and_watch("c");
}

#[test]
fn register_and_watch_in_cpp() {
    register_and_watch("cc");
}

#[test]
fn lead_and_follow_in_c() {
    lead_and_follow("c");
}

#[test]
fn lead_and_follow_in_cpp() {
    lead_and_follow("cc");
}

#[test]
fn a_failure_is_printed_and_ends_the_program() {
    for source in ["examples/register.c", "examples/register.cc"] {
        let register = Program::new(&[source]);
        let mut command = register.command();
        command.arg("70000").env("DISCOVER_URL", "memory://example");
        let output = command.output().expect("the program starts");
        assert_eq!(output.status.code(), Some(1));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors, "register: port 70000 is not in 1 to 65535\n");
    }
}
