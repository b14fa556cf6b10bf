//! The life of the agent: its components, and how its state reaches the process that replaces it.

pub mod handover;
pub mod lifecycle;
