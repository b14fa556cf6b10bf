//! What a check's outcomes make of an instance. Pure.

use std::time::Duration;

use serde::Deserialize;

/// Whether an instance can do its work, as others see it in its attribute `health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It can, and is picked.
    Passing,
    /// It can, but not well; it is not picked while others pass.
    Warning,
    /// It cannot.
    Critical,
    /// Somebody works on it.
    Maintenance,
    /// It ends what it has begun, and takes nothing new.
    Draining,
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Passing => "passing",
            State::Warning => "warning",
            State::Critical => "critical",
            State::Maintenance => "maintenance",
            State::Draining => "draining",
        }
    }
}

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Good,
    /// Something is not.
    Warn(String),
    /// It does not work.
    Bad(String),
}

/// When to look, and how often the same must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Between two looks, in milliseconds.
    pub interval_ms: u64,
    /// The same before the first good one.
    pub start_interval_ms: u64,
    /// How long one look may take.
    pub timeout_ms: u64,
    /// How many good ones in a row make it pass.
    pub rise: u32,
    /// How many others in a row make it fail.
    pub fall: u32,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            interval_ms: 10_000,
            start_interval_ms: 1_000,
            timeout_ms: 5_000,
            rise: 1,
            fall: 2,
        }
    }
}

/// The state of one instance, as its check sees it.
#[derive(Clone, Debug)]
pub struct Machine {
    plan: Plan,
    state: State,
    /// What the last looks would make of it, and how many they were.
    run: (State, u32),
    /// Whether it was ever well.
    begun: bool,
}

impl Machine {
    /// Critical, until it is found to be well.
    pub fn new(plan: Plan) -> Machine {
        Machine {
            plan,
            state: State::Critical,
            run: (State::Critical, 0),
            begun: false,
        }
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// How long to wait before the next look.
    pub fn wait(&self) -> Duration {
        let ms = match self.begun {
            true => self.plan.interval_ms,
            false => self.plan.start_interval_ms.min(self.plan.interval_ms),
        };
        // Looking all the time would be a load of its own.
        Duration::from_millis(ms.max(100))
    }

    /// The next state, if it is another.
    pub fn take(&mut self, outcome: &Outcome) -> Option<State> {
        let (found, needed) = match outcome {
            Outcome::Good => (State::Passing, self.plan.rise),
            Outcome::Warn(_) => (State::Warning, self.plan.fall),
            Outcome::Bad(_) => (State::Critical, self.plan.fall),
        };
        let (last, times) = self.run;
        self.run = match last == found {
            true => (found, times.saturating_add(1)),
            false => (found, 1),
        };
        if found == self.state || self.run.1 < needed.max(1) {
            return None;
        }
        self.state = found;
        self.begun |= found == State::Passing;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad() -> Outcome {
        Outcome::Bad("down".to_owned())
    }

    #[test]
    fn it_takes_as_many_in_a_row_as_was_said() {
        let mut web = Machine::new(Plan {
            rise: 2,
            fall: 3,
            ..Plan::default()
        });
        assert_eq!(web.take(&Outcome::Good), None);
        assert_eq!(web.take(&bad()), None);
        assert_eq!(web.take(&Outcome::Good), None, "counted anew");
        assert_eq!(web.take(&Outcome::Good), Some(State::Passing));
        assert_eq!([bad(), bad()].map(|bad| web.take(&bad)), [None, None]);
        assert_eq!(web.take(&Outcome::Good), None, "and still passing");
        let falls = [bad(), bad(), bad(), bad()].map(|bad| web.take(&bad));
        assert_eq!(falls, [None, None, Some(State::Critical), None]);
    }

    #[test]
    fn it_is_looked_at_more_often_until_it_is_well() {
        let mut web = Machine::new(Plan::default());
        assert_eq!(web.wait(), Duration::from_secs(1));
        assert_eq!(web.take(&Outcome::Good), Some(State::Passing));
        assert_eq!(web.wait(), Duration::from_secs(10));
        let warn = Outcome::Warn("slow".to_owned());
        assert_eq!(web.take(&warn), None);
        assert_eq!(web.take(&warn), Some(State::Warning));
        assert_eq!(web.wait(), Duration::from_secs(10));
    }
}
