//! Limits on registrations: their number and their bytes, in total and of one client.

use discover_core::{Error, Instance, Result};

use crate::net::peer::Peer;
use crate::net::quota::QuotaPermit;
use crate::registry::Registry;
use crate::registry::key::InstanceKey;

/// Maximum length of the name of a client, in bytes. The library sends 16.
const MAX_OWNER_BYTES: usize = 128;

impl Registry {
    /// Counts a registration for its client, in place of the one that it replaces.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`](discover_core::ErrorKind::Resource) if a limit is reached, and with
    /// [`ErrorKind::InvalidArgument`](discover_core::ErrorKind::InvalidArgument) if `owner` is too long.
    pub(super) fn admit(
        &self,
        peer: Option<Peer>,
        key: &InstanceKey,
        owner: &str,
        instance: &Instance,
    ) -> Result<Option<QuotaPermit>> {
        self.check_owner(owner)?;
        let Some(peer) = peer else {
            return Ok(None);
        };
        let table = self.table();
        let replaced = table.get(key, None).ok();
        let replaced = replaced.and_then(|entry| entry.permit.as_ref());
        let bytes = size_of_instance(instance) + owner.len();
        self.quota.admit(peer, bytes, replaced).map(Some)
    }

    /// Checks the name of a client.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::InvalidArgument`](discover_core::ErrorKind::InvalidArgument) if it is too long.
    pub fn check_owner(&self, owner: &str) -> Result<()> {
        match owner.len() > MAX_OWNER_BYTES {
            true => {
                let n = owner.len();
                let text = format!("owner has {n} bytes; the limit is {MAX_OWNER_BYTES}");
                Err(Error::invalid(text))
            }
            false => Ok(()),
        }
    }
}

/// Returns the number of bytes that the client chose.
fn size_of_instance(instance: &Instance) -> usize {
    let attributes = instance.attributes().iter();
    let attributes: usize = attributes
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let tags: usize = instance.tags().iter().map(|tag| tag.len()).sum();
    let names = [
        instance.service().as_str(),
        instance.id(),
        instance.address(),
    ];
    attributes + tags + names.map(str::len).iter().sum::<usize>()
}
