//! Service descriptors: what a program asks for, in a line of text.

mod parse;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use crate::error::{Error, Result};

/// What a program asks for in a line of text: `redis.master[prod,stats];6379/tcp`.
///
/// A service, by its name or by a path that ends with it; the tags that its instances must have; the
/// port at which the program wants to reach it, and how. [`parse`](Descriptor::parse) reads it, and
/// `Display` writes it in the one way that names the protocol always.
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
    /// As it was written: a service name, or a path that ends with one.
    name: String,
    tags: Vec<String>,
    port: u16,
    protocol: Protocol,
}

/// How a program wants to reach a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Where the text does not say.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`, the same in every language.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl Descriptor {
    /// Reads a descriptor. The error tells the column, counted from 1, and what is expected there.
    pub fn parse(text: &str) -> Result<Descriptor> {
        let named = |fault| Error::invalid(format!("descriptor {text:?}: {fault}"));
        parse::parse(text).map_err(named)
    }

    /// The descriptors among the variables of this process: those whose names begin with `prefix`, by
    /// what follows it. With the prefix `BACKEND_`, `BACKEND_REDIS=redis.master;6379` is `REDIS`.
    ///
    /// One that cannot be read is passed over, so that it keeps nobody from the others; the log names its
    /// variable, the column, and what is expected there.
    pub fn from_env(prefix: &str) -> Result<BTreeMap<String, Descriptor>> {
        let lossy = |(variable, value): (OsString, OsString)| {
            let variable = variable.to_string_lossy().into_owned();
            variable.starts_with(prefix).then_some((variable, value))
        };
        let text = |(variable, value): (String, OsString)| match value.into_string() {
            Ok(value) => Some((variable, value)),
            Err(_) => pass_over(&variable, "the value is not UTF-8"),
        };
        let pairs = std::env::vars_os().filter_map(lossy).filter_map(text);
        Descriptor::from_pairs(prefix, pairs)
    }

    /// The same for variables that the program has from elsewhere: those of a container, for instance.
    /// Where a variable is there twice, the last one counts.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        prefix: &str,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<BTreeMap<String, Descriptor>> {
        if prefix.is_empty() {
            return Err(Error::invalid(
                "the prefix is empty; it tells descriptors from other variables, as BACKEND_ does",
            ));
        }
        let mut wanted = BTreeMap::new();
        for (variable, text) in pairs {
            if let Some(name) = variable.as_ref().strip_prefix(prefix) {
                wanted.insert(name.to_owned(), text);
            }
        }
        let read = |(name, text): (String, V)| {
            let variable = format!("{prefix}{name}");
            if name.is_empty() {
                return pass_over(&variable, "a name is expected after the prefix");
            }
            match parse::parse(text.as_ref()) {
                Ok(descriptor) => Some((name, descriptor)),
                Err(fault) => pass_over(&variable, fault),
            }
        };
        Ok(wanted.into_iter().filter_map(read).collect())
    }

    /// The service: the name, or the last part of the path.
    pub fn service(&self) -> &str {
        self.name
            .rsplit_once('/')
            .map_or(&self.name, |(_, last)| last)
    }

    /// The whole path, as in `/services/prod/redis.master`; none where there is just a name.
    pub fn path(&self) -> Option<&str> {
        self.name.contains('/').then_some(&self.name)
    }

    /// What the instances must be tagged with, in the order given.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// 1 to 65535: where the program wants to reach the service, which is not where an instance listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How it wants to.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
}

/// The value is not repeated: what has got such a name by mistake may be a password.
fn pass_over<T>(variable: &str, why: impl fmt::Display) -> Option<T> {
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

    /// Each is refused with its place, or is printed so that it is read as the same.
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
