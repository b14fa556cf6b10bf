//! Configuration of a connection to etcd, from the URL and from etcdctl's environment variables.

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Key, Prefix, Scope, too_many_keys};
use crate::net::HostPort;
use crate::rate_limited_log::LogRateLimit;
use crate::transport::network_error::Peer;
use crate::transport::tls::{TLS_OPTIONS, TlsFiles};
use crate::url::Url;

const DEFAULT_PORT: u16 = 2379;
/// Maximum length of the server's own text in an error, in characters.
pub(crate) const MAX_SERVER_TEXT_CHARS: usize = 512;
const DEFAULT_ENDPOINT: &str = "127.0.0.1:2379";

/// Endpoints, credentials, TLS files and limits of a connection to etcd. Contains secrets, so it has no
/// `Debug`.
pub(crate) struct EtcdConfig {
    /// The members of the cluster, as `http://host:port` or `https://host:port`.
    pub(crate) endpoints: Vec<String>,
    /// Prefix of every key in etcd; empty without one.
    pub(crate) root: String,
    /// The largest number of keys that a listing may have.
    pub(crate) max_keys: u64,
    /// User name and password.
    pub(crate) user: Option<(String, String)>,
    /// Present if the connection uses TLS.
    pub(crate) tls: Option<TlsFiles>,
    /// Whether the API is v2.
    v2: bool,
    /// Limits the log messages about keys that are not paths.
    pub(crate) invalid_key_log: LogRateLimit,
}

impl EtcdConfig {
    /// Reads the configuration from the URL, then from etcdctl's environment variables; the default endpoint
    /// is 127.0.0.1:2379.
    ///
    /// # Errors
    ///
    /// Fails if an endpoint, the login, a TLS option or `max_instances` is invalid.
    pub(crate) fn read(uri: &Url, tls: bool) -> Result<EtcdConfig> {
        EtcdConfig::with_env(uri, tls, |name| std::env::var(name).ok())
    }

    fn with_env(uri: &Url, tls: bool, env: impl Fn(&str) -> Option<String>) -> Result<EtcdConfig> {
        let files = TlsFiles::from_url(uri, |option| match option {
            "ca" => env("ETCDCTL_CACERT"),
            "cert" => env("ETCDCTL_CERT"),
            "key" => env("ETCDCTL_KEY"),
            _ => None,
        })?;
        let given = TLS_OPTIONS.iter().find(|o| uri.option(o).is_some());
        if let (false, Some(option)) = (tls, given) {
            return Err(Error::invalid(format!(
                "option {option} needs TLS; write {}s://",
                uri.scheme()
            )));
        }
        let listed: Vec<String> = uri.hosts().map(str::to_owned).collect();
        let listed = if listed.is_empty() {
            from_env(env("ETCDCTL_ENDPOINTS"))
        } else {
            listed
        };
        let endpoints = listed
            .iter()
            .map(|host| endpoint(host, tls))
            .collect::<Result<_>>()?;
        let root = uri.path().trim_end_matches('/');
        if !root.is_empty() {
            Prefix::new(root)?;
        }
        Ok(EtcdConfig {
            endpoints,
            root: root.to_owned(),
            max_keys: uri.max_instances()?,
            user: login(uri, env("ETCDCTL_USER"), env("ETCDCTL_PASSWORD"))?,
            tls: tls.then_some(files),
            v2: uri.scheme().starts_with("etcd2"),
            invalid_key_log: LogRateLimit::default(),
        })
    }

    /// Returns the key in etcd: the root followed by `key`.
    pub(crate) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    /// Returns the part of an etcd key below the root. Logs and skips a key that is not a path.
    pub(crate) fn key(&self, key: &[u8]) -> Option<Key> {
        let path = std::str::from_utf8(key).ok();
        let ours = path
            .and_then(|p| p.strip_prefix(&self.root))
            .and_then(|p| Key::new(p).ok());
        if ours.is_none()
            && let Some(suppressed) = self.invalid_key_log.permit()
        {
            let key = String::from_utf8_lossy(&key[..key.len().min(200)]);
            tracing::warn!(backend = "etcd", %key, suppressed, "skipping key that is not a path below the root");
        }
        ours
    }

    /// Returns true if the client authenticates itself, by user name or by certificate.
    pub(crate) fn proves_who_we_are(&self) -> bool {
        self.user.is_some()
            || self
                .tls
                .as_ref()
                .is_some_and(|files| files.identity.is_some())
    }

    /// Returns the error of a listing with more keys than `max_instances`.
    pub(crate) fn too_many(&self, keys: impl std::fmt::Display) -> Error {
        too_many_keys(keys, self.max_keys)
    }

    /// Returns all endpoints for messages: `a:2379, b:2379`.
    pub(crate) fn shown(&self) -> String {
        let addresses: Vec<&str> = self.endpoints.iter().map(|e| address_of(e)).collect();
        addresses.join(", ")
    }

    /// Returns the names for messages of the server at an endpoint, or of all without one.
    pub(crate) fn peer(&self, endpoint: Option<&str>) -> Peer {
        let tls = self.tls.is_some();
        let (protocol, other_schemes) = match self.v2 {
            true => (
                "etcd's v2 API",
                "for etcd v3 write etcd://, for an agent write discoverd://",
            ),
            false => (
                "HTTP/2 with gRPC",
                "for etcd's v2 API write etcd2://, for an agent write discoverd://",
            ),
        };
        let toggle_tls = match (self.v2, tls) {
            (false, false) => "write etcds:// instead of etcd://",
            (false, true) => "write etcd:// instead of etcds://",
            (true, false) => "write etcd2s:// instead of etcd2://",
            (true, true) => "write etcd2:// instead of etcd2s://",
        };
        let identity = self.tls.as_ref().and_then(|tls| tls.identity.as_ref());
        Peer {
            product: "etcd",
            endpoint: endpoint.map_or_else(|| self.shown(), |e| address_of(e).to_owned()),
            protocol,
            tls,
            client_certificate: identity.is_some(),
            toggle_tls,
            other_schemes,
        }
    }

    /// Names the keys of a scope for errors: a key, or a prefix followed by `*`.
    #[cfg_attr(
        not(feature = "etcd"),
        allow(dead_code, reason = "listings of v2 have one key")
    )]
    pub(crate) fn scope_name(&self, scope: &Scope) -> String {
        match scope {
            Scope::Prefix(prefix) => format!("{}*", self.path(prefix.as_str())),
            Scope::Key(key) => self.path(key.as_str()),
        }
    }

    /// Returns the error of a request that the store denies to this user.
    pub(crate) fn no_permission(&self, peer: &Peer, keys: &str, remedy: &str) -> Error {
        let user = match (&self.user, peer.client_certificate) {
            (Some((name, _)), _) => format!("user {name:?}"),
            (None, true) => "the user of the client certificate".to_owned(),
            (None, false) => "a client without a login".to_owned(),
        };
        let keys = match keys {
            "" => "the request".to_owned(),
            keys => format!("key {keys}"),
        };
        let cause = format!("{user} has no permission for {keys}");
        peer.refusal(ErrorKind::PermissionDenied, &cause, remedy)
    }

    /// Returns the error of a connection whose local address is unknown.
    pub(crate) fn no_local_address() -> Error {
        Error::new(
            ErrorKind::Unavailable,
            "cannot determine the address of this machine; set the host of the registration or the option advertise",
        )
    }
}

/// Returns `host:port` of an endpoint.
fn address_of(endpoint: &str) -> &str {
    endpoint
        .split_once("://")
        .map_or(endpoint, |(_, address)| address)
}

fn from_env(endpoints: Option<String>) -> Vec<String> {
    let listed = endpoints
        .filter(|e| !e.is_empty())
        .unwrap_or(DEFAULT_ENDPOINT.to_owned());
    listed.split(',').map(|e| e.trim().to_owned()).collect()
}

/// Normalizes an endpoint, which is `host`, `host:port` or, from the environment, `http://host:port`.
///
/// # Errors
///
/// Fails if the scheme of the endpoint contradicts the URL, so that no password is sent without TLS by mistake.
fn endpoint(host: &str, tls: bool) -> Result<String> {
    let scheme = if tls { "https" } else { "http" };
    let (own_scheme, bare) = match host.split_once("://") {
        Some((own_scheme, bare)) => (Some(own_scheme), bare),
        None => (None, host),
    };
    let bare = bare.trim_end_matches('/');
    if bare.contains('@') {
        // The text is not shown: it holds a password.
        return Err(Error::invalid(
            "an etcd endpoint contains a login; use the options user and password instead",
        ));
    }
    if let Some(other) = own_scheme.filter(|own| !own.eq_ignore_ascii_case(scheme)) {
        let remedy = match (other.to_ascii_lowercase().as_str(), tls) {
            ("https", false) => "write etcds:// (or etcd2s://) as the registry URL",
            ("http", true) => "write etcd:// (or etcd2://) as the registry URL",
            _ => "write http:// or https://, or leave it out",
        };
        // Text that is no address is not shown: it may be a login.
        let address = HostPort::parse_or_default(bare, DEFAULT_PORT);
        let address = address.map_or("…".to_owned(), |address| address.to_string());
        return Err(Error::invalid(format!(
            "etcd endpoint {other}://{address} contradicts the registry URL, which connects by {scheme}://; {remedy}"
        )));
    }
    let address = HostPort::parse_or_default(bare, DEFAULT_PORT)
        .map_err(|error| Error::invalid(format!("etcd endpoint: {error}")))?;
    Ok(format!("{scheme}://{address}"))
}

fn no_password(user: &str) -> Error {
    Error::invalid(format!(
        "user {user:?} has no password; write USER:PASSWORD@ in the URL or set the option password"
    ))
}

fn login(
    uri: &Url,
    user: Option<String>,
    secret: Option<String>,
) -> Result<Option<(String, String)>> {
    let (name, password) = uri.login();
    if name.is_some_and(|name| name.contains(':')) {
        // The text is not shown: it contains a password.
        return Err(Error::invalid(
            "the user name contains a colon; write the password in the option password",
        ));
    }
    // etcdctl accepts NAME:PASSWORD in one variable.
    let env = user.map(|u| match u.split_once(':') {
        Some((name, password)) => (name.to_owned(), Some(password.to_owned())),
        None => (u, secret.clone()),
    });
    match (name, password, env) {
        (Some(name), Some(password), _) => Ok(Some((name.to_owned(), password.to_owned()))),
        (Some(name), None, _) => match secret {
            Some(secret) => Ok(Some((name.to_owned(), secret))),
            None => Err(no_password(name)),
        },
        (None, None, Some((name, Some(password)))) => Ok(Some((name, password))),
        (None, None, Some((name, None))) => Err(no_password(&name)),
        (None, Some(password), Some((name, _))) => Ok(Some((name, password.to_owned()))),
        (None, Some(_), None) => Err(Error::invalid(
            "a password is given without a user; set the option user",
        )),
        (None, None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str, env: &[(&str, &str)]) -> Result<EtcdConfig> {
        let uri = Url::parse(url).unwrap();
        let find = |name: &str| {
            env.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.to_string())
        };
        EtcdConfig::with_env(&uri, uri.scheme() == "etcds", find)
    }

    fn refusal(url: &str) -> String {
        config(url, &[])
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn endpoints_come_from_the_url_then_the_environment_then_the_default() {
        let env = [("ETCDCTL_ENDPOINTS", "http://e:1,e:2")];
        let endpoints = |url: &str, env: &[(&str, &str)]| config(url, env).unwrap().shown();
        assert_eq!(
            endpoints("etcd://a,b:5,[::1]/p", &env),
            "a:2379, b:5, [::1]:2379"
        );
        assert_eq!(endpoints("etcd://", &env), "e:1, e:2");
        assert_eq!(endpoints("etcds://", &[]), "127.0.0.1:2379");
    }

    #[test]
    fn a_scheme_of_an_endpoint_that_contradicts_the_url_is_refused() {
        let listed = |url: &str, endpoints: &str| {
            let config = config(url, &[("ETCDCTL_ENDPOINTS", endpoints)]);
            config
                .map(|config| config.shown())
                .map_err(|e| e.to_string())
        };
        assert_eq!(listed("etcds://", "HTTPS://e:1"), Ok("e:1".to_owned()));
        assert_eq!(listed("etcd://", "http://e:1/"), Ok("e:1".to_owned()));
        for (url, endpoints, remedy) in [
            ("etcd://", "http://e:1,https://e:2", "write etcds://"),
            ("etcds://", "http://e:1", "write etcd://"),
            ("etcd://", "unix://e:1", "write http://"),
            ("etcd://", "https://root:secret", "write etcds://"),
        ] {
            let error = listed(url, endpoints).unwrap_err();
            assert!(error.contains(remedy), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_incomplete_login_is_refused() {
        let env = [("ETCDCTL_USER", "eve:x")];
        assert_eq!(
            config("etcd://u:p@h", &env).unwrap().user,
            Some(("u".into(), "p".into()))
        );
        assert_eq!(
            config("etcd://h", &env).unwrap().user,
            Some(("eve".into(), "x".into()))
        );
        assert!(refusal("etcd://u@h").contains("no password"));
        for url in [
            "etcd://h?user=root:hunter2",
            "etcd://root:hunter2",
            "etcd://root%3Ahunter2@h",
        ] {
            let refusal = refusal(url);
            assert!(
                !refusal.is_empty() && !refusal.contains("hunter2"),
                "{refusal}"
            );
        }
        assert!(refusal("etcd://h?password=p").contains("without a user"));
    }

    #[test]
    fn half_given_or_unused_tls_is_refused() {
        assert!(refusal("etcds://h?cert=a.pem").contains("belong together"));
        assert!(refusal("etcd://h?ca=a.pem").contains("etcds://"));
        assert!(refusal("etcd://h:99999").contains("1 to 65535"));
        assert!(refusal("etcd://h/a//b").contains("empty segment"));
        assert!(refusal("etcd://h?max_instances=all").contains("at least 1"));
    }
}
