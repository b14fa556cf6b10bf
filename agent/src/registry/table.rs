//! Which registrations the agent holds, for whom, and until when. Pure.

use std::collections::HashMap;
use std::time::Duration;

use discover_core::{Error, ErrorKind, OnConflict, Result, ServiceName};
use serde::{Deserialize, Serialize};

use crate::registry::key::InstanceKey;
use crate::registry::state::Health;

/// A moment, as the time since the agent began.
pub type Time = Duration;

/// What says that an instance lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keep {
    /// Its owner's heartbeats. Without them it goes.
    Beats,
    /// Its owner's heartbeats. Without them it is critical, and once it was so for this long it goes.
    Reports(Duration),
    /// A check. Once it was critical for this long it goes.
    Check(Duration),
}

/// Later than anything happens.
const NEVER: Time = Time::MAX;

/// One registration. `L` is what keeps it in the store.
#[derive(Debug)]
pub struct Held<L> {
    /// The agent's own number for it, told to its owner.
    pub grant: u64,
    /// Which client asked for it; empty for one that did not say.
    pub owner: String,
    /// How long it lives without a heartbeat.
    pub ttl: Duration,
    /// Until when, as of the last one, or since it is critical.
    pub until: Time,
    /// What says that it lives.
    pub keep: Keep,
    /// How it is.
    pub health: Health,
    /// Since when.
    pub since: Time,
    /// What was said about that last.
    pub note: String,
    /// What keeps it in the store.
    pub lease: L,
}

impl<L> Held<L> {
    /// What a heartbeat says that leaves its health as it is.
    pub fn as_it_is(&self) -> Option<Health> {
        matches!(self.keep, Keep::Reports(_)).then_some(self.health)
    }

    /// It has just come.
    pub fn begun(mut self, now: Time) -> Held<L> {
        self.since = now;
        self.until = self.deadline(now);
        self
    }

    /// It was just heard of.
    fn deadline(&self, now: Time) -> Time {
        match (self.keep, self.health) {
            (Keep::Check(gone) | Keep::Reports(gone), Health::Critical) => now.saturating_add(gone),
            (Keep::Check(_), _) => NEVER,
            (Keep::Beats | Keep::Reports(_), _) => now.saturating_add(self.ttl),
        }
    }

    fn set(&mut self, health: Health, note: String, now: Time) {
        if self.health != health {
            (self.health, self.since) = (health, now);
            self.until = self.deadline(now);
        }
        self.note = note;
    }
}

/// See the module.
#[derive(Debug)]
pub struct Table<L> {
    held: HashMap<InstanceKey, Held<L>>,
    /// Nobody runs out before this. CachedService so that there is no look at all of them before that.
    next: Time,
}

impl<L> Default for Table<L> {
    fn default() -> Table<L> {
        Table {
            held: HashMap::new(),
            next: NEVER,
        }
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
    pub fn judge(&self, key: &InstanceKey, owner: &str, claim: OnConflict) -> Result<Verdict> {
        match (claim, self.held.get(key)) {
            (OnConflict::Replace, _) => Ok(Verdict::Granted),
            (OnConflict::RestoreOnly, None) => Ok(Verdict::Unknown),
            // An answer that was lost on its way: it was put back already.
            (OnConflict::RestoreOnly, Some(held)) if !owner.is_empty() && held.owner == owner => {
                Ok(Verdict::Granted)
            }
            (OnConflict::RestoreOnly, Some(_)) => Err(replaced(key)),
        }
    }

    /// Notes a registration; gives the one before.
    pub fn insert(&mut self, key: InstanceKey, held: Held<L>) -> Option<Held<L>> {
        self.next = self.next.min(held.until);
        self.held.insert(key, held)
    }

    /// The registration, if this grant holds it; without a grant whoever does.
    pub fn get(&self, key: &InstanceKey, grant: Option<u64>) -> Result<&Held<L>> {
        match self.held.get(key) {
            Some(held) if grant.is_none_or(|grant| grant == held.grant) => Ok(held),
            Some(_) => Err(replaced(key)),
            None => Err(gone(key, grant)),
        }
    }

    /// Its owner says that it lives, and maybe how it is.
    pub fn beat(
        &mut self,
        key: &InstanceKey,
        grant: Option<u64>,
        health: Option<Health>,
        now: Time,
    ) -> Result<&Held<L>> {
        self.get(key, grant)?;
        let held = self.held.get_mut(key).ok_or_else(|| gone(key, grant))?;
        match (held.keep, health) {
            (Keep::Reports(_), health) => held.set(health.unwrap_or_default(), String::new(), now),
            (_, None) => {}
            (_, Some(_)) => {
                return Err(Error::invalid(format!(
                    "{} of {} does not say how it is; one registered with the check ttl does",
                    key.1, key.0
                )));
            }
        }
        held.until = held.deadline(now);
        self.next = self.next.min(held.until);
        Ok(held)
    }

    /// A check says how it is. Gives whether that is another health than before.
    pub fn report(
        &mut self,
        key: &InstanceKey,
        grant: Option<u64>,
        health: Health,
        note: String,
        now: Time,
    ) -> Result<bool> {
        self.get(key, grant)?;
        let held = self.held.get_mut(key).ok_or_else(|| gone(key, grant))?;
        let news = held.health != health;
        held.set(health, note, now);
        self.next = self.next.min(held.until);
        Ok(news)
    }

    /// Forgets the registration, if this grant holds it.
    pub fn remove(&mut self, key: &InstanceKey, grant: Option<u64>) -> Result<Held<L>> {
        self.get(key, grant)?;
        self.held.remove(key).ok_or_else(|| gone(key, grant))
    }

    /// Those that should have said how they are, and did not, are critical. Gives them.
    pub fn silence(&mut self, now: Time) -> Vec<InstanceKey> {
        let mut silent = Vec::new();
        if now < self.next {
            return silent;
        }
        for (key, held) in &mut self.held {
            let reports = matches!(held.keep, Keep::Reports(_)) && held.health != Health::Critical;
            if reports && held.until <= now {
                let note = format!("no heartbeat for {:?}", held.ttl);
                held.set(Health::Critical, note, now);
                silent.push(key.clone());
            }
        }
        silent
    }

    /// Forgets those that have been silent or critical for too long, and gives them.
    pub fn expire(&mut self, now: Time) -> Vec<(InstanceKey, Held<L>)> {
        if now < self.next {
            return Vec::new();
        }
        let over = |_: &InstanceKey, held: &mut Held<L>| held.until <= now;
        let gone = self.held.extract_if(over).collect();
        let left = self.held.values().map(|held| held.until);
        self.next = left.min().unwrap_or(NEVER);
        gone
    }

    /// When `expire` may have something at the earliest. Whoever has said meanwhile that it lives is
    /// found out by then.
    pub fn next(&self) -> Option<Time> {
        (self.next < NEVER).then_some(self.next)
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&InstanceKey, &Held<L>)> {
        self.held.iter()
    }

    /// Forgets those that are meant, and gives them.
    pub fn take(
        &mut self,
        mut meant: impl FnMut(&InstanceKey) -> bool,
    ) -> Vec<(InstanceKey, Held<L>)> {
        self.held.extract_if(|key, _| meant(key)).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The names of the services that have any, in order, each once.
    pub fn services(&self) -> Vec<ServiceName> {
        let mut names: Vec<ServiceName> = self.held.keys().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The error of who has lost an id to another owner.
pub fn replaced((service, id): &InstanceKey) -> Error {
    let text = format!("{id} of {service} has another owner now");
    Error::new(ErrorKind::Replaced, text)
}

fn gone((service, id): &InstanceKey, grant: Option<u64>) -> Error {
    match grant {
        Some(_) => Error::new(
            ErrorKind::LeaseLost,
            format!("{id} of {service} is not registered here any more"),
        ),
        None => Error::new(
            ErrorKind::NotFound,
            format!("{id} of {service} is not registered with this agent"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(id: &str) -> InstanceKey {
        (ServiceName::new("web").unwrap(), id.to_owned())
    }

    fn held(grant: u64, owner: &str, until: u32) -> Held<()> {
        Held {
            grant,
            owner: owner.to_owned(),
            ttl: SECOND * 10,
            until: SECOND * until,
            keep: Keep::Beats,
            health: Health::Passing,
            since: Time::ZERO,
            note: String::new(),
            lease: (),
        }
    }

    #[test]
    fn who_comes_anew_takes_over_and_who_comes_back_does_not() {
        let mut table = Table::default();
        let web = key("h:1");
        assert_eq!(
            table.judge(&web, "a", OnConflict::RestoreOnly).unwrap(),
            Verdict::Unknown
        );
        table.insert(web.clone(), held(1, "a", 10));
        let again = table.judge(&web, "a", OnConflict::RestoreOnly).unwrap();
        assert_eq!(again, Verdict::Granted, "its own");
        let other = table.judge(&web, "b", OnConflict::RestoreOnly).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Replaced);
        assert_eq!(
            table.judge(&web, "b", OnConflict::Replace).unwrap(),
            Verdict::Granted
        );
    }

    #[test]
    fn a_grant_that_was_replaced_changes_nothing() {
        let mut table = Table::default();
        let web = key("h:1");
        table.insert(web.clone(), held(1, "a", 10));
        table.insert(web.clone(), held(2, "b", 10));
        let old = table.beat(&web, Some(1), None, SECOND).unwrap_err();
        assert_eq!(old.kind(), ErrorKind::Replaced);
        assert_eq!(
            table.remove(&web, Some(1)).unwrap_err().kind(),
            ErrorKind::Replaced
        );
        assert!(table.beat(&web, Some(2), None, SECOND).is_ok());
        assert_eq!(table.remove(&web, None).unwrap().grant, 2);
        assert_eq!(
            table.get(&web, Some(2)).unwrap_err().kind(),
            ErrorKind::LeaseLost
        );
        assert_eq!(
            table.get(&web, None).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn who_is_silent_for_a_ttl_runs_out_and_who_beats_does_not() {
        let mut table = Table::default();
        table.insert(key("h:1"), held(1, "", 10));
        table.insert(key("h:2"), held(2, "", 10));
        assert_eq!(table.next(), Some(SECOND * 10));
        table.beat(&key("h:1"), None, None, SECOND * 5).unwrap();
        assert!(table.expire(SECOND * 9).is_empty());
        let gone = table.expire(SECOND * 10);
        assert_eq!((gone.len(), gone[0].1.grant), (1, 2));
        assert_eq!((table.next(), table.len()), (Some(SECOND * 15), 1));
    }
    #[test]
    fn who_should_say_how_it_is_and_does_not_is_critical_first_and_then_goes() {
        let mut table = Table::default();
        let web = key("h:1");
        let mut reporting = held(1, "", 0);
        reporting.keep = Keep::Reports(SECOND * 60);
        table.insert(web.clone(), reporting.begun(Time::ZERO));
        assert_eq!(table.next(), Some(SECOND * 10));
        assert_eq!(table.silence(SECOND * 10), std::slice::from_ref(&web));
        assert!(table.silence(SECOND * 11).is_empty(), "said once");
        assert!(table.expire(SECOND * 69).is_empty());
        let back = table
            .beat(&web, None, Some(Health::Warning), SECOND * 69)
            .unwrap();
        assert_eq!((back.health, back.since), (Health::Warning, SECOND * 69));
        assert_eq!(table.silence(SECOND * 79).len(), 1);
        assert_eq!(table.expire(SECOND * 139).len(), 1);
        assert!(table.is_empty());
    }

    #[test]
    fn who_is_checked_needs_no_heartbeat_and_goes_only_once_it_was_critical_for_long() {
        let mut table = Table::default();
        let web = key("h:1");
        let mut checked = held(1, "", 0);
        checked.keep = Keep::Check(SECOND * 60);
        table.insert(web.clone(), checked.begun(Time::ZERO));
        assert_eq!(table.next(), None);
        let mut report = |health, at| {
            let now = SECOND * at;
            table
                .report(&web, Some(1), health, String::new(), now)
                .unwrap();
            table.next()
        };
        assert_eq!(report(Health::Critical, 5), Some(SECOND * 65));
        assert_eq!(
            report(Health::Critical, 9),
            Some(SECOND * 65),
            "since the first"
        );
        report(Health::Passing, 20);
        // Only then is it looked at again.
        assert!(table.expire(SECOND * 65).is_empty());
        assert_eq!(table.next(), None, "it is found out that it is well");
        let critical = table.report(&web, Some(1), Health::Critical, String::new(), SECOND * 66);
        assert!(critical.unwrap());
        assert_eq!(table.next(), Some(SECOND * 126));
        let beat = table.beat(&web, None, Some(Health::Passing), SECOND * 70);
        assert_eq!(beat.unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(table.beat(&web, None, None, SECOND * 70).is_ok());
        assert_eq!(table.expire(SECOND * 130).len(), 1);
    }
}
