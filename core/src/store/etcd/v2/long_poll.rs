//! Watches over long polls: one poll per directory serves all watches in it.
//!
//! The server responds with one event, and the next poll asks for the following index. Each watch has its
//! own position. A watch that starts before the position of the poll restarts the poll from there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, ErrorKind, Result};
use crate::kv::Scope;
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v2::decode::changes;
use crate::store::etcd::v2::http::{self, Http, MAX_KEY_RESPONSE};
use crate::store::etcd::v2::key_index::KeyIndex;
use crate::store::etcd::v2::recent_deletes::RecentDeletes;
use crate::store::etcd::v2::response::{ApiError, EVENTS_CLEARED, KeysResponse};
use crate::store::session::{ConnectionTasks, Session, SessionEvent};
use crate::watch_sync::{CancelReason, Input, RangeId, WatchId};

/// Timeout of a silent poll, which is then repeated from the server's current index: the server keeps only a
/// thousand events, and heartbeats count. Proxies often time out after a minute.
const POLL_TIMEOUT: Duration = Duration::from_secs(50);
/// Time for the server to accept a poll.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum interval of polls that return nothing.
const MIN_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A watch to add: range, watch id, scope, and start index.
pub(super) type NewWatch<'a> = (RangeId, WatchId, &'a Scope, u64);

/// Event of a poll.
pub(super) struct PollEvent {
    directory: Arc<str>,
    /// Number of the poll; polls of one directory replace each other.
    number: u64,
    outcome: PollOutcome,
}

enum PollOutcome {
    /// The server has accepted the poll.
    Accepted,
    Event(Box<KeysResponse>),
    Refused(u32, Error),
}

/// All polls of a connection.
#[derive(Default)]
pub(super) struct LongPolls {
    config: Option<Arc<EtcdConfig>>,
    /// By directory.
    polls: HashMap<Arc<str>, LongPoll>,
    last_number: u64,
}

struct LongPoll {
    number: u64,
    /// Index of the next event.
    next: u64,
    is_accepted: bool,
    watches: BTreeMap<WatchId, PolledWatch>,
    task: AbortHandle,
}

struct PolledWatch {
    id: RangeId,
    scope: Scope,
    next: u64,
    /// Whether the creation of the watch was reported.
    is_created: bool,
}

impl LongPolls {
    pub(super) fn clear(&mut self) {
        self.polls.clear();
    }

    /// Adds a watch; starts or restarts the poll of its directory if needed.
    pub(super) fn add<S: Session<Response: From<PollEvent>>>(
        &mut self,
        config: &Arc<EtcdConfig>,
        http: Http,
        tasks: &mut ConnectionTasks<S>,
        (id, watch_id, scope, from): NewWatch<'_>,
    ) {
        self.config = Some(config.clone());
        let directory: Arc<str> = directory_of(scope).into();
        let mut watch = PolledWatch {
            id,
            scope: scope.clone(),
            next: from,
            is_created: false,
        };
        if let Some(poll) = self.polls.get_mut(&directory)
            && from >= poll.next
        {
            if poll.is_accepted {
                watch.is_created = true;
                tasks.event_sender()(SessionEvent::Input(Input::WatchCreated(watch_id)));
            }
            poll.watches.insert(watch_id, watch);
            return;
        }
        self.last_number += 1;
        let number = self.last_number;
        let send_event = tasks.event_sender();
        let report = {
            let directory = directory.clone();
            move |outcome| {
                let directory = directory.clone();
                let event = PollEvent {
                    directory,
                    number,
                    outcome,
                };
                send_event(SessionEvent::Response(event.into()));
            }
        };
        let directory_key = config.path(&directory);
        let path = http::keys(&directory_key);
        let config = config.clone();
        let report = move |answer: Result<PollOutcome, ApiError>| match answer {
            Ok(outcome) => report(outcome),
            Err(refusal) => {
                let error = refusal.error(&config, None, &directory_key);
                report(PollOutcome::Refused(refusal.code, error));
            }
        };
        let task = tasks.spawn(async move { poll(&http, &path, from, report).await });
        let mut watches = match self.polls.remove(&directory) {
            Some(later) => {
                later.task.abort();
                later.watches
            }
            None => BTreeMap::new(),
        };
        watches.insert(watch_id, watch);
        let poll = LongPoll {
            number,
            next: from,
            is_accepted: false,
            watches,
            task,
        };
        self.polls.insert(directory, poll);
    }

    /// Removes a watch, and its poll if it was the last.
    pub(super) fn remove(&mut self, watch_id: WatchId) {
        self.polls.retain(|_, poll| {
            let last = poll.watches.remove(&watch_id).is_some() && poll.watches.is_empty();
            if last {
                poll.task.abort();
            }
            !last
        });
    }

    /// Translates an event of a poll into inputs for its watches.
    pub(super) fn handle_event(
        &mut self,
        PollEvent {
            directory,
            number,
            outcome,
        }: PollEvent,
        known: &mut HashMap<RangeId, KeyIndex>,
        recent_deletes: &RecentDeletes,
    ) -> Vec<Input> {
        let (Some(poll), Some(config)) = (self.polls.get_mut(&directory), &self.config) else {
            return Vec::new();
        };
        if poll.number != number {
            return Vec::new();
        }
        match outcome {
            PollOutcome::Accepted => poll.accepted(),
            PollOutcome::Event(event) => poll.event(config, &event, known, recent_deletes),
            PollOutcome::Refused(code, error) => {
                let why = match error.kind() {
                    _ if code == EVENTS_CLEARED => CancelReason::Compacted,
                    ErrorKind::PermissionDenied => CancelReason::PermissionDenied(error),
                    _ => CancelReason::Other(error),
                };
                let watch_ids: Vec<WatchId> = poll.watches.keys().copied().collect();
                self.polls.remove(&directory);
                let canceled = |watch_id| Input::WatchCanceled(watch_id, why.clone());
                watch_ids.into_iter().map(canceled).collect()
            }
        }
    }
}

impl LongPoll {
    fn accepted(&mut self) -> Vec<Input> {
        self.is_accepted = true;
        let mut inputs = vec![Input::Activity];
        for (watch_id, watch) in &mut self.watches {
            if !std::mem::replace(&mut watch.is_created, true) {
                inputs.push(Input::WatchCreated(*watch_id));
            }
        }
        inputs
    }

    fn event(
        &mut self,
        config: &EtcdConfig,
        event: &KeysResponse,
        known: &mut HashMap<RangeId, KeyIndex>,
        recent_deletes: &RecentDeletes,
    ) -> Vec<Input> {
        let index = event.node.as_ref().map_or(0, |node| node.modified_index);
        self.next = self.next.max(index + 1);
        let mut inputs = vec![Input::Activity];
        for (watch_id, watch) in &mut self.watches {
            if index < watch.next {
                continue;
            }
            watch.next = index + 1;
            let Some(known) = known.get_mut(&watch.id) else {
                continue;
            };
            let changes = changes(config, &watch.scope, event, known, recent_deletes);
            if !changes.is_empty() {
                let at = |change| (index, change);
                inputs.push(Input::Events(
                    *watch_id,
                    changes.into_iter().map(at).collect(),
                ));
            }
        }
        inputs
    }
}

/// Returns the directory that contains the scope.
fn directory_of(scope: &Scope) -> &str {
    match scope {
        Scope::Prefix(prefix) => prefix.as_str().trim_end_matches('/'),
        Scope::Key(key) => key
            .as_str()
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory),
    }
}

/// Polls until an error occurs.
async fn poll<S: Session>(
    http: &Http,
    path: &str,
    mut from: u64,
    report: impl Fn(Result<PollOutcome, ApiError>),
) -> SessionEvent<S> {
    loop {
        let earliest = Instant::now() + MIN_POLL_INTERVAL;
        match poll_once(http, path, from, &report).await {
            Ok(PollResult::Event(event, index)) => {
                from = from.max(index) + 1;
                report(Ok(PollOutcome::Event(event)));
            }
            // The response would have contained any event up to this index.
            Ok(PollResult::Nothing(index)) => {
                from = from.max(index + 1);
                sleep_until(earliest).await;
            }
            Ok(PollResult::Refused(refusal)) => {
                report(Err(refusal));
                return SessionEvent::Input(Input::Activity);
            }
            Err(error) => return SessionEvent::Input(Input::ConnectionFailed(error)),
        }
    }
}

enum PollResult {
    Event(Box<KeysResponse>, u64),
    /// No event up to the server's index when it accepted the poll.
    Nothing(u64),
    Refused(ApiError),
}

async fn poll_once(
    http: &Http,
    path: &str,
    from: u64,
    report: &impl Fn(Result<PollOutcome, ApiError>),
) -> Result<PollResult> {
    let path = format!("{path}?wait=true&recursive=true&waitIndex={from}");
    let slow = |_| {
        let text = format!(
            "{}: no answer to a long poll within {ACCEPT_TIMEOUT:?}",
            http.peer()
        );
        Err(Error::new(ErrorKind::Timeout, text))
    };
    let asked = timeout(ACCEPT_TIMEOUT, http.begin(Method::GET, &path, None)).await;
    let pending = asked.unwrap_or_else(slow)?;
    let index = pending.head.index;
    if !pending.is_refusal() {
        report(Ok(PollOutcome::Accepted));
    }
    let Ok(answer) = timeout(POLL_TIMEOUT, pending.read(MAX_KEY_RESPONSE)).await else {
        return Ok(PollResult::Nothing(index));
    };
    Ok(match answer?.1 {
        Err(refusal) => PollResult::Refused(refusal),
        Ok(event) => match &event.node {
            Some(node) => {
                let index = node.modified_index;
                PollResult::Event(Box::new(event), index)
            }
            None => PollResult::Nothing(index),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Key, Prefix};

    #[test]
    fn a_key_is_polled_with_its_directory() {
        let key = |key| Scope::Key(Key::new(key).unwrap());
        assert_eq!(
            directory_of(&key("/s/web/a")),
            directory_of(&Scope::Prefix(Prefix::new("/s/web").unwrap()))
        );
        assert_eq!(directory_of(&key("/a")), "");
    }
}
