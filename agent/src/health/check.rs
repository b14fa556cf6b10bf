//! What a check is, as it is declared and as it is made. Pure.

use std::path::PathBuf;
use std::time::Duration;

use discover_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::exec::Words;
use crate::health::target_policy::TargetPolicy;
use crate::registry::state::Health;
use discover_core::HumanDuration;

/// How often a check is made that does not say.
const INTERVAL: Duration = Duration::from_secs(10);
/// The beginnings of whole URLs.
const HTTP: &str = "http://";
const HTTPS: &str = "https://";
/// How many failures in a row it takes.
const DOWN: u32 = 3;
/// How long an instance may be critical, which an application registered and maybe forgot.
const GONE: Duration = Duration::from_secs(3600);

/// A check as it stands in a registration or in a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Declared {
    /// Whether a connection to `host:port`, or `:port` of the instance's host, can be made.
    pub tcp: Option<String>,
    /// Whether a URL, or `:port/path` or `/path` of the instance, answers with a status of 200 to 299.
    pub http: Option<String>,
    /// The file of the authorities that an `https` URL is trusted by; the system's, if none is named.
    pub ca: Option<PathBuf>,
    /// Whether a command ends with the status 0.
    pub exec: Option<Words>,
    /// Whether the application says so, at least this often.
    pub ttl: Option<HumanDuration>,
    /// How often.
    pub interval: Option<HumanDuration>,
    /// How long it may take.
    pub timeout: Option<HumanDuration>,
    /// How often until it has passed for the first time, and how long before the first of all.
    pub start: Option<HumanDuration>,
    /// How many successes in a row it takes to be passing again.
    pub up: Option<u32>,
    /// How many failures in a row it takes to be critical.
    pub down: Option<u32>,
    /// The exit status of a command that says: it works, and somebody should look at it.
    pub warning: Option<u8>,
    /// How the instance is before the first check; critical, if nothing is said.
    pub initial: Option<Health>,
    /// For how long an instance may be critical before it is forgotten.
    pub gone: Option<HumanDuration>,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    /// An address.
    Tcp(String),
    /// The address, what is sent as `Host`, and the path.
    Http {
        /// `host:port`
        address: String,
        /// Path and query.
        path: String,
        /// Whether it is asked over TLS, and trusted by which file.
        tls: Option<Trust>,
    },
    /// A command, and the status by which it warns.
    Exec(Words, Option<u8>),
}

/// The file of the authorities; the system's, where there is none.
pub type Trust = Option<PathBuf>;

/// A check as it is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What is looked at.
    pub what: What,
    /// How often.
    pub interval: Duration,
    /// How long it may take.
    pub timeout: Duration,
    /// How often until it has passed for the first time.
    pub start: Duration,
    /// How many successes in a row.
    pub up: u32,
    /// How many failures in a row.
    pub down: u32,
    /// Which addresses may be looked at.
    pub reach: TargetPolicy,
}

/// What says that an instance lives.
#[derive(Clone, Debug, PartialEq)]
pub enum Watch {
    /// The agent looks.
    Check(Check),
    /// The application says so, this often.
    Reports(Duration),
}

impl Declared {
    /// How the instance is before the first check.
    pub fn initial(&self) -> Health {
        self.initial.unwrap_or(Health::Critical)
    }

    /// For how long it may be critical.
    pub fn gone(&self) -> Duration {
        self.gone.map_or(GONE, |gone| gone.0)
    }

    /// The check of an instance at this address.
    pub fn watch(&self, host: &str, port: u16, reach: TargetPolicy) -> Result<Watch> {
        let kinds = [
            self.tcp.is_some(),
            self.http.is_some(),
            self.exec.is_some(),
            self.ttl.is_some(),
        ];
        if kinds.iter().filter(|given| **given).count() != 1 {
            return Err(Error::invalid(
                "check: name exactly one of tcp, http, exec and ttl",
            ));
        }
        if let Some(ttl) = self.ttl {
            return self.reports(ttl.0);
        }
        if self.warning.is_some() && self.exec.is_none() {
            return Err(Error::invalid("check: warning is for exec alone"));
        }
        let over_tls = self.http.as_ref().is_some_and(|url| url.starts_with(HTTPS));
        if self.ca.is_some() && !over_tls {
            return Err(Error::invalid("check: ca is for an https URL alone"));
        }
        if self.up == Some(0) || self.down == Some(0) || self.warning == Some(0) {
            return Err(Error::invalid("check: up, down and warning are at least 1"));
        }
        let what = match (&self.tcp, &self.http, &self.exec) {
            (Some(address), ..) => What::Tcp(complete(address, host)?),
            (_, Some(url), _) => http(url, self.ca.clone(), host, port)?,
            (.., Some(words)) => What::Exec(words.clone(), self.warning),
            _ => return Err(Error::invalid("check: names nothing to look at")),
        };
        if let Some(address) = what.address() {
            reach.admit(address)?;
        }
        let interval = self.interval.map_or(INTERVAL, |time| time.0);
        Ok(Watch::Check(Check {
            what,
            interval,
            timeout: self.timeout.map_or(interval, |time| time.0),
            start: self.start.map_or(interval, |time| time.0),
            up: self.up.unwrap_or(1),
            down: self.down.unwrap_or(DOWN),
            reach,
        }))
    }

    /// The application counts for itself.
    fn reports(&self, ttl: Duration) -> Result<Watch> {
        let of_checks = [self.interval, self.timeout, self.start];
        let counts = self.up.is_some() || self.down.is_some() || self.warning.is_some();
        if counts || of_checks.iter().any(Option::is_some) {
            return Err(Error::invalid(
                "check: interval, timeout, start, up, down and warning say nothing of ttl",
            ));
        }
        Ok(Watch::Reports(ttl))
    }
}

impl What {
    /// Returns the `host:port` that the check connects to. `None` for a command.
    pub fn address(&self) -> Option<&str> {
        match self {
            What::Tcp(address) | What::Http { address, .. } => Some(address),
            What::Exec(..) => None,
        }
    }

    /// As it is shown.
    pub fn text(&self) -> String {
        match self {
            What::Tcp(address) => format!("tcp {address}"),
            What::Http { address, path, tls } => {
                let scheme = if tls.is_some() { HTTPS } else { HTTP };
                format!("http {scheme}{address}{path}")
            }
            What::Exec(words, _) => format!("exec {}", words.text()),
        }
    }
}

fn complete(address: &str, host: &str) -> Result<String> {
    let port = address.rsplit_once(':').map(|(_, port)| port);
    if port
        .and_then(|port| port.parse::<u16>().ok())
        .is_none_or(|port| port == 0)
    {
        let text = format!("check: {address:?} is no address; write host:port or :port");
        return Err(Error::invalid(text));
    }
    Ok(match address.starts_with(':') {
        true => format!("{}{address}", bracketed(host)),
        false => address.to_owned(),
    })
}

fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

fn http(url: &str, ca: Option<PathBuf>, host: &str, port: u16) -> Result<What> {
    let bad = |why: &str| {
        let text =
            format!("check: {url:?} {why}; write http://host:port/path, :port/path or /path");
        Error::invalid(text)
    };
    let secure = url.strip_prefix(HTTPS);
    let whole = secure.or_else(|| url.strip_prefix(HTTP));
    if whole.is_none() && !url.starts_with([':', '/']) {
        return Err(bad("is no place"));
    }
    let rest = whole.unwrap_or(url);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let clean = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    if !clean(rest) || authority.contains('@') {
        return Err(bad("has what does not belong there"));
    }
    let address = match authority {
        "" => format!("{}:{port}", bracketed(host)),
        own if own.starts_with(':') => complete(own, host)?,
        other => match other.rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => complete(other, host)?,
            _ => format!("{other}:{}", if secure.is_some() { 443 } else { 80 }),
        },
    };
    let path = if path.is_empty() { "/" } else { path }.to_owned();
    let tls = secure.map(|_| ca);
    Ok(What::Http { address, path, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(json: &str) -> std::result::Result<Watch, String> {
        let declared: Declared = serde_json::from_str(json).map_err(|e| e.to_string())?;
        declared
            .watch("10.0.0.7", 8080, TargetPolicy::Anywhere)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_check_is_made_as_it_was_declared() {
        let second = Duration::from_secs(1);
        let made = watch(
            r#"{"tcp": ":8081", "interval": "5s", "timeout": 2, "up": 2, "down": 4, "start": "1s"}"#,
        );
        let expected = Check {
            what: What::Tcp("10.0.0.7:8081".to_owned()),
            interval: second * 5,
            timeout: second * 2,
            start: second,
            up: 2,
            down: 4,
            reach: TargetPolicy::Anywhere,
        };
        assert_eq!(made, Ok(Watch::Check(expected)));
        assert_eq!(watch(r#"{"ttl": "15s"}"#), Ok(Watch::Reports(second * 15)));
        let Ok(Watch::Check(plain)) = watch(r#"{"exec": "true"}"#) else {
            panic!("no check")
        };
        assert_eq!(
            (plain.timeout, plain.start),
            (plain.interval, plain.interval)
        );
    }

    #[test]
    fn a_place_is_completed_with_the_instances_own() {
        for (http, text) in [
            ("/up?x=1", "http http://10.0.0.7:8080/up?x=1"),
            (":9/up", "http http://10.0.0.7:9/up"),
            ("http://h", "http http://h:80/"),
            ("https://h/x", "http https://h:443/x"),
            ("http://[::1]/x", "http http://[::1]:80/x"),
            ("http://[::1]:8/x", "http http://[::1]:8/x"),
        ] {
            let made = watch(&format!(r#"{{"http": "{http}"}}"#));
            let Ok(Watch::Check(check)) = made else {
                panic!("{made:?}")
            };
            assert_eq!(check.what.text(), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (bad, why) in [
            ("{}", "exactly one of"),
            (r#"{"tcp": ":1", "http": "/"}"#, "exactly one of"),
            (r#"{"tcp": "here"}"#, "host:port"),
            (r#"{"tcp": ":0"}"#, "host:port"),
            (r#"{"tcp": ":70000"}"#, "host:port"),
            (r#"{"tcp": ":1", "up": 0}"#, "at least 1"),
            (r#"{"tcp": ":1", "warning": 1}"#, "exec alone"),
            (r#"{"http": "ftp://x"}"#, "http://host:port/path"),
            (r#"{"http": "/up", "ca": "/x"}"#, "https URL alone"),
            (r#"{"http": "/a b"}"#, "does not belong"),
            (r#"{"http": "http://u:p@h/"}"#, "does not belong"),
            (r#"{"exec": ""}"#, "name a program"),
            (r#"{"ttl": "5s", "down": 2}"#, "nothing of ttl"),
            (r#"{"ttl": "soon"}"#, "a duration such as"),
            (r#"{"tcp": ":1", "intervall": 1}"#, "unknown field"),
        ] {
            let error = watch(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error:#}");
        }
    }
}
