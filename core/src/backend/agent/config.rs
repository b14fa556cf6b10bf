//! What a URL and the environment say about where the agent is.

use std::path::PathBuf;

use crate::backend::agent::tls::Tls;
use crate::error::{Error, ErrorKind, Result};
use crate::net::HostPort;
use crate::url::Url;

/// Where agents listen unless they are told otherwise.
const DEFAULT: &str = "127.0.0.1:1111";

/// See the module. Holds a secret, so it has no `Debug`.
pub(crate) struct Config {
    pub(super) address: Address,
    pub(super) token: Option<String>,
    pub(super) tls: Option<Tls>,
}

/// Where the agent listens.
pub(super) enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl Config {
    /// The URL first, then `DISCOVERD`, then 127.0.0.1:1111.
    pub(crate) fn read(uri: &Url, unix: bool) -> Result<Config> {
        Config::with_env(uri, unix, |name| std::env::var(name).ok())
    }

    fn with_env(uri: &Url, unix: bool, env: impl Fn(&str) -> Option<String>) -> Result<Config> {
        let address = if unix {
            Address::Unix(socket(uri)?)
        } else {
            Address::Tcp(host(uri, env("DISCOVERD"))?)
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
        let tls = match &address {
            Address::Tcp(address) => Tls::read(uri, address)?,
            Address::Unix(_) => None,
        };
        if let (Address::Tcp(to), Some(_), None) = (&address, &token, &tls)
            && !to.parse::<HostPort>()?.is_loopback()
        {
            return Err(Error::invalid(format!(
                "a token would go to {to} in the clear; give ca=FILE for TLS, or use the agent of this host"
            )));
        }
        Ok(Config {
            address,
            token,
            tls,
        })
    }
}

fn socket(uri: &Url) -> Result<PathBuf> {
    if !uri.authority().is_empty() || uri.path().len() < 2 {
        return Err(Error::invalid(format!(
            "{uri}: a socket has three slashes and a path, as in discoverd+unix:///run/discoverd.sock"
        )));
    }
    Ok(PathBuf::from(uri.path()))
}

fn host(uri: &Url, env: Option<String>) -> Result<String> {
    if !uri.path().trim_matches('/').is_empty() {
        return Err(Error::invalid(format!(
            "{uri}: an agent has no path; write discoverd://host:port"
        )));
    }
    let env = env.filter(|address| !address.is_empty());
    let given = match uri.authority() {
        "" => env.unwrap_or_else(|| DEFAULT.to_owned()),
        authority => authority.to_owned(),
    };
    let bare = given.strip_prefix("tcp://").unwrap_or(&given);
    Ok(HostPort::parse_or_default(bare, 1111)?.to_string())
}

fn read_token(path: &str) -> Result<String> {
    let read = std::fs::read_to_string(path).map_err(|e| {
        let text = format!("option token_file: cannot read {path:?}");
        Error::caused_by(ErrorKind::InvalidArgument, text, e)
    })?;
    Ok(read.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str, env: Option<&str>) -> Result<String> {
        let uri = Url::parse(url).unwrap();
        let unix = uri.scheme().ends_with("unix");
        let config = Config::with_env(&uri, unix, |_| env.map(str::to_owned))?;
        Ok(match config.address {
            Address::Tcp(address) => address,
            Address::Unix(path) => path.display().to_string(),
        })
    }

    #[test]
    fn the_address_comes_from_the_url_then_the_environment_then_the_default() {
        assert_eq!(address("discoverd://h:5", Some("e:1")).unwrap(), "h:5");
        assert_eq!(address("discoverd://[::1]", None).unwrap(), "[::1]:1111");
        assert_eq!(address("discoverd://", Some("tcp://e:1")).unwrap(), "e:1");
        assert_eq!(address("discoverd://", None).unwrap(), DEFAULT);
        assert_eq!(address("discoverd+unix:///a/b", None).unwrap(), "/a/b");
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_would_be_right() {
        let refused = |url: &str| address(url, None).unwrap_err().to_string();
        assert!(refused("discoverd+unix://a/b").contains("three slashes"));
        assert!(refused("discoverd+unix://").contains("three slashes"));
        assert!(refused("discoverd://h:1/path").contains("no path"));
        assert!(refused("discoverd://h:0").contains("host:port"));
        assert!(refused("discoverd://h?token=a&token_file=b").contains("exclude"));
        assert!(refused("discoverd://10.0.0.1:1111?token=a").contains("in the clear"));
        assert!(address("discoverd://localhost?token=a", None).is_ok());
        assert!(address("discoverd://[::1]?token=a", None).is_ok());
        assert!(refused("discoverd://h?cert=a.pem").contains("ca=FILE"));
        let missing = refused("discoverd://h?ca=/no/such.pem");
        assert!(
            missing.contains("option ca: cannot use \"/no/such.pem\""),
            "{missing}"
        );
    }
}
