//! ABI compatibility with published headers: declarations, constants, and programs compiled with them.
//!
//! `abi/VERSION/discover.h` is the header that a version published. A compatible release adds its header. A
//! release that may break compatibility, which changes the soname, replaces all of them.

#[path = "abi/published.rs"]
mod published;
mod support;

use std::fs;
use std::path::PathBuf;

use published::{constants, declarations, missing_from};
use support::{Program, path, root, run};

const MEMORY: &str = "memory://abi";

fn current_header() -> String {
    fs::read_to_string(root().join("include/discover.h")).expect("the header")
}

/// The folders with the published headers.
fn published_headers() -> Vec<PathBuf> {
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
fn every_constant_is_recorded_and_none_has_changed() {
    let record = fs::read_to_string(root().join("include/constants.txt")).expect("constants.txt");
    let lines = record.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (constant, _version) = line.rsplit_once(' ').expect("NAME NUMBER VERSION");
        constant.to_owned()
    };
    let recorded: Vec<String> = lines.map(pair).collect();
    let current = constants(&current_header());
    let changed = missing_from(&recorded, &current);
    assert!(
        changed.is_empty(),
        "these constants were published with other values: {changed:?}"
    );
    let new = missing_from(&current, &recorded);
    assert!(
        new.is_empty(),
        "add these to include/constants.txt: {new:?}"
    );
}

#[test]
fn no_number_has_two_names() {
    let constants = constants(&current_header());
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
fn every_published_declaration_is_still_declared() {
    for folder in published_headers() {
        let published = fs::read_to_string(folder.join("discover.h")).expect("the header");
        let changed = missing_from(&declarations(&published), &declarations(&current_header()));
        assert!(changed.is_empty(), "{}: {changed:#?}", folder.display());
        let changed = missing_from(&constants(&published), &constants(&current_header()));
        assert!(changed.is_empty(), "{}: {changed:#?}", folder.display());
    }
}

#[test]
fn programs_compiled_with_a_published_header_run_with_this_library() {
    for folder in published_headers() {
        for source in ["misuse.c", "leases.c", "sets.c", "feed.c", "destroy.c"] {
            let program = Program::with_header(&folder, &[&format!("ffi/tests/c/{source}")]);
            for url in [MEMORY, &program.local_url()] {
                run(program.command().arg(url));
            }
        }
    }
}

#[test]
fn a_program_is_compiled_with_the_given_header_only() {
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
