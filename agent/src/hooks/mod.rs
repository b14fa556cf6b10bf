//! Commands that run when a service changes.

pub mod change;
