//! One instance that the agent answers for: in the store, or held back from it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use discover_core::{Attributes, Client, Instance, Lease, Registration, Result, Standing};

use crate::registry::state::{ATTRIBUTE, State};

/// How long a registration tries to reach the store.
const WRITING: Duration = Duration::from_secs(5);

/// See the module. Whoever calls what changes it sees to it that nobody else does at the same time.
pub struct PublishedInstance {
    client: Client,
    ttl: Duration,
    place: Mutex<Place>,
}

struct Place {
    /// As it was asked for.
    registration: Registration,
    /// Its own attributes; `health` is ours to add.
    attributes: Attributes,
    lease: Option<Arc<Lease>>,
    /// What others see until then: whoever was there before.
    before: Option<Arc<Lease>>,
    /// Whether others were told that it warns.
    warns: bool,
    /// Whether others have ever seen it.
    known: bool,
    /// Why others do not see what they should.
    fault: Option<String>,
}

impl PublishedInstance {
    /// One that nobody sees yet, registered with this TTL.
    pub fn new(client: Client, registration: Registration, ttl: Duration) -> PublishedInstance {
        let attributes = registration.instance(0).attributes().clone();
        PublishedInstance {
            client,
            ttl,
            place: Mutex::new(Place {
                registration,
                attributes,
                lease: None,
                before: None,
                warns: false,
                known: false,
                fault: None,
            }),
        }
    }

    /// The TTL that it was registered with.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Whoever was at its place is seen until it is seen itself, or hidden.
    pub fn follow(&self, other: &PublishedInstance) {
        let lease = other.place().release();
        self.place().before = lease;
    }

    /// Makes it visible, or changes how it is seen.
    pub async fn show(&self, warns: bool) -> Result<()> {
        let (lease, registration) = {
            let place = self.place();
            if place.lease.is_some() && place.warns == warns {
                return Ok(());
            }
            (place.lease.clone(), place.seen(&place.attributes, warns)?)
        };
        match lease {
            Some(lease) => {
                let attributes = registration.instance(0).attributes().clone();
                lease.update(attributes).await?;
                self.place().warns = warns;
            }
            None => {
                let made = self.client.register_within(registration, WRITING).await?;
                let mut place = self.place();
                (place.lease, place.warns, place.known) = (Some(Arc::new(made)), warns, true);
                place.before = None;
            }
        }
        Ok(())
    }

    /// Takes it away. What the store does not hear now goes with its TTL.
    pub async fn hide(&self) -> Result<()> {
        let lease = self.place().release();
        match lease {
            Some(lease) => lease.unregister().await,
            None => Ok(()),
        }
    }

    /// Replaces its own attributes.
    pub async fn update(&self, attributes: Attributes) -> Result<()> {
        let (lease, seen) = {
            let place = self.place();
            (place.lease.clone(), place.seen(&attributes, place.warns)?)
        };
        if let Some(lease) = lease {
            lease.update(seen.instance(0).attributes().clone()).await?;
        }
        self.place().attributes = attributes;
        Ok(())
    }

    /// How it stands in the store; one that is held back is as it should be.
    pub fn standing(&self) -> Standing {
        let place = self.place();
        place
            .lease
            .as_ref()
            .map_or(Standing::Live, |l| l.standing())
    }

    /// Whether others see what they should.
    pub fn is_settled(&self, state: State) -> bool {
        let place = self.place();
        match state.is_visible() {
            true => place.lease.is_some() && place.warns == state.warns(),
            false => place.lease.is_none() && place.before.is_none(),
        }
    }

    /// Notes why others do not see what they should; says whether that is news.
    pub fn fault(&self, fault: Option<String>) -> bool {
        let mut place = self.place();
        let news = place.fault != fault;
        place.fault = fault;
        news
    }

    /// Why others do not see what they should.
    pub fn error(&self) -> Option<String> {
        self.place().fault.clone()
    }

    /// Whether it was seen before and is not now, so that its place may be another's meanwhile.
    pub fn was_away(&self) -> bool {
        let place = self.place();
        place.known && place.lease.is_none()
    }

    /// What others see of it, or would.
    pub fn seen(&self, warns: bool) -> Result<Registration> {
        let place = self.place();
        place.seen(&place.attributes, warns)
    }

    /// The instance, without what is added for others.
    pub fn instance(&self) -> Instance {
        let place = self.place();
        let plain = place.seen(&place.attributes, false);
        plain
            .unwrap_or_else(|_| place.registration.clone())
            .instance(0)
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// What others see at its place, to be kept or ended by whoever asks.
    fn release(&mut self) -> Option<Arc<Lease>> {
        self.lease.take().or(self.before.take())
    }

    fn seen(&self, attributes: &Attributes, warns: bool) -> Result<Registration> {
        let mut attributes = attributes.clone();
        if warns {
            let (name, value) = ATTRIBUTE;
            attributes.insert(name.to_owned(), value.to_owned());
        }
        self.registration.clone().attributes(attributes)
    }
}
