//! The headers compile alone, in every language they promise, under both compilers, and keep to their
//! own rules.

mod support;

use std::fs;
use std::process::Command;

use support::{Program, declared_functions, path, root, run, scratch};

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

/// Each function's comment and declaration.
fn documented(header: &str) -> Vec<(&str, &str)> {
    let chunks = header
        .split("/**")
        .filter_map(|chunk| chunk.split_once("*/"));
    let declares = |(_, code): &(&str, &str)| {
        let first = code.trim_start();
        first.contains(");") && !first.starts_with("typedef") && !first.starts_with('#')
    };
    chunks.filter(declares).collect()
}

/// Whether a line of the comment begins with the name and has a bracket with the words of ownership.
fn is_said(comment: &str, name: &str) -> bool {
    let line = |line: &str| {
        let text = line.trim_start_matches([' ', '*']);
        let rest = text.strip_prefix(name).unwrap_or_default();
        let rest = rest.strip_prefix(' ').unwrap_or_default().trim_start();
        rest.starts_with("[in, ") || rest.starts_with("[out, ")
    };
    comment.lines().any(line)
}

#[test]
fn the_comment_of_each_function_says_who_owns_each_pointer() {
    let header = fs::read_to_string(root().join("include/discover.h")).expect("the header");
    let functions = documented(&header);
    assert_eq!(functions.len(), declared_functions().len());
    for (comment, declaration) in functions {
        let (result, parameters) = declaration.split_once('(').expect("a declaration");
        let parameters = parameters.split(')').next().unwrap_or_default();
        for pointer in parameters.split(',').filter(|one| one.contains('*')) {
            let name = pointer.rsplit(['*', ' ']).next().unwrap_or_default();
            assert!(is_said(comment, name), "{declaration}: {name}");
        }
        let returns = comment.contains("Returns [owned]") || comment.contains("Returns [borrowed");
        assert_eq!(result.contains('*'), returns, "{declaration}");
    }
}
