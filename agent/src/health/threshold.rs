//! Threshold of a check: the number of consecutive results that change the health of an instance. Pure.

use std::time::Duration;

use crate::health::check::Check;
use crate::registry::state::Health;

/// Result of one probe.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The instance works; with a text for the note.
    Pass(String),
    /// The instance works, but needs attention.
    Warn(String),
    /// The instance does not work; with the cause.
    Fail(String),
}

/// Derives the health of an instance from consecutive results.
#[derive(Debug)]
pub struct Threshold {
    health: Health,
    up: u32,
    down: u32,
    interval: Duration,
    start: Duration,
    /// Whether the instance has ever passed.
    has_passed: bool,
    successes: u32,
    failures: u32,
}

impl Threshold {
    /// Starts with the health of the instance before the first check.
    pub fn new(check: &Check, initial: Health) -> Threshold {
        Threshold {
            health: initial,
            up: check.up,
            down: check.down,
            interval: check.interval,
            start: check.start_interval,
            has_passed: false,
            successes: 0,
            failures: 0,
        }
    }

    /// Continues with the health that the previous process reported. If it is not critical, the instance is
    /// not starting: the regular interval applies.
    pub fn resumed(check: &Check, health: Health) -> Threshold {
        Threshold {
            has_passed: health != Health::Critical,
            ..Threshold::new(check, health)
        }
    }

    /// Returns the current health.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Returns the time until the next probe.
    pub fn next_delay(&self) -> Duration {
        match self.has_passed {
            true => self.interval,
            false => self.start,
        }
    }

    /// Records a result and returns the health after it.
    pub fn record(&mut self, outcome: &Outcome) -> Health {
        let reported = match outcome {
            Outcome::Pass(_) => Health::Passing,
            Outcome::Warn(_) => Health::Warning,
            Outcome::Fail(_) => Health::Critical,
        };
        if reported == Health::Critical {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
            if self.failures >= self.down {
                self.health = Health::Critical;
            }
        } else {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            if self.health != Health::Critical || self.successes >= self.up {
                self.health = reported;
                self.has_passed = true;
            }
        }
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::check::CheckTarget;
    use Health::{Critical, Passing, Warning};

    const SECOND: Duration = Duration::from_secs(1);

    fn check(up: u32, down: u32) -> Check {
        Check {
            target: CheckTarget::Tcp(String::new()),
            interval: SECOND * 10,
            timeout: SECOND,
            start_interval: SECOND,
            up,
            down,
            target_policy: crate::health::target_policy::TargetPolicy::Anywhere,
        }
    }

    fn new_threshold(up: u32, down: u32, initial: Health) -> Threshold {
        Threshold::new(&check(up, down), initial)
    }

    /// `+` passes, `~` warns, `-` fails.
    fn steps(threshold: &mut Threshold, results: &str) -> Vec<Health> {
        let text = String::new;
        results
            .chars()
            .map(|result| match result {
                '+' => threshold.record(&Outcome::Pass(text())),
                '~' => threshold.record(&Outcome::Warn(text())),
                _ => threshold.record(&Outcome::Fail(text())),
            })
            .collect()
    }

    #[test]
    fn consecutive_results_change_the_health() {
        let mut threshold = new_threshold(2, 3, Critical);
        assert_eq!(
            steps(&mut threshold, "+-++"),
            [Critical, Critical, Critical, Passing]
        );
        assert_eq!(steps(&mut threshold, "--+--"), [Passing; 5], "not in a row");
        assert_eq!(steps(&mut threshold, "-"), [Critical]);
        assert_eq!(
            steps(&mut threshold, "+~"),
            [Critical, Warning],
            "a warning counts as a success"
        );
        assert_eq!(steps(&mut threshold, "+"), [Passing]);
    }

    #[test]
    fn the_initial_health_lasts_until_results_contradict_it() {
        let mut passing = new_threshold(2, 2, Passing);
        assert_eq!(steps(&mut passing, "-"), [Passing]);
        assert_eq!(steps(&mut passing, "-"), [Critical]);
        assert_eq!(steps(&mut new_threshold(2, 2, Warning), "+"), [Passing]);
    }

    #[test]
    fn the_start_interval_applies_until_the_first_pass() {
        let mut threshold = new_threshold(2, 2, Critical);
        assert_eq!(threshold.next_delay(), SECOND);
        steps(&mut threshold, "-+");
        assert_eq!(threshold.next_delay(), SECOND);
        steps(&mut threshold, "+");
        assert_eq!(threshold.next_delay(), SECOND * 10);
        steps(&mut threshold, "--");
        assert_eq!(threshold.next_delay(), SECOND * 10);
    }

    #[test]
    fn an_instance_that_passed_before_the_restart_is_not_starting() {
        for (health, pause) in [(Passing, 10), (Warning, 10), (Critical, 1)] {
            let resumed = Threshold::resumed(&check(1, 1), health);
            assert_eq!(
                (resumed.health(), resumed.next_delay()),
                (health, SECOND * pause)
            );
        }
        assert_eq!(
            new_threshold(1, 1, Passing).next_delay(),
            SECOND,
            "it is new"
        );
    }
}
