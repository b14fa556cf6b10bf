//! Model tests of the state machine: a harness with a store that has the semantics of etcd, a network with
//! every known fault, and time.

mod connection_model;
mod exhaustive;
mod harness;
mod observer;
mod operations;
mod random;
mod soak;
mod store_model;
