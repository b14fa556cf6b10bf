//! The catalogue of faults. Each is named after what happens, and has the row of the list of faults
//! that it is of.

pub mod login;

mod data;
mod host;
mod members;
mod network;
mod streams;

use crate::lab::{Evidence, Lab, Setup};

/// One fault, and what was promised for it.
#[derive(Clone)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Its row.
    pub row: &'static str,
    /// The lab that it needs.
    pub setup: Setup,
    /// What must hold.
    pub promise: Promise,
    /// Breaks the lab and heals it.
    pub inject: fn(&Lab) -> Result<Evidence, String>,
}

/// What must hold in a scenario beyond what always must.
#[derive(Clone, Debug)]
pub struct Promise {
    /// Where the store can be reached all the time in some way: how much later than the bound, in
    /// seconds, a change may be seen.
    pub behind: Option<f64>,
    /// How long, in seconds, an instance lost by a mass expiry may still be shown.
    pub held: Option<f64>,
    /// Whether living instances that the store lost all at once must be shown nevertheless.
    pub protected: bool,
    /// Whether a living process must be registered during the fault too.
    pub kept: bool,
    /// How many revisions must come about during the fault.
    pub writes: usize,
}

impl Scenario {
    fn new(
        name: &'static str,
        row: &'static str,
        inject: fn(&Lab) -> Result<Evidence, String>,
    ) -> Scenario {
        let promise = Promise {
            behind: None,
            held: None,
            protected: false,
            kept: false,
            writes: 20,
        };
        Scenario {
            name,
            row,
            setup: Setup::default(),
            promise,
            inject,
        }
    }

    /// The store can be reached all the time; an election may take so long.
    fn reachable(mut self, slack: f64) -> Scenario {
        self.promise.behind = Some(slack);
        self
    }

    /// What a mass expiry took may be shown for this long.
    fn held(mut self, seconds: f64) -> Scenario {
        self.promise.held = Some(seconds);
        self
    }

    /// Who lives is shown although the store lost everybody at once.
    fn protected(mut self) -> Scenario {
        self.promise.protected = true;
        self
    }

    /// The fault excuses no registration that is missing.
    fn kept(mut self) -> Scenario {
        self.promise.kept = true;
        self
    }

    /// At least so many revisions come about during the fault.
    fn writes(mut self, writes: usize) -> Scenario {
        self.promise.writes = writes;
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

    fn arguments(mut self, arguments: &[&str]) -> Scenario {
        self.setup.arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        self
    }

    /// The same on so many members.
    pub fn on(mut self, members: usize) -> Scenario {
        self.setup.members = members;
        self
    }
}

/// All of them.
pub fn catalogue() -> Vec<Scenario> {
    [
        members::all(),
        network::all(),
        host::all(),
        streams::all(),
        data::all(),
        login::all(),
    ]
    .concat()
}

/// The few that `make test` runs, on one member and on three.
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

/// Which are run again and again, in any order, in a long run: they leave the store as it was.
pub fn lasting() -> Vec<Scenario> {
    let names = "follower-kill leader-kill leader-stop leader-isolated client-cut replies-cut \
                 half-open reset flapping compaction-while-cut";
    catalogue()
        .into_iter()
        .filter(|s| names.split_whitespace().any(|name| name == s.name))
        .collect()
}
