//! A watch that never ends: recovery with paced retries.

mod backoff;
mod recover;

pub use backoff::Backoff;
pub(crate) use recover::{Signal, recover};
