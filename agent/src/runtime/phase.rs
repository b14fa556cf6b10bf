//! The phase of the agent's life, which the supervisor sets and all components observe.

use tokio::sync::watch;

/// The phase of the agent's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Components restore their state. No connection is accepted and nothing is written to the store.
    Starting,
    /// All components have started.
    Running,
    /// The next process receives the listeners and the state. Connections wait for it.
    HandingOver,
    /// Components stop in reverse order.
    Stopping,
}

/// Waits until all components have started. Returns false if the agent stops before.
pub async fn until_running(phase: &mut watch::Receiver<Phase>) -> bool {
    let next = phase.wait_for(|phase| *phase != Phase::Starting).await;
    next.is_ok_and(|phase| *phase == Phase::Running)
}

/// Waits until the agent hands over or stops.
pub async fn until_leaving(phase: &mut watch::Receiver<Phase>) {
    let is_leaving = |phase: &Phase| matches!(phase, Phase::HandingOver | Phase::Stopping);
    // An error means that the supervisor was dropped, which ends the agent, too.
    let _ = phase.wait_for(is_leaving).await;
}

/// Waits until the agent hands over. Never resolves if the agent stops instead.
pub async fn until_handing_over(phase: &mut watch::Receiver<Phase>) {
    let handing_over = phase.wait_for(|phase| *phase == Phase::HandingOver);
    if handing_over.await.is_err() {
        std::future::pending::<()>().await;
    }
}
