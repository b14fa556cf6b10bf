//! What a store keeps: a tree of keys, entries written to it, nodes and changes read from it.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The longest key, in bytes.
pub const MAX_KEY: usize = 1024;
/// The longest value that is read, in bytes. A longer one is reported as invalid.
pub const MAX_VALUE: usize = 256 * 1024;

/// A place in the tree: `/a/b/c`. Begins with a slash, has no empty segment, ends without one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Checks the path.
    pub fn new(path: &str) -> Result<Key> {
        if path.len() > MAX_KEY {
            let n = path.len();
            return Err(Error::invalid(format!(
                "key has {n} bytes; the limit is {MAX_KEY}"
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

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows `prefix`, if the key lies under it.
    pub fn under<'a>(&'a self, prefix: &Prefix) -> Option<&'a str> {
        self.0.strip_prefix(prefix.as_str())
    }

    /// Everything beneath this key.
    pub fn beneath(&self) -> Prefix {
        Prefix(format!("{}/", self.0).into())
    }
}

/// So that a map of keys can be asked with a path. Keys are in the order of their paths.
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

/// A folder of the tree. Always ends in a slash, so that `web/` never matches `web-admin/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// The folder at `path`, given with or without its last slash.
    pub fn new(path: &str) -> Result<Prefix> {
        Ok(Key::new(path.strip_suffix('/').unwrap_or(path))?.beneath())
    }

    /// The path with its last slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of `name` in this folder.
    pub fn join(&self, name: &str) -> Result<Key> {
        Key::new(&format!("{}{name}", self.0))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What we write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub key: Key,
    /// What.
    pub value: Vec<u8>,
    /// For how long.
    pub lifetime: Lifetime,
}

/// How long an entry stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Dies with the grant.
    Leased,
    /// The same; where a folder can have a time to live, as in etcd v2, it is that of the key's folder.
    LeasedFolder,
    /// Stays.
    Kept,
}

impl Lifetime {
    /// Whether it dies with the grant.
    pub fn is_leased(self) -> bool {
        self != Lifetime::Kept
    }
}

/// What we read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Where.
    pub key: Key,
    /// What.
    pub value: Arc<[u8]>,
    /// The revision at which the key came to be; survives rewrites.
    pub created: u64,
    /// The revision of its last change.
    pub modified: u64,
    /// The grant with which it dies; 0 for one that stays, and where the store does not say.
    pub owner: u64,
}

/// A part of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything in a folder.
    Under(Prefix),
    /// One key.
    Only(Key),
}

impl Scope {
    /// Whether the key belongs to it.
    pub fn has(&self, key: &Key) -> bool {
        match self {
            Scope::Under(prefix) => key.under(prefix).is_some(),
            Scope::Only(only) => key == only,
        }
    }
}

/// One edge in the life of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Forget everything; this is what there is.
    Reset(Vec<Node>),
    /// The key has this value now.
    Put(Node),
    /// The key is gone, and all beneath it.
    Delete(Key),
}

/// Changes that became true together: one item is whole revisions, never a part of one. Without any
/// it says that there were none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Which history of the store the revision belongs to. Grows when the store turns out to be another
    /// than it was, restored from a backup for instance; only then may the revision be lower.
    pub epoch: u64,
    /// The revision after which all of them hold.
    pub revision: u64,
    /// In the order of the store.
    pub changes: Vec<Change>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_whole_segments_only() {
        let web = Prefix::new("/services/web").unwrap();
        assert_eq!(web.join("a").unwrap().under(&web), Some("a"));
        assert_eq!(Key::new("/services/web-admin/a").unwrap().under(&web), None);
        assert_eq!(Prefix::new("/services/web/").unwrap(), web);
    }

    #[test]
    fn keys_are_checked() {
        for bad in ["", "a", "/", "/a/", "/a//b"] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
        assert!(Key::new(&format!("/{}", "k".repeat(MAX_KEY))).is_err());
    }
}
