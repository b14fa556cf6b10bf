//! Read-modify-write of records that other programs write as well: the record that the registrations of a
//! service share, and existing records of an instance.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep};

use super::READ_TIMEOUT;
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Change, Changes, Entry, Key, Node, Scope};
use crate::layout::Layout;
use crate::model::{OnConflict, SharedAttributes};
use crate::store::Store;

/// The bounds of the wait after another program has changed the record between read and write.
const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(5);
const MAX_RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Returns the entry to write over `before`; `None` if nothing is to be written.
pub(super) fn merge(
    layout: &dyn Layout,
    mut entry: Entry,
    before: Option<&Node>,
    on_conflict: OnConflict,
) -> Option<Entry> {
    if let Some(before) = before {
        entry.value = layout.merge_existing(&entry, &before.value, on_conflict)?;
    }
    Some(entry)
}

/// Writes a shared record with compare-and-swap. If another program changed the record since it was read, it is
/// read and merged again, so that no write is lost.
pub(super) async fn write(
    store: &dyn Store,
    layout: &dyn Layout,
    entry: Entry,
    on_conflict: OnConflict,
) -> Result<()> {
    let (mut backoff, began) = (
        Backoff::new(MIN_RETRY_INTERVAL, MAX_RETRY_INTERVAL),
        Instant::now(),
    );
    let key = &entry.key;
    loop {
        let before = store.get(key).await?;
        let Some(entry) = merge(layout, entry.clone(), before.as_ref(), on_conflict) else {
            return Ok(());
        };
        if store.put(&entry, before.as_ref()).await? {
            return Ok(());
        }
        // `get` and `put` have timeouts of their own; this bounds lost races only.
        if began.elapsed() >= READ_TIMEOUT {
            let text = format!(
                "{key} changed all the time for {READ_TIMEOUT:?}, so that it was not written"
            );
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        sleep(backoff.next_wait()).await;
    }
}

/// Returns the effect of a change on a key: the new node, or `None` inside for a deletion.
fn change_of_key(change: Change, key: &Key) -> Option<Option<Node>> {
    match change {
        Change::Reset(nodes) => Some(nodes.into_iter().find(|node| node.key == *key)),
        Change::Put(node) => (node.key == *key).then_some(Some(node)),
        Change::Delete(deleted) => {
            let gone = deleted == *key || key.strip_prefix(&deleted.as_prefix()).is_some();
            gone.then_some(None)
        }
    }
}

/// Streams the shared attributes of a record: the current ones at once, then each change. Never ends.
pub(super) fn follow(
    store: Arc<dyn Store>,
    layout: Arc<dyn Layout>,
    key: Key,
) -> BoxStream<'static, SharedAttributes> {
    let values = ValueStream {
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
struct ValueStream {
    store: Arc<dyn Store>,
    key: Key,
    changes: BoxStream<'static, Result<Changes>>,
    last: Option<Option<Arc<[u8]>>>,
    backoff: Backoff,
}

impl ValueStream {
    /// Waits for a value that differs from the last one.
    async fn next(&mut self) -> Option<Arc<[u8]>> {
        loop {
            match self.changes.next().await {
                Some(Ok(item)) => {
                    self.backoff.reset();
                    let changes = item.changes.into_iter();
                    let said = changes.filter_map(|change| change_of_key(change, &self.key));
                    let value = said.last().map(|node| node.map(|node| node.value));
                    if let Some(value) = value
                        && self.last.as_ref() != Some(&value)
                    {
                        self.last = Some(value.clone());
                        return value;
                    }
                }
                // The sets of the client report that the store is lost.
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
    use crate::kv::Prefix;
    use crate::layout::{Decoded, Scalingo};
    use crate::model::{Registration, ServiceName};
    use crate::store::memory::MemoryStore;

    /// A layout during whose merges other programs write these records.
    struct RacingLayout {
        layout: Scalingo,
        store: Arc<MemoryStore>,
        others: Mutex<Vec<String>>,
    }

    impl Layout for RacingLayout {
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
            on_conflict: OnConflict,
        ) -> Option<Vec<u8>> {
            if let Some(other) = self.others.lock().unwrap().pop() {
                put(&self.store, &entry.key, &other);
            }
            self.layout.merge_existing(entry, before, on_conflict)
        }
    }

    fn value(store: &MemoryStore, key: &Key) -> Option<String> {
        let node = store.get(key).now_or_never().unwrap().unwrap()?;
        Some(String::from_utf8(node.value.to_vec()).unwrap())
    }

    fn put(store: &MemoryStore, key: &Key, value: &str) {
        let entry = Entry::persistent(key.clone(), value);
        let seen = store.get(&entry.key).now_or_never().unwrap().unwrap();
        let written = store.put(&entry, seen.as_ref()).now_or_never().unwrap();
        assert!(written.unwrap());
    }

    /// Returns the record after a public host with the credentials `u:p` has written over `before` while others
    /// wrote theirs.
    async fn record_after_race(
        name: &str,
        before: &str,
        others: &[&str],
        on_conflict: OnConflict,
    ) -> String {
        let store = Arc::new(MemoryStore::open(name));
        let others = others.iter().rev().map(|other| (*other).to_owned());
        let layout = RacingLayout {
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
        write(&*store, &layout, entry, on_conflict).await.unwrap();
        value(&store, &key).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_lost_races_preserves_members_of_others_and_wins_in_the_end() {
        let others = [
            r#"{"name":"api","public":true,"user":"v","a":1}"#,
            r#"{"name":"api","public":true,"user":"w","a":1,"b":2}"#,
        ];
        let said = record_after_race("overtaken-1", "{}", &others, OnConflict::Replace).await;
        assert!(
            said.contains(r#""user":"u","password":"p""#) && said.ends_with(r#","a":1,"b":2}"#),
            "{said}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_restore_does_not_undo_later_writes() {
        let other = r#"{"name":"api","public":true,"user":"new"}"#;
        let said =
            record_after_race("overtaken-2", "rubbish", &[other], OnConflict::RestoreOnly).await;
        assert_eq!(said, other);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_loses_every_race_gives_up() {
        let store = Arc::new(MemoryStore::open("overtaken-3"));
        let endless = (0..100_000).map(|i| format!(r#"{{"n":{i}}}"#)).collect();
        let layout = RacingLayout {
            layout: Scalingo::new(Scalingo::PREFIX, Scalingo::INFOS).unwrap(),
            store: store.clone(),
            others: Mutex::new(endless),
        };
        let host = Registration::at("api", "h:1").unwrap();
        let entry = layout.encode(&host).unwrap().remove(0);
        put(&store, &entry.key, "{}");
        let error = write(&*store, &layout, entry, OnConflict::Replace).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
