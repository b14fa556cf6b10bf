//! The story that every language tells, in C and C++, and what is heard of it.

mod support;

use std::fs;

use support::{Program, root, run};

/// What a teller must print: all that is heard, then silence.
fn trace(url: &str) -> String {
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

fn is_told_by(source: &str) {
    let teller = Program::new(&[source]);
    for url in ["memory://story", &teller.local_url()] {
        assert_eq!(run(teller.command().arg(url)), trace(url), "{url}");
        let mut checked = teller.under_valgrind();
        assert_eq!(run(checked.arg(url)), trace(url), "{url} under valgrind");
    }
}

#[test]
fn the_story_is_told_in_c() {
    is_told_by("tests/story/story.c");
}

#[test]
fn the_story_is_told_in_cpp() {
    is_told_by("tests/story/story.cc");
}

#[test]
fn the_story_is_told_by_a_static_program() {
    let teller = Program::with_static_library(&["tests/story/story.c"]);
    let url = teller.local_url();
    let mut command = teller.command();
    command.env_remove("LD_LIBRARY_PATH");
    assert_eq!(run(command.arg(&url)), trace(&url));
}
