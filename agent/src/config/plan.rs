//! The part of the configuration file that can be reloaded: services to register, and hooks.

use discover_core::Result;

pub use crate::hooks::hook::Hook;
pub use crate::sources::config_file::plan::Service;

use crate::hooks::hook;
use crate::sources::config_file::plan;

/// The services and hooks of a configuration file, validated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Services to register.
    pub services: Vec<Service>,
    /// Hooks to run when services change.
    pub hooks: Vec<Hook>,
}

impl Plan {
    /// Validates services and hooks.
    ///
    /// # Errors
    ///
    /// Fails with the first entry that can never work; the message names its service.
    pub fn new(services: Vec<Service>, hooks: Vec<Hook>) -> Result<Plan> {
        plan::validate(&services)?;
        hook::validate(&hooks)?;
        Ok(Plan { services, hooks })
    }
}
