//! The cost of one call.

use std::hint::black_box;

use nix::time::{ClockId, clock_gettime};

const ROUNDS: u32 = 2_000_000;
const TIMES: usize = 7;

/// Returns the nanoseconds of one call: the minimum of several rounds, which is least affected by other load.
pub fn cost<T>(mut call: impl FnMut() -> T) -> f64 {
    let mut least = f64::MAX;
    for _ in 0..TIMES {
        let began = nanos();
        for _ in 0..ROUNDS {
            black_box(call());
        }
        least = least.min((nanos() - began) / f64::from(ROUNDS));
    }
    least
}

fn nanos() -> f64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the kernel has this clock");
    now.tv_sec() as f64 * 1e9 + now.tv_nsec() as f64
}
