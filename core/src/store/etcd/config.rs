//! What a URL and etcd's own environment say about where etcd is and how to talk to it.

use std::net::IpAddr;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Key, Prefix};
use crate::net::HostPort;
use crate::rate_limited_log::LogRateLimit;
use crate::url::Url;

/// How many instances a service may have unless something else is said. What lies under a service by
/// mistake must not take all memory.
const MOST: u64 = 250_000;

/// See the module. Holds secrets, so it has no `Debug`.
pub(crate) struct EtcdConfig {
    /// `http://host:port`
    pub(crate) endpoints: Vec<String>,
    /// Put before every key; empty without one.
    pub(crate) root: String,
    /// How many keys a list may have.
    pub(crate) most: u64,
    pub(crate) user: Option<(String, String)>,
    pub(crate) tls: Option<TlsFiles>,
    /// About keys that are none.
    pub(crate) invalid_key_log: LogRateLimit,
}

/// The files of TLS, in PEM.
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<String>,
    pub(crate) identity: Option<(String, String)>,
    pub(crate) server_name: Option<String>,
}

impl EtcdConfig {
    /// The URL first, then etcdctl's environment, then 127.0.0.1:2379.
    pub(crate) fn read(uri: &Url, tls: bool) -> Result<EtcdConfig> {
        EtcdConfig::with_env(uri, tls, |name| std::env::var(name).ok())
    }

    fn with_env(uri: &Url, tls: bool, env: impl Fn(&str) -> Option<String>) -> Result<EtcdConfig> {
        let option = |name: &str, variable: &str| {
            uri.option(name)
                .map(str::to_owned)
                .or_else(|| env(variable))
                .filter(|v| !v.is_empty())
        };
        let files = TlsFiles {
            ca: option("ca", "ETCDCTL_CACERT"),
            identity: pair(option("cert", "ETCDCTL_CERT"), option("key", "ETCDCTL_KEY"))?,
            server_name: uri.option("server_name").map(str::to_owned),
        };
        let asked = ["ca", "cert", "key", "server_name"]
            .into_iter()
            .find(|o| uri.option(o).is_some());
        if let (false, Some(option)) = (tls, asked) {
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
            most: most(uri)?,
            user: login(uri, env("ETCDCTL_USER"), env("ETCDCTL_PASSWORD"))?,
            tls: tls.then_some(files),
            invalid_key_log: LogRateLimit::default(),
        })
    }

    /// Our key as etcd has it.
    pub(crate) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    /// The key below our root. One that is no path cannot be ours.
    pub(crate) fn key(&self, key: &[u8]) -> Option<Key> {
        let path = std::str::from_utf8(key).ok();
        let ours = path
            .and_then(|p| p.strip_prefix(&self.root))
            .and_then(|p| Key::new(p).ok());
        if ours.is_none()
            && let Some(suppressed) = self.invalid_key_log.permit()
        {
            let key = String::from_utf8_lossy(&key[..key.len().min(200)]);
            tracing::warn!(backend = "etcd", %key, suppressed, "skipping key that is not a path");
        }
        ours
    }

    /// Whether there is a login, by name or by certificate.
    pub(crate) fn proves_who_we_are(&self) -> bool {
        self.user.is_some()
            || self
                .tls
                .as_ref()
                .is_some_and(|files| files.identity.is_some())
    }

    /// The error of who finds so many keys, or so many at least.
    pub(crate) fn too_many(&self, keys: impl std::fmt::Display) -> Error {
        let most = self.most;
        Error::invalid(format!(
            "there are {keys} keys where at most {most} instances are expected; raise max_instances if \
             they are meant"
        ))
    }

    /// The endpoints, for messages.
    pub(crate) fn shown(&self) -> String {
        self.endpoints.join(", ")
    }

    /// The address this machine has on its way to etcd. Connecting a datagram socket sends nothing.
    pub(crate) async fn local_address(&self) -> Result<IpAddr> {
        let look = async |endpoint: &str| {
            let host = endpoint
                .split_once("://")
                .map_or(endpoint, |(_, host)| host);
            let target = tokio::net::lookup_host(host).await?.next();
            let target = target.ok_or_else(|| std::io::Error::other("the name has no address"))?;
            let any: IpAddr = if target.is_ipv4() {
                [0; 4].into()
            } else {
                [0u8; 16].into()
            };
            let socket = tokio::net::UdpSocket::bind((any, 0)).await?;
            socket.connect(target).await?;
            socket.local_addr()
        };
        let mut last = None;
        for endpoint in &self.endpoints {
            match look(endpoint).await {
                Ok(address) => return Ok(address.ip()),
                Err(error) => last = Some(error),
            }
        }
        let cause = last.unwrap_or_else(|| std::io::Error::other("no endpoint"));
        Err(Error::caused_by(
            ErrorKind::Unavailable,
            "this machine's own address is not known; give a host, or the option advertise=HOST",
            cause,
        ))
    }
}

/// Reads the file of an option.
pub(crate) fn read(option: &str, path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| {
        Error::caused_by(
            ErrorKind::InvalidArgument,
            format!("option {option}: cannot read {path:?}"),
            e,
        )
    })
}

fn pair(cert: Option<String>, key: Option<String>) -> Result<Option<(String, String)>> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (None, None) => Ok(None),
        _ => Err(Error::invalid(
            "options cert and key belong together; one of them is missing",
        )),
    }
}

fn most(uri: &Url) -> Result<u64> {
    let Some(written) = uri.option("max_instances") else {
        return Ok(MOST);
    };
    let number = written.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| {
        Error::invalid(format!(
            "option max_instances is {written:?}; it must be a number from 1 on"
        ))
    })
}

fn from_env(endpoints: Option<String>) -> Vec<String> {
    let listed = endpoints
        .filter(|e| !e.is_empty())
        .unwrap_or("127.0.0.1:2379".to_owned());
    listed.split(',').map(|e| e.trim().to_owned()).collect()
}

/// `host`, `host:port` or, from the environment, `http://host:port`.
fn endpoint(host: &str, tls: bool) -> Result<String> {
    let scheme = if tls { "https" } else { "http" };
    let bare = host
        .split_once("://")
        .map_or(host, |(_, bare)| bare)
        .trim_end_matches('/');
    if bare.contains('@') {
        // The text is not shown: it holds a password.
        return Err(Error::invalid(
            "an etcd endpoint contains a login; use the options user and password instead",
        ));
    }
    let address = HostPort::parse_or_default(bare, 2379)
        .map_err(|error| Error::invalid(format!("etcd endpoint: {error}")))?;
    Ok(format!("{scheme}://{address}"))
}

fn login(
    uri: &Url,
    user: Option<String>,
    secret: Option<String>,
) -> Result<Option<(String, String)>> {
    let (name, password) = uri.login();
    // etcdctl accepts NAME:PASSWORD in one variable.
    let env = user.map(|u| match u.split_once(':') {
        Some((name, password)) => (name.to_owned(), Some(password.to_owned())),
        None => (u, secret.clone()),
    });
    match (name, password, env) {
        (Some(name), Some(password), _) => Ok(Some((name.to_owned(), password.to_owned()))),
        (Some(name), None, _) => match secret {
            Some(secret) => Ok(Some((name.to_owned(), secret))),
            None => Err(Error::invalid(format!("user {name:?} has no password"))),
        },
        (None, None, Some((name, Some(password)))) => Ok(Some((name, password))),
        (None, None, Some((name, None))) => {
            Err(Error::invalid(format!("user {name:?} has no password")))
        }
        (None, Some(password), Some((name, _))) => Ok(Some((name, password.to_owned()))),
        (None, Some(_), None) => Err(Error::invalid("a password is given without a user")),
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
            "http://a:2379, http://b:5, http://[::1]:2379"
        );
        assert_eq!(endpoints("etcd://", &env), "http://e:1, http://e:2");
        assert_eq!(endpoints("etcds://", &[]), "https://127.0.0.1:2379");
    }

    #[test]
    fn a_login_is_whole_or_refused() {
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
        assert!(refusal("etcd://h?password=p").contains("without a user"));
    }

    #[test]
    fn half_given_or_unused_tls_is_refused() {
        assert!(refusal("etcds://h?cert=a.pem").contains("belong together"));
        assert!(refusal("etcd://h?ca=a.pem").contains("etcds://"));
        assert!(refusal("etcd://h:99999").contains("1 to 65535"));
        assert!(refusal("etcd://h/a//b").contains("empty segment"));
        assert!(refusal("etcd://h?max_instances=all").contains("from 1 on"));
    }
}
