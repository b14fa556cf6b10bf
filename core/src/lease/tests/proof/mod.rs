//! The machine that keeps a registration against a scripted store: leases by its clock, calls whose
//! answers are lost, other owners, and hands that delete.

mod checks;
mod exhaustive;
mod ops;
mod random;
mod store;
mod world;
