//! Starts the components in order, stops them in reverse order, and collects what they hand over.

use std::sync::Arc;
use std::time::Duration;

use discover_core::Result;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::net::inherited::NamedSocket;
use crate::runtime::component::Component;
use crate::runtime::handover_state::HandOverState;
use crate::runtime::phase::Phase;

/// Limit on the time that all components together take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Owns the components and the phase.
pub struct Supervisor {
    components: Vec<Arc<dyn Component>>,
    phase: watch::Sender<Phase>,
}

impl Supervisor {
    /// Creates a supervisor of components that have not started, in the order of their start. `phase` is the
    /// channel that the components observe.
    pub fn new(components: Vec<Arc<dyn Component>>, phase: watch::Sender<Phase>) -> Supervisor {
        Supervisor { components, phase }
    }

    /// Starts all components with their parts of the inherited state. If one fails, stops the components before it.
    ///
    /// # Errors
    ///
    /// Fails with the error of the first component that does not start.
    pub async fn start(&self, mut inherited: HandOverState) -> Result<()> {
        for (index, component) in self.components.iter().enumerate() {
            let state = inherited.take(component.as_ref());
            tracing::debug!(component = component.name(), "starting component");
            if let Err(error) = component.start(state).await {
                self.stop_first(index).await;
                return Err(error);
            }
        }
        for name in inherited.rest() {
            tracing::warn!(
                component = name,
                "skipping hand-over state of an unknown component"
            );
        }
        self.phase.send_replace(Phase::Running);
        Ok(())
    }

    /// Drains all components and returns their sockets and states. Afterwards, this process can only be replaced
    /// or stopped.
    pub async fn hand_over(&self) -> (Vec<NamedSocket>, HandOverState) {
        self.phase.send_replace(Phase::HandingOver);
        for component in &self.components {
            component.drain().await;
        }
        let (mut sockets, mut state) = (Vec::new(), HandOverState::default());
        for component in &self.components {
            let part = component.hand_over().await;
            sockets.extend(part.sockets);
            if let Some(part) = part.state {
                state.insert(component.as_ref(), part);
            }
        }
        (sockets, state)
    }

    /// Stops all components in reverse order.
    pub async fn stop(&self) {
        self.stop_first(self.components.len()).await;
    }

    async fn stop_first(&self, count: usize) {
        self.phase.send_replace(Phase::Stopping);
        let deadline = Instant::now() + STOP_TIMEOUT;
        for component in self.components[..count].iter().rev() {
            let name = component.name();
            tracing::debug!(component = name, "stopping component");
            if timeout_at(deadline, component.stop(deadline))
                .await
                .is_err()
            {
                tracing::warn!(component = name, timeout = ?STOP_TIMEOUT, "component did not stop in time");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::component::HandOver;
    use discover_core::Error;
    use futures_util::future::{BoxFuture, FutureExt, ready};
    use serde_json::{Value, json};
    use std::sync::Mutex;

    type Calls = Arc<Mutex<Vec<String>>>;

    struct Recorded {
        name: &'static str,
        calls: Calls,
        fails: bool,
    }

    impl Recorded {
        fn call(&self, call: &str) {
            self.calls
                .lock()
                .unwrap()
                .push(format!("{call} {}", self.name));
        }
    }

    impl Component for Recorded {
        fn name(&self) -> &'static str {
            self.name
        }

        fn start(&self, inherited: Option<Value>) -> BoxFuture<'_, Result<()>> {
            self.call(&inherited.map_or("start".to_owned(), |state| format!("start {state}")));
            ready(match self.fails {
                true => Err(Error::invalid("no")),
                false => Ok(()),
            })
            .boxed()
        }

        fn drain(&self) -> BoxFuture<'_, ()> {
            self.call("drain");
            ready(()).boxed()
        }

        fn hand_over(&self) -> BoxFuture<'_, HandOver> {
            self.call("hand over");
            let state = Some(json!(self.name.len()));
            ready(HandOver {
                state,
                ..HandOver::default()
            })
            .boxed()
        }

        fn stop(&self, _: Instant) -> BoxFuture<'_, ()> {
            self.call("stop");
            ready(()).boxed()
        }
    }

    fn supervisor(failing: &str) -> (Supervisor, Calls) {
        let calls = Calls::default();
        let component = |name: &'static str| {
            let (calls, fails) = (calls.clone(), name == failing);
            Arc::new(Recorded { name, calls, fails }) as Arc<dyn Component>
        };
        let components = ["a", "bb", "ccc"].map(component).into();
        let supervisor = Supervisor::new(components, watch::Sender::new(Phase::Starting));
        (supervisor, calls)
    }

    fn taken(calls: &Calls) -> Vec<String> {
        std::mem::take(&mut *calls.lock().unwrap())
    }

    #[tokio::test]
    async fn components_start_in_order_and_stop_in_reverse() {
        let (supervisor, calls) = supervisor("");
        supervisor.start(HandOverState::default()).await.unwrap();
        assert_eq!(taken(&calls), ["start a", "start bb", "start ccc"]);
        supervisor.stop().await;
        assert_eq!(taken(&calls), ["stop ccc", "stop bb", "stop a"]);
    }

    #[tokio::test]
    async fn a_component_that_fails_to_start_stops_those_before_it() {
        let (supervisor, calls) = supervisor("bb");
        assert!(supervisor.start(HandOverState::default()).await.is_err());
        assert_eq!(taken(&calls), ["start a", "start bb", "stop a"]);
    }

    #[tokio::test]
    async fn all_components_drain_before_any_hands_over_and_the_next_gets_their_state() {
        let (before, calls) = supervisor("");
        before.start(HandOverState::default()).await.unwrap();
        drop(taken(&calls));
        let (_, state) = before.hand_over().await;
        let expected = [
            "drain a",
            "drain bb",
            "drain ccc",
            "hand over a",
            "hand over bb",
            "hand over ccc",
        ];
        assert_eq!(taken(&calls), expected);
        let (next, calls) = supervisor("");
        next.start(state).await.unwrap();
        assert_eq!(taken(&calls), ["start 1 a", "start 2 bb", "start 3 ccc"]);
    }
}
