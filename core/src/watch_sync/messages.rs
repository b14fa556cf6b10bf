//! The inputs and outputs of [`WatchSync`](super::WatchSync), and the data in them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::Error;
use crate::kv::{Change, Changes, Key, Node};

/// A point in time, as the time since a fixed start.
pub(crate) type Time = Duration;

/// Identifies a watched key range.
pub(crate) type RangeId = u64;

/// Identifies one watch on one connection; never reused.
pub(crate) type WatchId = i64;

/// The newest put that was received. A store of the same epoch still returns it at its revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checkpoint {
    pub(crate) node: Node,
}

/// Result of reading the checkpoint from a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CheckpointStatus {
    /// The store returned the checkpoint: its epoch is the same.
    Unchanged,
    /// The store never had the checkpoint: it was restored from a backup, or is another store.
    Diverged,
    /// The revision is compacted, or there was no checkpoint.
    Unknown,
}

/// All nodes of a range at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Listing {
    pub(crate) revision: u64,
    pub(crate) nodes: Vec<Node>,
}

/// The keys of a range at one revision, each with the revision of its last change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyRevisions {
    pub(crate) revision: u64,
    pub(crate) modified: BTreeMap<Key, u64>,
}

/// Reason for which the store cancelled a watch.
#[derive(Clone, Debug)]
pub(crate) enum CancelReason {
    /// The start revision is compacted.
    Compacted,
    /// The server refuses the login with which the watch stream was opened: it has expired, is older than a change of
    /// the permissions, or has no permission for the range. Servers do not tell these apart.
    LoginRefused(Error),
    /// The login has no permission for the range.
    #[cfg_attr(
        not(feature = "etcd2"),
        allow(
            dead_code,
            reason = "only the v2 API tells this apart from an outdated login"
        )
    )]
    PermissionDenied(Error),
    /// Any other reason: no leader, a slow client, a server that shuts down.
    Other(Error),
}

/// An event for the state machine.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The owner starts to watch a range. With key revisions, its subscriber has that state already.
    AddRange(RangeId, Option<KeyRevisions>),
    /// The owner stops watching a range.
    RemoveRange(RangeId),
    /// A call needs the connection.
    RequestConnection,
    /// A connection was established.
    Connected {
        checkpoint: CheckpointStatus,
        /// The store's revision; 0 if the login may not read it.
        revision: u64,
    },
    /// The connection could not be established, failed, or is not trusted any more.
    ConnectionFailed(Error),
    /// Response to [`Output::List`].
    Listed(RangeId, Result<Listing, Error>),
    /// Response to [`Output::ListKeys`].
    KeysListed(RangeId, Result<KeyRevisions, Error>),
    /// The store created the watch.
    WatchCreated(WatchId),
    /// Changes of a watch with their revisions, in order. A revision is never split.
    Events(WatchId, Vec<(u64, Change)>),
    /// The store cancelled the watch.
    WatchCanceled(WatchId, CancelReason),
    /// The login was renewed: [`Output::RenewLogin`] is done.
    LoginRenewed,
    /// The store gave a sign of life, such as a progress response.
    Activity,
    /// A timer may have expired.
    Tick,
}

/// A request to the driver.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Connect to the endpoint with this index and read the checkpoint there.
    Connect {
        endpoint: usize,
        checkpoint: Option<Checkpoint>,
    },
    /// Close the connection for this reason. Later responses of it must be dropped.
    Disconnect(Error),
    /// List all nodes of the range.
    List(RangeId),
    /// List the keys of the range, without values.
    ListKeys(RangeId),
    /// Watch the range from this revision on.
    Watch(RangeId, WatchId, u64),
    /// Cancel the watch.
    CancelWatch(WatchId),
    /// Log in again, and close the watch stream, which keeps the old login. The watches are requested anew afterwards.
    RenewLogin,
    /// Request a progress response.
    RequestProgress,
    /// Send whole revisions to the subscriber of the range. The range is current again.
    Emit(RangeId, Changes),
    /// Tell the subscriber of the range that its state may be out of date.
    MarkStale(RangeId, Error),
}

/// Counters of what happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SyncCounters {
    /// Connections established.
    pub(crate) connects: u64,
    /// Lists requested after the first of each range.
    pub(crate) relists: u64,
    /// Watches resumed at a known revision.
    pub(crate) resumes: u64,
    /// New epochs detected.
    pub(crate) epochs: u64,
    /// Changes dropped because they were emitted before.
    pub(crate) duplicates: u64,
    /// Audits that showed that the store had lost a change.
    pub(crate) mismatches: u64,
}
