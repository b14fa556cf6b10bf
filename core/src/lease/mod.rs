//! A registration that is kept alive.

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

use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Attributes, Redacted, Registration, check_attributes};
use keeper::{Asked, Told, Wanted};
use machine::Order;

/// A live registration. Unregisters when dropped; others see it go at once.
pub struct Lease {
    registration: Registration,
    orders: mpsc::Sender<Asked>,
    standing: watch::Receiver<Standing>,
    attributes: watch::Receiver<Attributes>,
}

/// What is secret is not shown.
impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("registration", &self.registration)
            .field("attributes", &Redacted(&self.attributes()))
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}

/// How a registration stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Present in the store, as far as is known.
    Live,
    /// Gone from the store, or not confirmed by it for a whole TTL, so others may not see it; being put
    /// back.
    Lapsed(Error),
    /// Another owner has taken over the id. It is left alone.
    Replaced(Error),
    /// Unregistered.
    Released,
}

impl Standing {
    /// `live`, `lapsed`, `replaced` or `released`.
    pub fn name(&self) -> &'static str {
        match self {
            Standing::Live => "live",
            Standing::Lapsed(_) => "lapsed",
            Standing::Replaced(_) => "replaced",
            Standing::Released => "released",
        }
    }

    /// Why it is lapsed or replaced.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Standing::Lapsed(error) | Standing::Replaced(error) => Some(error),
            Standing::Live | Standing::Released => None,
        }
    }
}

impl Lease {
    /// Registers, and keeps it so; counts how often it had to be put back. The registration is complete.
    /// Must be called on a tokio runtime.
    pub(crate) async fn keep(
        backend: Arc<dyn Backend>,
        registration: Registration,
        restored: Arc<AtomicU64>,
    ) -> Result<Lease> {
        let (orders, inbox) = mpsc::channel(16);
        let (tell_standing, standing) = watch::channel(Standing::Live);
        let (tell_attributes, attributes) = watch::channel(registration.attributes.clone());
        let told = Told {
            standing: tell_standing,
            attributes: tell_attributes,
        };
        keeper::start(backend, registration.clone(), restored, inbox, told).await?;
        Ok(Lease {
            registration,
            orders,
            standing,
            attributes,
        })
    }

    /// What was registered, its host and ttl filled in.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// How it stands now.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Waits until it stands otherwise, or other attributes were taken over.
    pub async fn changed(&mut self) -> Standing {
        // The keeper ends only after it has said `Released`.
        let _ = self.standing.changed().await;
        self.standing.borrow_and_update().clone()
    }

    /// How it stands now, and then each change, until it is released. Latest wins. Told as well, with the
    /// same standing, when other attributes were taken over: see `attributes`.
    pub fn changes(&self) -> BoxStream<'static, Standing> {
        let mut standing = self.standing.clone();
        standing.mark_changed();
        stream::unfold(standing, |mut standing| async move {
            standing.changed().await.ok()?;
            let now = standing.borrow_and_update().clone();
            Some((now, standing))
        })
        .boxed()
    }

    /// The attributes that others see: those that were registered or updated, with what was taken over
    /// since from what the service says to all of its registrations, as with `layout=scalingo` the
    /// credentials.
    pub fn attributes(&self) -> Attributes {
        self.attributes.borrow().clone()
    }

    /// Says "I am alive" now. With manual heartbeats this must happen within each TTL; a lapsed
    /// registration is made again.
    pub async fn heartbeat(&self) -> Result<()> {
        self.order(Order::Heartbeat).await
    }

    /// Replaces all attributes. When it fails, the old ones hold.
    pub async fn update<K: Into<String>, V: Into<String>>(
        &self,
        attributes: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        let attributes: Attributes = attributes
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        check_attributes(&attributes, &[])?;
        self.order(Order::Update(Wanted::said(attributes))).await
    }

    /// Takes the instance away; others see it go at once. Doing it again is no error. When the store
    /// cannot be reached, the error says so, and the instance goes with its TTL.
    pub async fn unregister(&self) -> Result<()> {
        match self.order(Order::Unregister).await {
            Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
            other => other,
        }
    }

    /// For whoever must end it without owning it.
    pub(crate) fn track(&self) -> Tracked {
        Tracked {
            orders: self.orders.downgrade(),
            standing: self.standing.clone(),
        }
    }

    async fn order(&self, order: Order<Wanted>) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let released = || Error::new(ErrorKind::Closed, "the registration was released");
        self.orders
            .send((order, reply))
            .await
            .map_err(|_| released())?;
        answer.await.map_err(|_| released())?
    }
}

/// A lease as its client knows it.
pub(crate) struct Tracked {
    orders: mpsc::WeakSender<Asked>,
    standing: watch::Receiver<Standing>,
}

impl Tracked {
    /// Whether there is nothing left to be done for it.
    pub(crate) fn is_over(&self) -> bool {
        // The keeper holds the other end until it has released.
        self.standing.has_changed().is_err()
    }

    /// Ends it on behalf of its owner, or waits for the end that its owner has begun.
    pub(crate) async fn release(mut self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        if let Some(orders) = self.orders.upgrade()
            && orders.send((Order::Unregister, reply)).await.is_ok()
        {
            return answer.await.unwrap_or(Ok(()));
        }
        while self.standing.changed().await.is_ok() {}
        Ok(())
    }
}
