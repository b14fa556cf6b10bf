//! What the library costs, beside the floor in the same run. See README.md beside it.

pub mod child;
pub mod clock;
pub mod cost;
pub mod etcd;
pub mod fake;
pub mod figure;
pub mod languages;
pub mod measured;
pub mod process;
pub mod proxy;
pub mod scenario;
pub mod told;
pub mod writer;
