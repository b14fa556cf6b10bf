//! What the results of a check make of an instance: it takes some in a row to change anything. Pure.

use std::time::Duration;

use crate::health::check::Check;
use crate::registry::state::Health;

/// The result of one check.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// As it should be.
    Pass(String),
    /// It works, and somebody should look at it.
    Warn(String),
    /// It does not work, and why.
    Fail(String),
}

/// See the module.
#[derive(Debug)]
pub struct Threshold {
    health: Health,
    up: u32,
    down: u32,
    interval: Duration,
    start: Duration,
    /// Whether it has ever passed.
    begun: bool,
    good: u32,
    bad: u32,
}

impl Threshold {
    /// Of an instance that is like this before the first check.
    pub fn new(check: &Check, initial: Health) -> Threshold {
        Threshold {
            health: initial,
            up: check.up,
            down: check.down,
            interval: check.interval,
            start: check.start,
            begun: false,
            good: 0,
            bad: 0,
        }
    }

    /// Of an instance that another run of the agent has looked at. One that is well is not starting any
    /// more: it is looked at as often as ever, and does not wait for what a start may take.
    pub fn resumed(check: &Check, health: Health) -> Threshold {
        Threshold {
            begun: health != Health::Critical,
            ..Threshold::new(check, health)
        }
    }

    /// How the instance is.
    pub fn health(&self) -> Health {
        self.health
    }

    /// How long to wait before the next check.
    pub fn pause(&self) -> Duration {
        match self.begun {
            true => self.interval,
            false => self.start,
        }
    }

    /// How the instance is after one more check.
    pub fn step(&mut self, outcome: &Outcome) -> Health {
        let better = match outcome {
            Outcome::Pass(_) => Health::Passing,
            Outcome::Warn(_) => Health::Warning,
            Outcome::Fail(_) => Health::Critical,
        };
        if better == Health::Critical {
            self.good = 0;
            self.bad = self.bad.saturating_add(1);
            if self.bad >= self.down {
                self.health = Health::Critical;
            }
        } else {
            self.bad = 0;
            self.good = self.good.saturating_add(1);
            if self.health != Health::Critical || self.good >= self.up {
                self.health = better;
                self.begun = true;
            }
        }
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::check::What;
    use Health::{Critical, Passing, Warning};

    const SECOND: Duration = Duration::from_secs(1);

    fn check(up: u32, down: u32) -> Check {
        Check {
            what: What::Tcp(String::new()),
            interval: SECOND * 10,
            timeout: SECOND,
            start: SECOND,
            up,
            down,
            reach: crate::health::target_policy::TargetPolicy::Anywhere,
        }
    }

    fn machine(up: u32, down: u32, initial: Health) -> Threshold {
        Threshold::new(&check(up, down), initial)
    }

    /// `+` passes, `~` warns, `-` fails.
    fn steps(machine: &mut Threshold, results: &str) -> Vec<Health> {
        let text = String::new;
        results
            .chars()
            .map(|result| match result {
                '+' => machine.step(&Outcome::Pass(text())),
                '~' => machine.step(&Outcome::Warn(text())),
                _ => machine.step(&Outcome::Fail(text())),
            })
            .collect()
    }

    #[test]
    fn it_takes_some_in_a_row_to_come_and_to_go() {
        let mut machine = machine(2, 3, Critical);
        assert_eq!(
            steps(&mut machine, "+-++"),
            [Critical, Critical, Critical, Passing]
        );
        assert_eq!(steps(&mut machine, "--+--"), [Passing; 5], "not in a row");
        assert_eq!(steps(&mut machine, "-"), [Critical]);
        assert_eq!(
            steps(&mut machine, "+~"),
            [Critical, Warning],
            "warning is up, too"
        );
        assert_eq!(steps(&mut machine, "+"), [Passing]);
    }

    #[test]
    fn an_initial_state_holds_until_it_is_refuted() {
        let mut passing = machine(2, 2, Passing);
        assert_eq!(steps(&mut passing, "-"), [Passing]);
        assert_eq!(steps(&mut passing, "-"), [Critical]);
        assert_eq!(steps(&mut machine(2, 2, Warning), "+"), [Passing]);
    }

    #[test]
    fn it_is_looked_at_more_often_until_it_has_passed() {
        let mut machine = machine(2, 2, Critical);
        assert_eq!(machine.pause(), SECOND);
        steps(&mut machine, "-+");
        assert_eq!(machine.pause(), SECOND);
        steps(&mut machine, "+");
        assert_eq!(machine.pause(), SECOND * 10);
        steps(&mut machine, "--");
        assert_eq!(machine.pause(), SECOND * 10);
    }

    #[test]
    fn one_that_was_well_in_the_run_before_does_not_start_again() {
        for (health, pause) in [(Passing, 10), (Warning, 10), (Critical, 1)] {
            let resumed = Threshold::resumed(&check(1, 1), health);
            assert_eq!(
                (resumed.health(), resumed.pause()),
                (health, SECOND * pause)
            );
        }
        assert_eq!(machine(1, 1, Passing).pause(), SECOND, "it has just come");
    }
}
