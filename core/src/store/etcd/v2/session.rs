//! Session with one endpoint of etcd v2: requests in flight and long polls.
//!
//! A heartbeat raises the index of a key without a change and without an event. The session therefore keeps
//! the index of the last *change* of each key, and reports that one when a list returns the key unchanged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Node, Scope};
use crate::store::connect_attempts::{RoundTimeout, connect_any};
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v2::decode;
use crate::store::etcd::v2::http::{self, Head, Http, MAX_KEY_RESPONSE, MAX_LIST_RESPONSE};
use crate::store::etcd::v2::key_index::{KeyIndex, Leaves};
use crate::store::etcd::v2::long_poll::{LongPolls, PollEvent};
use crate::store::etcd::v2::recent_deletes::RecentDeletes;
use crate::store::etcd::v2::response::{self, ApiError, KEY_NOT_FOUND};
use crate::store::session::{self, ConnectionTasks, EventSender};
use crate::transport::network_error::Peer;
use crate::watch_sync::{
    Checkpoint, CheckpointStatus, Input, KeyRevisions, Listing, RangeId, WatchId,
};

/// Timeout of the first round of connecting: connect, log in, read. A server is slow to check a password, which it does on each
/// request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A list fails if nothing is received for this long. A dead connection is detected long before.
const LIST_SILENCE: Duration = Duration::from_secs(30);
/// Timeout of a request that needs a quorum.
const QUORUM_TIMEOUT: Duration = Duration::from_secs(5);
/// Every n-th progress request is one that only a member in contact with a quorum can answer.
const QUORUM_CHECK_INTERVAL: u32 = 5;

pub(super) type SessionEvent = session::SessionEvent<Session>;

/// A response that the session interprets.
pub(super) enum Response {
    Listed(RangeId, Listed),
    KeysListed(RangeId, Listed),
    Poll(PollEvent),
}

impl From<PollEvent> for Response {
    fn from(event: PollEvent) -> Response {
        Response::Poll(event)
    }
}

/// A connection to one endpoint, with its requests and long polls.
pub(super) struct Session {
    config: Arc<EtcdConfig>,
    http: Option<Http>,
    round_timeout: RoundTimeout,
    tasks: ConnectionTasks<Session>,
    polls: LongPolls,
    /// Index of the keys of each range, and the cluster to which it belongs.
    known: HashMap<RangeId, KeyIndex>,
    known_cluster: Option<String>,
    recent_deletes: Arc<RecentDeletes>,
    /// Id of the cluster at the last connection.
    cluster: Arc<Mutex<Option<String>>>,
    progress_requests: u32,
}

impl Session {
    pub(super) fn new(
        config: Arc<EtcdConfig>,
        recent_deletes: Arc<RecentDeletes>,
        events: EventSender<Session>,
    ) -> Session {
        Session {
            config,
            http: None,
            round_timeout: RoundTimeout::new(CONNECT_TIMEOUT),
            tasks: ConnectionTasks::new(events),
            polls: LongPolls::default(),
            known: HashMap::new(),
            known_cluster: None,
            recent_deletes,
            cluster: Arc::default(),
            progress_requests: 0,
        }
    }

    /// Lists a scope and sends the result as `response` makes it.
    fn request(
        &mut self,
        scope: &Scope,
        response: impl FnOnce(Listed) -> Response + Send + 'static,
    ) {
        let Some(http) = self.http.clone() else {
            return;
        };
        let (config, scope) = (self.config.clone(), scope.clone());
        self.tasks.spawn(async move {
            let listed = list(&config, &http, &scope).await;
            SessionEvent::Response(response(listed))
        });
    }
}

/// The nodes of a scope, with the index at which they were read.
pub(super) type Listed = Result<(u64, Leaves)>;

impl session::Session for Session {
    type Client = Http;
    type Response = Response;

    fn number(&self) -> u64 {
        self.tasks.number()
    }

    /// Connects without reading the checkpoint: v2 cannot read old revisions, so every range is listed
    /// again. A new epoch shows as another cluster id or as a lower index.
    fn connect(&mut self, endpoint: usize, _: Option<Checkpoint>) {
        self.disconnect();
        self.tasks.start_connection();
        let (config, cluster) = (self.config.clone(), self.cluster.clone());
        let limit = self.round_timeout.next_round();
        self.tasks.spawn(async move {
            let name = |at: &str| config.peer(Some(at)).to_string();
            let open = async |at: String| connect(&config, &at).await;
            match connect_any(&config.endpoints, endpoint, limit, name, open).await {
                Ok((http, head)) => {
                    let status = match is_other_cluster(&cluster, &head) {
                        true => CheckpointStatus::Diverged,
                        false => CheckpointStatus::Unknown,
                    };
                    SessionEvent::Connected(http.into(), status, head.index)
                }
                Err(error) => SessionEvent::Input(Input::ConnectionFailed(error)),
            }
        });
    }

    fn received_bytes(http: &Http) -> u64 {
        http.stats().received()
    }

    fn connected(&mut self, client: Http) {
        self.round_timeout.reset();
        let cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        if self.known_cluster != *cluster {
            self.known_cluster.clone_from(&cluster);
            self.known.clear();
        }
        drop(cluster);
        self.http = Some(client);
    }

    fn disconnect(&mut self) {
        self.tasks.abort_all();
        self.polls.clear();
        self.http = None;
    }

    fn list(&mut self, id: RangeId, scope: &Scope) {
        self.known.entry(id).or_default();
        self.request(scope, move |listed| Response::Listed(id, listed));
    }

    fn list_keys(&mut self, id: RangeId, scope: &Scope) {
        self.request(scope, move |listed| Response::KeysListed(id, listed));
    }

    fn watch(&mut self, id: RangeId, watch_id: WatchId, scope: &Scope, from: u64) {
        if let Some(http) = &self.http {
            let (config, http) = (&self.config, http.clone());
            self.polls
                .add(config, http, &mut self.tasks, (id, watch_id, scope, from));
        }
    }

    fn cancel_watch(&mut self, watch_id: WatchId) {
        self.polls.remove(watch_id);
    }

    fn remove_range(&mut self, id: RangeId) {
        self.known.remove(&id);
    }

    fn request_progress(&mut self) {
        let Some(http) = self.http.clone() else {
            return;
        };
        self.progress_requests = self.progress_requests.wrapping_add(1);
        if self.progress_requests.is_multiple_of(QUORUM_CHECK_INTERVAL) {
            let (http, path) = (http.clone(), absent_key_path(&self.config));
            self.tasks
                .spawn(async move { check_quorum(&http, &path).await });
        }
        self.tasks.spawn(async move {
            // Any response is a sign of life; this one costs the server least.
            SessionEvent::Input(match http.version().await {
                Ok(_) => Input::Activity,
                Err(error) => Input::ConnectionFailed(error),
            })
        });
    }

    fn handle_response(&mut self, response: Response) -> Vec<Input> {
        match response {
            Response::Listed(id, Ok((revision, leaves))) => {
                let Some(known) = self.known.get_mut(&id) else {
                    // The range was removed.
                    return Vec::new();
                };
                let nodes = known.replace(revision, leaves);
                vec![Input::Listed(id, Ok(Listing { revision, nodes }))]
            }
            Response::KeysListed(id, Ok((revision, leaves))) => {
                let Some(known) = self.known.get(&id) else {
                    return Vec::new();
                };
                let changed = |node: &Node| (node.key.clone(), known.last_change(node));
                let modified = leaves.nodes.iter().map(changed).collect();
                vec![Input::KeysListed(
                    id,
                    Ok(KeyRevisions { revision, modified }),
                )]
            }
            Response::Listed(id, Err(error)) => vec![Input::Listed(id, Err(error))],
            Response::KeysListed(id, Err(error)) => vec![Input::KeysListed(id, Err(error))],
            Response::Poll(heard) => {
                self.polls
                    .handle_event(heard, &mut self.known, &self.recent_deletes)
            }
        }
    }
}

/// Returns true if the cluster id differs from the last one. A cluster without an id counts as the same.
fn is_other_cluster(before: &Mutex<Option<String>>, head: &Head) -> bool {
    let Some(now) = &head.cluster else {
        return false;
    };
    let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
    before.replace(now.clone()).is_some_and(|was| was != *now)
}

/// Returns the path of a key that does not exist, read from a quorum: every v2 response contains the index.
fn absent_key_path(config: &EtcdConfig) -> String {
    http::keys(&config.path("/_")) + "?quorum=true"
}

/// Opens a client, with a read that only a member in contact with a quorum can answer.
async fn connect(config: &EtcdConfig, at: &str) -> Result<(Http, Head)> {
    let mut http = Http::new(config, at)?;
    let (head, answer) = http.get(&absent_key_path(config), MAX_KEY_RESPONSE).await?;
    http.refreshes = response::supports_refresh(&http.version().await?);
    match answer {
        Ok(_) => Ok((http, head)),
        Err(refusal) if refusal.code == KEY_NOT_FOUND => Ok((http, head)),
        Err(refusal) => {
            let error = refusal.error(config, Some(at), &config.path("/"));
            // The user need not have permission for this key. v2 reports a wrong password in the same way;
            // the first call then fails.
            match error.kind() {
                ErrorKind::PermissionDenied if config.proves_who_we_are() => {
                    Ok((http, Head::default()))
                }
                _ => Err(error),
            }
        }
    }
}

/// Lists all nodes of a scope from a quorum.
pub(super) async fn list(config: &EtcdConfig, http: &Http, scope: &Scope) -> Listed {
    let place = match scope {
        Scope::Prefix(prefix) => prefix.as_str().trim_end_matches('/'),
        Scope::Key(key) => key.as_str(),
    };
    let path = http::keys(&config.path(place)) + "?recursive=true&quorum=true";
    let whole = http.get(&path, MAX_LIST_RESPONSE);
    let slow = || Err(timeout_error(http.peer(), LIST_SILENCE));
    let listed = http.stats().transfer(LIST_SILENCE, whole).await;
    let (head, answer) = listed.unwrap_or_else(slow)?;
    match answer {
        Ok(reply) => {
            let mut leaves = decode::leaves(config, reply.node);
            if leaves.nodes.len() as u64 > config.max_keys {
                return Err(config.too_many(leaves.nodes.len()));
            }
            leaves.nodes.retain(|node| scope.contains(&node.key));
            Ok((head.index, leaves))
        }
        Err(ApiError {
            code: KEY_NOT_FOUND,
            ..
        }) => Ok((head.index, Leaves::default())),
        Err(refusal) => {
            Err(refusal.error(config, Some(&http.peer().endpoint), &config.path(place)))
        }
    }
}

/// Checks that the member is in contact with a quorum.
async fn check_quorum(http: &Http, path: &str) -> SessionEvent {
    let slow = |_| Err(timeout_error(http.peer(), QUORUM_TIMEOUT));
    let asked = timeout(QUORUM_TIMEOUT, http.get(path, MAX_KEY_RESPONSE)).await;
    SessionEvent::Input(match asked.unwrap_or_else(slow) {
        Ok((_, Err(refusal))) if refusal.kind().is_retriable() => {
            Input::ConnectionFailed(Error::new(
                refusal.kind(),
                format!("{}: the cluster does not answer", http.peer()),
            ))
        }
        Ok(_) => Input::Activity,
        Err(error) => Input::ConnectionFailed(error),
    })
}

fn timeout_error(peer: &Peer, within: Duration) -> Error {
    let text = format!("{peer}: no answer within {within:?}");
    Error::new(ErrorKind::Timeout, text)
}
