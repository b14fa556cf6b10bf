//! A service and its hosts in the model of Scalingo's etcd-discovery.

use discover_core::embed::scalingo::{Host, Service};
use discover_core::embed::{Attributes, Instance, ServiceName};
use napi_derive::napi;
use serde_json::json;

use crate::error::{Result, failure};
use crate::set::NativeSet;

#[napi]
pub struct NativeHost(Host);

#[napi]
impl NativeHost {
    /// Converts an instance into a host.
    #[napi(factory)]
    pub fn from_instance(
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

    /// Returns the fields as JSON.
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

#[napi]
impl NativeService {
    /// Converts the instances online in a set into the hosts of a service.
    #[napi(factory)]
    pub fn from_set(set: &NativeSet) -> Result<NativeService> {
        let set = set.handle();
        let snapshot = set.snapshot().map_err(failure)?;
        Ok(NativeService(Service::from_snapshot(
            set.service(),
            &snapshot,
        )))
    }

    /// Returns the fields as JSON.
    #[napi]
    pub fn fields(&self) -> String {
        json!({
            "name": self.0.name(),
            "isPublic": self.0.is_public(),
            "isCritical": self.0.is_critical(),
        })
        .to_string()
    }

    /// Returns all hosts, oldest first.
    #[napi]
    pub fn all(&self) -> Vec<NativeHost> {
        self.0.all().iter().cloned().map(NativeHost).collect()
    }

    /// Returns the index in `all` of a random host that is available for calls, or null.
    #[napi]
    pub fn one(&self) -> Option<u32> {
        let chosen = self.0.one()?;
        let mut hosts = self.0.all().iter();
        let index = hosts.position(|host| std::ptr::eq(host, chosen));
        u32::try_from(index?).ok()
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
