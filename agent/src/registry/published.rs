//! A registered instance, and its lease while it is published in the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use discover_core::{Attributes, Client, Instance, Lease, Registration, Result, Standing};
use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::Notify;

use crate::registry::state::{InstanceState, WARNING_ATTRIBUTE};
use crate::store::StoreFailure;

/// Timeout of a registration in the store.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// A registered instance that is published in the store or withheld from it. Callers serialize the methods
/// that change it.
pub struct PublishedInstance {
    client: Client,
    ttl: Duration,
    publication: Mutex<Publication>,
    /// Notified when another owner takes the published instance over in the store.
    reconcile_needed: Option<Arc<Notify>>,
}

struct Publication {
    /// The registration as requested.
    registration: Registration,
    /// Attributes that the owner sent. The lease merges them with those that it adopts.
    attributes: Attributes,
    lease: Option<Arc<Lease>>,
    /// Lease of the registration that this one replaces. It stays published until this one is published or
    /// withdrawn.
    previous_lease: Option<Arc<Lease>>,
    /// Whether the instance is published with `health=warning`.
    is_warning: bool,
    /// Whether the instance was ever published.
    was_published: bool,
    /// Reason why the store does not show the wanted state.
    error: Option<String>,
}

impl PublishedInstance {
    /// Creates an instance that is not published yet.
    /// With `is_restored`, its owner registers it again: what it shares with others is not overwritten.
    pub fn new(
        client: Client,
        registration: Registration,
        ttl: Duration,
        is_restored: bool,
    ) -> PublishedInstance {
        let registration = match is_restored {
            true => registration.keep_shared(),
            false => registration,
        };
        let attributes = registration.instance(0).attributes().clone();
        PublishedInstance {
            client,
            ttl,
            publication: Mutex::new(Publication {
                registration,
                attributes,
                lease: None,
                previous_lease: None,
                is_warning: false,
                was_published: false,
                error: None,
            }),
            reconcile_needed: None,
        }
    }

    /// Sets what is notified when another owner takes the published instance over in the store.
    pub fn with_reconciler(mut self, reconcile_needed: Arc<Notify>) -> PublishedInstance {
        self.reconcile_needed = Some(reconcile_needed);
        self
    }

    /// Returns the requested TTL.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns the attributes, without the `health` attribute that the agent adds.
    pub fn attributes(&self) -> Attributes {
        self.publication().attributes.clone()
    }

    /// Returns the instance as it would be with these attributes.
    ///
    /// # Errors
    ///
    /// Fails if the attributes are invalid.
    pub fn with_attributes(&self, attributes: &Attributes) -> Result<Instance> {
        let registration = self.publication().registration.clone();
        Ok(registration.attributes(attributes.clone())?.instance(0))
    }

    /// Takes over the lease of a registration that this one replaces.
    pub fn take_over(&self, other: &PublishedInstance) {
        let lease = other.publication().take_lease();
        self.publication().previous_lease = lease;
    }

    /// Publishes the instance, or updates its `health` attribute.
    pub async fn publish(&self, is_warning: bool) -> Result<()> {
        let (lease, registration) = {
            let publication = self.publication();
            if publication.lease.is_some() && publication.is_warning == is_warning {
                return Ok(());
            }
            (
                publication.lease.clone(),
                publication.registration_with(&publication.attributes, is_warning)?,
            )
        };
        match lease {
            Some(lease) => {
                let attributes = registration.instance(0).attributes().clone();
                let updated = lease.update(attributes).await;
                updated.map_err(StoreFailure::wrap)?;
                self.publication().is_warning = is_warning;
            }
            None => {
                let lease = self
                    .client
                    .register_within(registration, WRITE_TIMEOUT)
                    .await
                    .map_err(StoreFailure::wrap)?;
                if let Some(reconcile_needed) = self.reconcile_needed.clone() {
                    tokio::spawn(notify_replaced(lease.changes(), reconcile_needed));
                }
                let mut publication = self.publication();
                (
                    publication.lease,
                    publication.is_warning,
                    publication.was_published,
                ) = (Some(Arc::new(lease)), is_warning, true);
                publication.previous_lease = None;
                // From now on others may change what is shared.
                publication.registration = publication.registration.clone().keep_shared();
            }
        }
        Ok(())
    }

    /// Removes the instance from the store. If the store is unreachable, the removal is repeated in the background.
    pub async fn withdraw(&self) -> Result<()> {
        let lease = self.publication().take_lease();
        match lease {
            Some(lease) => lease.unregister().await.map_err(StoreFailure::wrap),
            None => Ok(()),
        }
    }

    /// Replaces the attributes.
    pub async fn update(&self, attributes: Attributes) -> Result<()> {
        let (lease, registration) = {
            let publication = self.publication();
            (
                publication.lease.clone(),
                publication.registration_with(&attributes, publication.is_warning)?,
            )
        };
        if let Some(lease) = lease {
            let updated = lease.update(registration.instance(0).attributes().clone());
            updated.await.map_err(StoreFailure::wrap)?;
        }
        self.publication().attributes = attributes;
        Ok(())
    }

    /// Returns the standing of the lease; `Live` for an instance that is not published.
    pub fn standing(&self) -> Standing {
        let publication = self.publication();
        publication
            .lease
            .as_ref()
            .map_or(Standing::Live, |l| l.standing())
    }

    /// Returns true if the store shows the instance as `state` requires.
    pub fn is_reconciled(&self, state: InstanceState) -> bool {
        let publication = self.publication();
        match state.is_visible() {
            true => publication.lease.is_some() && publication.is_warning == state.is_warning(),
            false => publication.lease.is_none() && publication.previous_lease.is_none(),
        }
    }

    /// Records why the store does not show the wanted state. Returns true if that differs from the last
    /// reason.
    pub fn set_error(&self, error: Option<String>) -> bool {
        let mut publication = self.publication();
        let is_new = publication.error != error;
        publication.error = error;
        is_new
    }

    /// Returns the reason why the store does not show the wanted state.
    pub fn error(&self) -> Option<String> {
        self.publication().error.clone()
    }

    /// Returns true if the instance was published and withdrawn, so that another owner may have taken its id.
    pub fn was_withdrawn(&self) -> bool {
        let publication = self.publication();
        publication.was_published && publication.lease.is_none()
    }

    /// Returns the registration as it is, or would be, published.
    pub fn published_registration(&self, is_warning: bool) -> Result<Registration> {
        let publication = self.publication();
        publication.registration_with(&publication.attributes_in_force(), is_warning)
    }

    /// Returns the attributes that were adopted from others, and differ from those that the owner sent.
    pub fn adopted_attributes(&self) -> Attributes {
        let publication = self.publication();
        let mut attributes = publication.attributes_in_force();
        attributes.retain(|name, value| publication.attributes.get(name) != Some(value));
        attributes
    }

    /// Returns the instance as its owner registered it, without the `health` attribute that the agent adds.
    pub fn requested_instance(&self) -> Instance {
        let publication = self.publication();
        publication.instance_with(&publication.attributes)
    }

    /// Returns the instance with the attributes that it adopted, and without the `health` attribute that the agent
    /// adds.
    pub fn instance(&self) -> Instance {
        let publication = self.publication();
        publication.instance_with(&publication.attributes_in_force())
    }

    fn publication(&self) -> MutexGuard<'_, Publication> {
        self.publication
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notifies once another owner has taken a lease over. Ends with the lease.
async fn notify_replaced(mut changes: BoxStream<'static, Standing>, reconcile_needed: Arc<Notify>) {
    while let Some(standing) = changes.next().await {
        if matches!(standing, Standing::Replaced(_)) {
            reconcile_needed.notify_one();
            return;
        }
    }
}

impl Publication {
    /// Returns the attributes in the store, without the `health` attribute that the agent adds.
    fn attributes_in_force(&self) -> Attributes {
        let Some(lease) = &self.lease else {
            return self.attributes.clone();
        };
        let mut attributes = lease.attributes();
        if self.is_warning {
            let (name, _) = WARNING_ATTRIBUTE;
            match self.attributes.get(name) {
                Some(value) => attributes.insert(name.to_owned(), value.clone()),
                None => attributes.remove(name),
            };
        }
        attributes
    }

    fn instance_with(&self, attributes: &Attributes) -> Instance {
        let registration = self.registration_with(attributes, false);
        registration
            .unwrap_or_else(|_| self.registration.clone())
            .instance(0)
    }

    /// Takes the current lease out, or else the one that this registration replaces.
    fn take_lease(&mut self) -> Option<Arc<Lease>> {
        self.lease.take().or(self.previous_lease.take())
    }

    fn registration_with(&self, attributes: &Attributes, is_warning: bool) -> Result<Registration> {
        let mut attributes = attributes.clone();
        if is_warning {
            let (name, value) = WARNING_ATTRIBUTE;
            attributes.insert(name.to_owned(), value.to_owned());
        }
        self.registration.clone().attributes(attributes)
    }
}
