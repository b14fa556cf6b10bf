//! The follower against a scripted world: a store with the semantics of a real one, a network that fails
//! in every way that is known, and time.

mod day;
mod exhaustive;
mod line;
mod ops;
mod random;
mod store;
mod told;
mod world;
