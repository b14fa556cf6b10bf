//! Runs the shared scenario of tests/story in C and C++ and compares the trace.

mod support;

use std::fs;

use support::{Program, root, run};

/// The trace that a program must print: all expected events, then `silence`.
fn expected_trace(url: &str) -> String {
    let story = fs::read_to_string(root().join("tests/story/story.txt")).expect("the story");
    let mut trace = String::new();
    for line in story.lines() {
        let step = match line.strip_prefix("+ ") {
            Some(_) if url.starts_with("memory:") => continue,
            Some(step) => step,
            None => line,
        };
        if let Some(event) = step.strip_prefix("hear ") {
            trace += &format!("{event}\n");
        }
    }
    trace + "silence\n"
}

fn prints_the_trace(source: &str) {
    let program = Program::new(&[source]);
    for url in ["memory://story", &program.local_url()] {
        assert_eq!(
            run(program.command().arg(url)),
            expected_trace(url),
            "{url}"
        );
        let mut valgrind = program.under_valgrind();
        assert_eq!(
            run(valgrind.arg(url)),
            expected_trace(url),
            "{url} under valgrind"
        );
    }
}

#[test]
fn the_c_program_prints_the_trace() {
    prints_the_trace("tests/story/story.c");
}

#[test]
fn the_cpp_program_prints_the_trace() {
    prints_the_trace("tests/story/story.cc");
}

#[test]
fn a_static_program_prints_the_trace() {
    let program = Program::with_static_library(&["tests/story/story.c"]);
    let url = program.local_url();
    let mut command = program.command();
    command.env_remove("LD_LIBRARY_PATH");
    assert_eq!(run(command.arg(&url)), expected_trace(&url));
}
