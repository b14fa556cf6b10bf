//! TLS connections of health checks.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use discover_core::network_error_cause;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Connects over TLS. Trusts the certificate authorities in the file `trust`, or else those of the system.
/// The file is read for each connection, so that changes apply without a restart.
pub async fn connect(
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
            client_config(certificates.map_err(|e| failed(&e))?)?
        }
        None => system_config()?,
    };
    let connector = TlsConnector::from(config);
    connector
        .connect(name, stream)
        .await
        .map_err(|e| network_error_cause(&e))
}

/// The authorities of the system, which are many, are read once.
fn system_config() -> Result<Arc<ClientConfig>, String> {
    static SYSTEM: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let config =
        SYSTEM.get_or_init(|| client_config(rustls_native_certs::load_native_certs().certs));
    config.clone()
}

fn client_config(certificates: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    // The system may have certificates that cannot be parsed; they are skipped.
    roots.add_parsable_certificates(certificates);
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
