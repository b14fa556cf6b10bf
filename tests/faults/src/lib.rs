//! The fault lab: a real store on machines of its own, broken in real ways under a write load, while
//! programs in every language watch it; and a judge that compares what they saw with what the store
//! held.
//!
//! `netns`, `etcd`, `proxy` and `cut` make and break the world; `load` writes and `truth` records what
//! was written; `watchers` runs the programs under test, which `record` reads; `check` judges, and
//! stands on `history` and `record` alone. `scenario` is the catalogue, `run` runs one.

pub mod check;
pub mod clock;
pub mod cut;
pub mod etcd;
pub mod gauge;
pub mod history;
pub mod lab;
pub mod load;
pub mod netns;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod record;
pub mod run;
pub mod sample;
pub mod scenario;
pub mod soak;
pub mod table;
pub mod truth;
pub mod wall;
pub mod watchers;
