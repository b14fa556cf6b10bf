//! A watch: the whole list at one revision, then every change from the next on.

use etcd_client::{EventType, GetOptions, KeyValue, WatchOptions, WatchResponse, WatchStream};

use crate::error::{Error, Kind, Result};
use crate::store::etcd3::Etcd3;
use crate::tree::{Change, Changes, Key, Node};

/// Where a watch is: what comes next is decided here and nowhere else.
pub(super) enum Watch {
    /// Nothing read yet.
    List(Etcd3, String),
    /// The list was read at a revision, and the watch begins right after it.
    Events(Etcd3, String, Box<WatchStream>),
    /// An error was told.
    Over,
}

impl Watch {
    pub(super) async fn step(self) -> Result<Option<(Changes, Watch)>> {
        match self {
            Watch::List(etcd, prefix) => {
                let (list, revision) = etcd.list(&prefix).await?;
                let from = WatchOptions::new()
                    .with_prefix()
                    .with_start_revision(revision + 1)
                    .with_progress_notify();
                let key = prefix.clone();
                let stream = etcd
                    .call(async |client| {
                        let mut client =
                            client.watch_client().max_decoding_message_size(usize::MAX);
                        client.watch(key, Some(from)).await.map(Box::new)
                    })
                    .await?;
                let reset = Changes {
                    revision: revision as u64,
                    changes: vec![Change::Reset(list)],
                };
                Ok(Some((reset, Watch::Events(etcd, prefix, stream))))
            }
            Watch::Events(etcd, prefix, mut stream) => loop {
                let answer = stream.message().await.map_err(|e| etcd.explain(e))?;
                let answer = answer.ok_or_else(|| {
                    let endpoints = etcd.config.shown();
                    Error::new(
                        Kind::Unavailable,
                        format!("etcd at {endpoints} ended the watch"),
                    )
                })?;
                if answer.canceled() {
                    return Err(canceled(&answer));
                }
                if !answer.events().is_empty() {
                    let changes = etcd.changes(&answer);
                    return Ok(Some((changes, Watch::Events(etcd, prefix, stream))));
                }
            },
            Watch::Over => Ok(None),
        }
    }
}

impl Etcd3 {
    /// Everything under a prefix at one revision, in one shot: a page costs the server as much as
    /// all that follow it.
    async fn list(&self, prefix: &str) -> Result<(Vec<Node>, i64)> {
        let options = GetOptions::new().with_prefix();
        let answer = self
            .call(async |client| {
                let mut client = client.kv_client().max_decoding_message_size(usize::MAX);
                client.get(prefix, Some(options)).await
            })
            .await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        Ok((
            answer.kvs().iter().filter_map(|kv| self.node(kv)).collect(),
            revision,
        ))
    }

    fn changes(&self, answer: &WatchResponse) -> Changes {
        let change = |event: &etcd_client::Event| {
            let kv = event.kv()?;
            match event.event_type() {
                EventType::Put => self.node(kv).map(Change::Put),
                EventType::Delete => self.key(kv).map(Change::Delete),
            }
        };
        // The header may be ahead of the events of a watch that catches up.
        let modified = answer
            .events()
            .iter()
            .filter_map(|e| e.kv().map(KeyValue::mod_revision));
        Changes {
            revision: modified.max().unwrap_or(0) as u64,
            changes: answer.events().iter().filter_map(change).collect(),
        }
    }

    fn node(&self, kv: &KeyValue) -> Option<Node> {
        let created = kv.create_revision() as u64;
        Some(Node {
            key: self.key(kv)?,
            value: kv.value().into(),
            created,
        })
    }

    /// The key below our root. One that is no path cannot be ours.
    fn key(&self, kv: &KeyValue) -> Option<Key> {
        let path = std::str::from_utf8(kv.key()).ok();
        let key = path
            .and_then(|p| p.strip_prefix(&self.config.root))
            .and_then(|p| Key::new(p).ok());
        if key.is_none() {
            log::warn!(
                "skipping the key {:?}: not a path",
                String::from_utf8_lossy(kv.key())
            );
        }
        key
    }
}

fn canceled(answer: &WatchResponse) -> Error {
    let reason = answer.cancel_reason();
    if answer.compact_revision() > 0 {
        let at = answer.compact_revision();
        return Error::new(
            Kind::Unavailable,
            format!("etcd compacted its history at revision {at}"),
        );
    }
    let denied = reason.contains("auth") || reason.contains("permission");
    let kind = if denied {
        Kind::PermissionDenied
    } else {
        Kind::Unavailable
    };
    Error::new(kind, format!("etcd cancelled the watch: {reason}"))
}
