//! TLS in the form that etcd-client takes.

use etcd_client::{Certificate, Identity, TlsOptions};

use crate::error::Result;
use crate::store::etcd::config::EtcdConfig;
use crate::transport::tls::TlsMaterial;

impl EtcdConfig {
    /// Reads the TLS files. Returns `None` without TLS.
    ///
    /// # Errors
    ///
    /// Fails if a TLS file cannot be used.
    pub(crate) fn tls_options(&self) -> Result<Option<TlsOptions>> {
        let material = self.tls.as_ref().map(|files| files.load()).transpose()?;
        Ok(material.as_ref().map(tls_options))
    }
}

fn tls_options(material: &TlsMaterial) -> TlsOptions {
    let mut tls = TlsOptions::new();
    tls = match material.authorities_pem() {
        Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
        None => tls.with_native_roots(),
    };
    if let Some((cert, key)) = material.identity_pem() {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    if let Some(name) = material.fixed_server_name() {
        tls = tls.domain_name(name);
    }
    tls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::Url;

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_its_option() {
        let uri = Url::parse("etcds://h?ca=/no/such.pem").unwrap();
        let missing = EtcdConfig::read(&uri, true).unwrap();
        let error = missing.tls_options().err().unwrap();
        assert!(
            error.message().contains("option ca") && error.message().contains("/no/such.pem"),
            "{error}"
        );
    }
}
