//! A registration that is kept alive.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::backend::Backend;
use crate::error::{Error, Kind, Result};
use crate::model::{Attributes, Claim, Grant, Heartbeat, Registration, check_attributes};
use crate::watch::Backoff;

/// A live registration. Unregisters when dropped; others see it go at once.
#[derive(Debug)]
pub struct Lease {
    registration: Registration,
    orders: mpsc::Sender<Order>,
    standing: watch::Receiver<Standing>,
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

/// How soon, at the latest, to speak again to a store that did not answer.
const PACE: Duration = Duration::from_secs(1);

type Reply = oneshot::Sender<Result<()>>;

/// What the owner asks of the keeper.
enum Order {
    Heartbeat(Reply),
    Update(Attributes, Reply),
    Unregister(Reply),
}

impl Lease {
    /// Registers, and keeps it so. The registration is complete. Must be called on a tokio runtime.
    pub(crate) async fn keep(
        backend: Arc<dyn Backend>,
        registration: Registration,
    ) -> Result<Lease> {
        let grant = bounded(backend.register(&registration, Claim::TakeOver).await?);
        let (orders, inbox) = mpsc::channel(16);
        let (standing, told) = watch::channel(Standing::Live);
        let keeper = Keeper {
            backend,
            registration: registration.clone(),
            holding: Holding::Granted(grant),
            last_ok: Instant::now(),
            next: Instant::now(),
            backoff: Backoff::new(Duration::from_millis(100), PACE.min(grant.ttl / 3)),
            standing,
        };
        tokio::spawn(keeper.run(inbox));
        Ok(Lease {
            registration,
            orders,
            standing: told,
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

    /// Waits until it stands otherwise.
    pub async fn changed(&mut self) -> Standing {
        // The keeper ends only after it has said `Released`.
        let _ = self.standing.changed().await;
        self.standing.borrow_and_update().clone()
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
        self.order(|reply| Order::Update(attributes, reply)).await
    }

    /// Takes the instance away; others see it go at once. Doing it again is no error. When the store
    /// cannot be reached, the error says so, and the instance goes with its TTL.
    pub async fn unregister(&self) -> Result<()> {
        match self.order(Order::Unregister).await {
            Err(error) if error.kind() == Kind::Closed => Ok(()),
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

    async fn order(&self, order: impl FnOnce(Reply) -> Order) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let released = || Error::new(Kind::Closed, "the registration was released");
        self.orders
            .send(order(reply))
            .await
            .map_err(|_| released())?;
        answer.await.map_err(|_| released())?
    }
}

/// A lease as its client knows it.
pub(crate) struct Tracked {
    orders: mpsc::WeakSender<Order>,
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
            && orders.send(Order::Unregister(reply)).await.is_ok()
        {
            return answer.await.unwrap_or(Ok(()));
        }
        while self.standing.changed().await.is_ok() {}
        Ok(())
    }
}

/// No backend is believed to promise more than we would ask of it.
fn bounded(grant: Grant) -> Grant {
    let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
    Grant {
        ttl: grant.ttl.clamp(shortest, longest),
        ..grant
    }
}

/// What the store holds for us.
#[derive(Clone, Copy)]
enum Holding {
    Granted(Grant),
    /// Held, but with a value that may not be the one we want.
    Doubtful(Grant),
    Lost,
    /// Somebody else's now; hands off.
    Taken,
}

/// One task for each lease: all that ever speaks of it to the store.
struct Keeper {
    backend: Arc<dyn Backend>,
    registration: Registration,
    holding: Holding,
    last_ok: Instant,
    /// When to speak to the store next.
    next: Instant,
    backoff: Backoff,
    standing: watch::Sender<Standing>,
}

impl Keeper {
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        let _ = self.settle(Ok(()));
        loop {
            let waits = matches!(self.holding, Holding::Taken);
            tokio::select! {
                // Orders first: `unregister` wins every race with a heartbeat or a reconnect.
                biased;
                order = inbox.recv() => match order {
                    Some(Order::Heartbeat(reply)) => {
                        let done = self.beat().await;
                        let _ = reply.send(self.settle(done));
                    }
                    Some(Order::Update(attributes, reply)) => {
                        // A changed value renews nothing, so the next heartbeat stays when it is.
                        let done = match self.update(attributes).await {
                            Ok(()) => {
                                self.tell(Standing::Live);
                                Ok(())
                            }
                            // What was refused changes nothing for the registration itself.
                            Err(error) if error.kind() == Kind::InvalidArgument => Err(error),
                            failed => self.settle(failed),
                        };
                        let _ = reply.send(done);
                    }
                    Some(Order::Unregister(reply)) => {
                        let _ = reply.send(self.release().await);
                        return;
                    }
                    None => {
                        if let Err(error) = self.release().await {
                            log::warn!("{} goes with its ttl: {error}", self.registration.address());
                        }
                        return;
                    }
                },
                () = sleep_until(self.next), if !waits => {
                    let done = self.on_timer().await;
                    let _ = self.settle(done);
                }
            }
        }
    }

    fn is_manual(&self) -> bool {
        self.registration.heartbeat == Heartbeat::Manual
    }

    fn ttl(&self) -> Duration {
        match self.holding {
            Holding::Granted(grant) | Holding::Doubtful(grant) => grant.ttl,
            Holding::Lost | Holding::Taken => {
                self.registration.ttl.unwrap_or(Duration::from_secs(10))
            }
        }
    }

    async fn on_timer(&mut self) -> Result<()> {
        if !self.is_manual() {
            return self.beat().await;
        }
        // The program did not say that it is alive, so it is not.
        let grant = match self.holding {
            Holding::Granted(grant) | Holding::Doubtful(grant) => grant,
            Holding::Lost | Holding::Taken => return Ok(()),
        };
        self.holding = Holding::Lost;
        let _ = self.backend.unregister(&self.registration, grant).await;
        Err(Error::new(
            Kind::LeaseLost,
            format!("no heartbeat within {:?}", grant.ttl),
        ))
    }

    /// Brings the store in line with what we want, in one call or, after a loss, two.
    async fn beat(&mut self) -> Result<()> {
        let done = match self.holding {
            Holding::Granted(grant) => self.backend.heartbeat(&self.registration, grant).await,
            // An update renews nothing, so a heartbeat must follow it.
            Holding::Doubtful(grant) => {
                match self.backend.update(&self.registration, grant).await {
                    Ok(()) => self.backend.heartbeat(&self.registration, grant).await,
                    failed => failed,
                }
            }
            Holding::Lost => Err(Error::new(Kind::LeaseLost, "not registered")),
            Holding::Taken => return Err(self.taken()),
        };
        match (done, self.holding) {
            (Err(error), _) if error.kind() == Kind::LeaseLost => self.register_again().await,
            (Ok(()), Holding::Doubtful(grant)) => {
                self.holding = Holding::Granted(grant);
                Ok(())
            }
            (done, _) => done,
        }
    }

    async fn register_again(&mut self) -> Result<()> {
        if let Holding::Granted(old) | Holding::Doubtful(old) = self.holding {
            // What is left of the old grant must not die later under the new one.
            let _ = self.backend.unregister(&self.registration, old).await;
        }
        self.holding = Holding::Lost;
        let put_back = self.backend.register(&self.registration, Claim::PutBack);
        self.holding = Holding::Granted(bounded(put_back.await?));
        log::info!("registered {} again", self.registration.address());
        Ok(())
    }

    async fn update(&mut self, attributes: Attributes) -> Result<()> {
        check_attributes(&attributes, &self.registration.tags)?;
        let old = std::mem::replace(&mut self.registration.attributes, attributes);
        let done = match self.holding {
            Holding::Granted(grant) | Holding::Doubtful(grant) => {
                self.backend.update(&self.registration, grant).await
            }
            Holding::Lost => self.register_again().await,
            Holding::Taken => Err(self.taken()),
        };
        let done = match done {
            Err(error) if error.kind() == Kind::LeaseLost => self.register_again().await,
            other => other,
        };
        match (&done, self.holding) {
            (Ok(()), Holding::Doubtful(grant)) => self.holding = Holding::Granted(grant),
            (Ok(()), _) => {}
            (Err(error), holding) => {
                self.registration.attributes = old;
                // The store may have taken the new value although its answer was lost.
                if let (true, Holding::Granted(grant)) = (error.is_retriable(), holding) {
                    self.holding = Holding::Doubtful(grant);
                }
            }
        }
        done
    }

    async fn release(&mut self) -> Result<()> {
        let done = match self.holding {
            Holding::Granted(grant) | Holding::Doubtful(grant) => {
                self.backend.unregister(&self.registration, grant).await
            }
            Holding::Lost | Holding::Taken => Ok(()),
        };
        self.standing.send_replace(Standing::Released);
        done
    }

    /// Decides when to speak next and tells the owner how things stand.
    fn settle(&mut self, done: Result<()>) -> Result<()> {
        let now = Instant::now();
        let ttl = self.ttl();
        match &done {
            Ok(()) => {
                self.last_ok = now;
                self.backoff.reset();
                self.next = now + if self.is_manual() { ttl } else { ttl / 3 };
                self.tell(Standing::Live);
            }
            Err(error) if error.kind() == Kind::Replaced => {
                self.holding = Holding::Taken;
                self.tell(Standing::Replaced(error.clone()));
            }
            Err(error) => {
                let lost = matches!(self.holding, Holding::Lost);
                let lapsed = now.duration_since(self.last_ok) >= ttl || !error.is_retriable();
                if lapsed || lost {
                    self.tell(Standing::Lapsed(error.clone()));
                }
                self.next = match (self.is_manual(), lost) {
                    (true, true) => now + Duration::from_secs(24 * 3600),
                    (true, false) => self.last_ok + ttl,
                    (false, _) if error.is_retriable() => now + self.backoff.next_wait(),
                    (false, _) => now + ttl / 3,
                };
            }
        }
        done
    }

    fn tell(&self, standing: Standing) {
        let changed = |told: &mut Standing| {
            let changed = told.name() != standing.name();
            if changed {
                match standing.error() {
                    None => log::info!("{} is {}", self.registration.address(), standing.name()),
                    Some(e) => log::warn!(
                        "{} is {}: {e}",
                        self.registration.address(),
                        standing.name()
                    ),
                }
                *told = standing;
            }
            changed
        };
        self.standing.send_if_modified(changed);
    }

    fn taken(&self) -> Error {
        let id = self.registration.instance_id();
        Error::new(Kind::Replaced, format!("{id} has another owner now"))
    }
}

#[cfg(test)]
mod tests;
