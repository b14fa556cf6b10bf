//! What is measured. Each scenario gives its figures; they run one after the other, and in each the
//! floor and the languages run one after the other too, so that nothing measures its neighbour.

mod blast;
mod footprint;
mod latency;
mod local;
mod many;
mod reads;
mod register;
mod scale;
mod sync;

use futures_util::future::{BoxFuture, FutureExt};

use crate::figure::Figure;

/// A name, and what it does.
pub struct Scenario {
    /// As it is chosen on the command line.
    pub name: &'static str,
    /// Measures.
    pub run: fn() -> BoxFuture<'static, Result<Vec<Figure>, String>>,
}

/// All of them, in the order of the goals.
pub fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "latency",
            run: || latency::steady().boxed(),
        },
        Scenario {
            name: "burst",
            run: || latency::burst().boxed(),
        },
        Scenario {
            name: "blast",
            run: || blast::run().boxed(),
        },
        Scenario {
            name: "many",
            run: || many::run().boxed(),
        },
        Scenario {
            name: "sync",
            run: || sync::cold().boxed(),
        },
        Scenario {
            name: "register",
            run: || register::run().boxed(),
        },
        Scenario {
            name: "gap",
            run: || sync::gap().boxed(),
        },
        Scenario {
            name: "reads",
            run: || reads::run().boxed(),
        },
        Scenario {
            name: "footprint",
            run: || footprint::run().boxed(),
        },
        Scenario {
            name: "scale",
            run: || scale::run().boxed(),
        },
        Scenario {
            name: "local",
            run: || local::run().boxed(),
        },
    ]
}
