//! Which registrations the agent holds, for whom, and until when. Pure.

use std::collections::HashMap;
use std::time::Duration;

use discover_core::{Claim, Error, Kind, Result, ServiceName};

/// A moment, as the time since the agent began.
pub type Time = Duration;

/// An instance: its service and its id.
pub type Key = (ServiceName, String);

/// One registration. `L` is what keeps it in the store.
#[derive(Debug)]
pub struct Held<L> {
    /// The agent's own number for it, told to its owner.
    pub grant: u64,
    /// Which client asked for it; empty for one that did not say.
    pub owner: String,
    /// How long it lives without a heartbeat.
    pub ttl: Duration,
    /// Until when, as of the last one; for ever where the agent looks after it itself.
    pub until: Option<Time>,
    /// What keeps it in the store.
    pub lease: L,
}

/// See the module.
#[derive(Debug)]
pub struct Table<L>(HashMap<Key, Held<L>>);

impl<L> Default for Table<L> {
    fn default() -> Table<L> {
        Table(HashMap::new())
    }
}

/// What the table says to a claim.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It may be written.
    Granted,
    /// The table knows of nobody; the store must be asked whether somebody is there.
    Unknown,
}

impl<L> Table<L> {
    /// Whether a client may register there.
    pub fn judge(&self, key: &Key, owner: &str, claim: Claim) -> Result<Verdict> {
        match (claim, self.0.get(key)) {
            (Claim::TakeOver, _) => Ok(Verdict::Granted),
            (Claim::PutBack, None) => Ok(Verdict::Unknown),
            // An answer that was lost on its way: it was put back already.
            (Claim::PutBack, Some(held)) if !owner.is_empty() && held.owner == owner => {
                Ok(Verdict::Granted)
            }
            (Claim::PutBack, Some(_)) => Err(replaced(key)),
        }
    }

    /// Notes a registration; gives the one before.
    pub fn insert(&mut self, key: Key, held: Held<L>) -> Option<Held<L>> {
        self.0.insert(key, held)
    }

    /// The registration, if this grant holds it; without a grant whoever does.
    pub fn get(&self, key: &Key, grant: Option<u64>) -> Result<&Held<L>> {
        match self.0.get(key) {
            Some(held) if grant.is_none_or(|grant| grant == held.grant) => Ok(held),
            Some(_) => Err(replaced(key)),
            None => Err(gone(key, grant)),
        }
    }

    /// It lives for another TTL.
    pub fn beat(&mut self, key: &Key, grant: Option<u64>, now: Time) -> Result<&Held<L>> {
        self.get(key, grant)?;
        let held = self.0.get_mut(key).ok_or_else(|| gone(key, grant))?;
        held.until = held.until.map(|_| now + held.ttl);
        Ok(held)
    }

    /// The same registration, to be changed.
    pub fn get_mut(&mut self, key: &Key, grant: Option<u64>) -> Result<&mut Held<L>> {
        self.get(key, grant)?;
        self.0.get_mut(key).ok_or_else(|| gone(key, grant))
    }

    /// Forgets the registration, if this grant holds it.
    pub fn remove(&mut self, key: &Key, grant: Option<u64>) -> Result<Held<L>> {
        self.get(key, grant)?;
        self.0.remove(key).ok_or_else(|| gone(key, grant))
    }

    /// Forgets those whose owners have been silent for too long, and gives them.
    pub fn expire(&mut self, now: Time) -> Vec<(Key, Held<L>)> {
        let over = |_: &Key, held: &mut Held<L>| held.until.is_some_and(|until| until <= now);
        self.0.extract_if(over).collect()
    }

    /// When `expire` may have something at the earliest.
    pub fn next(&self) -> Option<Time> {
        self.0.values().filter_map(|held| held.until).min()
    }

    /// Forgets all, and gives them.
    pub fn drain(&mut self) -> Vec<(Key, Held<L>)> {
        self.0.drain().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of the services that have any, in order, each once.
    pub fn services(&self) -> Vec<ServiceName> {
        let mut names: Vec<ServiceName> = self.0.keys().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The error of who has lost an id to another owner.
pub fn replaced((service, id): &Key) -> Error {
    let text = format!("{id} of {service} has another owner now");
    Error::new(Kind::Replaced, text)
}

fn gone((service, id): &Key, grant: Option<u64>) -> Error {
    match grant {
        Some(_) => Error::new(
            Kind::LeaseLost,
            format!("{id} of {service} is not registered here any more"),
        ),
        None => Error::new(
            Kind::NotFound,
            format!("{id} of {service} is not registered with this agent"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(id: &str) -> Key {
        (ServiceName::new("web").unwrap(), id.to_owned())
    }

    fn held(grant: u64, owner: &str, until: u32) -> Held<()> {
        Held {
            grant,
            owner: owner.to_owned(),
            ttl: SECOND * 10,
            until: Some(SECOND * until),
            lease: (),
        }
    }

    #[test]
    fn who_comes_anew_takes_over_and_who_comes_back_does_not() {
        let mut table = Table::default();
        let web = key("h:1");
        assert_eq!(
            table.judge(&web, "a", Claim::PutBack).unwrap(),
            Verdict::Unknown
        );
        table.insert(web.clone(), held(1, "a", 10));
        let again = table.judge(&web, "a", Claim::PutBack).unwrap();
        assert_eq!(again, Verdict::Granted, "its own");
        let other = table.judge(&web, "b", Claim::PutBack).unwrap_err();
        assert_eq!(other.kind(), Kind::Replaced);
        assert_eq!(
            table.judge(&web, "b", Claim::TakeOver).unwrap(),
            Verdict::Granted
        );
    }

    #[test]
    fn a_grant_that_was_replaced_changes_nothing() {
        let mut table = Table::default();
        let web = key("h:1");
        table.insert(web.clone(), held(1, "a", 10));
        table.insert(web.clone(), held(2, "b", 10));
        let old = table.beat(&web, Some(1), SECOND).unwrap_err();
        assert_eq!(old.kind(), Kind::Replaced);
        assert_eq!(
            table.remove(&web, Some(1)).unwrap_err().kind(),
            Kind::Replaced
        );
        assert!(table.beat(&web, Some(2), SECOND).is_ok());
        assert_eq!(table.remove(&web, None).unwrap().grant, 2);
        assert_eq!(
            table.get(&web, Some(2)).unwrap_err().kind(),
            Kind::LeaseLost
        );
        assert_eq!(table.get(&web, None).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn who_is_silent_for_a_ttl_runs_out_and_who_beats_does_not() {
        let mut table = Table::default();
        table.insert(key("h:1"), held(1, "", 10));
        table.insert(key("h:2"), held(2, "", 10));
        assert_eq!(table.next(), Some(SECOND * 10));
        table.beat(&key("h:1"), None, SECOND * 5).unwrap();
        assert!(table.expire(SECOND * 9).is_empty());
        let gone = table.expire(SECOND * 10);
        assert_eq!((gone.len(), gone[0].1.grant), (1, 2));
        assert_eq!((table.next(), table.len()), (Some(SECOND * 15), 1));
        // One that the agent looks after needs none.
        table.get_mut(&key("h:1"), None).unwrap().until = None;
        table.beat(&key("h:1"), None, SECOND * 15).unwrap();
        assert!(table.expire(SECOND * 1000).is_empty());
    }
}
