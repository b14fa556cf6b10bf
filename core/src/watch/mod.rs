//! A watch that never ends: recovery with paced retries.

mod recover;

pub(crate) use recover::{Signal, recover};
