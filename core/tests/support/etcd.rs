//! A real etcd, from the test kit.

#[allow(unused_imports, reason = "each test program uses a part")]
pub use discover_testkit::etcd::{Etcd, EtcdOptions, Tls, shared, shared_v2};
