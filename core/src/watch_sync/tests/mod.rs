//! The follower against a scripted world: a store with the semantics of a real one, a network that fails
//! in every way that is known, and time.

mod connection_model;
mod exhaustive;
mod harness;
mod observer;
mod operations;
mod random;
mod soak;
mod store_model;
