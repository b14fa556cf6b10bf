//! Version 1 of the HTTP API.

pub mod all_events;
pub mod extract;
pub mod json;
pub mod losses;
pub mod maintenance;
pub mod query;
pub mod read;
pub mod unique_names;
pub mod write;
