//! Properties: how many sequences are tried, and what is kept of those that failed.

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestError, TestRunner};

/// How many sequences of each kind `make prove N=…` asks for; none in the everyday run.
pub(crate) fn asked() -> Option<u32> {
    std::env::var("DISCOVER_PROVE").ok()?.parse().ok()
}

/// Tries as many sequences, or as many as are asked for, and fails with the smallest that it can make of
/// one that does not hold. Those of former days are tried first; they are kept beside the sources.
pub(crate) fn holds<T: Debug>(
    file: &'static str,
    sequences: u32,
    strategy: impl Strategy<Value = T>,
    property: impl Fn(T) -> Result<(), String>,
) {
    let config = Config {
        cases: asked().unwrap_or(sequences),
        source_file: Some(file),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    if let Err(error) = search(config, &strategy, &property) {
        panic!("{error}");
    }
}

/// The first sequence among so many, the same ones each time, that does not hold.
#[cfg(feature = "planted")]
pub(crate) fn find<T: Debug>(
    sequences: u32,
    strategy: &impl Strategy<Value = T>,
    property: &impl Fn(T) -> Result<(), String>,
) -> Option<String> {
    let config = Config {
        cases: sequences,
        failure_persistence: None,
        max_shrink_iters: 0,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..Config::default()
    };
    search(config, strategy, property).err()
}

fn search<T: Debug>(
    config: Config,
    strategy: &impl Strategy<Value = T>,
    property: &impl Fn(T) -> Result<(), String>,
) -> Result<(), String> {
    let check = |value| property(value).map_err(TestCaseError::fail);
    match TestRunner::new(config).run(strategy, check) {
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, value)) => Err(format!("{why}\n{value:#?}")),
        Err(TestError::Abort(why)) => Err(format!("gave up: {why}")),
    }
}
