//! Health checks: their definition in a request or configuration file, and the checks resolved from it. Pure.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use discover_core::{Error, HostPort, Result};
use serde::{Deserialize, Serialize};

use crate::exec::CommandLine;
use crate::health::target_policy::TargetPolicy;
use crate::registry::state::Health;
use discover_core::HumanDuration;

/// Default interval of a check.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// URL schemes.
const HTTP_SCHEME: &str = "http://";
const HTTPS_SCHEME: &str = "https://";
/// Default number of consecutive failures that make an instance critical.
const DEFAULT_FAILURE_LIMIT: u32 = 3;
/// Default time for which an instance may be critical before its registration is removed.
const DEFAULT_CRITICAL_TTL: Duration = Duration::from_secs(3600);

/// Definition of a check in a registration request or a configuration file. Exactly one of `tcp`, `http`,
/// `exec` and `ttl` must be given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckDefinition {
    /// Address that must accept a connection: `host:port`, or `:port` on the host of the instance.
    pub tcp: Option<String>,
    /// URL that must respond with a status of 200 to 299: a whole URL, or `:port/path` or `/path` of the
    /// instance.
    pub http: Option<String>,
    /// File with the certificate authorities that an `https` URL is verified by. Default: those of the
    /// system.
    pub ca: Option<PathBuf>,
    /// Command that must exit with status 0.
    pub exec: Option<CommandLine>,
    /// Longest time between two heartbeats by which the application reports its health.
    pub ttl: Option<HumanDuration>,
    /// Time between two probes. Default: 10 s.
    pub interval: Option<HumanDuration>,
    /// Time that a probe may take. Default: the interval.
    pub timeout: Option<HumanDuration>,
    /// Time before the first probe, and between probes until one has passed. Default: the interval.
    pub start: Option<HumanDuration>,
    /// Number of consecutive successes that end the critical state. Default: 1.
    pub up: Option<u32>,
    /// Number of consecutive failures that make the instance critical. Default: 3.
    pub down: Option<u32>,
    /// Exit status of a command that means health `warning`.
    pub warning: Option<u8>,
    /// Health before the first probe. Default: critical.
    pub initial: Option<Health>,
    /// Time for which the instance may be critical before its registration is removed. Default: 1 h.
    pub gone: Option<HumanDuration>,
}

/// Target of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CheckTarget {
    /// Address to connect to.
    Tcp(String),
    /// HTTP or HTTPS URL.
    Http {
        /// `host:port`, also sent as `Host`.
        address: String,
        /// Path and query.
        path: String,
        /// `None` for plain HTTP.
        tls: Option<TlsTrust>,
    },
    /// Command to run, and the exit status that means health `warning`.
    Exec(CommandLine, Option<u8>),
}

/// File with the certificate authorities to trust; `None` for those of the system.
pub type TlsTrust = Option<PathBuf>;

/// A check that the agent makes. The serialized names of the fields are part of the hand-over state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Target of the probe.
    #[serde(rename = "what")]
    pub target: CheckTarget,
    /// Time between two probes.
    pub interval: Duration,
    /// Time that a probe may take.
    pub timeout: Duration,
    /// Time before the first probe, and between probes until one has passed.
    #[serde(rename = "start")]
    pub start_interval: Duration,
    /// Number of consecutive successes that end the critical state.
    pub up: u32,
    /// Number of consecutive failures that make the instance critical.
    pub down: u32,
    /// Addresses that the probe may connect to.
    #[serde(rename = "reach")]
    pub target_policy: TargetPolicy,
}

/// Source of the health of a checked instance.
#[derive(Clone, Debug, PartialEq)]
pub enum HealthSource {
    /// The agent probes the instance.
    Agent(Check),
    /// The application reports the health, at least this often.
    Reports(Duration),
}

impl CheckDefinition {
    /// Returns the health before the first probe.
    pub fn initial(&self) -> Health {
        self.initial.unwrap_or(Health::Critical)
    }

    /// Returns the time for which the instance may be critical before its registration is removed.
    pub fn critical_ttl(&self) -> Duration {
        self.gone.map_or(DEFAULT_CRITICAL_TTL, |ttl| ttl.0)
    }

    /// Returns the check of an instance with this address.
    ///
    /// # Errors
    ///
    /// Fails if the definition is contradictory or incomplete, or if the policy does not allow the target.
    pub fn resolve(
        &self,
        host: &str,
        port: u16,
        target_policy: TargetPolicy,
    ) -> Result<HealthSource> {
        let kinds = [
            self.tcp.is_some(),
            self.http.is_some(),
            self.exec.is_some(),
            self.ttl.is_some(),
        ];
        if kinds.iter().filter(|given| **given).count() != 1 {
            return Err(Error::invalid(
                "check: specify exactly one of tcp, http, exec and ttl",
            ));
        }
        if let Some(ttl) = self.ttl {
            return self.health_reports(ttl.0);
        }
        if self.warning.is_some() && self.exec.is_none() {
            return Err(Error::invalid("check: warning applies only to exec"));
        }
        let over_tls = self
            .http
            .as_ref()
            .is_some_and(|url| url.starts_with(HTTPS_SCHEME));
        if self.ca.is_some() && !over_tls {
            return Err(Error::invalid("check: ca applies only to an https URL"));
        }
        if self.up == Some(0) || self.down == Some(0) || self.warning == Some(0) {
            return Err(Error::invalid(
                "check: up, down and warning must be at least 1",
            ));
        }
        let target = match (&self.tcp, &self.http, &self.exec) {
            (Some(address), ..) => CheckTarget::Tcp(complete_address(address, host)?),
            (_, Some(url), _) => http(url, self.ca.clone(), host, port)?,
            (.., Some(words)) => CheckTarget::Exec(words.clone(), self.warning),
            _ => return Err(Error::invalid("check: no target")),
        };
        if let Some(address) = target.address() {
            target_policy.admit(address)?;
        }
        let interval = self.interval.map_or(DEFAULT_INTERVAL, |time| time.0);
        Ok(HealthSource::Agent(Check {
            target,
            interval,
            timeout: self.timeout.map_or(interval, |time| time.0),
            start_interval: self.start.map_or(interval, |time| time.0),
            up: self.up.unwrap_or(1),
            down: self.down.unwrap_or(DEFAULT_FAILURE_LIMIT),
            target_policy,
        }))
    }

    fn health_reports(&self, ttl: Duration) -> Result<HealthSource> {
        let intervals = [self.interval, self.timeout, self.start];
        let has_counts = self.up.is_some() || self.down.is_some() || self.warning.is_some();
        if has_counts || intervals.iter().any(Option::is_some) {
            return Err(Error::invalid(
                "check: interval, timeout, start, up, down and warning do not apply to ttl",
            ));
        }
        Ok(HealthSource::Reports(ttl))
    }
}

impl CheckTarget {
    /// Returns the `host:port` that the check connects to. `None` for a command.
    pub fn address(&self) -> Option<&str> {
        match self {
            CheckTarget::Tcp(address) | CheckTarget::Http { address, .. } => Some(address),
            CheckTarget::Exec(..) => None,
        }
    }

    /// Returns a description for logs.
    pub fn description(&self) -> String {
        match self {
            CheckTarget::Tcp(address) => format!("tcp {address}"),
            CheckTarget::Http { address, path, tls } => {
                let scheme = if tls.is_some() {
                    HTTPS_SCHEME
                } else {
                    HTTP_SCHEME
                };
                format!("http {scheme}{address}{path}")
            }
            CheckTarget::Exec(words, _) => format!("exec {}", words.text()),
        }
    }
}

fn complete_address(address: &str, host: &str) -> Result<String> {
    let port = address.rsplit_once(':').map(|(_, port)| port);
    if port
        .and_then(|port| port.parse::<u16>().ok())
        .is_none_or(|port| port == 0)
    {
        let text = format!("check: {address:?} is not an address; use host:port or :port");
        return Err(Error::invalid(text));
    }
    match address.strip_prefix(':') {
        Some(port) => Ok(format!("{}:{port}", bracketed(host))),
        None => {
            check_target_host(address)?;
            Ok(address.to_owned())
        }
    }
}

/// Checks the host of `host:port`. Commands and resolvers would take a host with a hyphen at its beginning for an
/// option.
fn check_target_host(address: &str) -> Result<()> {
    let (host, _) =
        HostPort::split(address).map_err(|error| Error::invalid(format!("check: {error}")))?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_ip = host.parse::<IpAddr>().is_ok();
    if !is_ip && (host.is_empty() || host.starts_with('-') || !host.chars().all(is_name)) {
        let text =
            format!("check: {host:?} in {address:?} is neither a host name nor an IP address");
        return Err(Error::invalid(text));
    }
    Ok(())
}

fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

fn http(url: &str, ca: Option<PathBuf>, host: &str, port: u16) -> Result<CheckTarget> {
    let bad = |why: &str| {
        let text = format!("check: {url:?} {why}; use http://host:port/path, :port/path or /path");
        Error::invalid(text)
    };
    let https = url.strip_prefix(HTTPS_SCHEME);
    let absolute = https.or_else(|| url.strip_prefix(HTTP_SCHEME));
    if absolute.is_none() && !url.starts_with([':', '/']) {
        return Err(bad("is not a URL"));
    }
    let rest = absolute.unwrap_or(url);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_graphic = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    if !is_graphic(rest) || authority.contains('@') {
        return Err(bad(
            "contains a character or a user name that is not allowed",
        ));
    }
    let address = match authority {
        "" => format!("{}:{port}", bracketed(host)),
        own if own.starts_with(':') => complete_address(own, host)?,
        other => match other.rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => complete_address(other, host)?,
            _ => {
                let default_port = if https.is_some() { 443 } else { 80 };
                complete_address(&format!("{other}:{default_port}"), host)?
            }
        },
    };
    let path = if path.is_empty() { "/" } else { path }.to_owned();
    let tls = https.map(|_| ca);
    Ok(CheckTarget::Http { address, path, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(json: &str) -> std::result::Result<HealthSource, String> {
        let definition: CheckDefinition = serde_json::from_str(json).map_err(|e| e.to_string())?;
        definition
            .resolve("10.0.0.7", 8080, TargetPolicy::Anywhere)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_definition_resolves_to_a_check() {
        let second = Duration::from_secs(1);
        let resolved = resolve(
            r#"{"tcp": ":8081", "interval": "5s", "timeout": 2, "up": 2, "down": 4, "start": "1s"}"#,
        );
        let expected = Check {
            target: CheckTarget::Tcp("10.0.0.7:8081".to_owned()),
            interval: second * 5,
            timeout: second * 2,
            start_interval: second,
            up: 2,
            down: 4,
            target_policy: TargetPolicy::Anywhere,
        };
        assert_eq!(resolved, Ok(HealthSource::Agent(expected)));
        assert_eq!(
            resolve(r#"{"ttl": "15s"}"#),
            Ok(HealthSource::Reports(second * 15))
        );
        let Ok(HealthSource::Agent(plain)) = resolve(r#"{"exec": "true"}"#) else {
            panic!("not a check")
        };
        assert_eq!(
            (plain.timeout, plain.start_interval),
            (plain.interval, plain.interval)
        );
    }

    #[test]
    fn missing_parts_of_a_target_come_from_the_instance() {
        for (http, text) in [
            ("/up?x=1", "http http://10.0.0.7:8080/up?x=1"),
            (":9/up", "http http://10.0.0.7:9/up"),
            ("http://h", "http http://h:80/"),
            ("https://h/x", "http https://h:443/x"),
            ("http://[::1]/x", "http http://[::1]:80/x"),
            ("http://[::1]:8/x", "http http://[::1]:8/x"),
        ] {
            let resolved = resolve(&format!(r#"{{"http": "{http}"}}"#));
            let Ok(HealthSource::Agent(check)) = resolved else {
                panic!("{resolved:?}")
            };
            assert_eq!(check.target.description(), text);
        }
    }

    #[test]
    fn invalid_definitions_fail_with_a_remedy() {
        for (bad, why) in [
            ("{}", "exactly one of"),
            (r#"{"tcp": ":1", "http": "/"}"#, "exactly one of"),
            (r#"{"tcp": "here"}"#, "host:port"),
            (r#"{"tcp": ":0"}"#, "host:port"),
            (r#"{"tcp": "-oProxyCommand:22"}"#, "neither a host name"),
            (r#"{"tcp": "[::1]evil:22"}"#, "between the bracket"),
            (r#"{"tcp": "[evil]:22"}"#, "not an IPv6 address"),
            (r#"{"http": "http://-x/"}"#, "neither a host name"),
            (r#"{"http": "http://-x:80/"}"#, "neither a host name"),
            (r#"{"http": "http://a?b:80/"}"#, "neither a host name"),
            (r#"{"tcp": ":70000"}"#, "host:port"),
            (r#"{"tcp": ":1", "up": 0}"#, "at least 1"),
            (r#"{"tcp": ":1", "warning": 1}"#, "only to exec"),
            (r#"{"http": "ftp://x"}"#, "http://host:port/path"),
            (r#"{"http": "/up", "ca": "/x"}"#, "only to an https URL"),
            (r#"{"http": "/a b"}"#, "not allowed"),
            (r#"{"http": "http://u:p@h/"}"#, "not allowed"),
            (r#"{"exec": ""}"#, "specify a program"),
            (r#"{"ttl": "5s", "down": 2}"#, "do not apply to ttl"),
            (r#"{"ttl": "soon"}"#, "a duration such as"),
            (r#"{"tcp": ":1", "intervall": 1}"#, "unknown field"),
        ] {
            let error = resolve(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error:#}");
        }
    }
}
