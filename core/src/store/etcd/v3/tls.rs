//! Login and TLS, as etcd-client takes them.

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use crate::error::Result;
use crate::store::etcd::config::{EtcdConfig, TlsFiles, read};

impl EtcdConfig {
    /// Adds login and TLS, whose files are read now.
    pub(crate) fn apply(&self, mut options: ConnectOptions) -> Result<ConnectOptions> {
        if let Some((user, password)) = &self.user {
            options = options.with_user(user, password);
        }
        if let Some(files) = &self.tls {
            options = options.with_tls(files.load()?);
        }
        Ok(options)
    }
}

impl TlsFiles {
    fn load(&self) -> Result<TlsOptions> {
        let mut tls = TlsOptions::new();
        tls = match &self.ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(read("ca", ca)?)),
            None => tls.with_native_roots(),
        };
        if let Some((cert, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(read("cert", cert)?, read("key", key)?));
        }
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        Ok(tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::Url;

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_its_option() {
        let uri = Url::parse("etcds://h?ca=/no/such.pem").unwrap();
        let missing = EtcdConfig::read(&uri, true).unwrap();
        let error = missing
            .apply(ConnectOptions::new())
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("option ca") && error.contains("/no/such.pem"),
            "{error}"
        );
    }
}
