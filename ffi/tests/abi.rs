//! What was published stays: symbols, numbers, declarations, and programs that were compiled long ago.
//!
//! `abi/VERSION/discover.h` is the header as that version published it. A release that breaks nothing adds
//! its own; one that may break (another name of the shared library) begins anew.

#[path = "abi/published.rs"]
mod published;
mod support;

use std::fs;
use std::path::PathBuf;

use published::{constants, declarations, lost};
use support::{Program, path, root, run};

const MEMORY: &str = "memory://abi";

fn header_of_today() -> String {
    fs::read_to_string(root().join("include/discover.h")).expect("the header")
}

/// The folders with the headers of before.
fn headers_of_before() -> Vec<PathBuf> {
    let folder = root().join("ffi/tests/abi");
    let entries = fs::read_dir(folder).expect("the headers").flatten();
    let headers = entries.map(|entry| entry.path());
    let found: Vec<PathBuf> = headers
        .filter(|one| one.join("discover.h").exists())
        .collect();
    assert!(!found.is_empty());
    found
}

#[test]
fn every_constant_is_on_record_and_none_has_changed() {
    let record = fs::read_to_string(root().join("include/constants.txt")).expect("constants.txt");
    let lines = record.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (constant, _version) = line.rsplit_once(' ').expect("NAME NUMBER VERSION");
        constant.to_owned()
    };
    let recorded: Vec<String> = lines.map(pair).collect();
    let of_today = constants(&header_of_today());
    let gone = lost(&recorded, &of_today);
    assert!(gone.is_empty(), "these were published otherwise: {gone:?}");
    let new = lost(&of_today, &recorded);
    assert!(
        new.is_empty(),
        "put these on record in include/constants.txt: {new:?}"
    );
}

#[test]
fn no_number_stands_for_two_things() {
    let constants = constants(&header_of_today());
    let kind = |constant: &String| {
        let (name, number) = constant.split_once(' ').expect("a name and a number");
        let family = name.splitn(3, '_').take(2).collect::<Vec<_>>().join("_");
        (family, number.to_owned())
    };
    let mut seen: Vec<(String, String)> = constants.iter().map(kind).collect();
    seen.sort();
    assert!(seen.windows(2).all(|two| two[0] != two[1]), "{seen:?}");
}

#[test]
fn what_was_declared_is_declared() {
    for folder in headers_of_before() {
        let before = fs::read_to_string(folder.join("discover.h")).expect("the header");
        let gone = lost(&declarations(&before), &declarations(&header_of_today()));
        assert!(gone.is_empty(), "{}: {gone:#?}", folder.display());
        let gone = lost(&constants(&before), &constants(&header_of_today()));
        assert!(gone.is_empty(), "{}: {gone:#?}", folder.display());
    }
}

#[test]
fn programs_compiled_with_a_header_of_before_run_with_this_library() {
    for folder in headers_of_before() {
        for source in ["misuse.c", "leases.c", "sets.c", "feed.c", "destroy.c"] {
            let program = Program::with_header(&folder, &[&format!("ffi/tests/c/{source}")]);
            for url in [MEMORY, &program.local_url()] {
                run(program.command().arg(url));
            }
        }
    }
}

#[test]
fn such_a_program_sees_that_header_and_no_other() {
    let dir = support::scratch();
    let source = dir.path().join("which.c");
    fs::write(
        &source,
        "#include <discover.h>\n#include <stdio.h>\n\
         int main(void) { return printf(\"%d\", DISCOVER_VERSION_MINOR) < 0; }\n",
    )
    .expect("writes the program");
    let other = dir.path().join("other");
    fs::create_dir(&other).expect("a folder");
    fs::write(
        other.join("discover.h"),
        "#define DISCOVER_VERSION_MINOR 99\n",
    )
    .expect("a header");
    let program = Program::with_header(&other, &[path(&source)]);
    assert_eq!(run(&mut program.command()), "99");
}
