//! TLS to an instance that is looked at.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use discover_core::network_error_cause;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Trusts the authorities in this file, else those of the system. Files are read for each look, so that
/// a new one holds without a restart.
pub async fn over(
    stream: TcpStream,
    address: &str,
    trust: Option<&Path>,
) -> Result<TlsStream<TcpStream>, String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
    let config = match trust {
        Some(path) => {
            let failed = |e: &dyn std::fmt::Display| format!("ca {}: {e}", path.display());
            let certificates = CertificateDer::pem_file_iter(path).map_err(|e| failed(&e))?;
            let certificates: Result<Vec<_>, _> = certificates.collect();
            trusting(certificates.map_err(|e| failed(&e))?)?
        }
        None => system()?,
    };
    let connector = TlsConnector::from(config);
    connector
        .connect(name, stream)
        .await
        .map_err(|e| network_error_cause(&e))
}

/// Those of the system are many, and read once.
fn system() -> Result<Arc<ClientConfig>, String> {
    static SYSTEM: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let made = SYSTEM.get_or_init(|| trusting(rustls_native_certs::load_native_certs().certs));
    made.clone()
}

fn trusting(certificates: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    // Systems have some that nobody understands.
    roots.add_parsable_certificates(certificates);
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
