//! The contract programs under ThreadSanitizer. The library and all its dependencies, including the standard
//! library, are instrumented, because ThreadSanitizer must see both sides of each lock. This takes nightly Rust
//! with its sources, and minutes, so `make soak` runs it (`cargo test --test thread_sanitizer -- --ignored`).

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::{Program, path, root, run};

const URL: &str = "memory://thread-sanitizer";

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the instrumented library; returns its folder and the sanitizer's runtime.
fn build_instrumented() -> (PathBuf, String) {
    run(Command::new("rustup")
        .args("toolchain install nightly --profile minimal -c rust-src".split(' ')));
    let target = root().join("target/thread-sanitizer");
    let mut cargo = Command::new("rustup");
    cargo.args("run nightly cargo build --quiet -Zbuild-std -p discover-ffi".split(' '));
    cargo.args("--no-default-features --features local --target".split(' '));
    cargo.args([TARGET, "--target-dir", path(&target)]);
    // Cargo and its toolchain set these for child processes; they would select the wrong toolchain.
    for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC"] {
        cargo.env_remove(name);
    }
    run(cargo
        .env("RUSTFLAGS", "-Zsanitizer=thread")
        .current_dir(root()));
    let mut rustc = Command::new("rustup");
    let sysroot = run(rustc.args("run nightly rustc --print sysroot".split(' ')));
    let sysroot = sysroot.trim();
    let runtime = format!("{sysroot}/lib/rustlib/{TARGET}/lib/librustc-nightly_rt.tsan.a");
    (target.join(TARGET).join("debug"), runtime)
}

#[test]
#[ignore = "needs nightly Rust: make soak runs it"]
fn no_data_race_is_reported() {
    let (library, runtime) = build_instrumented();
    let compiled = |source: &str| {
        let source = format!("ffi/tests/c/{source}");
        Program::with_sanitizer(&library, &source, "-fsanitize=thread", &runtime)
    };
    let faulty = compiled("seeded_faults.c");
    let output = faulty.command().args([URL, "data-race"]).output();
    let output = output.expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("ThreadSanitizer: data race"), "{errors}");

    let sources = "misuse.c destroy.c leases.c sets.c feed.c callbacks.c closing.c threads.c log.c callback_locking.c leak_cycles.c cpp.cc";
    for source in sources.split(' ') {
        let program = compiled(source);
        for url in [URL, &program.local_url()] {
            run(program.command().arg(url));
        }
    }
}
