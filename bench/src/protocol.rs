//! The protocol of the measured programs: a line of JSON when they are ready, and one with their results on request.

use std::io::Read;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use discover_testkit::clock::now;

/// Prints a line.
pub fn report(values: &Value) {
    println!("{values}");
}

/// Reports that the work that began at `began` is done.
pub fn report_ready(began: u64) {
    report(&json!({"started": began, "ready": now()}));
}

/// Resolves when the harness requests the results.
pub fn wait_for_stop() -> oneshot::Receiver<()> {
    let (ends, end) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        drop(ends);
    });
    end
}

/// Returns the host of an instance by number, the same in every language.
pub fn instance_host(number: u64) -> String {
    format!(
        "10.{}.{}.{}",
        number / 62500,
        number / 250 % 250,
        number % 250
    )
}
