//! Table of registrations with their owners and deadlines. Pure.

use std::collections::HashMap;

use discover_core::{Error, ErrorKind, OnConflict, Result, ServiceName};

use crate::net::quota::QuotaPermit;
use crate::registry::entry::{LivenessSource, NEVER, TableEntry, Time};
use crate::registry::key::InstanceKey;
use crate::registry::revoked::RevokedGrants;
use crate::registry::state::Health;

/// Registrations by service and instance id.
#[derive(Debug)]
pub struct RegistrationTable<P> {
    entries: HashMap<InstanceKey, TableEntry<P>>,
    /// Lower bound of all deadlines, so that most calls need not visit every entry.
    earliest_deadline: Time,
    revoked: RevokedGrants,
}

impl<P> Default for RegistrationTable<P> {
    fn default() -> RegistrationTable<P> {
        RegistrationTable {
            entries: HashMap::new(),
            earliest_deadline: NEVER,
            revoked: RevokedGrants::default(),
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

    /// Inserts a registration and returns the one that it replaces, whose grant is revoked if it has another owner.
    pub fn insert(&mut self, key: InstanceKey, entry: TableEntry<P>) -> Option<TableEntry<P>> {
        self.earliest_deadline = self.earliest_deadline.min(entry.deadline);
        let owner = entry.owner.clone();
        let replaced = self.entries.insert(key, entry);
        if let Some(replaced) = replaced.as_ref().filter(|other| other.owner != owner) {
            self.revoked.add(replaced.grant);
        }
        replaced
    }

    /// Returns a registration, if it has this grant or `grant` is `None`.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Replaced`] if it has another grant or the grant was revoked, with
    /// [`ErrorKind::LeaseLost`] or [`ErrorKind::NotFound`] if there is none.
    pub fn get(&self, key: &InstanceKey, grant: Option<u64>) -> Result<&TableEntry<P>> {
        match (self.entries.get(key), grant) {
            (Some(entry), _) if grant.is_none_or(|grant| grant == entry.grant) => Ok(entry),
            (Some(_), _) => Err(replaced_error(key)),
            (None, Some(grant)) if self.revoked.contains(grant) => Err(revoked_error(key)),
            (None, _) => Err(missing_error(key, grant)),
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

    /// Removes a registration of any owner. Its owner receives [`ErrorKind::Replaced`], so that it does not register
    /// again.
    pub fn revoke(&mut self, key: &InstanceKey) -> Result<TableEntry<P>> {
        let removed = self.remove(key, None)?;
        self.revoked.add(removed.grant);
        Ok(removed)
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

/// Error for an instance that was removed by a client other than its owner.
pub fn revoked_error((service, id): &InstanceKey) -> Error {
    let text = format!("{service}/{id}: unregistered by another client of the agent");
    Error::new(ErrorKind::Replaced, text)
}

/// Error for an instance that is not registered, or no longer if the client has a grant.
pub fn missing_error((service, id): &InstanceKey, grant: Option<u64>) -> Error {
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
    use std::time::Duration;

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
    fn the_owner_of_a_revoked_registration_is_told_not_to_register_again() {
        let mut table = RegistrationTable::default();
        let web = key("h:1");
        table.insert(web.clone(), entry(1, "me", 10));
        table.insert(web.clone(), entry(2, "you", 10));
        assert_eq!(table.revoke(&web).unwrap().grant, 2);
        for grant in [1, 2] {
            let error = table.get(&web, Some(grant)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Replaced, "{grant}");
        }
        let unknown = table.get(&web, Some(3)).unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::LeaseLost);
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
