//! Every function that the header declares, driven by a C program that is written from the header: with
//! NULL and with what is not UTF-8 wherever a pointer can be given, on handles of a closed client, and
//! with a bug of ours inside. What each must answer follows from the words of its comment, or is stated
//! in `every_function/answers.rs`; a function about which neither says enough fails the test, so that no new one
//! goes untried.

mod support;
#[path = "every_function/written.rs"]
mod written;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use support::{Function, Program, functions, path, run, scratch, variant};

/// Runs the cases of `of` for each function under each of the runners, and gives the names of all
/// functions that had one.
fn drive(of: impl Fn(&Function) -> Vec<written::Case>, closed: bool) -> BTreeSet<String> {
    let dir = scratch();
    let source = dir.path().join("every_function.c");
    let cases: Vec<written::Case> = functions().iter().flat_map(of).collect();
    fs::write(&source, written::program(&cases, closed)).expect("writes the program");
    let library = variant("inject", &["--features", "inject-panic"]);
    let flags = ["-I", "ffi/tests/c", "-Wno-unused-function"];
    let program = Program::with_library(&library, &[path(&source)], &flags);
    silent(&mut program.under_valgrind());
    silent(&mut program.command())
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Runs a program that must succeed and say nothing in the library's name, least of all of a bug.
fn silent(command: &mut Command) -> String {
    command.arg("memory://every-function");
    command.env("DISCOVER_URL", "memory://every-function");
    let output = command.output().expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn all_but(left_out: &[&str]) -> BTreeSet<String> {
    let names = functions().into_iter().map(|function| function.name);
    names
        .filter(|name| !left_out.contains(&name.as_str()))
        .collect()
}

#[test]
fn null_and_bad_text_are_answered_as_the_header_says() {
    assert_eq!(drive(written::misuse, false), all_but(&[]));
}

#[test]
fn a_bug_of_ours_is_an_answer_and_never_a_crash() {
    assert_eq!(drive(written::bug, false), all_but(written::UNGUARDED));
}

#[test]
fn what_is_left_of_a_closed_client_answers_as_the_header_says() {
    let driven = drive(written::stale, true);
    assert_eq!(driven, all_but(written::NEED_AN_OPEN_CLIENT));
}

#[test]
fn a_library_that_people_get_takes_no_cue() {
    let mut nm = Command::new("nm");
    let names = run(nm.arg("-D").arg(support::library().join("libdiscover.so")));
    assert!(names.contains("discover_client_open") && !names.contains("discover_cue"));
}
