//! One connection: an endpoint, the requests that are under way to it, and what is polled there.
//!
//! A heartbeat raises the index of a key without a change and without an event. So of each key the
//! index of its last *change* is kept, and told where a list shows the key as it was.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Node, Scope};
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v2::http::{self, Head, Http, LIST, ONE};
use crate::store::etcd::v2::key_index::{self, KeyIndex, Leaves};
use crate::store::etcd::v2::long_poll::{Heard, LongPolls};
use crate::store::etcd::v2::recent_deletes::RecentDeletes;
use crate::store::etcd::v2::response::{self, KEY_NOT_FOUND, Refusal};
use crate::store::watch_driver::{self, EventSender, Tasks};
use crate::transport::network_error::Peer;
use crate::watch_sync::{
    Checkpoint, CheckpointStatus, Input, KeyRevisions, Listing, RangeId, WatchId,
};

/// How long making a connection may take: connect, log in, read. A server takes its time to check a
/// password, with each request.
const OPEN: Duration = Duration::from_secs(4);
/// How long a list may take. A dead link is noticed long before.
const LISTING: Duration = Duration::from_secs(60);
/// How long a member may take for what needs the others.
const AGREED: Duration = Duration::from_secs(5);
/// Each so many signs of life one is asked for that only a member in touch with the others can give.
const OF_ALL: u32 = 5;

pub(super) type SessionEvent = watch_driver::SessionEvent<Session>;

/// What the session reads.
pub(super) enum Response {
    Listed(RangeId, Listed),
    Compared(RangeId, Listed),
    Heard(Heard),
}

/// See the module.
pub(super) struct Session {
    config: Arc<EtcdConfig>,
    http: Option<Http>,
    tasks: Tasks<Session>,
    polls: LongPolls,
    /// What is known of each part, and in which cluster.
    known: HashMap<RangeId, KeyIndex>,
    known_in: Option<String>,
    ended: Arc<RecentDeletes>,
    /// Which cluster it was.
    cluster: Arc<Mutex<Option<String>>>,
    signs: u32,
}

impl Session {
    pub(super) fn new(
        config: Arc<EtcdConfig>,
        ended: Arc<RecentDeletes>,
        tell: EventSender<Session>,
    ) -> Session {
        Session {
            config,
            http: None,
            tasks: Tasks::new(tell),
            polls: LongPolls::default(),
            known: HashMap::new(),
            known_in: None,
            ended,
            cluster: Arc::default(),
            signs: 0,
        }
    }

    /// Reads a scope, and tells it as `response` says.
    fn request(
        &mut self,
        scope: &Scope,
        response: impl FnOnce(Listed) -> Response + Send + 'static,
    ) {
        let Some(http) = self.http.clone() else {
            return;
        };
        let (config, scope) = (self.config.clone(), scope.clone());
        self.tasks.run(async move {
            let listed = list(&config, &http, &scope).await;
            SessionEvent::Response(response(listed))
        });
    }
}

/// What was listed, and at which index.
pub(super) type Listed = Result<(u64, Leaves)>;

impl watch_driver::Session for Session {
    type Client = Http;
    type Response = Response;

    fn number(&self) -> u64 {
        self.tasks.number()
    }

    /// v2 does not read at old revisions, so there is no mark to compare: whatever was known is listed
    /// again. That the cluster is another is said by its name, or by an index that is lower.
    fn open(&mut self, endpoint: usize, _: Option<Checkpoint>) {
        self.close();
        self.tasks.begin();
        let (config, cluster) = (self.config.clone(), self.cluster.clone());
        let at = config.endpoints[endpoint % config.endpoints.len()].clone();
        self.tasks.run(async move {
            let slow = |_| Err(no_answer(&config.peer(Some(&at)), OPEN));
            match timeout(OPEN, open(&config, &at)).await.unwrap_or_else(slow) {
                Ok((http, head)) => {
                    let verdict = match is_other(&cluster, &head) {
                        true => CheckpointStatus::Other,
                        false => CheckpointStatus::Unknown,
                    };
                    SessionEvent::Opened(http.into(), verdict, head.index)
                }
                Err(error) => SessionEvent::Answer(Input::Broken(error)),
            }
        });
    }

    fn opened(&mut self, client: Http) {
        let cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        if self.known_in != *cluster {
            self.known_in.clone_from(&cluster);
            self.known.clear();
        }
        drop(cluster);
        self.http = Some(client);
    }

    fn close(&mut self) {
        self.tasks.end();
        self.polls.clear();
        self.http = None;
    }

    fn list(&mut self, id: RangeId, scope: &Scope) {
        self.known.entry(id).or_default();
        self.request(scope, move |listed| Response::Listed(id, listed));
    }

    fn compare(&mut self, id: RangeId, scope: &Scope) {
        self.request(scope, move |listed| Response::Compared(id, listed));
    }

    fn watch(&mut self, id: RangeId, ticket: WatchId, scope: &Scope, from: u64) {
        if let Some(http) = &self.http {
            let (config, http) = (&self.config, http.clone());
            self.polls
                .add(config, http, &mut self.tasks, (id, ticket, scope, from));
        }
    }

    fn unwatch(&mut self, ticket: WatchId) {
        self.polls.remove(ticket);
    }

    fn forget(&mut self, id: RangeId) {
        self.known.remove(&id);
    }

    fn ask_sign(&mut self) {
        let Some(http) = self.http.clone() else {
            return;
        };
        self.signs = self.signs.wrapping_add(1);
        if self.signs.is_multiple_of(OF_ALL) {
            let (http, path) = (http.clone(), no_key(&self.config));
            self.tasks.run(async move { agreed(&http, &path).await });
        }
        self.tasks.run(async move {
            // Any answer will do, and this one costs the server least.
            SessionEvent::Answer(match http.version().await {
                Ok(_) => Input::Heard,
                Err(error) => Input::Broken(error),
            })
        });
    }

    fn read(&mut self, response: Response) -> Vec<Input> {
        match response {
            Response::Listed(id, Ok((revision, leaves))) => {
                let Some(known) = self.known.get_mut(&id) else {
                    // Nobody follows it any more.
                    return Vec::new();
                };
                let nodes = known.list(revision, leaves);
                vec![Input::Listed(id, Ok(Listing { revision, nodes }))]
            }
            Response::Compared(id, Ok((revision, leaves))) => {
                let Some(known) = self.known.get(&id) else {
                    return Vec::new();
                };
                let changed = |node: &Node| (node.key.clone(), known.last_change(node));
                let modified = leaves.nodes.iter().map(changed).collect();
                vec![Input::Compared(id, Ok(KeyRevisions { revision, modified }))]
            }
            Response::Listed(id, Err(error)) => vec![Input::Listed(id, Err(error))],
            Response::Compared(id, Err(error)) => vec![Input::Compared(id, Err(error))],
            Response::Heard(heard) => self.polls.read(heard, &mut self.known, &self.ended),
        }
    }
}

/// Whether it is the cluster that it was before. One that does not say its name may be.
fn is_other(before: &Mutex<Option<String>>, head: &Head) -> bool {
    let Some(now) = &head.cluster else {
        return false;
    };
    let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
    before.replace(now.clone()).is_some_and(|was| was != *now)
}

/// A key that is not there, to be asked for as all members agree on it: v2 tells its index with any
/// answer.
fn no_key(config: &EtcdConfig) -> String {
    http::keys(&config.path("/_")) + "?quorum=true"
}

/// Asks which server it is, and for something that only a member in touch with the others can answer.
async fn open(config: &EtcdConfig, at: &str) -> Result<(Http, Head)> {
    let mut http = Http::new(config, at)?;
    let (head, answer) = http.get(&no_key(config), ONE).await?;
    http.refreshes = response::refreshes(&http.version().await?);
    match answer {
        Ok(_) => Ok((http, head)),
        Err(refusal) if refusal.code == KEY_NOT_FOUND => Ok((http, head)),
        Err(refusal) => {
            let error = refusal.error(config, Some(at), &config.path("/"));
            // Any key will do: a user need not be allowed to read this one. That a login is wrong, v2
            // says with the same words; who has one learns it with the first call.
            match error.kind() {
                ErrorKind::PermissionDenied if config.proves_who_we_are() => {
                    Ok((http, Head::default()))
                }
                _ => Err(error),
            }
        }
    }
}

/// Everything in a scope, as all members agree on it.
pub(super) async fn list(config: &EtcdConfig, http: &Http, scope: &Scope) -> Listed {
    let place = match scope {
        Scope::Under(prefix) => prefix.as_str().trim_end_matches('/'),
        Scope::Only(key) => key.as_str(),
    };
    let path = http::keys(&config.path(place)) + "?recursive=true&quorum=true";
    let whole = http.get(&path, LIST);
    let slow = |_| Err(no_answer(http.peer(), LISTING));
    let (head, answer) = timeout(LISTING, whole).await.unwrap_or_else(slow)?;
    match answer {
        Ok(reply) => {
            let mut leaves = key_index::leaves(config, reply.node);
            if leaves.nodes.len() as u64 > config.most {
                return Err(config.too_many(leaves.nodes.len()));
            }
            leaves.nodes.retain(|node| scope.has(&node.key));
            Ok((head.index, leaves))
        }
        Err(Refusal {
            code: KEY_NOT_FOUND,
            ..
        }) => Ok((head.index, Leaves::default())),
        Err(refusal) => {
            Err(refusal.error(config, Some(&http.peer().endpoint), &config.path(place)))
        }
    }
}

/// A sign of life of all members.
async fn agreed(http: &Http, path: &str) -> SessionEvent {
    let slow = |_| Err(no_answer(http.peer(), AGREED));
    let asked = timeout(AGREED, http.get(path, ONE)).await;
    SessionEvent::Answer(match asked.unwrap_or_else(slow) {
        Ok((_, Err(refusal))) if refusal.kind().is_retriable() => Input::Broken(Error::new(
            refusal.kind(),
            format!("{}: the cluster does not answer", http.peer()),
        )),
        Ok(_) => Input::Heard,
        Err(error) => Input::Broken(error),
    })
}

fn no_answer(peer: &Peer, within: Duration) -> Error {
    let text = format!("{peer}: no answer within {within:?}");
    Error::new(ErrorKind::Timeout, text)
}
