//! The fault lab: a real store in network namespaces, broken in real ways under a write load, while programs in every
//! language watch it; and a checker that compares what they saw with what the store held.
//!
//! `netns`, `etcd`, `partition` and the proxy of the test kit build the environment and break it; `load` writes, and
//! `ground_truth` records what was written; `watchers` runs the programs under test, whose output `watcher_output` parses;
//! `check` finds violations and depends on `history` and `watcher_output` only. `scenario` is the catalogue, `run` runs one.

pub mod check;
pub mod contention;
pub mod etcd;
pub mod fake_clock;
pub mod ground_truth;
pub mod grpc_proxy;
pub mod history;
pub mod lab;
pub mod load;
pub mod netns;
pub mod partition;
pub mod process;
pub mod process_stats;
pub mod raw_client;
pub mod run;
pub mod scenario;
pub mod soak;
pub mod table;
pub mod watcher_output;
pub mod watchers;
