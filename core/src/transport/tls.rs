//! TLS material of a client: certificate authorities, a client certificate with its key, and a server name.
//!
//! Files are in PEM. [`TlsFiles::load`] reads and checks all of them at once, so that every backend reports
//! a bad file with the same message, which names the option and the file.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, ErrorKind, Result};
use crate::url::Url;

/// The options of a URL that configure TLS.
pub(crate) const TLS_OPTIONS: [&str; 4] = ["ca", "cert", "key", "server_name"];

/// The TLS options of a URL. No file has been read yet.
#[derive(Default)]
pub(crate) struct TlsFiles {
    /// Path of the certificate authorities. Without it, those of the system apply.
    pub(crate) ca: Option<String>,
    /// Paths of the client certificate and of its private key.
    pub(crate) identity: Option<(String, String)>,
    /// Name that the server's certificate must have, instead of the host of the URL.
    pub(crate) server_name: Option<String>,
}

impl TlsFiles {
    /// Takes the files from the options of a URL. `fallback` gives the value of an option that the URL does
    /// not contain.
    ///
    /// # Errors
    ///
    /// Fails if only one of `cert` and `key` is given.
    pub(crate) fn from_url(
        url: &Url,
        fallback: impl Fn(&str) -> Option<String>,
    ) -> Result<TlsFiles> {
        let option = |name: &str| {
            let value = url.option(name).map(str::to_owned);
            value.or_else(|| fallback(name)).filter(|v| !v.is_empty())
        };
        let identity = match (option("cert"), option("key")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(incomplete_identity("key")),
            (None, Some(_)) => return Err(incomplete_identity("cert")),
        };
        Ok(TlsFiles {
            ca: option("ca"),
            identity,
            server_name: option("server_name"),
        })
    }

    /// Reads and checks the files.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::InvalidArgument`] if a file cannot be read, is not what its option expects, or
    /// the private key does not belong to the certificate. The message names the option and the file.
    pub(crate) fn load(&self) -> Result<TlsMaterial> {
        let authorities = match &self.ca {
            Some(path) => Some(load_authorities(path)?),
            None => None,
        };
        let identity = match &self.identity {
            Some((cert, key)) => Some(ClientIdentity::load(cert, key)?),
            None => None,
        };
        let server_name = match &self.server_name {
            Some(name) => Some(parse_server_name("option server_name", name)?),
            None => None,
        };
        let material = TlsMaterial {
            authorities,
            identity,
            server_name,
        };
        if let Some((cert, key)) = &self.identity {
            material.check_identity(cert, key)?;
        }
        Ok(material)
    }
}

fn incomplete_identity(missing: &str) -> Error {
    Error::invalid(format!(
        "options cert and key belong together; {missing} is missing"
    ))
}

/// Checked TLS material: the contents of [`TlsFiles`].
pub(crate) struct TlsMaterial {
    authorities: Option<(Vec<u8>, RootCertStore)>,
    identity: Option<ClientIdentity>,
    server_name: Option<ServerName<'static>>,
}

struct ClientIdentity {
    cert_pem: Vec<u8>,
    key_pem: Vec<u8>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ClientIdentity {
    fn load(cert: &str, key: &str) -> Result<ClientIdentity> {
        let (cert_pem, chain) = load_certificates("cert", cert)?;
        let key_pem = read_file("key", key)?;
        let parsed = PrivateKeyDer::from_pem_slice(&key_pem);
        let parsed = parsed.map_err(|error| invalid_pem("key", key, "private key", error))?;
        Ok(ClientIdentity {
            cert_pem,
            key_pem,
            chain,
            key: parsed,
        })
    }
}

impl TlsMaterial {
    /// Returns the authorities as PEM; `None` stands for those of the system.
    pub(crate) fn authorities_pem(&self) -> Option<&[u8]> {
        self.authorities.as_ref().map(|(pem, _)| &pem[..])
    }

    /// Returns the client certificate and its private key as PEM.
    pub(crate) fn identity_pem(&self) -> Option<(&[u8], &[u8])> {
        let identity = self.identity.as_ref();
        identity.map(|identity| (&identity.cert_pem[..], &identity.key_pem[..]))
    }

    /// Returns the name that the option `server_name` sets.
    pub(crate) fn fixed_server_name(&self) -> Option<String> {
        self.server_name
            .as_ref()
            .map(|name| name.to_str().into_owned())
    }

    /// Returns the name that the server's certificate must have when the host of the endpoint is `host`.
    ///
    /// # Errors
    ///
    /// Fails if the host is neither a DNS name nor an IP address.
    pub(crate) fn server_name(&self, host: &str) -> Result<ServerName<'static>> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => parse_server_name("host", host),
        }
    }

    /// Builds the configuration of a TLS client. Without authorities of its own, it loads those of the system.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`] if the system has no usable authorities.
    pub(crate) fn client_config(&self) -> Result<ClientConfig> {
        let authorities = match &self.authorities {
            Some((_, authorities)) => authorities.clone(),
            None => system_authorities()?,
        };
        self.config_with(authorities)
            .map_err(|error| Error::caused_by(ErrorKind::Internal, "cannot set up TLS", error))
    }

    fn config_with(
        &self,
        authorities: RootCertStore,
    ) -> std::result::Result<ClientConfig, rustls::Error> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authorities);
        match &self.identity {
            Some(identity) => {
                config.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            }
            None => Ok(config.with_no_client_auth()),
        }
    }

    /// Checks that the private key is usable and belongs to the certificate.
    fn check_identity(&self, cert: &str, key: &str) -> Result<()> {
        let checked = self.config_with(RootCertStore::empty());
        let Err(error) = checked else { return Ok(()) };
        Err(match error {
            rustls::Error::InconsistentKeys(_) => Error::invalid(format!(
                "options cert and key: the private key {key:?} does not belong to the certificate {cert:?}"
            )),
            error => Error::caused_by(
                ErrorKind::InvalidArgument,
                format!("options cert and key: cannot use {cert:?} with {key:?}"),
                error,
            ),
        })
    }
}

fn parse_server_name(what: &str, name: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        Error::invalid(format!(
            "{what}: {name:?} is neither a DNS name nor an IP address, so no certificate can have it"
        ))
    })
}

fn system_authorities() -> Result<RootCertStore> {
    let mut authorities = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    let (added, _) = authorities.add_parsable_certificates(loaded.certs);
    if added > 0 {
        return Ok(authorities);
    }
    let text = "this system has no certificate authorities; set the option ca to a file";
    Err(match loaded.errors.into_iter().next() {
        Some(error) => Error::caused_by(ErrorKind::Resource, text, error),
        None => Error::new(ErrorKind::Resource, text),
    })
}

fn load_authorities(path: &str) -> Result<(Vec<u8>, RootCertStore)> {
    let (pem, certificates) = load_certificates("ca", path)?;
    let mut authorities = RootCertStore::empty();
    for certificate in certificates {
        authorities.add(certificate).map_err(|error| {
            let text = format!("option ca: {path:?} contains a certificate that cannot be parsed");
            Error::caused_by(ErrorKind::InvalidArgument, text, error)
        })?;
    }
    Ok((pem, authorities))
}

fn load_certificates(option: &str, path: &str) -> Result<(Vec<u8>, Vec<CertificateDer<'static>>)> {
    let pem = read_file(option, path)?;
    let parsed: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = parsed.map_err(|error| invalid_pem(option, path, "certificate", error))?;
    match certificates.is_empty() {
        true => Err(invalid_pem(
            option,
            path,
            "certificate",
            pem::Error::NoItemsFound,
        )),
        false => Ok((pem, certificates)),
    }
}

fn read_file(option: &str, path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let text = format!("option {option}: cannot read {path:?}");
        Error::caused_by(ErrorKind::InvalidArgument, text, error)
    })
}

fn invalid_pem(option: &str, path: &str, expected: &str, error: pem::Error) -> Error {
    match error {
        pem::Error::NoItemsFound => Error::invalid(format!(
            "option {option}: {path:?} contains no {expected} in PEM format"
        )),
        _ => Error::invalid(format!("option {option}: {path:?} is not valid PEM")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn load(options: &str) -> String {
        let url = Url::parse(&format!("etcds://h?{options}")).unwrap();
        let loaded = TlsFiles::from_url(&url, |_| None).and_then(|files| files.load());
        loaded.err().map(|error| error.report()).unwrap_or_default()
    }

    fn file(folder: &Path, text: &str) -> String {
        let path = folder.join(format!("{:x}", fastrand::u64(..)));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    #[test]
    fn a_bad_file_is_named_with_its_option_and_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let text = file(folder.path(), "not PEM");
        let cut = file(folder.path(), "-----BEGIN CERTIFICATE-----\nAAAA\n");
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let garbage = file(folder.path(), garbage);
        let missing = load("ca=/no/such.pem");
        assert!(
            missing.starts_with("option ca: cannot read \"/no/such.pem\": No such file"),
            "{missing}"
        );
        let expected = format!("option ca: {text:?} contains no certificate in PEM format");
        assert_eq!(load(&format!("ca={text}")), expected);
        assert_eq!(
            load(&format!("ca={cut}")),
            format!("option ca: {cut:?} is not valid PEM")
        );
        let unparsable = load(&format!("ca={garbage}"));
        assert!(
            unparsable.contains("a certificate that cannot be parsed"),
            "{unparsable}"
        );
        let no_key = load(&format!("cert={garbage}&key={garbage}"));
        assert!(
            no_key.contains("option key") && no_key.contains("no private key"),
            "{no_key}"
        );
        assert!(load("cert=a").contains("key is missing"));
        assert!(load("server_name=a%20b").contains("option server_name: \"a b\""));
    }
}
