//! The headers compile alone, in every language they promise, under both compilers, and keep to their
//! own rules.

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
fn two_files_of_a_program_include_it() {
    let sources = ["ffi/tests/c/first_file.c", "ffi/tests/c/second_file.c"];
    run(&mut Program::new(&sources).command());
}

#[test]
fn the_versions_agree() {
    run(&mut Program::new(&["ffi/tests/c/versions.c"]).command());
}

#[test]
fn the_comment_of_each_function_says_who_owns_each_pointer() {
    for function in functions() {
        let name = &function.name;
        for pointer in function
            .parameters
            .iter()
            .filter(|one| one.kind.contains('*'))
        {
            let words = pointer.words();
            // A number is only copied.
            let number = words == "out" && !pointer.kind.ends_with("**");
            let owned = number || words.starts_with("in, ") || words.starts_with("out, ");
            assert!(owned, "{name}: {}", pointer.name);
        }
        let returns = |line: &String| {
            line.starts_with("Returns [owned]") || line.starts_with("Returns [borrowed")
        };
        let said = function.comment.iter().any(returns);
        assert_eq!(function.result.contains('*'), said, "{name}");
    }
}
