//! Where registrations come from, other than the API.

pub mod config_file;
