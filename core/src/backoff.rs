//! How long to wait before the next try.

use std::time::Duration;

/// Exponential with full jitter: the n-th wait is random up to `base·2ⁿ`, at most `cap`, and at least a
/// tenth of that. Those who failed together do not come back together.
///
/// A value, not a sleep: whoever holds it decides what to wait on. The same seed gives the same waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
    seed: u64,
}

impl Backoff {
    /// Starts at `base`, never waits longer than `cap`.
    pub fn new(base: Duration, cap: Duration) -> Backoff {
        Backoff::seeded(base, cap, fastrand::u64(..))
    }

    /// The same, with the chance that is in it given.
    pub(crate) const fn seeded(base: Duration, cap: Duration, seed: u64) -> Backoff {
        Backoff {
            base,
            cap,
            failures: 0,
            seed,
        }
    }

    /// Notes a failure and says how long to wait.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = self.base.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.cap).mul_f64(0.1 + 0.9 * self.chance())
    }

    /// Notes a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next number in 0 to 1.
    pub(crate) fn chance(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(1);
        fastrand::Rng::with_seed(self.seed).f64()
    }
}

impl Default for Backoff {
    /// 200 ms to 5 s.
    fn default() -> Backoff {
        Backoff::new(Duration::from_millis(200), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_again_after_a_success() {
        let mut backoff = Backoff::default();
        for doubled in [200, 400, 800, 1600, 3200, 5000, 5000] {
            let wait = backoff.next_wait();
            let most = Duration::from_millis(doubled);
            assert!(wait <= most && wait >= most / 10, "{wait:?}");
        }
        for _ in 0..100 {
            backoff.next_wait();
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(200));
    }

    #[test]
    fn the_same_seed_gives_the_same_waits_and_another_gives_others() {
        let waits = |seed| {
            let mut backoff =
                Backoff::seeded(Duration::from_millis(100), Duration::from_secs(5), seed);
            [(); 8].map(|()| backoff.next_wait())
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
