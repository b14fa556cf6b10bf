//! Service descriptors: the dependency of a program on a service, in one line of text.

mod parse;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use crate::error::{Error, Result};

/// Dependency on a service, written as one line of text: `redis.master[prod,stats];6379/tcp`.
///
/// A descriptor contains the service, as a name or as a path that ends with the name; the tags that instances
/// must have; and the port and protocol at which the program wants to reach the service.
/// [`parse`](Descriptor::parse) reads the text. `Display` writes the canonical form, which always names the
/// protocol.
///
/// ```
/// # use discover_core::{Attributes, Client, Descriptor};
/// # #[tokio::main] async fn main() -> discover_core::Result<()> {
/// # let client = Client::connect("memory://descriptor").await?;
/// let wanted = Descriptor::parse("redis.master[prod];6379")?;
/// let redis = client.services(wanted.service())?.filter(Attributes::new(), wanted.tags());
/// # assert_eq!((redis.online().len(), wanted.to_string().as_str()), (0, "redis.master[prod];6379/tcp"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Descriptor {
    /// Service name, or a path that ends with the service name, as written.
    name: String,
    tags: Vec<String>,
    port: u16,
    protocol: Protocol,
}

/// Protocol with which a program reaches a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Returns `tcp` or `udp`, the same in every language.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl Descriptor {
    /// Parses a descriptor.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, with the column (counted from 1) and what is expected there.
    pub fn parse(text: &str) -> Result<Descriptor> {
        let named = |fault| Error::invalid(format!("descriptor {text:?}: {fault}"));
        parse::parse(text).map_err(named)
    }

    /// Returns the descriptors in the environment variables whose names start with `prefix`, keyed by the
    /// rest of the name. With the prefix `BACKEND_`, the variable `BACKEND_REDIS=redis.master;6379` has the
    /// key `REDIS`.
    ///
    /// A malformed descriptor is skipped and logged with its variable, the column, and what is expected
    /// there.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if `prefix` is empty.
    pub fn from_env(prefix: &str) -> Result<BTreeMap<String, Descriptor>> {
        let lossy = |(variable, value): (OsString, OsString)| {
            let variable = variable.to_string_lossy().into_owned();
            variable.starts_with(prefix).then_some((variable, value))
        };
        let text = |(variable, value): (String, OsString)| match value.into_string() {
            Ok(value) => Some((variable, value)),
            Err(_) => ignore_variable(&variable, "the value is not UTF-8"),
        };
        let pairs = std::env::vars_os().filter_map(lossy).filter_map(text);
        Descriptor::from_pairs(prefix, pairs)
    }

    /// Returns the descriptors among `pairs` of variable names and values, as
    /// [`from_env`](Descriptor::from_env) does, for variables from another source such as a container. If a
    /// variable occurs twice, the last one counts.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if `prefix` is empty.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        prefix: &str,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<BTreeMap<String, Descriptor>> {
        if prefix.is_empty() {
            return Err(Error::invalid(
                "the prefix is empty; it tells descriptors from other variables, as BACKEND_ does",
            ));
        }
        let mut found = BTreeMap::new();
        for (variable, text) in pairs {
            if let Some(name) = variable.as_ref().strip_prefix(prefix) {
                found.insert(name.to_owned(), text);
            }
        }
        let read = |(name, text): (String, V)| {
            let variable = format!("{prefix}{name}");
            if name.is_empty() {
                return ignore_variable(&variable, "a name is expected after the prefix");
            }
            match parse::parse(text.as_ref()) {
                Ok(descriptor) => Some((name, descriptor)),
                Err(fault) => ignore_variable(&variable, fault),
            }
        };
        Ok(found.into_iter().filter_map(read).collect())
    }

    /// Returns the service: the name, or the last part of the path.
    pub fn service(&self) -> &str {
        self.name
            .rsplit_once('/')
            .map_or(&self.name, |(_, last)| last)
    }

    /// Returns the path, for example `/services/prod/redis.master`; none if the descriptor has only a name.
    pub fn path(&self) -> Option<&str> {
        self.name.contains('/').then_some(&self.name)
    }

    /// Returns the required tags in the order given.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Returns the port (1 to 65535) at which the program reaches the service. It is not the port on which an
    /// instance listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
}

/// Logs a malformed variable. The value is not logged, because a variable with this prefix may hold a
/// password by mistake.
fn ignore_variable<T>(variable: &str, why: impl fmt::Display) -> Option<T> {
    tracing::warn!(error = %why, %variable, "ignoring environment variable that is not a service descriptor");
    None
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.tags.is_empty() {
            write!(f, "[{}]", self.tags.join(","))?;
        }
        write!(f, ";{}/{}", self.port, self.protocol.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each mutated descriptor is rejected with its column, or its printed form parses to the same
    /// descriptor.
    #[test]
    fn fuzz_descriptors_changed_in_every_way() {
        let good = crate::mutate::fixture("descriptors.tsv", "good", 1);
        crate::prove::check_property(file!(), 3000, crate::mutate::mutated(good), |(_, text)| {
            let text = String::from_utf8_lossy(&text);
            match Descriptor::parse(&text) {
                Err(error) if error.to_string().contains(": column ") => Ok(()),
                Err(error) => Err(format!("no column: {error}")),
                Ok(read) if Descriptor::parse(&read.to_string()).ok() == Some(read.clone()) => {
                    Ok(())
                }
                Ok(read) => Err(format!("printed as {read}")),
            }
        });
    }
}
