//! The life of the agent: components and their supervisor, and the hand-over to the process that replaces it.

pub mod component;
pub mod exposition;
pub mod handover;
pub mod handover_state;
pub mod lifecycle;
pub mod metrics;
pub mod phase;
pub mod process_metrics;
pub mod supervisor;
