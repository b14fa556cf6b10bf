//! The headers compile on their own with every supported language standard and compiler, and their comments
//! follow the rules of the manual.

mod support;

use std::fs;
use std::process::Command;

use support::{Program, functions, path, root, run, scratch};

const STRICT: &[&str] = &["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"];

fn compiles_alone(header: &str, compilers: &[&str], standards: &[&str], language: &str) {
    let dir = scratch();
    let source = dir.path().join("alone");
    fs::write(&source, format!("#include <{header}>\n")).expect("writes the source");
    for compiler in compilers {
        for standard in standards {
            let mut command = Command::new(compiler);
            command.args(STRICT).arg(format!("-std={standard}"));
            command.args(["-I", "include", "-x", language, path(&source)]);
            run(command.current_dir(root()));
        }
    }
}

#[test]
fn discover_h_compiles_alone_as_c() {
    compiles_alone("discover.h", &["gcc", "clang"], &["c99", "c11"], "c");
}

#[test]
fn discover_h_compiles_alone_as_cpp() {
    compiles_alone("discover.h", &["g++", "clang++"], &["c++17"], "c++");
}

#[test]
fn discover_hpp_compiles_alone() {
    let standards = ["c++17", "c++20"];
    compiles_alone("discover.hpp", &["g++", "clang++"], &standards, "c++");
}

#[test]
fn two_files_of_a_program_may_include_the_header() {
    let sources = ["ffi/tests/c/first_file.c", "ffi/tests/c/second_file.c"];
    run(&mut Program::new(&sources).command());
}

#[test]
fn the_header_and_the_library_have_the_same_version() {
    run(&mut Program::new(&["ffi/tests/c/versions.c"]).command());
}

#[test]
fn the_comment_of_each_function_states_the_ownership_of_each_pointer() {
    for function in functions() {
        let name = &function.name;
        for pointer in function
            .parameters
            .iter()
            .filter(|one| one.kind.contains('*'))
        {
            let ownership = pointer.ownership();
            // Numbers are copied and have no owner.
            let number = ownership == "out" && !pointer.kind.ends_with("**");
            let is_stated =
                number || ownership.starts_with("in, ") || ownership.starts_with("out, ");
            assert!(is_stated, "{name}: {}", pointer.name);
        }
        let states_ownership = |line: &String| {
            line.starts_with("Returns [owned]") || line.starts_with("Returns [borrowed")
        };
        let is_stated = function.comment.iter().any(states_ownership);
        assert_eq!(function.result.contains('*'), is_stated, "{name}");
    }
}
