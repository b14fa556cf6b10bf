//! The backend of key-value stores: a [`Store`] read and written in one or more layouts.

mod mass_expiry;
mod membership;
mod protection;
mod shared_record;
mod view_builder;
mod view_stream;
mod written_layouts;

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
use view_stream::ViewStream;

pub use protection::Protection;

/// The timeout for reading a value or the list of services.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A backend on a [`Store`]: converts registrations to entries and key changes to views.
///
/// With several layouts a service is read in all of them as one set, and a registration is written in each. At
/// least one layout must be able to express the registration; the others write it with fewer tags or
/// attributes.
pub struct KvBackend {
    store: Arc<dyn Store>,
    layouts: Arc<[Arc<dyn Layout>]>,
    protection: Protection,
    /// The TTL of the registrations that are watched, as far as it is known.
    ttl: Duration,
    invalid: Arc<AtomicU64>,
    /// The layouts, one bit each, for which the warning of a reduced registration was logged.
    reduced: AtomicU64,
}

/// The index of a layout, and an entry in it.
type LayoutEntry = (usize, Entry);

impl KvBackend {
    /// The TTL of registrations where nothing else is configured.
    pub(in crate::backend) const TTL: Duration = Duration::from_secs(10);

    /// Creates a backend that reads and writes `store` in one layout.
    pub fn new(store: Arc<dyn Store>, layout: Arc<dyn Layout>) -> KvBackend {
        KvBackend::with_layouts(store, vec![layout])
    }

    /// Creates a backend that reads and writes `store` in several layouts. On conflicting values the first layout
    /// counts.
    pub fn with_layouts(store: Arc<dyn Store>, layouts: Vec<Arc<dyn Layout>>) -> KvBackend {
        KvBackend {
            store,
            layouts: layouts.into(),
            protection: Protection::default(),
            ttl: KvBackend::TTL,
            invalid: Arc::default(),
            reduced: AtomicU64::new(0),
        }
    }

    /// Sets which expired instances stay visible as suspect.
    pub fn protection(self, protection: Protection) -> KvBackend {
        KvBackend { protection, ..self }
    }

    /// Sets the TTL that registrations in this store usually have. A fault of the store counts as evidence for this
    /// time.
    pub fn ttl(self, ttl: Duration) -> KvBackend {
        KvBackend { ttl, ..self }
    }

    /// Returns the names of the services that have instances, in the layouts that can be listed.
    async fn list_services(&self) -> Result<Vec<ServiceName>> {
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
        let slow = || {
            Error::new(
                ErrorKind::Timeout,
                format!("no list within {READ_TIMEOUT:?}"),
            )
        };
        let item = timeout(READ_TIMEOUT, changes.next())
            .await
            .map_err(|_| slow())?;
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

    /// Returns the leased entries of a registration in all layouts.
    fn encode(&self, r: &Registration) -> Result<Vec<Entry>> {
        let mut all: Vec<Entry> = match &self.layouts[..] {
            // It was checked when it was registered.
            [only] => only.encode(r)?,
            _ => self
                .encode_checked(r)?
                .into_iter()
                .map(|(_, entry)| entry)
                .collect(),
        };
        all.retain(|entry| entry.lifetime.is_leased());
        Ok(all)
    }

    /// Encodes a registration in all layouts and checks that it can be read back.
    fn encode_checked(&self, r: &Registration) -> Result<Vec<LayoutEntry>> {
        let checked = |layout: &Arc<dyn Layout>, r: &Registration| layout::check(&**layout, r);
        let full: Vec<Result<_>> = self
            .layouts
            .iter()
            .map(|layout| checked(layout, r))
            .collect();
        let is_fully_expressed = full.iter().any(Result::is_ok);
        let mut written: Vec<LayoutEntry> = Vec::new();
        for ((number, layout), full) in self.layouts.iter().enumerate().zip(full) {
            let entries = match full {
                Err(why) if is_fully_expressed => {
                    let less = checked(layout, &r.without_tags())
                        .or_else(|_| checked(layout, &r.without_attributes()));
                    self.warn_reduced(number, r, &why);
                    less?
                }
                full => full?,
            };
            for entry in entries {
                written.push((number, entry));
            }
        }
        self.check_directories(&r.service, &written)?;
        Ok(written)
    }

    /// Refuses a key in the directory of another layout: most programs fail to read the whole service if they
    /// find a record of another format.
    fn check_directories(&self, service: &ServiceName, written: &[LayoutEntry]) -> Result<()> {
        for (number, layout) in self.layouts.iter().enumerate() {
            let folder = layout.prefix(service)?;
            let is_theirs = |(other, entry): &&LayoutEntry| {
                let same = |(by, mine): &LayoutEntry| *by == number && mine.key == entry.key;
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

    /// Logs once for each layout that it writes a registration with fewer tags or attributes.
    fn warn_reduced(&self, number: usize, r: &Registration, why: &Error) {
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

    /// Refuses an update that would change the keys of a registration, which is renewed and removed at the keys it
    /// was registered at.
    fn check_keys_unchanged(&self, r: &Registration, written: &[LayoutEntry]) -> Result<()> {
        let Some(first) = &r.first else {
            return Ok(());
        };
        let before = own_keys(&self.encode_checked(&r.with_attributes(first.clone()))?);
        let now = own_keys(written);
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
            let moved = self.encode_checked(&r.with_attributes(other));
            moved.is_ok_and(|moved| own_keys(&moved) != before)
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
            "{what}: an update cannot change the key of the registration from {} to {}; unregister and register again",
            keys(&before),
            keys(&now)
        )))
    }

    /// Returns the entries to write, merged with existing records: the leased entries of the registration, and the
    /// unmerged entries that it shares with other registrations.
    async fn prepare_write(
        &self,
        r: &Registration,
        on_conflict: OnConflict,
    ) -> Result<(Vec<Entry>, Vec<LayoutEntry>)> {
        let written = self.encode_checked(r)?;
        self.check_keys_unchanged(r, &written)?;
        let is_own = |(_, entry): &LayoutEntry| entry.lifetime.is_leased();
        let (own, mut shared): (Vec<_>, Vec<_>) = written.into_iter().partition(is_own);
        // Attributes adopted from the shared record are not published to it again.
        shared.retain(|_| !r.adopted);
        if let Some(before) = r.before.as_ref().filter(|_| !shared.is_empty()) {
            // Another registration may have changed the shared record since this one read it.
            let unchanged = self.encode_checked(&r.with_attributes(before.clone()))?;
            shared.retain(|entry| !unchanged.contains(entry));
        }
        let own = own.into_iter().map(|(number, entry)| async move {
            let rewrites = |layout: &&Arc<dyn Layout>| !layout.known_fields().is_empty();
            let layout = self.layouts.get(number).filter(rewrites);
            let Some(layout) = layout else {
                return Ok(Some(entry));
            };
            let before = self.store.get(&entry.key).await?;
            Ok(shared_record::merge(
                &**layout,
                entry,
                before.as_ref(),
                on_conflict,
            ))
        });
        let own: Vec<Option<Entry>> = try_join_all(own).await?;
        Ok((own.into_iter().flatten().collect(), shared))
    }

    /// Writes the records that the registrations of a service share.
    async fn write_shared(&self, entries: Vec<LayoutEntry>, on_conflict: OnConflict) -> Result<()> {
        for (number, entry) in entries {
            if let Some(layout) = self.layouts.get(number) {
                shared_record::write(&*self.store, &**layout, entry, on_conflict).await?;
            }
        }
        Ok(())
    }
}

/// Returns the keys of the leased entries.
fn own_keys(written: &[LayoutEntry]) -> Vec<Key> {
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
        on_conflict: OnConflict,
    ) -> BoxFuture<'a, Result<Grant>> {
        let terms = Terms {
            ttl: r.ttl.unwrap_or(Duration::from_secs(10)),
            on_conflict,
            dedicated: r.heartbeat == Heartbeat::Manual,
        };
        async move {
            let (own, shared) = self.prepare_write(r, on_conflict).await?;
            let on_shared_conflict = match r.keeps_shared {
                true => OnConflict::RestoreOnly,
                false => on_conflict,
            };
            self.write_shared(shared, on_shared_conflict).await?;
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
        on_conflict: OnConflict,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let (own, shared) = self.prepare_write(r, on_conflict).await?;
            if !shared.is_empty() {
                // The renewal proves that the registration still exists. The shared record is written first, so
                // that an update that must not be shared changes nothing.
                self.store.renew(&own, grant).await?;
                self.write_shared(shared, on_conflict).await?;
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
            let no_attributes = SharedAttributes::Present(Attributes::new());
            // A program that overwrites the record without reading it may have blanked the attributes.
            let may_be_blanked = own.is_some_and(|own| own != no_attributes);
            let updates = shared_record::follow(self.store.clone(), layout.clone(), key);
            Some(updates.map(move |shared| match shared == no_attributes {
                true if may_be_blanked => SharedAttributes::Absent,
                _ => shared,
            }))
        };
        let all: Vec<_> = self.layouts.iter().filter_map(shared).collect();
        stream::select_all(all).chain(stream::pending()).boxed()
    }

    fn subscribe(&self, service: &ServiceName, last: View) -> BoxStream<'static, Result<View>> {
        match ViewStream::open(self, service, last) {
            Ok(views) => stream::unfold(views, |mut views| async move {
                let view = views.next().await?;
                Some((view, views))
            })
            .boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn catalog(&self) -> BoxFuture<'_, Result<Vec<ServiceName>>> {
        self.list_services().boxed()
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
