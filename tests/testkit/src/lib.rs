//! Test infrastructure shared by all crates of the workspace: a real etcd, a real agent, and a TCP proxy that
//! injects faults. Each server listens on an ephemeral port of the loopback interface and ends with its owner.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test code: a failure of the infrastructure fails the test"
)]

pub mod agent;
pub mod certificates;
pub mod clock;
pub mod etcd;
pub mod etcd_proxy;
pub mod process;
pub mod proxy;

use std::io::Write;
use std::time::{Duration, SystemTime};

/// How long tests wait for a condition: longer than anything takes on a slow machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Blocks until `probe` returns a value, and returns that value.
///
/// # Panics
///
/// Panics with `what` if that does not happen within [`DEADLINE`].
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = SystemTime::now() + DEADLINE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(SystemTime::now() < deadline, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(10)); // tidy: sleep, polling a condition with a deadline
    }
}

/// Reports a test that cannot run here, so that the test runner counts it as skipped.
///
/// # Panics
///
/// Panics if `DISCOVER_REQUIRE_SERVERS` lists `server`: there a missing server is a failure.
pub fn skip(server: &str, reason: &str) {
    let required = std::env::var("DISCOVER_REQUIRE_SERVERS").unwrap_or_default();
    let is_required = required.split([',', ' ']).any(|name| name == server);
    assert!(!is_required, "{server} is required: {reason}");
    let line = format!("SKIPPED: {server}: {reason}\n");
    // Directly to the descriptor: the capture of libtest would hide it.
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    if let Some(log) = std::env::var_os("DISCOVER_SKIP_LOG") {
        let appended = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(log);
        appended.unwrap().write_all(line.as_bytes()).unwrap();
    }
}
