//! How connections are made: TCP that notices a dead peer, and TLS.

use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{
    ConfigBuilderExt, FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder,
};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, ErrorKind, Result};
use crate::store::etcd::config::{EtcdConfig, TlsFiles, read};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// A connection that is silent for this long is asked by the kernel whether it lives, and again as often.
const KEEPALIVE: Duration = Duration::from_secs(3);
/// How long what was sent may stay unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(8);

/// Makes connections to the endpoints of the configuration, whose files are read now.
pub(super) fn connector(config: &EtcdConfig) -> Result<HttpsConnector<HttpConnector>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    // A long poll is silent for as long as nothing happens: only the kernel can tell that from death.
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE / 3));
    tcp.set_keepalive_retries(Some(3));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let tls = match &config.tls {
        Some(files) => files.rustls()?,
        None => versions()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth(),
    };
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
    // The scheme of each endpoint says which it is.
    let mut builder = builder.https_or_http();
    if let Some(name) = config.tls.as_ref().and_then(|f| f.server_name.clone()) {
        let name = ServerName::try_from(name)
            .map_err(|e| Error::caused_by(ErrorKind::InvalidArgument, "option server_name", e))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_http1().wrap_connector(tcp))
}

type Verifying = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn versions() -> Result<Verifying> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::caused_by(ErrorKind::Internal, "TLS", e))
}

impl TlsFiles {
    fn rustls(&self) -> Result<ClientConfig> {
        let trusting = match &self.ca {
            Some(path) => versions()?.with_root_certificates(authorities(path)?),
            None => versions()?.with_native_roots().map_err(|e| {
                Error::caused_by(ErrorKind::Resource, "the system's authorities", e)
            })?,
        };
        let Some((cert, key)) = &self.identity else {
            return Ok(trusting.with_no_client_auth());
        };
        let chain = certificates("cert", cert)?;
        let key = PrivateKeyDer::from_pem_slice(&read("key", key)?)
            .map_err(|e| unreadable("key", key, e))?;
        trusting
            .with_client_auth_cert(chain, key)
            .map_err(|e| Error::caused_by(ErrorKind::InvalidArgument, "options cert and key", e))
    }
}

fn authorities(path: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", path)? {
        roots
            .add(certificate)
            .map_err(|e| unreadable("ca", path, e))?;
    }
    Ok(roots)
}

fn certificates(option: &str, path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(option, path)?;
    let all = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|e| unreadable(option, path, e))?;
    if all.is_empty() {
        let text = format!("option {option}: {path:?} holds no certificate in PEM");
        return Err(Error::invalid(text));
    }
    Ok(all)
}

fn unreadable(
    option: &str,
    path: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let text = format!("option {option}: {path:?} is not what it should be");
    Error::caused_by(ErrorKind::InvalidArgument, text, error)
}
