//! How an instance is, and whether others see it. Pure.
//!
//! Others see an instance only while it may be picked: whoever is critical, in maintenance or draining is
//! not in the store at all, so that every program in every language passes it by, old ones too. One that
//! warns is there, with the attribute `health=warning`.

use std::collections::BTreeMap;

use discover_core::{Error, Result, ServiceName};
use serde::{Deserialize, Serialize};

use crate::registry::key::InstanceKey;

/// The attribute of an instance that warns.
pub const ATTRIBUTE: (&str, &str) = ("health", "warning");

/// What a check, or the application itself, says of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    #[default]
    Passing,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work.
    Critical,
}

/// Why an operator holds an instance back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It finishes what it has begun, and gets nothing new.
    Draining,
    /// It is being worked on.
    Maintenance,
}

/// What is made of both: the operator has the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As its health is.
    As(Health),
    /// Held back, whatever its health is.
    Held(Mode),
}

impl State {
    /// Of an instance of this health, which is held back or not.
    pub fn of(health: Health, mode: Option<Mode>) -> State {
        mode.map_or(State::As(health), State::Held)
    }

    /// Whether others see it.
    pub fn is_visible(self) -> bool {
        matches!(self, State::As(Health::Passing | Health::Warning))
    }

    /// Whether others see that it warns.
    pub fn warns(self) -> bool {
        self == State::As(Health::Warning)
    }

    /// `passing`, `warning`, `critical`, `maintenance` or `draining`.
    pub fn name(self) -> &'static str {
        match self {
            State::As(Health::Passing) => "passing",
            State::As(Health::Warning) => "warning",
            State::As(Health::Critical) => "critical",
            State::Held(Mode::Maintenance) => "maintenance",
            State::Held(Mode::Draining) => "draining",
        }
    }
}

/// Whom an operator means: all that is registered here, one service, or one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whom {
    service: Option<ServiceName>,
    id: Option<String>,
}

impl Whom {
    /// An id alone means nobody.
    pub fn new(service: Option<&str>, id: Option<&str>) -> Result<Whom> {
        if service.is_none() && id.is_some() {
            return Err(Error::invalid("id is given without service; name both"));
        }
        Ok(Whom {
            service: service.map(ServiceName::new).transpose()?,
            id: id.map(str::to_owned),
        })
    }

    /// The service, if only one is meant.
    pub fn service(&self) -> Option<&str> {
        self.service.as_ref().map(ServiceName::as_str)
    }

    /// The instance, if only one is meant.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether this instance is meant.
    pub fn means(&self, (service, id): &InstanceKey) -> bool {
        self.service.as_ref().is_none_or(|own| own == service)
            && self.id.as_ref().is_none_or(|own| own == id)
    }

    /// Whether everybody whom the other means is meant here, too.
    fn covers(&self, other: &Whom) -> bool {
        (self.service.is_none() || self.service == other.service)
            && (self.id.is_none() || self.id == other.id)
    }
}

/// Whom operators hold back.
#[derive(Debug, Default)]
pub struct Withheld(BTreeMap<Whom, Mode>);

impl Withheld {
    /// Holds back, or lets go: what was said of a part of them before no longer counts.
    pub fn set(&mut self, whom: Whom, mode: Option<Mode>) {
        self.0.retain(|other, _| !whom.covers(other));
        if let Some(mode) = mode {
            self.0.insert(whom, mode);
        }
    }

    /// Whether an instance is held back, and why: the stronger reason.
    pub fn of(&self, key: &InstanceKey) -> Option<Mode> {
        let meant = self.0.iter().filter(|(whom, _)| whom.means(key));
        meant.map(|(_, mode)| *mode).max()
    }

    /// All that was said, and still counts.
    pub fn all(&self) -> impl Iterator<Item = (&Whom, Mode)> {
        self.0.iter().map(|(whom, mode)| (whom, *mode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(service: &str, id: &str) -> InstanceKey {
        (ServiceName::new(service).unwrap(), id.to_owned())
    }

    fn whom(service: Option<&str>, id: Option<&str>) -> Whom {
        Whom::new(service, id).unwrap()
    }

    #[test]
    fn others_see_who_passes_or_warns_and_whom_nobody_holds_back() {
        for (health, mode, visible, name) in [
            (Health::Passing, None, true, "passing"),
            (Health::Warning, None, true, "warning"),
            (Health::Critical, None, false, "critical"),
            (Health::Passing, Some(Mode::Draining), false, "draining"),
            (
                Health::Critical,
                Some(Mode::Maintenance),
                false,
                "maintenance",
            ),
        ] {
            let state = State::of(health, mode);
            assert_eq!((state.is_visible(), state.name()), (visible, name));
            assert_eq!(state.warns(), name == "warning");
        }
    }

    #[test]
    fn the_stronger_reason_to_hold_back_counts() {
        let mut withheld = Withheld::default();
        withheld.set(whom(Some("web"), None), Some(Mode::Draining));
        withheld.set(whom(Some("web"), Some("a")), Some(Mode::Maintenance));
        assert_eq!(withheld.of(&key("web", "a")), Some(Mode::Maintenance));
        assert_eq!(withheld.of(&key("web", "b")), Some(Mode::Draining));
        assert_eq!(withheld.of(&key("db", "a")), None);
    }

    #[test]
    fn letting_go_of_many_lets_go_of_each() {
        let mut withheld = Withheld::default();
        withheld.set(whom(Some("web"), Some("a")), Some(Mode::Maintenance));
        withheld.set(whom(Some("db"), None), Some(Mode::Maintenance));
        withheld.set(whom(Some("web"), None), None);
        assert_eq!(withheld.of(&key("web", "a")), None);
        assert_eq!(withheld.of(&key("db", "x")), Some(Mode::Maintenance));
        withheld.set(Whom::default(), None);
        assert_eq!(withheld.all().count(), 0);
        // To let go of one does not let go of all.
        withheld.set(Whom::default(), Some(Mode::Maintenance));
        withheld.set(whom(Some("web"), None), None);
        assert_eq!(withheld.of(&key("web", "a")), Some(Mode::Maintenance));
        assert!(Whom::new(None, Some("a")).is_err());
    }
}
