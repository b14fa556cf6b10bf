//! Attribute updates that come from the backend instead of the owner.
//!
//! A backend may offer attributes that all registrations of a service share
//! ([`Backend::shared_attributes`]). [`ExternalUpdates`] follows them for one lease and converts them to
//! values that the lease machine merges; the machine itself does not know where they come from.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::time::sleep;

use crate::backend::Backend;
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::lease::messages::Merge;
use crate::model::{Attributes, Registration, SharedAttributes};

/// The attributes of a registration, with the origin of their last change.
#[derive(Clone)]
pub(super) struct RegisteredValue {
    pub(super) attributes: Attributes,
    pub(super) origin: Origin,
}

/// The origin of the last change of a registered value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The owner. The backend publishes shared attributes to the other registrations.
    Owner,
    /// The shared attributes. There is nothing to publish.
    Shared,
    /// The loss of the shared attributes. The backend publishes those of this registration again.
    Republish,
}

impl RegisteredValue {
    pub(super) fn from_owner(attributes: Attributes) -> RegisteredValue {
        let origin = Origin::Owner;
        RegisteredValue { attributes, origin }
    }

    fn from_shared(shared: SharedAttributes) -> RegisteredValue {
        let (attributes, origin) = match shared {
            SharedAttributes::Present(attributes) => (attributes, Origin::Shared),
            SharedAttributes::Absent => (Attributes::new(), Origin::Republish),
        };
        RegisteredValue { attributes, origin }
    }
}

impl Merge for RegisteredValue {
    fn merge(&mut self, update: RegisteredValue) -> Option<RegisteredValue> {
        let differs = |(name, value): (&String, &String)| self.attributes.get(name) != Some(value);
        if update.origin == Origin::Shared && !update.attributes.iter().any(differs) {
            return None;
        }
        let before = RegisteredValue {
            attributes: self.attributes.clone(),
            // If the merged value cannot be published, the value before it cannot be published either.
            origin: Origin::Shared,
        };
        self.attributes.extend(update.attributes);
        self.origin = update.origin;
        Some(before)
    }

    fn rebase(&mut self, previous: &RegisteredValue, in_force: &RegisteredValue) {
        for (name, value) in &in_force.attributes {
            let known = previous.attributes.get(name);
            if known != Some(value) && self.attributes.get(name) == known {
                self.attributes.insert(name.clone(), value.clone());
            }
        }
    }
}

/// The stream of shared attributes that one lease follows.
pub(super) struct ExternalUpdates {
    backend: Arc<dyn Backend>,
    stream: BoxStream<'static, SharedAttributes>,
    /// The wait before the stream is opened again after a refused merge.
    backoff: Backoff,
}

impl ExternalUpdates {
    pub(super) fn follow(backend: Arc<dyn Backend>, registration: &Registration) -> Self {
        ExternalUpdates {
            stream: backend.shared_attributes(registration),
            backend,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
        }
    }

    /// Waits for the next update. Never ready once the stream has ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> RegisteredValue {
        match self.stream.next().await {
            Some(shared) => RegisteredValue::from_shared(shared),
            None => std::future::pending().await,
        }
    }

    /// The store holds a value of this origin; `registration` has its attributes. After an update of the
    /// owner the stream is opened again: what it delivered before may be older than the update, and other
    /// attributes may share another record.
    pub(super) fn value_written(&mut self, origin: Origin, registration: &Registration) {
        self.backoff.reset();
        if origin == Origin::Owner {
            self.stream = self.backend.shared_attributes(registration);
        }
    }

    /// The store refused a merged value. Unless the layout cannot express the value, which only other
    /// attributes can change, the stream is opened again after a wait.
    pub(super) fn merge_refused(&mut self, error: &Error, registration: &Registration) {
        if error.kind() == ErrorKind::InvalidArgument {
            return;
        }
        let (backend, registration) = (self.backend.clone(), registration.clone());
        let wait = sleep(self.backoff.next_wait());
        self.stream = wait
            .map(move |()| backend.shared_attributes(&registration))
            .flatten_stream()
            .boxed();
    }
}
