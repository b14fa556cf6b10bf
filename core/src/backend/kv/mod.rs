//! A store seen through layouts.

mod mass_expiry;
mod shared_record;
mod view_builder;
mod view_stream;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, try_join_all};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::timeout;

use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Change, Entry, Key, Prefix, Scope};
use crate::layout::{self, Decoded, Layout};
use crate::model::{
    Attributes, ConnectionState, Grant, Heartbeat, Metrics, OnConflict, Registration, ServiceName,
    SharedAttributes, View,
};
use crate::store::{Store, Terms};
use view_stream::Views;

/// How long to wait for a value, and for the list of all services.
const READ: Duration = Duration::from_secs(5);

/// `create renew update remove guard watch` over entries become
/// `register heartbeat update unregister guard subscribe` over registrations.
///
/// With several layouts all of them are read as one set, and a registration is written in each. One must
/// be able to say all of it; the others say what they can.
pub struct KvBackend {
    store: Arc<dyn Store>,
    layouts: Arc<[Arc<dyn Layout>]>,
    /// For how long what vanished in a mass expiry is held; none without protection.
    grace: Option<Duration>,
    invalid: Arc<AtomicU64>,
    /// The layouts, each a bit, of which it was told that they do not say all.
    reduced: AtomicU64,
}

/// An entry, and the number of the layout that it is of.
type Written = (usize, Entry);

impl KvBackend {
    /// For how long instances that vanished in a mass expiry are held, unless something else is said.
    pub const GRACE: Duration = Duration::from_secs(30);

    /// Reads and writes `store` in `layout`.
    pub fn new(store: Arc<dyn Store>, layout: Arc<dyn Layout>) -> KvBackend {
        KvBackend::several(store, vec![layout])
    }

    /// Reads and writes `store` in several layouts at once, the first of which counts most.
    pub fn several(store: Arc<dyn Store>, layouts: Vec<Arc<dyn Layout>>) -> KvBackend {
        KvBackend {
            store,
            layouts: layouts.into(),
            grace: Some(KvBackend::GRACE),
            invalid: Arc::default(),
            reduced: AtomicU64::new(0),
        }
    }

    /// For how long instances that vanished in a mass expiry are held as suspect; `None`: not at all.
    pub fn grace(self, grace: Option<Duration>) -> KvBackend {
        KvBackend { grace, ..self }
    }

    /// The names of the services that have instances, in the layouts that can tell.
    async fn list(&self) -> Result<Vec<ServiceName>> {
        let mut names = BTreeSet::new();
        let mut known = false;
        for layout in self.layouts.iter() {
            if let Some(root) = layout.root() {
                known = true;
                self.list_in(&**layout, &root, &mut names).await?;
            }
        }
        if !known {
            let text =
                "this layout does not keep its services in one folder, so they cannot be listed";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        Ok(names.into_iter().collect())
    }

    async fn list_in(
        &self,
        layout: &dyn Layout,
        root: &Prefix,
        names: &mut BTreeSet<ServiceName>,
    ) -> Result<()> {
        let mut changes = self.store.watch(&Scope::Prefix(root.clone()));
        let slow = || Error::new(ErrorKind::Timeout, format!("no list within {READ:?}"));
        let item = timeout(READ, changes.next()).await.map_err(|_| slow())?;
        for change in item.ok_or_else(slow)??.changes {
            let Change::Reset(nodes) = change else {
                continue;
            };
            for node in nodes {
                let rest = node.key.strip_prefix(root);
                let name = rest.and_then(|rest| rest.split('/').next());
                let service = name.and_then(|name| ServiceName::new(name).ok());
                let lives = |service: &ServiceName| {
                    matches!(layout.decode(service, &node), Decoded::Instance(_))
                };
                names.extend(service.filter(|service| !names.contains(service) && lives(service)));
            }
        }
        Ok(())
    }

    /// The entries of a registration itself in all layouts.
    fn encode(&self, r: &Registration) -> Result<Vec<Entry>> {
        let mut all: Vec<Entry> = match &self.layouts[..] {
            // It was looked at when it was registered.
            [only] => only.encode(r)?,
            _ => self
                .accept(r)?
                .into_iter()
                .map(|(_, entry)| entry)
                .collect(),
        };
        all.retain(|entry| entry.lifetime.is_leased());
        Ok(all)
    }

    /// The same, after a look at whether it can be said.
    fn accept(&self, r: &Registration) -> Result<Vec<Written>> {
        let said = |layout: &Arc<dyn Layout>, r: &Registration| layout::check(&**layout, r);
        let full: Vec<Result<_>> = self.layouts.iter().map(|layout| said(layout, r)).collect();
        let somebody_says_all = full.iter().any(Result::is_ok);
        let mut written: Vec<Written> = Vec::new();
        for ((number, layout), full) in self.layouts.iter().enumerate().zip(full) {
            let entries = match full {
                Err(why) if somebody_says_all => {
                    let less = said(layout, &r.without_tags()).or_else(|_| said(layout, &r.bare()));
                    self.note_reduced(number, r, &why);
                    less?
                }
                full => full?,
            };
            for entry in entries {
                written.push((number, entry));
            }
        }
        self.check_folders(&r.service, &written)?;
        Ok(written)
    }

    /// Refuses a record where the programs of another layout look for theirs: most fail on all of the
    /// service at one that they cannot read.
    fn check_folders(&self, service: &ServiceName, written: &[Written]) -> Result<()> {
        for (number, layout) in self.layouts.iter().enumerate() {
            let folder = layout.prefix(service)?;
            let is_theirs = |(other, entry): &&Written| {
                let same = |(by, mine): &Written| *by == number && mine.key == entry.key;
                *other != number
                    && (entry.key.strip_prefix(&folder).is_some() || written.iter().any(same))
            };
            if let Some((other, entry)) = written.iter().find(is_theirs) {
                let other = self.layouts.get(*other).map_or("", |layout| layout.name());
                let (key, name) = (&entry.key, layout.name());
                return Err(Error::invalid(format!(
                    "layout {other} writes {key}, where the programs of layout {name} look for records of \
                     their own; give them prefixes of their own"
                )));
            }
        }
        Ok(())
    }

    /// Says once for each layout that it does not say all.
    fn note_reduced(&self, number: usize, r: &Registration, why: &Error) {
        let before = self.reduced.fetch_or(1 << (number % 64), Ordering::Relaxed);
        if before & (1 << (number % 64)) == 0 {
            tracing::warn!(
                service = %r.service(),
                instance = %r.instance_id(),
                endpoint = %r.address(),
                error = %why.report(),
                layout = self.layouts.get(number).map(|layout| layout.name()),
                "layout cannot store all attributes and tags, writing fewer"
            );
        }
    }

    /// Refuses what would move a registration: it is renewed and taken away where it was registered.
    fn check_place(&self, r: &Registration, written: &[Written]) -> Result<()> {
        let Some(first) = &r.first else {
            return Ok(());
        };
        let with = |attributes: Attributes| Registration {
            attributes,
            first: None,
            ..r.clone()
        };
        let before = places(&self.accept(&with(first.clone()))?);
        let now = places(written);
        if before == now {
            return Ok(());
        }
        let names = first.keys().chain(r.attributes.keys());
        let moves = |name: &&String| {
            let mut other = first.clone();
            match r.attributes.get(*name) {
                Some(value) => other.insert((*name).clone(), value.clone()),
                None => other.remove(*name),
            };
            let moved = self.accept(&with(other));
            moved.is_ok_and(|moved| places(&moved) != before)
        };
        let what = match names.into_iter().find(moves) {
            Some(name) => format!("attribute {name} is part of the key"),
            None => "the attributes are part of the key".to_owned(),
        };
        let keys = |keys: &[Key]| {
            let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
            keys.join(", ")
        };
        Err(Error::invalid(format!(
            "{what}: an update cannot move the registration from {} to {}; unregister it and register it anew",
            keys(&before),
            keys(&now)
        )))
    }

    /// What is to be written, in view of what is there: the entries of the registration itself, and those
    /// that it shares with others, which have their own way.
    async fn compose(
        &self,
        r: &Registration,
        claim: OnConflict,
    ) -> Result<(Vec<Entry>, Vec<Written>)> {
        let written = self.accept(r)?;
        self.check_place(r, &written)?;
        let is_own = |(_, entry): &Written| entry.lifetime.is_leased();
        let (own, mut shared): (Vec<_>, Vec<_>) = written.into_iter().partition(is_own);
        // Who adopted what others said has nothing to say to them.
        shared.retain(|_| !r.adopted);
        let own = own.into_iter().map(|(number, entry)| async move {
            let rewrites = |layout: &&Arc<dyn Layout>| !layout.known_fields().is_empty();
            let layout = self.layouts.get(number).filter(rewrites);
            let Some(layout) = layout else {
                return Ok(Some(entry));
            };
            let before = self.store.get(&entry.key).await?;
            Ok(shared_record::over(
                &**layout,
                entry,
                before.as_ref(),
                claim,
            ))
        });
        let own: Vec<Option<Entry>> = try_join_all(own).await?;
        Ok((own.into_iter().flatten().collect(), shared))
    }

    /// Says what all registrations of a service share.
    async fn share(&self, entries: Vec<Written>, claim: OnConflict) -> Result<()> {
        for (number, entry) in entries {
            if let Some(layout) = self.layouts.get(number) {
                shared_record::say(&*self.store, &**layout, entry, claim).await?;
            }
        }
        Ok(())
    }
}

/// Where a registration is, itself.
fn places(written: &[Written]) -> Vec<Key> {
    let own = written
        .iter()
        .filter(|(_, entry)| entry.lifetime.is_leased());
    own.map(|(_, entry)| entry.key.clone()).collect()
}

impl Backend for KvBackend {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        self.store.probe()
    }

    fn register<'a>(
        &'a self,
        r: &'a Registration,
        claim: OnConflict,
    ) -> BoxFuture<'a, Result<Grant>> {
        let terms = Terms {
            ttl: r.ttl.unwrap_or(Duration::from_secs(10)),
            on_conflict: claim,
            dedicated: r.heartbeat == Heartbeat::Manual,
        };
        async move {
            let (own, shared) = self.compose(r, claim).await?;
            self.share(shared, claim).await?;
            self.store.create(&own, terms).await
        }
        .boxed()
    }

    fn heartbeat<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move { self.store.renew(&self.encode(r)?, grant).await }.boxed()
    }

    fn last_confirmed(&self, grant: Grant) -> Option<Duration> {
        self.store.last_confirmed(grant)
    }

    fn renewal_overdue(&self, grant: Grant) -> BoxFuture<'static, ()> {
        self.store.renewal_overdue(grant)
    }

    fn update<'a>(
        &'a self,
        r: &'a Registration,
        grant: Grant,
        claim: OnConflict,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let (own, shared) = self.compose(r, claim).await?;
            if !shared.is_empty() {
                // Only who is still registered says anything; and what the others may not be told is
                // refused before anything is written.
                self.store.renew(&own, grant).await?;
                self.share(shared, claim).await?;
            }
            self.store.update(&own, grant).await
        }
        .boxed()
    }

    fn unregister<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Result<()>> {
        async move { self.store.remove(&self.encode(r)?, grant).await }.boxed()
    }

    fn lease_lost<'a>(&'a self, r: &'a Registration, grant: Grant) -> BoxFuture<'a, Error> {
        async move {
            match self.encode(r) {
                Ok(entries) => self.store.lease_lost(&entries, grant).await,
                Err(error) => error,
            }
        }
        .boxed()
    }

    fn shared_attributes(&self, r: &Registration) -> BoxStream<'static, SharedAttributes> {
        let shared = |layout: &Arc<dyn Layout>| {
            let key = layout.shared(r).ok().flatten()?;
            let entries = layout.encode(r).ok()?;
            let own = entries.into_iter().find(|entry| entry.key == key);
            let own = own.map(|entry| layout.decode_shared(Some(&entry.value)));
            let silent = SharedAttributes::Present(Attributes::new());
            // Who writes without a look at what is there may have blanked what it says.
            let blanks = own.is_some_and(|own| own != silent);
            let said = shared_record::follow(self.store.clone(), layout.clone(), key);
            Some(said.map(move |said| match said == silent {
                true if blanks => SharedAttributes::Absent,
                _ => said,
            }))
        };
        let all: Vec<_> = self.layouts.iter().filter_map(shared).collect();
        stream::select_all(all).chain(stream::pending()).boxed()
    }

    fn subscribe(&self, service: &ServiceName, last: View) -> BoxStream<'static, Result<View>> {
        match Views::open(self, service, last) {
            Ok(views) => stream::unfold(views, |mut views| async move {
                let view = views.next().await?;
                Some((view, views))
            })
            .boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn catalog(&self) -> BoxFuture<'_, Result<Vec<ServiceName>>> {
        self.list().boxed()
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        self.store.connection()
    }

    fn metrics(&self) -> Metrics {
        Metrics {
            invalid: self.invalid.load(Ordering::Relaxed),
            ..self.store.metrics()
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        self.store.local_address()
    }
}
