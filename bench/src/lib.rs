//! Benchmarks of the library beside the floor of the same run; see README.md.

pub mod child;
pub mod cost;
pub mod etcd;
pub mod fake_etcd;
pub mod figure;
pub mod languages;
pub mod measured;
pub mod process;
pub mod protocol;
pub mod scenario;
pub mod writer;
