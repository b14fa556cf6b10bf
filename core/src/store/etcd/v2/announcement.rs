//! Requests that older programs notice. Their watches react only to the actions of the requests that they send
//! themselves ([`V2Events`]), and not to those of conditional requests, which protect other owners.
//!
//! A conditional request therefore proves first that the key belongs to this client, and an unconditional one
//! follows at once. The remaining risk is one round trip, in which another client may take the key.

use std::borrow::Cow;

use crate::error::Result;
use crate::kv::{Entry, V2Events};
use crate::model::Grant;
use crate::store::etcd::v2::conditional_write::Write;
use crate::store::etcd::v2::ownership::OwnedKey;
use crate::store::etcd::v2::response::KEY_NOT_FOUND;
use crate::store::etcd::v2::{EtcdV2Store, directory_ttl, is_lost, modified_index};
use crate::store::lost;

/// Returns the value of the conditional write. Programs that react to changed values notice the announcement only
/// if it differs; a space after a JSON document does not change it.
pub(super) fn claim_value<'a>(entry: &Entry, value: &'a str) -> Cow<'a, str> {
    match entry.v2_events {
        V2Events::ChangedValue => format!("{value} ").into(),
        V2Events::All | V2Events::Create | V2Events::Set => value.into(),
    }
}

impl EtcdV2Store {
    /// Writes a key that was just claimed again, with the action that the programs of its layout react to.
    pub(super) async fn announce(&self, entry: &Entry, value: &str, grant: Grant) -> Result<()> {
        let condition = match entry.v2_events {
            V2Events::All | V2Events::Create => return Ok(()),
            V2Events::ChangedValue => "prevExist=true",
            V2Events::Set => "",
        };
        let key = &entry.key;
        let before = self.ownership.record_attempt(key, grant, value);
        let write = Write {
            condition: condition.to_owned(),
            value,
            unchanged: false,
            ttl: directory_ttl::key_ttl(entry, grant),
        };
        match self.write(key, write).await? {
            Ok(reply) => {
                self.ownership
                    .confirm(key, grant, modified_index(&reply), value);
                Ok(())
            }
            Err(refusal) if refusal.code == KEY_NOT_FOUND => {
                self.ownership.release(key, grant);
                Err(lost(key))
            }
            Err(refusal) => {
                self.ownership.undo_attempt(key, grant, before);
                Err(self.refused(&refusal, key))
            }
        }
    }

    /// Announces an update. A `set` would begin a new age of the key, and the programs that need it take nothing from
    /// the value that an update can change.
    pub(super) async fn announce_update(
        &self,
        entry: &Entry,
        value: &str,
        grant: Grant,
    ) -> Result<()> {
        match entry.v2_events {
            V2Events::ChangedValue => self.announce(entry, value, grant).await,
            V2Events::All | V2Events::Create | V2Events::Set => Ok(()),
        }
    }

    /// Returns the query of the request that deletes an owned key, or `None` if the key turned out not to be owned.
    pub(super) async fn prepare_delete(
        &self,
        entry: &Entry,
        owned: OwnedKey,
        grant: Grant,
    ) -> Result<Option<String>> {
        if entry.v2_events == V2Events::All {
            return Ok(Some(format!("?{}", owned.precondition())));
        }
        match self.write_owned(entry, None, grant).await {
            Ok(()) => Ok(Some(String::new())),
            Err(error) if is_lost(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
