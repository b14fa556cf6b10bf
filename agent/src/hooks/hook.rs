//! The definition of a hook in the configuration file. Pure.

use std::time::Duration;

use discover_core::{Attributes, Error, HumanDuration, Result, ServiceName};
use serde::Deserialize;

use crate::config::one_or_many::OneOrMany;
use crate::exec::CommandLine;

/// Limit on the time that a command takes, where the hook sets none.
const DEFAULT_COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// `[[watch]]`: a command to run for each change of a service.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// The service.
    pub service: String,
    /// Tags that an instance must have to be considered.
    #[serde(default, alias = "tags")]
    pub tag: OneOrMany,
    /// Attributes that an instance must have to be considered.
    #[serde(default)]
    pub attributes: Attributes,
    /// The command.
    #[serde(rename = "onChange", alias = "on_change")]
    pub command: CommandLine,
    /// Time after which the command is killed. Default: one minute.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
}

impl Hook {
    /// Returns the time after which the command is killed.
    pub fn command_timeout(&self) -> Duration {
        self.timeout.map_or(DEFAULT_COMMAND_TIMEOUT, Duration::from)
    }
}

/// Validates the hooks of a file.
///
/// # Errors
///
/// Fails with the first hook whose service has an invalid name.
pub fn validate(hooks: &[Hook]) -> Result<()> {
    for hook in hooks {
        let failed = |e| Error::invalid(format!("watch {:?}: {e:#}", hook.service));
        ServiceName::new(&hook.service).map_err(failed)?;
    }
    Ok(())
}
