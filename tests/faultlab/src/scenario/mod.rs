//! The catalogue of faults. Each scenario is named after what happens, and has its row in the list of faults.

pub mod login;

mod data;
mod endpoints;
mod host;
mod members;
mod network;
mod streams;

use crate::lab::{Evidence, Lab, Setup};

/// One fault, and the guarantees that apply to it.
#[derive(Clone)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Its row.
    pub row: &'static str,
    /// The lab that it needs.
    pub setup: Setup,
    /// The guarantees.
    pub guarantees: Guarantees,
    /// Breaks the lab and ends the fault.
    pub inject: fn(&Lab) -> Result<Evidence, String>,
}

/// Guarantees of a scenario in addition to the general ones.
#[derive(Clone, Debug)]
pub struct Guarantees {
    /// If the store stays reachable: how much later than the bound, in seconds, a change may be seen.
    pub behind: Option<f64>,
    /// How long, in seconds, an instance lost in a mass expiry may still be shown.
    pub retained: Option<f64>,
    /// Living instances that the store lost all at once must still be shown.
    pub protected: bool,
    /// A living process must be registered during the fault too.
    pub always_registered: bool,
    /// Minimum number of revisions during the fault.
    pub writes: usize,
}

impl Scenario {
    fn new(
        name: &'static str,
        row: &'static str,
        inject: fn(&Lab) -> Result<Evidence, String>,
    ) -> Scenario {
        let guarantees = Guarantees {
            behind: None,
            retained: None,
            protected: false,
            always_registered: false,
            writes: 20,
        };
        Scenario {
            name,
            row,
            setup: Setup::default(),
            guarantees,
            inject,
        }
    }

    /// The store stays reachable; an election may take `slack` seconds.
    fn reachable(mut self, slack: f64) -> Scenario {
        self.guarantees.behind = Some(slack);
        self
    }

    /// Instances lost in a mass expiry may be shown for this long.
    fn retained(mut self, seconds: f64) -> Scenario {
        self.guarantees.retained = Some(seconds);
        self
    }

    /// Living instances are shown although the store lost all of them at once.
    fn protected(mut self) -> Scenario {
        self.guarantees.protected = true;
        self
    }

    /// The fault excuses no missing registration.
    fn always_registered(mut self) -> Scenario {
        self.guarantees.always_registered = true;
        self
    }

    /// At least this many revisions are committed during the fault.
    fn writes(mut self, writes: usize) -> Scenario {
        self.guarantees.writes = writes;
        self
    }

    fn proxied(mut self) -> Scenario {
        self.setup.proxied = true;
        self
    }

    fn named(mut self) -> Scenario {
        self.setup.named = true;
        self
    }

    fn clocked(mut self) -> Scenario {
        self.setup.clocked = true;
        self
    }

    fn login(mut self) -> Scenario {
        self.setup.login = true;
        self
    }

    fn grpc_proxied(mut self) -> Scenario {
        self.setup.grpc_proxied = true;
        self
    }

    fn dead_endpoints(mut self) -> Scenario {
        self.setup.dead_endpoints = true;
        self
    }

    fn ttl(mut self, seconds: f64) -> Scenario {
        self.setup.ttl = seconds;
        self
    }

    fn arguments(mut self, arguments: &[&str]) -> Scenario {
        self.setup.arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        self
    }

    /// The same scenario on another number of members.
    pub fn on(mut self, members: usize) -> Scenario {
        self.setup.members = members;
        self
    }
}

/// Returns all scenarios.
pub fn catalogue() -> Vec<Scenario> {
    [
        members::all(),
        network::all(),
        host::all(),
        streams::all(),
        endpoints::all(),
        data::all(),
        login::all(),
    ]
    .concat()
}

/// Returns the few scenarios that `make test` runs, on one member and on three.
pub fn short() -> Vec<Scenario> {
    let named = |name: &str| catalogue().into_iter().find(|s| s.name == name);
    let chosen = [
        named("leader-kill"),
        named("client-cut").map(|s| s.on(1)),
        named("reset").map(|s| s.on(1)),
        named("compaction-while-cut"),
    ];
    chosen.into_iter().flatten().collect()
}

/// Returns the scenarios that leave the store as it was, for the long run.
pub fn lasting() -> Vec<Scenario> {
    let names = "follower-kill leader-kill leader-stop leader-isolated client-cut replies-cut \
                 half-open reset flapping compaction-while-cut";
    catalogue()
        .into_iter()
        .filter(|s| names.split_whitespace().any(|name| name == s.name))
        .collect()
}
