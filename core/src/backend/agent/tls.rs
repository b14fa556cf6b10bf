//! TLS to an agent on another host: the authority is given, the system's are not asked.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::error::{Error, ErrorKind, Result};
use crate::url::Url;

/// See the module.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// By the options `ca`, `cert`, `key` and `server_name`; none where there is no `ca`. The files are
    /// read now.
    pub(super) fn read(uri: &Url, address: &str) -> Result<Option<Tls>> {
        let Some(ca) = uri.option("ca") else {
            let lone = ["cert", "key", "server_name"];
            return match lone.into_iter().find(|name| uri.option(name).is_some()) {
                Some(name) => Err(Error::invalid(format!(
                    "option {name} needs TLS; name the agent's authority with ca=FILE"
                ))),
                None => Ok(None),
            };
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca", ca)? {
            roots.add(certificate).map_err(|e| unusable("ca", ca, e))?;
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::caused_by(ErrorKind::Internal, "TLS cannot be set up", e))?
            .with_root_certificates(roots);
        let config = match (uri.option("cert"), uri.option("key")) {
            (None, None) => config.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let read =
                    PrivateKeyDer::from_pem_file(key).map_err(|e| unusable("key", key, e))?;
                config
                    .with_client_auth_cert(certificates("cert", cert)?, read)
                    .map_err(|e| unusable("cert", cert, e))?
            }
            _ => {
                let text = "options cert and key belong together; one of them is missing";
                return Err(Error::invalid(text));
            }
        };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = uri.option("server_name").unwrap_or(host);
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| {
            Error::invalid(format!("{host:?} is no name that a certificate can have"))
        })?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Some(Tls { connector, name }))
    }

    pub(super) async fn over(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

fn certificates(option: &str, path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let failed = |e| unusable(option, path, e);
    let all = CertificateDer::pem_file_iter(path).map_err(failed)?;
    all.collect::<std::result::Result<_, _>>().map_err(failed)
}

fn unusable(
    option: &str,
    path: &str,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let text = format!("option {option}: cannot use {path:?}");
    Error::caused_by(ErrorKind::InvalidArgument, text, cause)
}
