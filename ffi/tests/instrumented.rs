//! The contract's programs under ThreadSanitizer, with the library and all it stands on compiled for it
//! too, standard library included: only so are both sides of each lock seen. That takes nightly Rust with
//! its sources, and minutes, so `make soak` runs it (`cargo test --test instrumented -- --ignored`).

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::{Program, path, root, run};

const URL: &str = "memory://instrumented";

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The library, and the archive of the checker that it was compiled for.
fn instrumented() -> (PathBuf, String) {
    run(Command::new("rustup")
        .args("toolchain install nightly --profile minimal -c rust-src".split(' ')));
    let target = root().join("target/thread-sanitizer");
    let mut cargo = Command::new("rustup");
    cargo.args("run nightly cargo build --quiet -Zbuild-std -p discover-ffi".split(' '));
    cargo.args("--no-default-features --features local --target".split(' '));
    cargo.args([TARGET, "--target-dir", path(&target)]);
    // Cargo and its toolchain say to those they start which of them they are.
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
fn no_thread_races_another() {
    let (library, runtime) = instrumented();
    let compiled = |source: &str| {
        let source = format!("ffi/tests/c/{source}");
        Program::checked_by(&library, &source, "-fsanitize=thread", &runtime)
    };
    let planted = compiled("planted.c");
    let output = planted.command().args([URL, "race"]).output();
    let output = output.expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("ThreadSanitizer: data race"), "{errors}");

    let all = "misuse.c destroy.c leases.c sets.c feed.c callbacks.c closing.c threads.c log.c user_lock.c cycles.c cpp.cc";
    for source in all.split(' ') {
        let program = compiled(source);
        for url in [URL, &program.local_url()] {
            run(program.command().arg(url));
        }
    }
}
