//! A service and its hosts, as Scalingo's etcd-discovery knows them.

use discover_core::embed::scalingo::{Host, Service};
use discover_core::embed::{Attributes, Instance, ServiceName};
use napi_derive::napi;
use serde_json::json;

use crate::error::{Result, failure};

#[napi]
pub struct NativeHost(Host);

#[napi]
impl NativeHost {
    /// What an instance says as a host.
    #[napi(factory)]
    pub fn of(
        service: String,
        id: String,
        host: String,
        port: u16,
        #[napi(ts_arg_type = "Record<string, string>")] attributes: Attributes,
    ) -> Result<NativeHost> {
        let service = ServiceName::new(&service).map_err(failure)?;
        let instance = Instance::new(service, &id, &host, port, attributes, Vec::new(), 0);
        Ok(NativeHost(Host::from_instance(&instance)))
    }

    /// Its fields, as JSON.
    #[napi]
    pub fn fields(&self) -> String {
        let host = &self.0;
        json!({
            "serviceName": host.service_name,
            "uuid": host.uuid,
            "hostname": host.hostname,
            "privateHostname": host.private_hostname,
            "ports": host.ports,
            "privatePorts": host.private_ports,
            "user": host.user,
            "password": host.password,
            "shard": host.shard,
            "isPublic": host.is_public,
            "isCritical": host.is_critical,
        })
        .to_string()
    }

    #[napi]
    pub fn url(&self, scheme: String, path: String) -> Result<String> {
        self.0.url(&scheme, &path).map_err(failure)
    }

    #[napi]
    pub fn private_url(&self, scheme: String, path: String) -> Result<String> {
        self.0.private_url(&scheme, &path).map_err(failure)
    }
}

#[napi]
pub struct NativeService(Service);

impl NativeService {
    pub fn new(service: Service) -> NativeService {
        NativeService(service)
    }
}

#[napi]
impl NativeService {
    /// Its fields, as JSON.
    #[napi]
    pub fn fields(&self) -> String {
        json!({
            "name": self.0.name(),
            "isPublic": self.0.is_public(),
            "isCritical": self.0.is_critical(),
        })
        .to_string()
    }

    /// Oldest first.
    #[napi]
    pub fn all(&self) -> Vec<NativeHost> {
        self.0.all().iter().cloned().map(NativeHost).collect()
    }

    /// The place of any host among all, or null.
    #[napi]
    pub fn one(&self) -> Option<u32> {
        let one = self.0.one()?;
        let at = self.0.all().iter().position(|host| std::ptr::eq(host, one));
        u32::try_from(at?).ok()
    }

    #[napi]
    pub fn shard(&self, shard: String) -> NativeService {
        NativeService(self.0.shard(&shard))
    }

    #[napi]
    pub fn url(&self, scheme: String, path: String) -> Result<String> {
        self.0.url(&scheme, &path).map_err(failure)
    }
}
