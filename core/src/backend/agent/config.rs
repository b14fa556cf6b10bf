//! Configuration of a connection to an agent, from the URL and the environment variable `DISCOVERD`.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::net::HostPort;
use crate::transport::http_client::ServerAddress;
use crate::transport::network_error::Peer;
use crate::transport::tls::{TlsFiles, TlsMaterial};
use crate::url::Url;

const DEFAULT_PORT: u16 = 1111;
const DEFAULT_ADDRESS: &str = "127.0.0.1:1111";

/// Address, token and TLS material of a connection to an agent. Contains a secret, so it has no `Debug`.
pub(crate) struct AgentConfig {
    pub(super) address: ServerAddress,
    pub(super) token: Option<String>,
    /// Present if the connection uses TLS.
    pub(super) tls: Option<TlsMaterial>,
    /// Maximum number of instances of a service.
    pub(super) max_instances: u64,
    client_certificate: bool,
}

impl AgentConfig {
    /// Reads the configuration from the URL, then from the environment variable `DISCOVERD`; the default
    /// address is 127.0.0.1:1111. Reads the token file and the TLS files.
    ///
    /// # Errors
    ///
    /// Fails if the address or an option is invalid, a file cannot be used, or a token would be sent to
    /// another host without TLS.
    pub(crate) fn read(uri: &Url, unix: bool) -> Result<AgentConfig> {
        AgentConfig::with_env(uri, unix, |name| std::env::var(name).ok())
    }

    fn with_env(
        uri: &Url,
        unix: bool,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<AgentConfig> {
        let address = match unix {
            true => ServerAddress::Unix(socket_path(uri)?),
            false => ServerAddress::Tcp(tcp_address(uri, env("DISCOVERD"))?),
        };
        let token = match (uri.option("token"), uri.option("token_file")) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid(
                    "options token and token_file exclude each other",
                ));
            }
            (Some(token), None) => Some(token.to_owned()),
            (None, Some(path)) => Some(read_token(path)?),
            (None, None) => None,
        };
        let files = tls_files(uri)?;
        let tls = files.as_ref().map(TlsFiles::load).transpose()?;
        if let (ServerAddress::Tcp(to), Some(_), None) = (&address, &token, &tls)
            && !to.is_loopback()
        {
            return Err(Error::invalid(format!(
                "the token would be sent to {to} unencrypted; set the option ca to a file for TLS, or use \
                 an agent on this host"
            )));
        }
        Ok(AgentConfig {
            address,
            token,
            tls,
            max_instances: uri.max_instances()?,
            client_certificate: files.is_some_and(|files| files.identity.is_some()),
        })
    }

    /// Returns the agent's name for messages.
    pub(super) fn peer(&self) -> Peer {
        let endpoint = match &self.address {
            ServerAddress::Tcp(address) => address.to_string(),
            ServerAddress::Unix(path) => path.display().to_string(),
        };
        Peer {
            product: "discoverd",
            endpoint,
            protocol: "the agent's HTTP API",
            tls: self.tls.is_some(),
            client_certificate: self.client_certificate,
            toggle_tls: match self.tls {
                Some(_) => "remove the option ca",
                None => "set the option ca to the file of its authority",
            },
            other_schemes: "for etcd write etcd://",
        }
    }
}

/// Returns the TLS files that the URL names; none without the option `ca`.
fn tls_files(uri: &Url) -> Result<Option<TlsFiles>> {
    if uri.option("ca").is_some() {
        return TlsFiles::from_url(uri, |_| None).map(Some);
    }
    let lone = ["cert", "key", "server_name"];
    match lone.into_iter().find(|name| uri.option(name).is_some()) {
        Some(name) => Err(Error::invalid(format!(
            "option {name} needs TLS; name the agent's certificate authority with ca=FILE"
        ))),
        None => Ok(None),
    }
}

fn socket_path(uri: &Url) -> Result<PathBuf> {
    if !uri.authority().is_empty() || uri.path().len() < 2 {
        return Err(Error::invalid(format!(
            "{uri}: the URL of a socket has three slashes and a path, as in discoverd+unix:///run/discoverd.sock"
        )));
    }
    Ok(PathBuf::from(uri.path()))
}

fn tcp_address(uri: &Url, env: Option<String>) -> Result<HostPort> {
    if !uri.path().trim_matches('/').is_empty() {
        return Err(Error::invalid(format!(
            "{uri}: the URL of an agent has no path; write discoverd://host:port"
        )));
    }
    let env = env.filter(|address| !address.is_empty());
    let given = match uri.authority() {
        "" => env.unwrap_or_else(|| DEFAULT_ADDRESS.to_owned()),
        authority => authority.to_owned(),
    };
    let bare = given.strip_prefix("tcp://").unwrap_or(&given);
    if bare.contains('@') {
        // The text is not shown: it contains a password.
        return Err(Error::invalid(
            "the agent's address contains a login; use the option token or token_file instead",
        ));
    }
    HostPort::parse_or_default(bare, DEFAULT_PORT)
        .map_err(|error| Error::invalid(format!("the agent's {error}")))
}

fn read_token(path: &str) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let text = format!("option token_file: cannot read {path:?}");
        Error::caused_by(ErrorKind::InvalidArgument, text, e)
    })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str, env: Option<&str>) -> Result<String> {
        let uri = Url::parse(url).unwrap();
        let unix = uri.scheme().ends_with("unix");
        let config = AgentConfig::with_env(&uri, unix, |_| env.map(str::to_owned))?;
        Ok(match config.address {
            ServerAddress::Tcp(address) => address.to_string(),
            ServerAddress::Unix(path) => path.display().to_string(),
        })
    }

    #[test]
    fn the_address_comes_from_the_url_then_the_environment_then_the_default() {
        assert_eq!(address("discoverd://h:5", Some("e:1")).unwrap(), "h:5");
        assert_eq!(address("discoverd://[::1]", None).unwrap(), "[::1]:1111");
        assert_eq!(address("discoverd://", Some("tcp://e:1")).unwrap(), "e:1");
        assert_eq!(address("discoverd://", None).unwrap(), DEFAULT_ADDRESS);
        assert_eq!(address("discoverd+unix:///a/b", None).unwrap(), "/a/b");
    }

    #[test]
    fn an_invalid_address_is_refused_with_the_expected_form() {
        let refused = |url: &str| address(url, None).unwrap_err().to_string();
        assert!(refused("discoverd+unix://a/b").contains("three slashes"));
        assert!(refused("discoverd+unix://").contains("three slashes"));
        assert!(refused("discoverd://h:1/path").contains("no path"));
        assert!(refused("discoverd://h:0").contains("host:port"));
        assert!(refused("discoverd://h?token=a&token_file=b").contains("exclude"));
        assert!(refused("discoverd://10.0.0.1:1111?token=a").contains("unencrypted"));
        assert!(address("discoverd://localhost?token=a", None).is_ok());
        assert!(address("discoverd://[::1]?token=a", None).is_ok());
        assert!(refused("discoverd://h?cert=a.pem").contains("ca=FILE"));
        let missing = refused("discoverd://h?ca=/no/such.pem");
        assert!(
            missing.contains("option ca: cannot read \"/no/such.pem\""),
            "{missing}"
        );
    }
}
