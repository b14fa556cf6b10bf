//! Table of registrations with their owners and deadlines. Pure.

use std::collections::HashMap;
use std::time::Duration;

use discover_core::{Error, ErrorKind, OnConflict, Result, ServiceName};
use serde::{Deserialize, Serialize};

use crate::net::quota::QuotaPermit;
use crate::registry::key::InstanceKey;
use crate::registry::state::Health;

/// A point in time, as the time since the start of the agent.
pub type Time = Duration;

/// Source of the evidence that an instance is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LivenessSource {
    /// Heartbeats of the owner. Without them the registration expires after its TTL.
    #[serde(rename = "Beats")]
    Heartbeats,
    /// Heartbeats of the owner that report its health. Without them the instance becomes critical, and the
    /// registration expires after being critical for this long.
    #[serde(rename = "Reports")]
    HealthReports(Duration),
    /// Checks that the agent makes. The registration expires after being critical for this long.
    #[serde(rename = "Check")]
    AgentCheck(Duration),
}

/// Deadline of a registration that does not expire.
const NEVER: Time = Time::MAX;

/// One registration. `P` publishes it in the store.
#[derive(Debug)]
pub struct TableEntry<P> {
    /// Number that identifies the registration. Its owner sends it with each request.
    pub grant: u64,
    /// Name of the client that registered it; empty if it sent none.
    pub owner: String,
    /// Longest time between two heartbeats.
    pub ttl: Duration,
    /// When the registration becomes critical or expires, unless a heartbeat or check result extends the
    /// deadline.
    pub deadline: Time,
    /// Source of the evidence that the instance is alive.
    pub liveness: LivenessSource,
    /// Last reported health.
    pub health: Health,
    /// When the health last changed.
    pub health_since: Time,
    /// Text of the last check result.
    pub note: String,
    /// Counts the registration for the client that made it. `None` for those of the configuration file.
    pub permit: Option<QuotaPermit>,
    /// Publishes the instance in the store.
    pub published: P,
}

impl<P> TableEntry<P> {
    /// Returns the health to send with a heartbeat that leaves the health unchanged.
    pub fn reported_health(&self) -> Option<Health> {
        matches!(self.liveness, LivenessSource::HealthReports(_)).then_some(self.health)
    }

    /// Sets the start time.
    pub fn started_at(mut self, now: Time) -> TableEntry<P> {
        self.health_since = now;
        self.deadline = self.next_deadline(now);
        self
    }

    /// Returns the deadline after a heartbeat or check result.
    fn next_deadline(&self, now: Time) -> Time {
        match (self.liveness, self.health) {
            (
                LivenessSource::AgentCheck(critical_ttl)
                | LivenessSource::HealthReports(critical_ttl),
                Health::Critical,
            ) => now.saturating_add(critical_ttl),
            (LivenessSource::AgentCheck(_), _) => NEVER,
            (LivenessSource::Heartbeats | LivenessSource::HealthReports(_), _) => {
                now.saturating_add(self.ttl)
            }
        }
    }

    fn set(&mut self, health: Health, note: String, now: Time) {
        if self.health != health {
            (self.health, self.health_since) = (health, now);
            self.deadline = self.next_deadline(now);
        }
        self.note = note;
    }
}

/// Registrations by service and instance id.
#[derive(Debug)]
pub struct RegistrationTable<P> {
    entries: HashMap<InstanceKey, TableEntry<P>>,
    /// Lower bound of all deadlines, so that most calls need not visit every entry.
    earliest_deadline: Time,
}

impl<P> Default for RegistrationTable<P> {
    fn default() -> RegistrationTable<P> {
        RegistrationTable {
            entries: HashMap::new(),
            earliest_deadline: NEVER,
        }
    }
}

/// Result of [`RegistrationTable::check_claim`].
#[derive(Debug, PartialEq)]
pub enum ClaimCheck {
    /// The client may register the instance.
    Allowed,
    /// The table has no such registration. The caller checks the store.
    NotInTable,
}

impl<P> RegistrationTable<P> {
    /// Checks if a client may register an instance.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Replaced`] if another owner has it and `on_conflict` does not allow to replace
    /// it.
    pub fn check_claim(
        &self,
        key: &InstanceKey,
        owner: &str,
        on_conflict: OnConflict,
    ) -> Result<ClaimCheck> {
        match (on_conflict, self.entries.get(key)) {
            (OnConflict::Replace, _) => Ok(ClaimCheck::Allowed),
            (OnConflict::RestoreOnly, None) => Ok(ClaimCheck::NotInTable),
            // The owner repeats a request whose response was lost.
            (OnConflict::RestoreOnly, Some(entry)) if !owner.is_empty() && entry.owner == owner => {
                Ok(ClaimCheck::Allowed)
            }
            (OnConflict::RestoreOnly, Some(_)) => Err(replaced_error(key)),
        }
    }

    /// Inserts a registration and returns the one that it replaces.
    pub fn insert(&mut self, key: InstanceKey, entry: TableEntry<P>) -> Option<TableEntry<P>> {
        self.earliest_deadline = self.earliest_deadline.min(entry.deadline);
        self.entries.insert(key, entry)
    }

    /// Returns a registration, if it has this grant or `grant` is `None`.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Replaced`] if it has another grant, with [`ErrorKind::LeaseLost`] or
    /// [`ErrorKind::NotFound`] if there is none.
    pub fn get(&self, key: &InstanceKey, grant: Option<u64>) -> Result<&TableEntry<P>> {
        match self.entries.get(key) {
            Some(entry) if grant.is_none_or(|grant| grant == entry.grant) => Ok(entry),
            Some(_) => Err(replaced_error(key)),
            None => Err(missing_error(key, grant)),
        }
    }

    /// Replaces the permit of a registration, if it has this grant.
    pub fn set_permit(&mut self, key: &InstanceKey, grant: u64, permit: Option<QuotaPermit>) {
        let entry = self.entries.get_mut(key);
        if let Some(entry) = entry.filter(|entry| entry.grant == grant) {
            entry.permit = permit;
        }
    }

    /// Records a heartbeat, which may report the health.
    pub fn record_heartbeat(
        &mut self,
        key: &InstanceKey,
        grant: Option<u64>,
        health: Option<Health>,
        now: Time,
    ) -> Result<&TableEntry<P>> {
        self.get(key, grant)?;
        let entry = self
            .entries
            .get_mut(key)
            .ok_or_else(|| missing_error(key, grant))?;
        match (entry.liveness, health) {
            (LivenessSource::HealthReports(_), health) => {
                entry.set(health.unwrap_or_default(), String::new(), now)
            }
            (_, None) => {}
            (_, Some(_)) => {
                return Err(Error::invalid(format!(
                    "{}/{}: a heartbeat with a health requires a registration with a `ttl` check",
                    key.0, key.1
                )));
            }
        }
        entry.deadline = entry.next_deadline(now);
        self.earliest_deadline = self.earliest_deadline.min(entry.deadline);
        Ok(entry)
    }

    /// Records a check result. Returns true if the health changed.
    pub fn record_check(
        &mut self,
        key: &InstanceKey,
        grant: Option<u64>,
        health: Health,
        note: String,
        now: Time,
    ) -> Result<bool> {
        self.get(key, grant)?;
        let entry = self
            .entries
            .get_mut(key)
            .ok_or_else(|| missing_error(key, grant))?;
        let is_changed = entry.health != health;
        entry.set(health, note, now);
        self.earliest_deadline = self.earliest_deadline.min(entry.deadline);
        Ok(is_changed)
    }

    /// Removes a registration, if it has this grant or `grant` is `None`.
    pub fn remove(&mut self, key: &InstanceKey, grant: Option<u64>) -> Result<TableEntry<P>> {
        self.get(key, grant)?;
        self.entries
            .remove(key)
            .ok_or_else(|| missing_error(key, grant))
    }

    /// Marks registrations critical whose owners should have reported their health and did not. Returns their
    /// keys.
    pub fn mark_silent_critical(&mut self, now: Time) -> Vec<InstanceKey> {
        let mut silent = Vec::new();
        if now < self.earliest_deadline {
            return silent;
        }
        for (key, entry) in &mut self.entries {
            let reports = matches!(entry.liveness, LivenessSource::HealthReports(_))
                && entry.health != Health::Critical;
            if reports && entry.deadline <= now {
                let note = format!("no heartbeat for {:?}", entry.ttl);
                entry.set(Health::Critical, note, now);
                silent.push(key.clone());
            }
        }
        silent
    }

    /// Removes and returns the registrations whose deadline has passed.
    pub fn remove_expired(&mut self, now: Time) -> Vec<(InstanceKey, TableEntry<P>)> {
        if now < self.earliest_deadline {
            return Vec::new();
        }
        let is_expired = |_: &InstanceKey, entry: &mut TableEntry<P>| entry.deadline <= now;
        let expired = self.entries.extract_if(is_expired).collect();
        let deadlines = self.entries.values().map(|entry| entry.deadline);
        self.earliest_deadline = deadlines.min().unwrap_or(NEVER);
        expired
    }

    /// Returns the earliest time at which [`RegistrationTable::remove_expired`] may find an entry. Heartbeats
    /// may have extended that deadline in the meantime.
    pub fn next_deadline(&self) -> Option<Time> {
        (self.earliest_deadline < NEVER).then_some(self.earliest_deadline)
    }

    /// Iterates over all registrations, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&InstanceKey, &TableEntry<P>)> {
        self.entries.iter()
    }

    /// Removes and returns the registrations whose key matches.
    pub fn remove_where(
        &mut self,
        mut is_match: impl FnMut(&InstanceKey) -> bool,
    ) -> Vec<(InstanceKey, TableEntry<P>)> {
        self.entries.extract_if(|key, _| is_match(key)).collect()
    }

    /// Returns the number of registrations.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if there are no registrations.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the services that have registrations, sorted.
    pub fn services(&self) -> Vec<ServiceName> {
        let mut names: Vec<ServiceName> =
            self.entries.keys().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Error for an instance that another owner has registered.
pub fn replaced_error((service, id): &InstanceKey) -> Error {
    let text = format!("{service}/{id}: replaced by another owner");
    Error::new(ErrorKind::Replaced, text)
}

fn missing_error((service, id): &InstanceKey, grant: Option<u64>) -> Error {
    match grant {
        Some(_) => Error::new(
            ErrorKind::LeaseLost,
            format!("{service}/{id}: the registration expired or was removed; register it again"),
        ),
        None => Error::new(
            ErrorKind::NotFound,
            format!("{service}/{id}: not registered with this agent"),
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

    fn entry(grant: u64, owner: &str, until: u32) -> TableEntry<()> {
        TableEntry {
            grant,
            owner: owner.to_owned(),
            ttl: SECOND * 10,
            deadline: SECOND * until,
            liveness: LivenessSource::Heartbeats,
            health: Health::Passing,
            health_since: Time::ZERO,
            note: String::new(),
            permit: None,
            published: (),
        }
    }

    #[test]
    fn a_new_owner_replaces_and_a_restoring_one_does_not() {
        let mut table = RegistrationTable::default();
        let web = key("h:1");
        assert_eq!(
            table
                .check_claim(&web, "a", OnConflict::RestoreOnly)
                .unwrap(),
            ClaimCheck::NotInTable
        );
        table.insert(web.clone(), entry(1, "a", 10));
        let again = table
            .check_claim(&web, "a", OnConflict::RestoreOnly)
            .unwrap();
        assert_eq!(again, ClaimCheck::Allowed, "its own registration");
        let other = table
            .check_claim(&web, "b", OnConflict::RestoreOnly)
            .unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Replaced);
        assert_eq!(
            table.check_claim(&web, "b", OnConflict::Replace).unwrap(),
            ClaimCheck::Allowed
        );
    }

    #[test]
    fn a_grant_that_was_replaced_changes_nothing() {
        let mut table = RegistrationTable::default();
        let web = key("h:1");
        table.insert(web.clone(), entry(1, "a", 10));
        table.insert(web.clone(), entry(2, "b", 10));
        let old = table
            .record_heartbeat(&web, Some(1), None, SECOND)
            .unwrap_err();
        assert_eq!(old.kind(), ErrorKind::Replaced);
        assert_eq!(
            table.remove(&web, Some(1)).unwrap_err().kind(),
            ErrorKind::Replaced
        );
        assert!(table.record_heartbeat(&web, Some(2), None, SECOND).is_ok());
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
    fn a_registration_without_heartbeats_expires_after_its_ttl() {
        let mut table = RegistrationTable::default();
        table.insert(key("h:1"), entry(1, "", 10));
        table.insert(key("h:2"), entry(2, "", 10));
        assert_eq!(table.next_deadline(), Some(SECOND * 10));
        table
            .record_heartbeat(&key("h:1"), None, None, SECOND * 5)
            .unwrap();
        assert!(table.remove_expired(SECOND * 9).is_empty());
        let expired = table.remove_expired(SECOND * 10);
        assert_eq!((expired.len(), expired[0].1.grant), (1, 2));
        assert_eq!((table.next_deadline(), table.len()), (Some(SECOND * 15), 1));
    }
    #[test]
    fn a_silent_health_reporter_becomes_critical_and_then_expires() {
        let mut table = RegistrationTable::default();
        let web = key("h:1");
        let mut reporting = entry(1, "", 0);
        reporting.liveness = LivenessSource::HealthReports(SECOND * 60);
        table.insert(web.clone(), reporting.started_at(Time::ZERO));
        assert_eq!(table.next_deadline(), Some(SECOND * 10));
        assert_eq!(
            table.mark_silent_critical(SECOND * 10),
            std::slice::from_ref(&web)
        );
        assert!(
            table.mark_silent_critical(SECOND * 11).is_empty(),
            "reported once"
        );
        assert!(table.remove_expired(SECOND * 69).is_empty());
        let restored = table
            .record_heartbeat(&web, None, Some(Health::Warning), SECOND * 69)
            .unwrap();
        assert_eq!(
            (restored.health, restored.health_since),
            (Health::Warning, SECOND * 69)
        );
        assert_eq!(table.mark_silent_critical(SECOND * 79).len(), 1);
        assert_eq!(table.remove_expired(SECOND * 139).len(), 1);
        assert!(table.is_empty());
    }

    #[test]
    fn a_checked_registration_needs_no_heartbeat_and_expires_after_being_critical() {
        let mut table = RegistrationTable::default();
        let web = key("h:1");
        let mut checked = entry(1, "", 0);
        checked.liveness = LivenessSource::AgentCheck(SECOND * 60);
        table.insert(web.clone(), checked.started_at(Time::ZERO));
        assert_eq!(table.next_deadline(), None);
        let mut report = |health, at| {
            let now = SECOND * at;
            table
                .record_check(&web, Some(1), health, String::new(), now)
                .unwrap();
            table.next_deadline()
        };
        assert_eq!(report(Health::Critical, 5), Some(SECOND * 65));
        assert_eq!(
            report(Health::Critical, 9),
            Some(SECOND * 65),
            "counted from the first critical result"
        );
        report(Health::Passing, 20);
        // The deadline is recomputed only when it passes.
        assert!(table.remove_expired(SECOND * 65).is_empty());
        assert_eq!(table.next_deadline(), None, "the instance passes again");
        let critical =
            table.record_check(&web, Some(1), Health::Critical, String::new(), SECOND * 66);
        assert!(critical.unwrap());
        assert_eq!(table.next_deadline(), Some(SECOND * 126));
        let beat = table.record_heartbeat(&web, None, Some(Health::Passing), SECOND * 70);
        assert_eq!(beat.unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(
            table
                .record_heartbeat(&web, None, None, SECOND * 70)
                .is_ok()
        );
        assert_eq!(table.remove_expired(SECOND * 130).len(), 1);
    }
}
