//! Model tests of the lease machine against a model of a store with expiring leases, lost answers, other
//! owners and manual deletions.

mod checks;
mod exhaustive;
mod harness;
mod operations;
mod random;
mod store_model;
