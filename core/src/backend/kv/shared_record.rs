//! Records that others write too: the one that all registrations of a service share, and those that are
//! there already. They are read, changed, and written in view of what was read.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep};

use super::READ;
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Change, Changes, Entry, Key, Node, Scope};
use crate::layout::Layout;
use crate::model::{OnConflict, SharedAttributes};
use crate::store::Store;

/// How long to wait before a record is read again that somebody else was faster to write, at first.
const AGAIN: Duration = Duration::from_millis(5);
/// The same, after many times.
const MOST: Duration = Duration::from_millis(200);

/// What is to be written where `before` is; none where that says it already.
pub(super) fn over(
    layout: &dyn Layout,
    mut entry: Entry,
    before: Option<&Node>,
    claim: OnConflict,
) -> Option<Entry> {
    if let Some(before) = before {
        entry.value = layout.merge_existing(&entry, &before.value, claim)?;
    }
    Some(entry)
}

/// Says what all share. What somebody else wrote between our look and our word is looked at again, so
/// that nobody's word is lost.
pub(super) async fn say(
    store: &dyn Store,
    layout: &dyn Layout,
    entry: Entry,
    claim: OnConflict,
) -> Result<()> {
    let (mut backoff, began) = (Backoff::new(AGAIN, MOST), Instant::now());
    let key = &entry.key;
    loop {
        let before = store.get(key).await?;
        let Some(entry) = over(layout, entry.clone(), before.as_ref(), claim) else {
            return Ok(());
        };
        if store.put(&entry, before.as_ref()).await? {
            return Ok(());
        }
        // Reading and putting end by themselves, so this is about others who are always faster.
        if began.elapsed() >= READ {
            let text =
                format!("{key} changed all the time for {READ:?}, so that it was not written");
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        sleep(backoff.next_wait()).await;
    }
}

/// What a change says about a key.
fn node_of(change: Change, key: &Key) -> Option<Option<Node>> {
    match change {
        Change::Reset(nodes) => Some(nodes.into_iter().find(|node| node.key == *key)),
        Change::Put(node) => (node.key == *key).then_some(Some(node)),
        Change::Delete(deleted) => {
            let gone = deleted == *key || key.strip_prefix(&deleted.as_prefix()).is_some();
            gone.then_some(None)
        }
    }
}

/// What the key says, at once and whenever it says something else; never ends.
pub(super) fn follow(
    store: Arc<dyn Store>,
    layout: Arc<dyn Layout>,
    key: Key,
) -> BoxStream<'static, SharedAttributes> {
    let values = Values {
        changes: store.watch(&Scope::Key(key.clone())),
        store,
        key,
        last: None,
        backoff: Backoff::default(),
    };
    stream::unfold((values, layout), |(mut values, layout)| async move {
        let said = layout.decode_shared(values.next().await.as_deref());
        Some((said, (values, layout)))
    })
    .boxed()
}

/// The values of one key.
struct Values {
    store: Arc<dyn Store>,
    key: Key,
    changes: BoxStream<'static, Result<Changes>>,
    last: Option<Option<Arc<[u8]>>>,
    backoff: Backoff,
}

impl Values {
    /// The next value that is another than the last.
    async fn next(&mut self) -> Option<Arc<[u8]>> {
        loop {
            match self.changes.next().await {
                Some(Ok(item)) => {
                    self.backoff.reset();
                    let changes = item.changes.into_iter();
                    let said = changes.filter_map(|change| node_of(change, &self.key));
                    let value = said.last().map(|node| node.map(|node| node.value));
                    if let Some(value) = value
                        && self.last.as_ref() != Some(&value)
                    {
                        self.last = Some(value.clone());
                        return value;
                    }
                }
                // The sets of the client tell that the store is lost; here there is nothing to be said.
                Some(Err(_)) => {}
                None => {
                    sleep(self.backoff.next_wait()).await;
                    self.changes = self.store.watch(&Scope::Key(self.key.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;

    use super::*;
    use crate::kv::{Lifetime, Prefix};
    use crate::layout::{Decoded, Scalingo};
    use crate::model::{Registration, ServiceName};
    use crate::store::memory::MemoryStore;

    /// Between our look at a record and our word, somebody else says these.
    struct Overtaken {
        layout: Scalingo,
        store: Arc<MemoryStore>,
        others: Mutex<Vec<String>>,
    }

    impl Layout for Overtaken {
        fn name(&self) -> &str {
            self.layout.name()
        }

        fn prefix(&self, service: &ServiceName) -> Result<Prefix> {
            self.layout.prefix(service)
        }

        fn encode(&self, registration: &Registration) -> Result<Vec<Entry>> {
            self.layout.encode(registration)
        }

        fn decode(&self, service: &ServiceName, node: &Node) -> Decoded {
            self.layout.decode(service, node)
        }

        fn merge_existing(
            &self,
            entry: &Entry,
            before: &[u8],
            claim: OnConflict,
        ) -> Option<Vec<u8>> {
            if let Some(other) = self.others.lock().unwrap().pop() {
                put(&self.store, &entry.key, &other);
            }
            self.layout.merge_existing(entry, before, claim)
        }
    }

    fn value(store: &MemoryStore, key: &Key) -> Option<String> {
        let node = store.get(key).now_or_never().unwrap().unwrap()?;
        Some(String::from_utf8(node.value.to_vec()).unwrap())
    }

    fn put(store: &MemoryStore, key: &Key, value: &str) {
        let (key, value) = (key.clone(), value.into());
        let lifetime = Lifetime::Persistent;
        let entry = Entry {
            key,
            value,
            lifetime,
        };
        let seen = store.get(&entry.key).now_or_never().unwrap().unwrap();
        let written = store.put(&entry, seen.as_ref()).now_or_never().unwrap();
        assert!(written.unwrap());
    }

    /// What is there after a public host with the credentials `u:p` says its word over `before`, while
    /// the others say theirs.
    async fn said(name: &str, before: &str, others: &[&str], claim: OnConflict) -> String {
        let store = Arc::new(MemoryStore::open(name));
        let others = others.iter().rev().map(|other| (*other).to_owned());
        let layout = Overtaken {
            layout: Scalingo::new(Scalingo::PREFIX, Scalingo::INFOS).unwrap(),
            store: store.clone(),
            others: Mutex::new(others.collect()),
        };
        let host = Registration::at("api", "h:1").unwrap();
        let fields = [("public", "true"), ("user", "u"), ("password", "p")];
        let host = host.attributes(fields).unwrap();
        let entry = layout.encode(&host).unwrap().remove(0);
        let key = entry.key.clone();
        put(&store, &key, before);
        say(&*store, &layout, entry, claim).await.unwrap();
        value(&store, &key).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_overtaken_keeps_what_the_others_said_and_has_the_last_word() {
        let others = [
            r#"{"name":"api","public":true,"user":"v","a":1}"#,
            r#"{"name":"api","public":true,"user":"w","a":1,"b":2}"#,
        ];
        let said = said("overtaken-1", "{}", &others, OnConflict::Replace).await;
        assert!(
            said.contains(r#""user":"u","password":"p""#) && said.ends_with(r#","a":1,"b":2}"#),
            "{said}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_put_back_does_not_undo_what_was_said_meanwhile() {
        let other = r#"{"name":"api","public":true,"user":"new"}"#;
        let said = said("overtaken-2", "rubbish", &[other], OnConflict::RestoreOnly).await;
        assert_eq!(said, other);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_overtaken_for_ever_gives_up() {
        let store = Arc::new(MemoryStore::open("overtaken-3"));
        let endless = (0..100_000).map(|i| format!(r#"{{"n":{i}}}"#)).collect();
        let layout = Overtaken {
            layout: Scalingo::new(Scalingo::PREFIX, Scalingo::INFOS).unwrap(),
            store: store.clone(),
            others: Mutex::new(endless),
        };
        let host = Registration::at("api", "h:1").unwrap();
        let entry = layout.encode(&host).unwrap().remove(0);
        put(&store, &entry.key, "{}");
        let error = say(&*store, &layout, entry, OnConflict::Replace).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
