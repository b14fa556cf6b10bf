//! The kernel's monotonic clock, which is the same in every process and language, so that timestamps of
//! different programs can be compared.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Microseconds of the monotonic clock.
pub type Micros = u64;

/// One second in microseconds.
pub const SECOND: Micros = 1_000_000;

/// Returns the current time.
pub fn now() -> Micros {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the kernel has a monotonic clock");
    now.tv_sec() as Micros * SECOND + now.tv_nsec() as Micros / 1000
}

/// Sleeps for the duration of a fault.
pub fn pause(seconds: f64) {
    let time = Duration::from_secs_f64(seconds);
    std::thread::sleep(time); // tidy: sleep, a fault lasts for a time
}

/// Polls `condition` every 20 ms and returns true once it holds, or false after `seconds`.
pub fn wait_until(seconds: f64, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = now() + (seconds * SECOND as f64) as Micros;
    loop {
        if condition() {
            return true;
        }
        if now() > deadline {
            return false;
        }
        pause(0.02);
    }
}

/// Converts a time to seconds, for messages.
pub fn seconds(time: Micros) -> f64 {
    time as f64 / SECOND as f64
}
