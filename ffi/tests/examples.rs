//! The examples in C and C++, each seen by the others, on local://.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use support::{Program, scratch};

/// An example at work. What it does not say within the program's time is read as nothing.
struct Running {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Running {
    fn start(command: &mut Command, url: &str) -> Running {
        command.env("DISCOVER_URL", url);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        Running { child, said }
    }

    fn says(&mut self, line: &str) {
        let mut said = String::new();
        self.said.read_line(&mut said).expect("it is text");
        assert_eq!(said.trim_end(), line);
    }

    /// Enter is pressed, and the program ends well.
    fn enter(mut self) {
        let mut stdin = self.child.stdin.take().expect("it is piped");
        stdin.write_all(b"\n").expect("it listens");
        assert!(self.child.wait().expect("it ends").success());
    }
}

fn register_and_watch(extension: &str) {
    let place = scratch();
    let url = format!("local://{}/registry", support::path(place.path()));
    let watch = Program::new(&[&format!("examples/watch.{extension}")]);
    let register = Program::new(&[&format!("examples/register.{extension}")]);

    let mut watcher = Running::start(&mut watch.command(), &url);
    watcher.says("current");
    let mut web = Running::start(register.command().arg("7001"), &url);
    web.says("registered web at 127.0.0.1:7001");
    watcher.says("up 127.0.0.1:7001");
    watcher.says("leader 127.0.0.1:7001");
    web.enter();
    watcher.says("down 127.0.0.1:7001");
    watcher.says("leader none");
    watcher.enter();
}

fn lead_and_follow(extension: &str) {
    let place = scratch();
    let url = format!("local://{}/registry", support::path(place.path()));
    let leader = Program::new(&[&format!("examples/leader.{extension}")]);

    let mut first = Running::start(leader.command().arg("7001"), &url);
    first.says("leading");
    let mut second = Running::start(leader.command().arg("7002"), &url);
    second.says("following 127.0.0.1:7001");
    first.enter();
    second.says("leading");
    second.enter();
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
fn a_failure_is_told_and_ends_the_program() {
    for source in ["examples/register.c", "examples/register.cc"] {
        let register = Program::new(&[source]);
        let mut command = register.command();
        command.arg("70000").env("DISCOVER_URL", "memory://example");
        let output = command.output().expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(told, "register: port 70000 is not in 1 to 65535\n");
    }
}
