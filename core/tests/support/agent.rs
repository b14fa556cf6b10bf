//! A real agent on its own socket, from the test kit.

pub use discover_testkit::agent::Agent;
use discover_testkit::agent::{AgentOptions, built_program};

/// Starts an agent in front of `store`, or with a registry of its own; reports a skipped test and returns `None` if it is
/// not built.
pub fn start(store: Option<&str>) -> Option<Agent> {
    let options = AgentOptions::new(built_program()?);
    let options = match store {
        Some(url) => options.store(url),
        None => options,
    };
    Some(options.start())
}
