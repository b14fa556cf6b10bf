//! The exported symbols, the declared functions and include/symbols.txt are the same list.

mod support;

use std::fs;
use std::process::Command;

use discover_core::embed::VERSION;
use support::{declared_functions, library, root, run};

fn exported() -> Vec<String> {
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only", "--format=posix"]);
    let text = run(nm.arg(library().join("libdiscover.so")));
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

/// Each symbol of symbols.txt with the version that introduced it.
fn recorded() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("include/symbols.txt")).expect("symbols.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, version) = line.split_once(' ').expect("NAME VERSION");
        (name.to_owned(), version.trim().to_owned())
    };
    lines.map(pair).collect()
}

#[test]
fn the_library_exports_exactly_the_functions_of_the_header() {
    assert_eq!(exported(), declared_functions());
}

#[test]
fn every_symbol_is_recorded_with_the_version_that_introduced_it() {
    let names: Vec<String> = recorded().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, declared_functions());
    let number = |version: &str| -> Vec<u32> {
        let parts = version.split('.');
        parts.map(|part| part.parse().expect("a number")).collect()
    };
    for (name, version) in recorded() {
        assert!(number(&version) <= number(VERSION), "{name} {version}");
    }
}

#[test]
fn the_soname_has_the_compatible_version() {
    let mut readelf = Command::new("readelf");
    let text = run(readelf.arg("-d").arg(library().join("libdiscover.so")));
    let parts: Vec<&str> = VERSION.split('.').collect();
    let abi = match parts[0] {
        "0" => format!("0.{}", parts[1]),
        major => major.to_owned(),
    };
    assert!(
        text.contains(&format!("[libdiscover.so.{abi}]")) && text.contains("NODELETE"),
        "{text}"
    );
}
