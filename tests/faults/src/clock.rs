//! The one clock of a run: the kernel's monotonic one, which is the same in every process and
//! language, so that what a watcher saw can be laid beside what the store did.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Microseconds of the monotonic clock.
pub type Micros = u64;

/// One second.
pub const SECOND: Micros = 1_000_000;

/// What the clock says.
pub fn now() -> Micros {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the kernel has this clock");
    now.tv_sec() as Micros * SECOND + now.tv_nsec() as Micros / 1000
}

/// Lets time pass, for faults that last a while.
pub fn pause(seconds: f64) {
    let time = Duration::from_secs_f64(seconds);
    std::thread::sleep(time); // tidy: sleep, a fault lasts for a time
}

/// Looks again and again until something holds; false if it does not in time.
pub fn wait_until(seconds: f64, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = now() + (seconds * SECOND as f64) as Micros;
    loop {
        if holds() {
            return true;
        }
        if now() > deadline {
            return false;
        }
        pause(0.02);
    }
}

/// As seconds, for people.
pub fn seconds(time: Micros) -> f64 {
    time as f64 / SECOND as f64
}
