//! What is polled: one long poll for each folder, for all who watch something in it.
//!
//! The server answers with one event and the next is asked for with its index. Each watch has its own
//! place in that order: one that begins earlier than the poll stands makes it begin again from there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Change, Key, Scope};
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v2::http::{self, Http, ONE};
use crate::store::etcd::v2::key_index::{KeyIndex, node};
use crate::store::etcd::v2::recent_deletes::RecentDeletes;
use crate::store::etcd::v2::response::{CLEARED, Refusal, Reply, Tree};
use crate::store::etcd::v2::session::{Response, Session, SessionEvent};
use crate::store::watch_driver::Tasks;
use crate::watch_sync::{CancelReason, Input, RangeId, WatchId};

/// How long a poll may be silent before it is asked again, from where the server was: it keeps only a
/// thousand events, and heartbeats count. What stands between us often waits for a minute at most.
const AGAIN: Duration = Duration::from_secs(50);
/// How soon the server must say that it took a poll.
const TAKEN: Duration = Duration::from_secs(5);
/// How soon, at the earliest, to ask again a server that had nothing to say.
const PACE: Duration = Duration::from_secs(1);

/// A part, its watch, what it watches, and from which index on.
pub(super) type Wanted<'a> = (RangeId, WatchId, &'a Scope, u64);

/// What a poll heard.
pub(super) struct Heard {
    folder: Arc<str>,
    /// LongPolls of one folder follow each other.
    number: u64,
    said: Said,
}

enum Said {
    /// The poll stands.
    Taken,
    Event(Box<Reply>),
    Refused(u32, Error),
}

/// All polls of a connection.
#[derive(Default)]
pub(super) struct LongPolls {
    config: Option<Arc<EtcdConfig>>,
    /// By folder.
    polls: HashMap<Arc<str>, LongPoll>,
    numbers: u64,
}

struct LongPoll {
    number: u64,
    /// The index of the next event.
    next: u64,
    taken: bool,
    seats: BTreeMap<WatchId, Watcher>,
    task: AbortHandle,
}

struct Watcher {
    id: RangeId,
    scope: Scope,
    next: u64,
    /// Whether the watch was said to stand.
    told: bool,
}

impl LongPolls {
    pub(super) fn clear(&mut self) {
        self.polls.clear();
    }

    /// Watches something more.
    pub(super) fn add(
        &mut self,
        config: &Arc<EtcdConfig>,
        http: Http,
        tasks: &mut Tasks<Session>,
        (id, ticket, scope, from): Wanted<'_>,
    ) {
        self.config = Some(config.clone());
        let folder: Arc<str> = folder(scope).into();
        let mut seat = Watcher {
            id,
            scope: scope.clone(),
            next: from,
            told: false,
        };
        if let Some(poll) = self.polls.get_mut(&folder)
            && from >= poll.next
        {
            if poll.taken {
                seat.told = true;
                tasks.teller()(SessionEvent::Answer(Input::Watching(ticket)));
            }
            poll.seats.insert(ticket, seat);
            return;
        }
        self.numbers += 1;
        let number = self.numbers;
        let tell = tasks.teller();
        let heard = {
            let folder = folder.clone();
            move |said| {
                let folder = folder.clone();
                tell(SessionEvent::Response(Response::Heard(Heard {
                    folder,
                    number,
                    said,
                })));
            }
        };
        let folder_key = config.path(&folder);
        let path = http::keys(&folder_key);
        let config = config.clone();
        let heard = move |answer: Result<Said, Refusal>| match answer {
            Ok(said) => heard(said),
            Err(refusal) => {
                let error = refusal.error(&config, None, &folder_key);
                heard(Said::Refused(refusal.code, error));
            }
        };
        let task = tasks.run(async move { poll(&http, &path, from, heard).await });
        let mut seats = match self.polls.remove(&folder) {
            Some(later) => {
                later.task.abort();
                later.seats
            }
            None => BTreeMap::new(),
        };
        seats.insert(ticket, seat);
        let poll = LongPoll {
            number,
            next: from,
            taken: false,
            seats,
            task,
        };
        self.polls.insert(folder, poll);
    }

    /// Ends a watch, and the poll with the last.
    pub(super) fn remove(&mut self, ticket: WatchId) {
        self.polls.retain(|_, poll| {
            let last = poll.seats.remove(&ticket).is_some() && poll.seats.is_empty();
            if last {
                poll.task.abort();
            }
            !last
        });
    }

    /// What that means for those who watch.
    pub(super) fn read(
        &mut self,
        Heard {
            folder,
            number,
            said,
        }: Heard,
        known: &mut HashMap<RangeId, KeyIndex>,
        ended: &RecentDeletes,
    ) -> Vec<Input> {
        let (Some(poll), Some(config)) = (self.polls.get_mut(&folder), &self.config) else {
            return Vec::new();
        };
        if poll.number != number {
            return Vec::new();
        }
        match said {
            Said::Taken => poll.now_taken(),
            Said::Event(event) => poll.event(config, &event, known, ended),
            Said::Refused(code, error) => {
                let why = match error.kind() {
                    _ if code == CLEARED => CancelReason::Compacted,
                    ErrorKind::PermissionDenied => CancelReason::Refused(error),
                    _ => CancelReason::Other(error),
                };
                let tickets: Vec<WatchId> = poll.seats.keys().copied().collect();
                self.polls.remove(&folder);
                let canceled = |ticket| Input::Canceled(ticket, why.clone());
                tickets.into_iter().map(canceled).collect()
            }
        }
    }
}

impl LongPoll {
    fn now_taken(&mut self) -> Vec<Input> {
        self.taken = true;
        let mut inputs = vec![Input::Heard];
        for (ticket, seat) in &mut self.seats {
            if !std::mem::replace(&mut seat.told, true) {
                inputs.push(Input::Watching(*ticket));
            }
        }
        inputs
    }

    fn event(
        &mut self,
        config: &EtcdConfig,
        event: &Reply,
        known: &mut HashMap<RangeId, KeyIndex>,
        ended: &RecentDeletes,
    ) -> Vec<Input> {
        let index = event.node.as_ref().map_or(0, |node| node.modified_index);
        self.next = self.next.max(index + 1);
        let mut inputs = vec![Input::Heard];
        for (ticket, seat) in &mut self.seats {
            if index < seat.next {
                continue;
            }
            seat.next = index + 1;
            let Some(known) = known.get_mut(&seat.id) else {
                continue;
            };
            let changes = changes(config, &seat.scope, event, known, ended);
            if !changes.is_empty() {
                let at = |change| (index, change);
                inputs.push(Input::Events(
                    *ticket,
                    changes.into_iter().map(at).collect(),
                ));
            }
        }
        inputs
    }
}

/// The folder in which all of a scope is.
fn folder(scope: &Scope) -> &str {
    match scope {
        Scope::Under(prefix) => prefix.as_str().trim_end_matches('/'),
        Scope::Only(key) => key
            .as_str()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder),
    }
}

/// What an event changes in a scope. A folder that goes takes all beneath it, in one event.
fn changes(
    config: &EtcdConfig,
    scope: &Scope,
    event: &Reply,
    known: &mut KeyIndex,
    ended: &RecentDeletes,
) -> Vec<Change> {
    let Some(at) = &event.node else {
        return Vec::new();
    };
    let over_a_file = event.prev_node.as_ref().is_some_and(|was| !was.dir);
    if event.is_end() || (at.dir && over_a_file) {
        let gone = gone(config, scope, &at.key);
        let gone = gone.map_or_else(Vec::new, |key| known.delete(&key));
        if event.action != "expire" {
            let owners = gone.iter().map(|(_, owner)| *owner);
            owners
                .filter(|owner| *owner != 0)
                .for_each(|o| ended.note(o));
        }
        if !event.is_end() {
            note_folder(config, scope, at, known);
        }
        return gone
            .into_iter()
            .map(|(key, _)| Change::Delete(key))
            .collect();
    }
    if at.dir {
        note_folder(config, scope, at, known);
        return Vec::new();
    }
    match config.key(at.key.as_bytes()) {
        Some(key) if scope.has(&key) => {
            let node = node(config, at, known.folder_of(&key));
            let told = node.map(|node| known.put(node, over_a_file));
            told.map(Change::Put).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Takes note of a folder that was made or written. Who asks for one key is told of none by a list either.
fn note_folder(config: &EtcdConfig, scope: &Scope, folder: &Tree, known: &mut KeyIndex) {
    if let Scope::Under(prefix) = scope
        && let Some(key) = config.key(folder.key.as_bytes())
        && key.beneath().as_str().starts_with(prefix.as_str())
    {
        known.put_folder(key, folder.ttl.map(|_| folder.created_index));
    }
}

/// What of a scope goes with `path`: the key there, or the whole scope if it lies beneath.
fn gone(config: &EtcdConfig, scope: &Scope, path: &str) -> Option<Key> {
    let place = match scope {
        Scope::Under(prefix) => Key::new(prefix.as_str().trim_end_matches('/')).ok()?,
        Scope::Only(key) => key.clone(),
    };
    let here = config.path(place.as_str());
    let rest = here.strip_prefix(path.trim_end_matches('/'));
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Some(place);
    }
    let inside = path.strip_prefix(&here)?.starts_with('/');
    inside.then(|| config.key(path.as_bytes())).flatten()
}

/// LongPolls until something is wrong.
async fn poll(
    http: &Http,
    path: &str,
    mut from: u64,
    heard: impl Fn(Result<Said, Refusal>),
) -> SessionEvent {
    loop {
        let earliest = Instant::now() + PACE;
        match once(http, path, from, &heard).await {
            Ok(Next::Event(event, index)) => {
                from = from.max(index) + 1;
                heard(Ok(Said::Event(event)));
            }
            // What there was up to there would have come with the answer.
            Ok(Next::Nothing(index)) => {
                from = from.max(index + 1);
                sleep_until(earliest).await;
            }
            Ok(Next::Refused(refusal)) => {
                heard(Err(refusal));
                return SessionEvent::Answer(Input::Heard);
            }
            Err(error) => return SessionEvent::Answer(Input::Broken(error)),
        }
    }
}

enum Next {
    Event(Box<Reply>, u64),
    /// Nothing, up to the index that the server had when it took the poll.
    Nothing(u64),
    Refused(Refusal),
}

async fn once(
    http: &Http,
    path: &str,
    from: u64,
    heard: &impl Fn(Result<Said, Refusal>),
) -> Result<Next> {
    let path = format!("{path}?wait=true&recursive=true&waitIndex={from}");
    let slow = |_| {
        let text = format!("{}: no answer to a long poll within {TAKEN:?}", http.peer());
        Err(Error::new(ErrorKind::Timeout, text))
    };
    let asked = timeout(TAKEN, http.begin(Method::GET, &path, None)).await;
    let pending = asked.unwrap_or_else(slow)?;
    let index = pending.head.index;
    if !pending.is_refusal() {
        heard(Ok(Said::Taken));
    }
    let Ok(answer) = timeout(AGAIN, pending.read(ONE)).await else {
        return Ok(Next::Nothing(index));
    };
    Ok(match answer?.1 {
        Err(refusal) => Next::Refused(refusal),
        Ok(event) => match &event.node {
            Some(node) => {
                let index = node.modified_index;
                Next::Event(Box::new(event), index)
            }
            None => Next::Nothing(index),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Prefix;
    use crate::url::Url;

    fn config() -> EtcdConfig {
        EtcdConfig::read(&Url::parse("etcd2://h/root").unwrap(), false).unwrap()
    }

    fn under() -> Scope {
        Scope::Under(Prefix::new("/s/web").unwrap())
    }

    fn event(json: &str) -> Reply {
        serde_json::from_str(json).unwrap()
    }

    /// The keys that a part knows after an event that ends something, of three.
    fn left(path: &str, scope: &Scope) -> Vec<&'static str> {
        let config = config();
        let mut known = KeyIndex::default();
        let mut keys = vec!["/s/web/a", "/s/web/a/b", "/s/web/c"];
        for (at, key) in (1..).zip(&keys) {
            let put = format!(
                r#"{{"action":"create","node":{{"key":"/root{key}","value":"","ttl":5,
                "modifiedIndex":{at},"createdIndex":{at}}}}}"#
            );
            let ended = RecentDeletes::default();
            changes(&config, scope, &event(&put), &mut known, &ended);
        }
        let end = format!(r#"{{"action":"expire","node":{{"key":"{path}","modifiedIndex":9}}}}"#);
        let ended = RecentDeletes::default();
        for change in changes(&config, scope, &event(&end), &mut known, &ended) {
            let Change::Delete(gone) = change else {
                panic!("a put")
            };
            keys.retain(|key| *key != gone.as_str());
        }
        keys
    }

    #[test]
    fn a_folder_that_goes_takes_all_beneath_it_and_nothing_beside() {
        let under = under();
        assert_eq!(left("/root/s/web/a", &under), ["/s/web/c"]);
        for all in ["/root/s/web", "/root/s", "/root", "/"] {
            assert_eq!(left(all, &under), [""; 0], "{all}");
        }
        for beside in ["/root/s/we", "/root/s/web-admin", "/root/s/web/d", "/other"] {
            assert_eq!(left(beside, &under).len(), 3, "{beside}");
        }
        let only = Scope::Only(Key::new("/s/web/c").unwrap());
        assert_eq!(left("/root/s", &only).len(), 2);
        assert_eq!(left("/root/s/web/a", &only).len(), 3);
    }

    #[test]
    fn a_file_that_became_a_folder_is_gone_and_a_new_folder_is_nothing() {
        let config = config();
        let (mut known, ended) = (KeyIndex::default(), RecentDeletes::default());
        let mut fold = |json: &str| changes(&config, &under(), &event(json), &mut known, &ended);
        let file = r#""node":{"key":"/root/s/web/a","value":"1","ttl":5,"createdIndex":7,"modifiedIndex":7}"#;
        let folder = r#""node":{"key":"/root/s/web/a","dir":true,"modifiedIndex":8}"#;
        assert!(fold(&format!(r#"{{"action":"set",{folder}}}"#)).is_empty());
        assert_eq!(fold(&format!(r#"{{"action":"set",{file}}}"#)).len(), 1);
        let over = format!(r#"{{"action":"set",{folder},"prevNode":{{"dir":false}}}}"#);
        let gone = vec![Change::Delete(Key::new("/s/web/a").unwrap())];
        assert_eq!(fold(&over), gone);
        assert_eq!(ended.others(&[7, 8]), [8], "it was no expiry");
    }

    #[test]
    fn what_runs_out_with_its_folder_says_so_in_an_event_as_in_a_list() {
        let config = config();
        let (mut known, ended) = (KeyIndex::default(), RecentDeletes::default());
        let mut owner = |json: &str| {
            let told = changes(&config, &under(), &event(json), &mut known, &ended);
            told.iter().find_map(|change| match change {
                Change::Put(node) => Some(node.owner),
                _ => None,
            })
        };
        let folder = |ttl: &str, at: u64| {
            format!(
                r#"{{"action":"update","node":{{"key":"/root/s/web/a","dir":true,{ttl}
                "createdIndex":4,"modifiedIndex":{at}}}}}"#
            )
        };
        let file = |at: u64| {
            format!(
                r#"{{"action":"set","node":{{"key":"/root/s/web/a/service","value":"",
                "createdIndex":{at},"modifiedIndex":{at}}},"prevNode":{{"value":""}}}}"#
            )
        };
        assert_eq!(owner(&folder(r#""ttl":5,"#, 4)), None);
        assert_eq!(owner(&file(5)), Some(4));
        assert_eq!(owner(&folder("", 6)), None);
        assert_eq!(owner(&file(7)), Some(0));
        assert_eq!(owner(&folder(r#""ttl":5,"#, 8)), None);
        assert_eq!(owner(&file(9)), Some(4));
        let gone = event(r#"{"action":"delete","node":{"key":"/root/s/web/a","dir":true}}"#);
        changes(&config, &under(), &gone, &mut known, &ended);
        assert_eq!(ended.others(&[4, 5]), [5], "it was no expiry");
        assert_eq!(known.folder_of(&Key::new("/s/web/a/service").unwrap()), 0);
    }

    #[test]
    fn a_key_is_polled_with_its_folder() {
        let key = |key| Scope::Only(Key::new(key).unwrap());
        assert_eq!(folder(&key("/s/web/a")), folder(&under()));
        assert_eq!(folder(&key("/a")), "");
    }
}
