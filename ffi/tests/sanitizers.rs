//! The contract programs under AddressSanitizer and UndefinedBehaviorSanitizer. The library's allocations are
//! checked too, because they use the same malloc. Seeded faults show that the sanitizers are active.
//! ThreadSanitizer must see both sides of each lock and needs an instrumented library; see
//! `thread_sanitizer.rs`.

mod support;

use support::{Program, library, run};

const SANITIZER_FLAGS: &[&str] = &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

const URL: &str = "memory://sanitized";

fn compile_sanitized(source: &str) -> Program {
    Program::with_library(
        library(),
        &[&format!("ffi/tests/c/{source}")],
        SANITIZER_FLAGS,
    )
}

fn runs_clean(source: &str) {
    let program = compile_sanitized(source);
    for url in [URL, &program.local_url()] {
        run(program.command().arg(url));
    }
}

/// The report of the sanitizer about a seeded fault.
fn report_of(fault: &str) -> String {
    let program = compile_sanitized("seeded_faults.c");
    let output = program.command().args([URL, fault]).output();
    let output = output.expect("the program starts");
    assert!(!output.status.success(), "{fault} was not reported");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn misuse_and_lifetimes_are_clean() {
    for source in ["misuse.c", "destroy.c", "leases.c", "sets.c", "feed.c"] {
        runs_clean(source);
    }
}

#[test]
fn callbacks_threads_and_closing_are_clean() {
    for source in [
        "callbacks.c",
        "closing.c",
        "threads.c",
        "log.c",
        "callback_locking.c",
    ] {
        runs_clean(source);
    }
}

#[test]
fn cpp_runs_clean() {
    runs_clean("cpp.cc");
}

#[test]
fn seeded_faults_are_reported() {
    assert!(report_of("use-after-release").contains("heap-use-after-free"));
    assert!(report_of("double-release").contains("AddressSanitizer"));
    assert!(report_of("missing-release").contains("detected memory leaks"));
}
