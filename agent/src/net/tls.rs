//! TLS of the TCP listener.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use discover_core::{Error, ErrorKind, Result};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

/// The files of the TLS configuration, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain of the agent.
    pub cert: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The authorities of client certificates. If `None`, clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// Reads the files and creates the acceptor of TLS connections.
///
/// # Errors
///
/// Fails if a file cannot be read or used; the message names the file.
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::caused_by(ErrorKind::Internal, "cannot set up TLS", e))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| unusable(path, e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| unusable(path, e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unusable(&files.key, e))?;
    let config = builder
        .with_single_cert(certificates(&files.cert)?, key)
        .map_err(|e| unusable(&files.cert, e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let failed = |e| unusable(path, e);
    let all = CertificateDer::pem_file_iter(path).map_err(failed)?;
    all.collect::<std::result::Result<_, _>>().map_err(failed)
}

fn unusable(path: &Path, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let text = format!("tls: cannot use {}", path.display());
    Error::caused_by(ErrorKind::InvalidArgument, text, cause)
}
