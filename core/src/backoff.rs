//! Waiting times between retries.

use std::time::Duration;

/// Exponential backoff with jitter: the n-th wait is a random part, between a tenth and all, of `base·2ⁿ`
/// limited to `cap`. The jitter spreads the retries of clients that failed at the same time.
///
/// Computes durations and does not sleep. The same seed yields the same waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
    seed: u64,
}

impl Backoff {
    /// Creates a backoff that starts at `base` and never exceeds `cap`, with a random seed.
    pub fn new(base: Duration, cap: Duration) -> Backoff {
        Backoff::with_seed(base, cap, fastrand::u64(..))
    }

    /// Creates a backoff with a given seed.
    pub(crate) const fn with_seed(base: Duration, cap: Duration, seed: u64) -> Backoff {
        Backoff {
            base,
            cap,
            failures: 0,
            seed,
        }
    }

    /// Records a failure and returns how long to wait.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = self.base.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled
            .min(self.cap)
            .mul_f64(0.1 + 0.9 * self.random_fraction())
    }

    /// Records a success: the next wait starts at `base` again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the next random number in 0 to 1.
    pub(crate) fn random_fraction(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(1);
        fastrand::Rng::with_seed(self.seed).f64()
    }
}

impl Default for Backoff {
    /// Returns a backoff from 200 ms to 5 s.
    fn default() -> Backoff {
        Backoff::new(Duration::from_millis(200), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_restart_at_the_base_after_a_success() {
        let mut backoff = Backoff::default();
        for doubled in [200, 400, 800, 1600, 3200, 5000, 5000] {
            let wait = backoff.next_wait();
            let longest = Duration::from_millis(doubled);
            assert!(wait <= longest && wait >= longest / 10, "{wait:?}");
        }
        for _ in 0..100 {
            backoff.next_wait();
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(200));
    }

    #[test]
    fn the_same_seed_yields_the_same_waits() {
        let waits = |seed| {
            let mut backoff =
                Backoff::with_seed(Duration::from_millis(100), Duration::from_secs(5), seed);
            [(); 8].map(|()| backoff.next_wait())
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
