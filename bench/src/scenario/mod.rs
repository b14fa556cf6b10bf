//! The catalogue of scenarios. They run one after the other, and so do the programs in each, so that they do not affect each other.

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

use crate::measured::ScenarioResult;

/// A scenario.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// Measures it.
    pub run: fn() -> LocalBoxFuture<'static, Result<ScenarioResult, String>>,
}

/// Returns all scenarios, in the order of the goals.
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
