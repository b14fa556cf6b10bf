//! Key-value types of stores: keys, prefixes, entries to write, nodes and changes as read.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Maximum length of a key in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// Maximum length of a value in bytes. A longer value that is read is reported as invalid.
pub const MAX_VALUE_BYTES: usize = 256 * 1024;

/// A path in the tree: `/a/b/c`. Starts with a slash, has no empty segment, and does not end with a slash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Creates a key.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the path is not a key
    /// or is longer than 1024 bytes.
    pub fn new(path: &str) -> Result<Key> {
        if path.len() > MAX_KEY_BYTES {
            let n = path.len();
            return Err(Error::invalid(format!(
                "key has {n} bytes; the limit is {MAX_KEY_BYTES}"
            )));
        }
        let Some(rest) = path.strip_prefix('/') else {
            return Err(Error::invalid(format!(
                "key {path:?} does not begin with a slash"
            )));
        };
        if rest.split('/').any(str::is_empty) {
            return Err(Error::invalid(format!("key {path:?} has an empty segment")));
        }
        Ok(Key(path.into()))
    }

    /// Returns the path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the rest of the path after `prefix`, or `None` if the key is not below it.
    pub fn strip_prefix<'a>(&'a self, prefix: &Prefix) -> Option<&'a str> {
        self.0.strip_prefix(prefix.as_str())
    }

    /// Returns the prefix of all keys below this key.
    pub fn as_prefix(&self) -> Prefix {
        Prefix(format!("{}/", self.0).into())
    }
}

/// Lets maps of keys be queried by path. Keys are ordered like their paths.
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A directory of the tree. Ends with a slash, so that `web/` never matches `web-admin/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// Creates the prefix of a directory, given with or without the final slash.
    ///
    /// # Errors
    ///
    /// Fails like [`Key::new`].
    pub fn new(path: &str) -> Result<Prefix> {
        Ok(Key::new(path.strip_suffix('/').unwrap_or(path))?.as_prefix())
    }

    /// Returns the path with its final slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key of `name` in this directory.
    ///
    /// # Errors
    ///
    /// Fails like [`Key::new`].
    pub fn join(&self, name: &str) -> Result<Key> {
        Key::new(&format!("{}{name}", self.0))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key and value to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Vec<u8>,
    /// How long the entry exists.
    pub lifetime: Lifetime,
    /// The events of etcd v2 that the programs of the layout react to.
    pub v2_events: V2Events,
}

impl Entry {
    /// Creates an entry that expires with its grant.
    pub fn leased(key: Key, value: impl Into<Vec<u8>>) -> Entry {
        Entry {
            key,
            value: value.into(),
            lifetime: Lifetime::Leased,
            v2_events: V2Events::All,
        }
    }

    /// Creates an entry that exists until it is deleted.
    pub fn persistent(key: Key, value: impl Into<Vec<u8>>) -> Entry {
        Entry {
            lifetime: Lifetime::Persistent,
            ..Entry::leased(key, value)
        }
    }

    /// Sets the events of etcd v2 that the programs of the layout react to.
    #[must_use]
    pub fn v2_events(self, v2_events: V2Events) -> Entry {
        Entry { v2_events, ..self }
    }
}

/// The events of etcd v2 that the programs of a layout react to.
///
/// In etcd v2 an event has an action: `create`, `set`, `update` or `compareAndSwap` for a write, `delete`,
/// `compareAndDelete` or `expire` for a removal. Many programs of that time react to the actions of the requests
/// that they send themselves, and miss all others. The store then repeats a conditional write, or replaces it, with
/// a request that they notice. Other stores ignore this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum V2Events {
    /// All events.
    #[default]
    All,
    /// `create` for a new key, `delete` and `expire` for a removed one.
    Create,
    /// `set` and `update` with a value that differs from the one before, `delete` and `expire`.
    ChangedValue,
    /// `set`, `delete` and `expire`.
    Set,
}

/// How long an entry exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Expires with the grant.
    Leased,
    /// Expires with the grant. In a store where directories have a TTL (etcd v2), the TTL is set on the
    /// key's directory.
    LeasedDirectory,
    /// Persistent.
    Persistent,
}

impl Lifetime {
    /// Returns true if the entry expires with its grant.
    pub fn is_leased(self) -> bool {
        self != Lifetime::Persistent
    }
}

/// A key and value as read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Arc<[u8]>,
    /// Revision at which the key was created; survives updates.
    pub created: u64,
    /// Revision of the last change.
    pub modified: u64,
    /// Id of the grant with which the key expires; 0 for a persistent key, and where the store does not
    /// tell.
    pub owner: u64,
}

/// A set of keys to watch or list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All keys in a directory.
    Prefix(Prefix),
    /// One key.
    Key(Key),
}

impl Scope {
    /// Returns true if the scope contains the key.
    pub fn contains(&self, key: &Key) -> bool {
        match self {
            Scope::Prefix(prefix) => key.strip_prefix(prefix).is_some(),
            Scope::Key(single) => key == single,
        }
    }
}

/// A change of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Replaces everything by these nodes.
    Reset(Vec<Node>),
    /// The key has this value.
    Put(Node),
    /// The key and everything below it were deleted.
    Delete(Key),
}

/// Changes that became visible together: whole revisions, never a part of one. An item without changes
/// confirms that there were none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Number of the store's history to which the revision belongs. Incremented when the store turns out to
    /// have another history, for instance because it was restored from a backup; only then may the revision
    /// be lower.
    pub epoch: u64,
    /// Revision after which all changes hold.
    pub revision: u64,
    /// The changes, in the order of the store.
    pub changes: Vec<Change>,
}

/// Returns the error of a prefix with more keys than the option `max_instances` permits.
pub(crate) fn too_many_keys(keys: impl fmt::Display, max_keys: u64) -> Error {
    Error::invalid(format!(
        "found {keys} keys where at most {max_keys} instances are expected; raise the option max_instances if these \
         keys are intended"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_whole_segments_only() {
        let web = Prefix::new("/services/web").unwrap();
        assert_eq!(web.join("a").unwrap().strip_prefix(&web), Some("a"));
        assert_eq!(
            Key::new("/services/web-admin/a")
                .unwrap()
                .strip_prefix(&web),
            None
        );
        assert_eq!(Prefix::new("/services/web/").unwrap(), web);
    }

    #[test]
    fn invalid_keys_are_refused() {
        for bad in ["", "a", "/", "/a/", "/a//b"] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
        assert!(Key::new(&format!("/{}", "k".repeat(MAX_KEY_BYTES))).is_err());
    }
}
