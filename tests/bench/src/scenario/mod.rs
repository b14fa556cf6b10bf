//! What is measured. Each scenario gives its figures; they run one after the other, and in each the
//! floor and the languages run one after the other too, so that nothing measures its neighbour.

mod blast;
mod footprint;
mod gap;
mod latency;
mod local;
mod many;
mod reads;
mod register;
mod scale;
mod sync;

use futures_util::future::{FutureExt, LocalBoxFuture};

use crate::measured::Told;

/// A name, and what it does.
pub struct Scenario {
    /// As it is chosen on the command line.
    pub name: &'static str,
    /// Measures.
    pub run: fn() -> LocalBoxFuture<'static, Result<Told, String>>,
}

/// All of them, in the order of the goals.
pub fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "latency",
            run: || latency::steady().boxed_local(),
        },
        Scenario {
            name: "burst",
            run: || latency::burst().boxed_local(),
        },
        Scenario {
            name: "blast",
            run: || blast::run().boxed_local(),
        },
        Scenario {
            name: "many",
            run: || many::run().boxed_local(),
        },
        Scenario {
            name: "sync",
            run: || sync::run().boxed_local(),
        },
        Scenario {
            name: "register",
            run: || register::run().boxed_local(),
        },
        Scenario {
            name: "gap",
            run: || gap::run().boxed_local(),
        },
        Scenario {
            name: "reads",
            run: || reads::run().boxed_local(),
        },
        Scenario {
            name: "footprint",
            run: || footprint::run().boxed_local(),
        },
        Scenario {
            name: "scale",
            run: || scale::run().boxed_local(),
        },
        Scenario {
            name: "local",
            run: || local::run().boxed_local(),
        },
    ]
}
