//! The contract's programs with AddressSanitizer and UndefinedBehaviorSanitizer inside them. What the
//! library allocates is watched too, for it comes from the same malloc. That they are really on is shown
//! with bugs that are planted. ThreadSanitizer must see both sides of each lock, so it needs a library that
//! was compiled for it, which `instrumented.rs` has.

mod support;

use support::{Program, library, run};

const ADDRESS: &[&str] = &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

const URL: &str = "memory://sanitized";

fn checked(source: &str) -> Program {
    Program::with_library(library(), &[&format!("ffi/tests/c/{source}")], ADDRESS)
}

fn is_clean(source: &str) {
    let program = checked(source);
    for url in [URL, &program.local_url()] {
        run(program.command().arg(url));
    }
}

/// What the checker says of a planted bug.
fn found(which: &str) -> String {
    let planted = checked("planted.c");
    let output = planted.command().args([URL, which]).output();
    let output = output.expect("it starts");
    assert!(!output.status.success(), "{which} was not found");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn misuse_and_lifetimes_are_clean() {
    for source in ["misuse.c", "destroy.c", "leases.c", "sets.c", "feed.c"] {
        is_clean(source);
    }
}

#[test]
fn callbacks_threads_and_closing_are_clean() {
    for source in [
        "callbacks.c",
        "closing.c",
        "threads.c",
        "log.c",
        "user_lock.c",
    ] {
        is_clean(source);
    }
}

#[test]
fn cpp_is_clean() {
    is_clean("cpp.cc");
}

#[test]
fn planted_bugs_are_found() {
    assert!(found("borrowed").contains("heap-use-after-free"));
    assert!(found("twice").contains("AddressSanitizer"));
    assert!(found("forgotten").contains("detected memory leaks"));
}
