//! The kernel's monotonic clock, the same in every process and language.

use nix::time::{ClockId, clock_gettime};

/// Microseconds.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the kernel has this clock");
    now.tv_sec() as u64 * 1_000_000 + now.tv_nsec() as u64 / 1000
}
