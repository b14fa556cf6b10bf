//! The view that Scalingo's etcd-discovery has of a service: hosts with URLs, ports by scheme, shards and
//! credentials. [`Host::from_instance`] and [`Service::from_set`] work on instances of every layout.

mod host;
mod service;

pub use host::Host;
pub use service::Service;
