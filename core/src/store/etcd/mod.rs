//! Stores in etcd, over its v3 API (gRPC) and its v2 API (HTTP).

pub(crate) mod config;
#[cfg(feature = "etcd2")]
pub(crate) mod v2;
#[cfg(feature = "etcd")]
pub(crate) mod v3;
