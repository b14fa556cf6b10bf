//! Registry URLs: `scheme://user:password@h1:1,h2:2/path?option=value`.
//!
//! Parsed by hand, because the URL of a store may list several hosts. Secrets are never printed.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::duration::parse_duration;
use crate::error::{Error, Result};
use crate::suggest::{did_you_mean, nearest};

/// Replacement of what may be a secret.
const MASK: &str = "***";
/// Names of secrets. The value of an option with a similar name is never printed, so that a typing error reveals
/// nothing.
const SECRET_NAMES: [&str; 4] = ["password", "passwd", "token", "secret"];
/// Parts of the names of options whose values are never printed.
const SECRET_NAME_PARTS: [&str; 6] = ["pass", "pwd", "token", "secret", "auth", "cred"];
/// The option whose name has such a part and whose value, a path, is no secret.
const TOKEN_FILE: &str = "token_file";

/// Default of the option `max_instances`. The limit keeps instances that lie under a service by mistake from taking
/// all memory.
#[cfg(any(feature = "etcd", feature = "etcd2", feature = "agent"))]
const DEFAULT_MAX_INSTANCES: u64 = 250_000;

/// A parsed registry URL. `Display` and `Debug` print secrets as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    user: Option<String>,
    password: Option<String>,
    authority: String,
    path: String,
    options: Vec<(String, String)>,
}

impl Url {
    /// Parses a registry URL. White space around it is ignored, such as a newline at the end of a file.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument). The message does not repeat
    /// the text, which may contain a password.
    pub fn parse(text: &str) -> Result<Url> {
        let text = text.trim();
        if text.starts_with(['"', '\'']) {
            return Err(Error::invalid(
                "the registry URL begins with a quotation mark; remove the quotation marks",
            ));
        }
        if text.chars().any(char::is_control) {
            return Err(Error::invalid(
                "the registry URL has a control character, such as a newline, in it",
            ));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            Error::invalid(
                "the registry URL has no scheme; write for example local:// or etcd://host:2379",
            )
        })?;
        let is_scheme = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'+';
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return Err(Error::invalid(
                "the registry URL's scheme has characters other than a-z 0-9 +",
            ));
        }
        let login_ends = rest.rfind('@').unwrap_or(0);
        if rest.find(['/', '?']).is_some_and(|at| at < login_ends) {
            // The text is not shown: it may be a part of a password.
            return Err(Error::invalid(
                "the registry URL has an @ after a / or ?; percent-encode / ? @ in a login (%2F %3F %40)",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (user, password) = match login.map(|l| l.split_once(':').unwrap_or((l, ""))) {
            Some((user, "")) => (Some(decode("user", user)?), None),
            Some((user, secret)) => (
                Some(decode("user", user)?),
                Some(decode("password", secret)?),
            ),
            None => (None, None),
        };
        let mut url = Url {
            scheme: scheme.to_owned(),
            user,
            password,
            authority: decode("host", hosts)?,
            path: decode("path", path)?,
            options: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode("option", name)?;
            if url.option(&name).is_some() {
                let shown = shown_name(&name);
                return Err(Error::invalid(format!("option {shown} is given twice")));
            }
            let value = decode(&shown_name(&name), value)?;
            url.options.push((name, value));
        }
        Ok(url)
    }

    /// Returns the scheme, the word before `://`.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns the text between `://` (and the login) and the path.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the hosts, which commas separate in the authority.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.authority
            .split(',')
            .map(str::trim)
            .filter(|host| !host.is_empty())
    }

    /// Returns the path with its leading slash, or an empty text.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns user name and password, from the authority or from the options `user` and `password`.
    pub fn login(&self) -> (Option<&str>, Option<&str>) {
        (
            self.user.as_deref().or(self.option("user")),
            self.password.as_deref().or(self.option("password")),
        )
    }

    /// Returns true if there is a login before the host.
    pub(crate) fn has_login(&self) -> bool {
        self.user.is_some() || self.password.is_some()
    }

    /// Returns the value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns all options in their order.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        let options = self.options.iter();
        options.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns an option that is a duration such as `500ms`, `1.5s`, `2m`, or a number of seconds.
    ///
    /// # Errors
    ///
    /// Fails if the value is not a duration. The message names the option.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>> {
        let Some(text) = self.option(name) else {
            return Ok(None);
        };
        parse_duration(text)
            .map(Some)
            .map_err(|error| match is_presentable(text) {
                true => Error::invalid(format!("option {name}: {error}")),
                false => Error::invalid(format!(
                    "option {name} is not a duration; separate the options of the URL by &"
                )),
            })
    }

    /// Returns the option `max_instances`, the maximum number of instances of a service.
    ///
    /// # Errors
    ///
    /// Fails if the value is not a positive number.
    #[cfg(any(feature = "etcd", feature = "etcd2", feature = "agent"))]
    pub(crate) fn max_instances(&self) -> Result<u64> {
        let Some(text) = self.option("max_instances") else {
            return Ok(DEFAULT_MAX_INSTANCES);
        };
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| {
            let text = shown_value("max_instances", text);
            Error::invalid(format!(
                "option max_instances is {text:?}; it must be a number of at least 1"
            ))
        })
    }

    /// Returns an option that is `true` or `false`. An option without a value is true, a missing one false.
    ///
    /// # Errors
    ///
    /// Fails if the value is neither. The message names the option.
    pub fn flag(&self, name: &str) -> Result<bool> {
        match self.option(name) {
            None | Some("false" | "off" | "0") => Ok(false),
            Some("" | "true" | "on" | "1") => Ok(true),
            Some(other) => Err(Error::invalid(format!(
                "option {name} is {:?}; write true or false",
                shown_value(name, other)
            ))),
        }
    }

    /// Checks that all options are among `known`.
    ///
    /// # Errors
    ///
    /// Fails at the first unknown option, with the nearest known name and the list of all.
    pub fn expect_options(&self, known: &[&str]) -> Result<()> {
        for (name, value) in &self.options {
            if !known.contains(&name.as_str()) {
                // An unknown word without a value may be a password after a wrong separator.
                let shown = match value.is_empty() && nearest(name, known.iter().copied()).is_none()
                {
                    true => MASK.into(),
                    false => shown_name(name),
                };
                return Err(Error::invalid(format!(
                    "{}:// has no option {shown:?}{}; options have the form NAME=VALUE, and it has {}",
                    self.scheme,
                    did_you_mean(name, known.iter().copied()),
                    known.join(", ")
                )));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        match (&self.user, &self.password) {
            (Some(user), Some(_)) if is_presentable(user) => write!(f, "{user}:{MASK}@")?,
            // A user without a password may be a token.
            (Some(_), _) | (_, Some(_)) => write!(f, "{MASK}@")?,
            (None, None) => {}
        }
        let hosts: Vec<String> = self.authority.split(',').map(shown_host).collect();
        write!(f, "{}{}", hosts.join(","), self.path)?;
        for (i, (name, value)) in self.options.iter().enumerate() {
            let separator = if i == 0 { '?' } else { '&' };
            let value = shown_value(name, value);
            write!(f, "{separator}{}={value}", shown_name(name))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns a host of the authority for people. What follows the host and is no port may be the password of a login
/// without a host.
fn shown_host(host: &str) -> String {
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    let is_ipv6 = host.starts_with('[') || host.parse::<std::net::Ipv6Addr>().is_ok();
    match host.split_once(':') {
        Some((name, port)) if !is_ipv6 && !is_port(port) => format!("{name}:{MASK}"),
        _ => host.to_owned(),
    }
}

/// Returns the name of an option for people. A name with other characters contains a value, as in `password:VALUE`.
fn shown_name(name: &str) -> Cow<'_, str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match name.chars().all(is_name) {
        true => name.into(),
        false => MASK.into(),
    }
}

/// Returns the value of an option for people.
fn shown_value<'a>(name: &str, value: &'a str) -> &'a str {
    let lower = name.to_ascii_lowercase();
    let has_secret_name = SECRET_NAME_PARTS.iter().any(|part| lower.contains(part))
        || nearest(&lower, SECRET_NAMES).is_some();
    let is_secret = has_secret_name && name != TOKEN_FILE;
    match is_secret || (name == "user" && value.contains(':')) || !is_presentable(value) {
        true => MASK,
        false => value,
    }
}

/// Returns false if a value seems to contain another option or a login, as after a wrong separator.
fn is_presentable(value: &str) -> bool {
    !value.contains(['=', ';', '?', '@'])
        && !SECRET_NAMES
            .iter()
            .any(|name| value.to_ascii_lowercase().contains(&format!("{name}:")))
}

fn decode(what: &str, text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| {
        Error::invalid(format!(
            "the registry URL's {what} is not UTF-8 after percent-decoding"
        ))
    })?;
    if decoded.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "the registry URL's {what} has a control character, such as %00 or %0A"
        )));
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_its_parts() {
        let url = Url::parse("etcd://me:p%40ss@a:1,b:2/prod?ttl=1.5s&lazy").unwrap();
        assert_eq!(url.scheme(), "etcd");
        assert_eq!(url.hosts().collect::<Vec<_>>(), ["a:1", "b:2"]);
        assert_eq!(url.path(), "/prod");
        assert_eq!(url.login(), (Some("me"), Some("p@ss")));
        assert_eq!(
            url.duration("ttl").unwrap(),
            Some(Duration::from_millis(1500))
        );
        assert!(url.flag("lazy").unwrap());
    }

    #[test]
    fn white_space_around_a_url_is_ignored_and_control_characters_are_refused() {
        let url = Url::parse(" etcd://h/prod?ttl=2s\r\n").unwrap();
        assert_eq!((url.path(), url.option("ttl")), ("/prod", Some("2s")));
        for (bad, part) in [
            ("etcd://h/prod\n?ttl=2s", "newline"),
            ("etcd://h/prod%0A", "path"),
            ("etcd://h?user=a%00b", "user"),
            ("etcd://h%0d", "host"),
            ("etcd://u:p%0a@h", "password"),
            ("\"etcd://h\"", "quotation marks"),
            ("'etcd://h'", "quotation marks"),
        ] {
            let error = Url::parse(bad).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let url = Url::parse("etcd://me:hunter2@h/?password=hunter2&token=hunter2").unwrap();
        let shown = format!("{url} {url:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("me:***@h"));
        for bad in [
            "hunter2",
            "Q://u:hunter2@h",
            "etcd://u:hunter2%ff@h",
            "etcd://h?a=hunter2&a=hunter2",
            "etcd://me:hunter2/x@h",
            "etcd://me:12/hunter2@h",
            "etcd://me:p?hunter2@h",
        ] {
            let error = Url::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_unknown_option_lists_the_known_ones() {
        let error = Url::parse("local://?tll=3")
            .unwrap()
            .expect_options(&["ttl", "lazy"])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "local:// has no option \"tll\" (did you mean ttl?); options have the form NAME=VALUE, and it has ttl, lazy"
        );
    }

    #[test]
    fn a_mistyped_secret_is_in_no_text() {
        for text in [
            "etcd://root:hunter2",
            "etcd://h,root:hunter2/p",
            "etcd://hunter2@h",
            "etcd://root%3Ahunter2@h",
            "etcd://h?user=root:hunter2",
            "etcd://h?password:hunter2",
            "etcd://h?password%3Dhunter2",
            "etcd://h?password hunter2",
            "etcd://h?pasword=hunter2",
            "etcd://h?Password=hunter2",
            "etcd://h?pwd=hunter2",
            "etcd://h?ttl=1s;password=hunter2",
            "etcd://h?ttl=1s?password=hunter2",
            "etcd://h?lazy=on;password:hunter2",
            "etcd://h?max_instances=1;password=hunter2",
            "etcd://h?password:hunter2=%ff",
            "etcd://h?password:hunter2&password:hunter2",
            "etcd://h?hunter2",
        ] {
            let url = match Url::parse(text) {
                Ok(url) => url,
                Err(error) => {
                    assert!(!error.to_string().contains("hunter2"), "{error}");
                    continue;
                }
            };
            let known = ["ttl", "lazy", "max_instances", "user", "password"];
            let errors = [
                url.expect_options(&known).err(),
                url.duration("ttl").err(),
                url.flag("lazy").err(),
                url.max_instances().err(),
            ];
            let errors: Vec<String> = errors
                .into_iter()
                .flatten()
                .map(|e| e.to_string())
                .collect();
            // A word without a separator is shown only by the URL itself, as its name.
            let shown = if text == "etcd://h?hunter2" {
                String::new()
            } else {
                format!("{url} {url:?}")
            };
            let all = format!("{errors:?} {shown}");
            assert!(!all.contains("hunter2"), "{text}: {all}");
        }
        let url = "etcd://h:1,[::1]:2/p?ttl=1s&layout=native,scalingo&user=me&token_file=/t&grpc.prefix=/g";
        assert_eq!(
            Url::parse(url).unwrap().to_string(),
            url,
            "the rest is shown"
        );
    }

    #[test]
    fn durations_need_a_known_unit() {
        let duration = |text: &str| Url::parse(&format!("x://?t={text}")).unwrap().duration("t");
        assert_eq!(duration("2m").unwrap(), Some(Duration::from_secs(120)));
        assert_eq!(duration("250ms").unwrap(), Some(Duration::from_millis(250)));
        assert_eq!(duration("3").unwrap(), Some(Duration::from_secs(3)));
        for bad in ["", "s", "3d", "-1s", "1e99h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    /// No printed form contains the password.
    #[test]
    fn fuzz_urls_changed_in_every_way() {
        let urls = crate::mutate::mutated(crate::mutate::seeds("url"));
        crate::prove::check_property(file!(), 3000, urls, |(_, text)| {
            let text = String::from_utf8_lossy(&text);
            let Ok(url) = Url::parse(&text) else {
                return Ok(());
            };
            let shown = format!("{url} {url:?}");
            // Long enough not to be a part of something else by chance.
            let secret = url.login().1.filter(|secret| secret.len() > 4);
            let _ = (url.duration("ttl"), url.flag("lazy"), url.hosts().count());
            match secret.is_some_and(|secret| shown.contains(secret)) {
                true if url.options.is_empty() => Err(format!("the password is printed: {shown}")),
                _ => Ok(()),
            }
        });
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = Url::parse(&text).map(|url| url.to_string());
        }
    }
}
