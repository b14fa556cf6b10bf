//! The machine that keeps a registration against a scripted store: leases by its clock, calls whose
//! answers are lost, other owners, and hands that delete.

mod checks;
mod exhaustive;
mod harness;
mod operations;
mod random;
mod store_model;
