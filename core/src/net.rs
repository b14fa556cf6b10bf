//! Network addresses: the pair of host and port, and its text form.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Error, Result};

/// A host (name or IP address, without brackets) and a port.
///
/// The text form is `host:port`, with an IPv6 address in brackets: `[::1]:80`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// Creates an address. Brackets around an IPv6 address are removed.
    pub fn new(host: &str, port: u16) -> HostPort {
        HostPort {
            host: without_brackets(host).to_owned(),
            port,
        }
    }

    /// Parses `host:port`, `[ipv6]:port`, `host` or `[ipv6]`; without a port, `default_port` applies.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the host is empty, the
    /// port is not in 1 to 65535, or an IPv6 address has no brackets.
    pub fn parse_or_default(text: &str, default_port: u16) -> Result<HostPort> {
        match !text.is_empty() && (!text.contains(':') || text.ends_with(']')) {
            true => format!("{text}:{default_port}").parse(),
            false => text.parse(),
        }
    }

    /// Returns the host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns true if traffic to the host stays on this machine: a loopback address or `localhost`.
    pub fn is_loopback(&self) -> bool {
        let ip = self.host.parse::<IpAddr>();
        ip.map_or(self.host == "localhost", |ip| ip.is_loopback())
    }

    /// Splits `host:port`, `[ipv6]:port` and `:port` at the last colon. Returns the host without brackets
    /// (empty for `:port`) and the port, whose range is not checked.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the text has another
    /// form.
    pub fn split(text: &str) -> Result<(&str, i64)> {
        let invalid = |why: &str| {
            Error::invalid(format!(
                "address {:?} {why}; write host:port, [ipv6]:port or :port",
                shown(text)
            ))
        };
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| invalid("has no port"))?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let host = rest.strip_suffix(']').ok_or_else(|| {
                    invalid(match rest.contains(']') {
                        true => "has characters between the bracket and the port",
                        false => "has an unclosed bracket",
                    })
                })?;
                let address = host.split('%').next().unwrap_or(host);
                if address.parse::<Ipv6Addr>().is_err() {
                    return Err(invalid(
                        "has brackets around text that is not an IPv6 address",
                    ));
                }
                host
            }
            None if host.contains(':') => {
                return Err(invalid("is IPv6 without brackets or has no port"));
            }
            None => host,
        };
        let port = port
            .parse()
            .map_err(|_| invalid("has a port that is not a number"))?;
        Ok((host, port))
    }

    /// Writes host and port as text, with brackets around an IPv6 address.
    pub fn join(host: &str, port: u16) -> String {
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }
}

/// Returns an address for messages. What is no port may be a password: the text may be a login without a host.
fn shown(text: &str) -> String {
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    let is_ipv6_like = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.' | '%');
    let is_ipv6 =
        text.starts_with('[') || (text.matches(':').count() > 1 && text.chars().all(is_ipv6_like));
    match text.split_once(':') {
        _ if text.contains('@') => "***".to_owned(),
        Some((host, port)) if !is_ipv6 && !is_port(port) => format!("{host}:***"),
        _ => text.to_owned(),
    }
}

/// Removes the brackets around an IPv6 address.
fn without_brackets(host: &str) -> &str {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host)
}

impl FromStr for HostPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<HostPort> {
        let (host, port) = HostPort::split(text)?;
        if host.is_empty() {
            return Err(Error::invalid(format!(
                "address {text:?} has no host; write host:port"
            )));
        }
        match u16::try_from(port).ok().filter(|port| *port > 0) {
            Some(port) => Ok(HostPort::new(host, port)),
            None => Err(Error::invalid(format!(
                "address {:?}: the port is not in 1 to 65535; write host:port",
                shown(text)
            ))),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HostPort::join(&self.host, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_parsing_and_printing() {
        for (text, host, port) in [
            ("h:1", "h", 1),
            ("[::1]:80", "::1", 80),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
        ] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port));
            assert_eq!(address.to_string(), text);
            assert_eq!(address, HostPort::new(host, port));
        }
        assert_eq!(HostPort::new("[::1]", 5).to_string(), "[::1]:5");
    }

    #[test]
    fn a_malformed_address_is_explained() {
        for (bad, why) in [
            ("[::1]x:80", "between the bracket and the port"),
            ("[::1:80", "unclosed bracket"),
            ("::1:2379", "IPv6 without brackets"),
            ("[host]:80", "not an IPv6 address"),
        ] {
            let error = bad.parse::<HostPort>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_login_in_place_of_an_address_is_not_shown() {
        for login in [
            "root:hunter2",
            "root:1234567",
            "root:hunter2:x",
            "root:hunter2@h",
            "root:hunter2@h:x",
            "hunter2@h:0x",
        ] {
            let error = login
                .parse::<HostPort>()
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default();
            assert!(
                !error.contains("hunter2") && !error.contains("1234567"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_missing_port_is_the_default() {
        let parse =
            |text| HostPort::parse_or_default(text, 2379).map(|address| address.to_string());
        assert_eq!(parse("h").unwrap(), "h:2379");
        assert_eq!(parse("[::1]").unwrap(), "[::1]:2379");
        assert_eq!(parse("h:1").unwrap(), "h:1");
        for bad in ["", ":1", "h:0", "h:65536", "h:", "::1", "[::1", "h:x", "[]"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_is_recognised_by_address_and_by_name() {
        let is_loopback = |text: &str| text.parse::<HostPort>().unwrap().is_loopback();
        assert!(
            ["127.0.0.1:1", "[::1]:1", "localhost:1", "127.9.9.9:1"]
                .into_iter()
                .all(is_loopback)
        );
        assert!(
            !["10.0.0.1:1", "h:1", "[fe80::1]:1"]
                .into_iter()
                .any(is_loopback)
        );
    }
}
