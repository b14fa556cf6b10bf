//! The state that passes from one process of the agent to the next: one part for each component, each with the
//! version of its format.

use std::collections::BTreeMap;

use discover_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::runtime::component::Component;

/// Names of the components whose state the release before this format wrote in fields of one object.
const REGISTRY: &str = "registry";
const HEALTH: &str = "health";
const CONFIG_FILE: &str = "config_file";

/// The parts of all components.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct HandOverState {
    components: BTreeMap<String, VersionedState>,
}

/// The state of one component.
#[derive(Debug, Serialize, Deserialize)]
struct VersionedState {
    version: u32,
    state: Value,
}

/// The format of the release before this one, without versions. Components read the fields as version 1.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct UnversionedState {
    registered: Value,
    looked: Value,
    begun: Value,
    held: Value,
}

impl HandOverState {
    /// Reads the state that the previous process wrote.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Internal`] if it is neither in this format nor in that of the release before.
    pub fn parse(text: &[u8]) -> Result<HandOverState> {
        let unreadable =
            |e| Error::caused_by(ErrorKind::Internal, "hand-over state: unknown format", e);
        serde_json::from_slice(text).or_else(|error| {
            match serde_json::from_slice::<UnversionedState>(text) {
                Ok(old) => Ok(HandOverState::from(old)),
                Err(_) => Err(unreadable(error)),
            }
        })
    }

    /// Adds the state of a component.
    pub fn insert(&mut self, component: &dyn Component, state: Value) {
        let version = component.state_version();
        let part = VersionedState { version, state };
        self.components.insert(component.name().to_owned(), part);
    }

    /// Removes the state of a component and returns it. State in a version that the component does not read is
    /// dropped with a warning; clients then register again.
    pub fn take(&mut self, component: &dyn Component) -> Option<Value> {
        let part = self.components.remove(component.name())?;
        let (found, known) = (part.version, component.state_version());
        if found != known {
            let name = component.name();
            tracing::warn!(
                component = name,
                found,
                known,
                "skipping hand-over state of another version"
            );
            return None;
        }
        Some(part.state)
    }

    /// Returns the names of the components whose state was not taken.
    pub fn rest(&self) -> impl Iterator<Item = &str> {
        self.components.keys().map(String::as_str)
    }
}

impl From<UnversionedState> for HandOverState {
    fn from(old: UnversionedState) -> HandOverState {
        let registry = json!({ "registrations": old.registered, "maintenance": old.held });
        let parts = [
            (REGISTRY, registry),
            (HEALTH, old.looked),
            (CONFIG_FILE, old.begun),
        ];
        let components = parts
            .map(|(name, state)| (name.to_owned(), VersionedState { version: 1, state }))
            .into();
        HandOverState { components }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::{BoxFuture, FutureExt, ready};
    use tokio::time::Instant;

    struct Named(&'static str, u32);

    impl Component for Named {
        fn name(&self) -> &'static str {
            self.0
        }

        fn state_version(&self) -> u32 {
            self.1
        }

        fn start(&self, _: Option<Value>) -> BoxFuture<'_, Result<()>> {
            ready(Ok(())).boxed()
        }

        fn stop(&self, _: Instant) -> BoxFuture<'_, ()> {
            ready(()).boxed()
        }
    }

    #[test]
    fn each_component_gets_its_own_state_and_skips_other_versions() {
        let mut written = HandOverState::default();
        written.insert(&Named("a", 1), json!([1]));
        written.insert(&Named("b", 2), json!([2]));
        let text = serde_json::to_vec(&written).unwrap();
        let mut read = HandOverState::parse(&text).unwrap();
        assert_eq!(read.take(&Named("a", 1)), Some(json!([1])));
        assert_eq!(
            read.take(&Named("b", 1)),
            None,
            "written by a newer release"
        );
        assert_eq!(read.take(&Named("c", 1)), None);
        assert!(HandOverState::parse(b"7").is_err());
        assert!(HandOverState::parse(br#"{"other": 1}"#).is_err());
    }

    #[test]
    fn state_of_the_release_without_versions_is_read() {
        let old = br#"{"registered": [1], "looked": [2], "begun": [3], "held": [4]}"#;
        let mut read = HandOverState::parse(old).unwrap();
        let registry = json!({ "registrations": [1], "maintenance": [4] });
        assert_eq!(read.take(&Named(REGISTRY, 1)), Some(registry));
        assert_eq!(read.take(&Named(HEALTH, 1)), Some(json!([2])));
        assert_eq!(read.take(&Named(CONFIG_FILE, 1)), Some(json!([3])));
        assert_eq!(read.rest().count(), 0);
    }
}
