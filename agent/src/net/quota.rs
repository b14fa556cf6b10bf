//! Limits on what clients can make the agent hold: a number of items and their bytes, in total and of one peer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use discover_core::{Error, ErrorKind, Result};

use crate::net::peer::Peer;

/// Limits in total. One peer may use at most half of each, so that it cannot lock the others out.
#[derive(Clone, Copy, Debug)]
pub struct QuotaLimits {
    /// Maximum number of items, and the setting that changes it, if any.
    pub count: Option<(usize, Option<&'static str>)>,
    /// Maximum sum of their bytes, and the setting that changes it, if any.
    pub bytes: Option<(usize, Option<&'static str>)>,
}

/// Counts what clients hold, and refuses what exceeds the limits.
#[derive(Debug)]
pub struct Quota {
    /// Noun for messages, in the plural.
    what: &'static str,
    limits: QuotaLimits,
    usage: Mutex<QuotaUsage>,
}

/// An admitted item. Dropping it makes room for another.
#[derive(Debug)]
pub struct QuotaPermit {
    quota: Arc<Quota>,
    peer: Peer,
    bytes: usize,
}

#[derive(Debug, Default)]
struct QuotaUsage {
    total: Amount,
    /// Peers that hold nothing have no entry.
    of_peers: HashMap<Peer, Amount>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Amount {
    count: usize,
    bytes: usize,
}

impl Quota {
    /// Creates a quota of which nothing is used. `what` names the items in messages, in the plural.
    pub fn new(what: &'static str, limits: QuotaLimits) -> Arc<Quota> {
        Arc::new(Quota {
            what,
            limits,
            usage: Mutex::default(),
        })
    }

    /// Admits one more item of this peer. `replaced` is the permit of an item that the new one replaces; its
    /// amount is not counted twice.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`] if a limit would be exceeded. The message names it.
    pub fn admit(
        self: &Arc<Quota>,
        peer: Peer,
        bytes: usize,
        replaced: Option<&QuotaPermit>,
    ) -> Result<QuotaPermit> {
        let peer = peer.limit_key();
        let mut usage = self.usage();
        let of_peer = usage.of_peers.get(&peer).copied().unwrap_or_default();
        let freed = replaced.map(QuotaPermit::amount).unwrap_or_default();
        let freed_of_peer = match replaced {
            Some(permit) if permit.peer == peer => freed,
            _ => Amount::default(),
        };
        let item = Amount { count: 1, bytes };
        self.check(usage.total.after(freed, item), usage.total, 1)?;
        self.check(of_peer.after(freed_of_peer, item), of_peer, 2)?;
        usage.total.add(item);
        usage.of_peers.entry(peer).or_default().add(item);
        Ok(QuotaPermit {
            quota: self.clone(),
            peer,
            bytes,
        })
    }

    /// Returns the number of items that are held.
    pub fn count(&self) -> usize {
        self.usage().total.count
    }

    /// Compares an amount with the limits divided by `share`. A single item of any size is admitted where there is
    /// none `before`, unless it exceeds the limit in total.
    fn check(&self, after: Amount, before: Amount, share: usize) -> Result<()> {
        let whose = if share == 1 {
            "in total"
        } else {
            "of one client"
        };
        if let Some((max, setting)) = self.limits.count
            && after.count > max.div_ceil(share)
        {
            let limit = format!("{} {} {whose}", max.div_ceil(share), self.what);
            return Err(refusal(&limit, setting));
        }
        if let Some((max, setting)) = self.limits.bytes
            && after.bytes > max.div_ceil(share)
            && (share == 1 || before.bytes > 0)
        {
            let limit = format!("{} bytes of {} {whose}", max.div_ceil(share), self.what);
            return Err(refusal(&limit, setting));
        }
        Ok(())
    }

    fn usage(&self) -> MutexGuard<'_, QuotaUsage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(limit: &str, setting: Option<&'static str>) -> Error {
    let remedy = setting.map_or(String::new(), |setting| {
        format!("; increase the setting {setting}")
    });
    let text = format!("the limit of {limit} is reached{remedy}");
    Error::new(ErrorKind::Resource, text)
}

impl QuotaPermit {
    /// Returns the peer that holds the item.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    fn amount(&self) -> Amount {
        Amount {
            count: 1,
            bytes: self.bytes,
        }
    }
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        let item = self.amount();
        let mut usage = self.quota.usage();
        usage.total.remove(item);
        if let Some(amount) = usage.of_peers.get_mut(&self.peer) {
            amount.remove(item);
            if *amount == Amount::default() {
                usage.of_peers.remove(&self.peer);
            }
        }
    }
}

impl Amount {
    fn after(self, freed: Amount, item: Amount) -> Amount {
        let mut after = self;
        after.remove(freed);
        after.add(item);
        after
    }

    fn add(&mut self, item: Amount) {
        self.count += item.count;
        self.bytes = self.bytes.saturating_add(item.bytes);
    }

    fn remove(&mut self, item: Amount) {
        self.count = self.count.saturating_sub(item.count);
        self.bytes = self.bytes.saturating_sub(item.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(count: usize, bytes: usize) -> Arc<Quota> {
        let limits = QuotaLimits {
            count: Some((count, Some("items"))),
            bytes: Some((bytes, Some("item_bytes"))),
        };
        Quota::new("items", limits)
    }

    fn refused(result: Result<QuotaPermit>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resource);
        error.to_string()
    }

    #[test]
    fn one_peer_gets_half_and_the_others_the_rest() {
        let quota = quota(4, 100);
        let (one, two, three) = (Peer::User(1), Peer::User(2), Peer::User(3));
        let held = [
            quota.admit(one, 10, None).unwrap(),
            quota.admit(one, 10, None).unwrap(),
        ];
        let text = refused(quota.admit(one, 10, None));
        assert!(
            text.contains("2 items of one client") && text.contains("setting items"),
            "{text}"
        );
        let _others = [
            quota.admit(two, 1, None).unwrap(),
            quota.admit(two, 1, None).unwrap(),
        ];
        let text = refused(quota.admit(three, 1, None));
        assert!(text.contains("4 items in total"), "{text}");
        drop(held);
        assert!(quota.admit(three, 1, None).is_ok(), "there is room again");
        assert_eq!(quota.count(), 2);
        assert_eq!(quota.usage().of_peers.len(), 1);
    }

    #[test]
    fn bytes_are_limited_and_a_replacement_counts_once() {
        let quota = quota(100, 100);
        let (one, two) = (Peer::User(1), Peer::User(2));
        let held = quota.admit(one, 40, None).unwrap();
        let text = refused(quota.admit(one, 20, None));
        assert!(text.contains("50 bytes of items of one client"), "{text}");
        let next = quota.admit(one, 45, Some(&held)).unwrap();
        drop(held);
        let _large = quota.admit(two, 55, None).unwrap();
        let text = refused(quota.admit(Peer::User(3), 10, None));
        assert!(text.contains("100 bytes of items in total"), "{text}");
        drop(next);
        assert!(quota.admit(Peer::User(3), 10, None).is_ok());
    }
}
