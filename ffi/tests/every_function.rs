//! Calls every function that the header declares, from a C program that is generated from the header: with NULL
//! and with malformed UTF-8 for every pointer, on handles of a closed client, and with an injected panic. The
//! expected results follow from the comment of the function or from `every_function/expectations.rs`. A
//! function without an expectation fails the test, so that new functions are covered.

#[path = "every_function/generator.rs"]
mod generator;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use support::{Function, Program, functions, path, run, scratch, variant};

/// Runs the cases of each function, natively and under valgrind, and returns the functions that had a case.
fn run_cases(
    cases_of: impl Fn(&Function) -> Vec<generator::Case>,
    closed: bool,
) -> BTreeSet<String> {
    let dir = scratch();
    let source = dir.path().join("every_function.c");
    let cases: Vec<generator::Case> = functions().iter().flat_map(cases_of).collect();
    fs::write(&source, generator::program(&cases, closed)).expect("writes the program");
    let library = variant("inject", &["--features", "inject-panic"]);
    let flags = ["-I", "ffi/tests/c", "-Wno-unused-function"];
    let program = Program::with_library(&library, &[path(&source)], &flags);
    run_silently(&mut program.under_valgrind());
    run_silently(&mut program.command())
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Runs a program that must succeed and print nothing to standard error.
fn run_silently(command: &mut Command) -> String {
    command.arg("memory://every-function");
    command.env("DISCOVER_URL", "memory://every-function");
    let output = command.output().expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn all_except(excluded: &[&str]) -> BTreeSet<String> {
    let names = functions().into_iter().map(|function| function.name);
    names
        .filter(|name| !excluded.contains(&name.as_str()))
        .collect()
}

#[test]
fn null_and_malformed_text_are_rejected_as_the_header_says() {
    assert_eq!(run_cases(generator::misuse_cases, false), all_except(&[]));
}

#[test]
fn a_panic_becomes_an_error_and_never_a_crash() {
    assert_eq!(
        run_cases(generator::panic_cases, false),
        all_except(generator::WITHOUT_BOUNDARY)
    );
}

#[test]
fn handles_of_a_closed_client_behave_as_the_header_says() {
    let called = run_cases(generator::closed_client_cases, true);
    assert_eq!(called, all_except(generator::NEED_AN_OPEN_CLIENT));
}

#[test]
fn the_released_library_has_no_panic_injection() {
    let mut nm = Command::new("nm");
    let names = run(nm.arg("-D").arg(support::library().join("libdiscover.so")));
    assert!(names.contains("discover_client_open") && !names.contains("discover_inject"));
}
