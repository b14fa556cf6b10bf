//! Leases: registrations that are kept alive.

mod external_updates;
mod keeper;
mod machine;
mod messages;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Attributes, Redacted, Registration, check_attributes};
use external_updates::RegisteredValue;
use keeper::{OwnerChannels, OwnerRequest};
use machine::Request;

/// The number of requests of the owner that may wait for the task of the lease.
const REQUEST_CAPACITY: usize = 16;

/// A registration that the library keeps alive: it renews the lease of the store and restores the
/// registration if the store loses it.
///
/// Dropping a lease unregisters the instance in the background.
pub struct Lease {
    registration: Registration,
    requests: mpsc::Sender<OwnerRequest>,
    standing: watch::Receiver<Standing>,
    attributes: watch::Receiver<Attributes>,
    task: AbortHandle,
}

/// Masks the values of secret attributes.
impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("registration", &self.registration)
            .field("attributes", &Redacted(&self.attributes()))
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}

/// The state of a lease, as far as the store reported it.
#[derive(Clone, Debug)]
pub enum Standing {
    /// The store confirmed the registration within one TTL.
    Live,
    /// The store lost the registration or did not confirm it for one TTL, so readers may not see the
    /// instance. The library is restoring it; with manual heartbeats, the next heartbeat restores it.
    Lapsed(Error),
    /// Another owner registered the same id. The library does not write to the id again.
    Replaced(Error),
    /// Unregistered by its owner or by closing the client.
    Released,
}

impl Standing {
    /// Returns `live`, `lapsed`, `replaced` or `released`.
    pub fn name(&self) -> &'static str {
        match self {
            Standing::Live => "live",
            Standing::Lapsed(_) => "lapsed",
            Standing::Replaced(_) => "replaced",
            Standing::Released => "released",
        }
    }

    /// Returns the reason for `lapsed` or `replaced`.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Standing::Lapsed(error) | Standing::Replaced(error) => Some(error),
            Standing::Live | Standing::Released => None,
        }
    }
}

impl Lease {
    /// Registers a complete registration and starts the task that keeps it alive. Each restore adds one to
    /// `restored`. Must be called on a tokio runtime.
    ///
    /// # Errors
    ///
    /// The error of [`Backend::register`].
    pub(crate) async fn start(
        backend: Arc<dyn Backend>,
        registration: Registration,
        restored: Arc<AtomicU64>,
    ) -> Result<Lease> {
        let (requests, inbox) = mpsc::channel(REQUEST_CAPACITY);
        let (standing_sender, standing) = watch::channel(Standing::Live);
        let (attributes_sender, attributes) = watch::channel(registration.attributes.clone());
        let owner = OwnerChannels {
            standing: standing_sender,
            attributes: attributes_sender,
        };
        let task = keeper::start(backend, registration.clone(), restored, inbox, owner).await?;
        Ok(Lease {
            registration,
            requests,
            standing,
            attributes,
            task,
        })
    }

    /// Returns what was registered, with host and TTL filled in. Later updates do not change it.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Returns the current standing.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Waits until the standing changes, or until shared attributes of the service were adopted, and returns
    /// the standing. Returns at once after `released`.
    pub async fn changed(&mut self) -> Standing {
        // The sender is dropped only after it has sent `Released`.
        let _ = self.standing.changed().await;
        self.standing.borrow_and_update().clone()
    }

    /// Streams the current standing and then each change; ends after `released`. A slow reader receives the
    /// latest standing only. When shared attributes of the service were adopted, the unchanged standing is
    /// emitted again; see [`Lease::attributes`].
    pub fn changes(&self) -> BoxStream<'static, Standing> {
        let mut standing = self.standing.clone();
        standing.mark_changed();
        stream::unfold(standing, |mut standing| async move {
            standing.changed().await.ok()?;
            let current = standing.borrow_and_update().clone();
            Some((current, standing))
        })
        .boxed()
    }

    /// Returns the attributes in the store: those of the registration or of the last successful update,
    /// merged with the shared attributes that were adopted since, for example the credentials with
    /// `layout=scalingo`.
    pub fn attributes(&self) -> Attributes {
        self.attributes.borrow().clone()
    }

    /// Renews the registration now. With manual heartbeats, call it at least once in each TTL; a heartbeat
    /// restores a lapsed registration.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Replaced`] if another owner registered the id, [`ErrorKind::Closed`] after `released`,
    /// otherwise the error of the store.
    pub async fn heartbeat(&self) -> Result<()> {
        self.request(Request::Heartbeat).await
    }

    /// Replaces all attributes. What the registration adopted from others since, such as credentials with
    /// `layout=scalingo`, stays where the new attributes are those of this lease's last update: it does not set the old
    /// credentials again. To do that, register again. If the update fails, the previous attributes stay in force: should the store
    /// have written the new ones nevertheless, the library writes the previous ones again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] if the attributes are invalid or the layout cannot express them,
    /// [`ErrorKind::Replaced`] if another owner registered the id, [`ErrorKind::Closed`] after `released`,
    /// otherwise the error of the store.
    pub async fn update<K: Into<String>, V: Into<String>>(
        &self,
        attributes: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        let attributes: Attributes = attributes
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        check_attributes(&attributes, &[])?;
        let value = RegisteredValue::from_owner(attributes);
        self.request(Request::Update(value)).await
    }

    /// Unregisters the instance; subscribers see it go offline at once. Succeeds if the instance is not registered
    /// any more.
    ///
    /// # Errors
    ///
    /// The error of the store if it cannot be reached or refuses the call. The library then repeats the call in the
    /// background until the store confirms it, within a second of the store's return, or another owner holds the id;
    /// only then the standing is `released`. Each further call tries at once.
    pub async fn unregister(&self) -> Result<()> {
        match self.request(Request::Unregister).await {
            Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
            other => other,
        }
    }

    /// Returns a handle that can release the lease without keeping it alive.
    pub(crate) fn tracker(&self) -> LeaseTracker {
        LeaseTracker {
            requests: self.requests.downgrade(),
            standing: self.standing.clone(),
            task: self.task.clone(),
        }
    }

    async fn request(&self, request: Request<RegisteredValue>) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let released = || Error::new(ErrorKind::Closed, "the registration was released");
        self.requests
            .send((request, reply))
            .await
            .map_err(|_| released())?;
        answer.await.map_err(|_| released())?
    }
}

/// A handle of the client to one of its leases.
pub(crate) struct LeaseTracker {
    requests: mpsc::WeakSender<OwnerRequest>,
    standing: watch::Receiver<Standing>,
    task: AbortHandle,
}

impl LeaseTracker {
    /// Returns true if the task of the lease has ended.
    pub(crate) fn is_finished(&self) -> bool {
        // The task holds the sender until the lease is released.
        self.standing.has_changed().is_err()
    }

    /// Gives the registration up: it expires with its TTL, and the standing is `released`.
    pub(crate) fn abandon(&self) {
        self.task.abort();
    }

    /// Unregisters on behalf of the owner, or waits for the end of an unregistration that dropping the lease
    /// started.
    ///
    /// # Errors
    ///
    /// The error of [`Lease::unregister`] if the store refuses the call; an unreachable store is waited for. None if
    /// the owner dropped the lease.
    pub(crate) async fn release(&mut self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        if let Some(requests) = self.requests.upgrade()
            && requests.send((Request::Unregister, reply)).await.is_ok()
        {
            match answer.await {
                // The task repeats the call.
                Ok(Err(error)) if error.is_retriable() => {}
                Ok(answer) => return answer,
                Err(_) => return Ok(()),
            }
        }
        while self.standing.changed().await.is_ok() {}
        Ok(())
    }
}
