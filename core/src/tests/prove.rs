//! Runner of property tests and model checks: number of cases, regressions, mutants.

use std::fmt::Debug;
use std::hash::Hash;

use proptest::strategy::Strategy;
use proptest::test_runner::{
    Config, FileFailurePersistence, RngSeed, TestCaseError, TestError, TestRunner,
};
use stateright::{Checker, Model};

/// Returns the number of cases that `make prove N=…` requests; `None` in the everyday run.
pub(crate) fn requested_cases() -> Option<u32> {
    std::env::var("DISCOVER_PROVE").ok()?.parse().ok()
}

/// Checks the property on `sequences` cases, or as many as requested, and fails with a shrunk case.
/// Regressions, which are kept beside the sources, are checked first.
pub(crate) fn check_property<T: Debug>(
    file: &'static str,
    sequences: u32,
    strategy: impl Strategy<Value = T>,
    property: impl Fn(T) -> Result<(), String>,
) {
    // The everyday run repeats the same cases; each requested run has others.
    let rng_seed = match requested_cases() {
        None => RngSeed::Fixed(20_261_121),
        Some(_) => RngSeed::Random,
    };
    let config = Config {
        cases: requested_cases().unwrap_or(sequences),
        rng_seed,
        source_file: Some(file),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    if let Err(error) = search(config, &strategy, &property) {
        panic!("{error}");
    }
}

/// Visits every state of a model and fails with the path to a state that violates a property; `why` explains
/// that state. Also fails if there are not more than `least` states.
pub(crate) fn check_model<M>(model: M, least: usize, why: impl Fn(&M::State) -> Option<String>)
where
    M: Model<
            Action: Clone + Debug + PartialEq,
            State: Clone + Debug + Hash + PartialEq + Send + Sync,
        > + Send
        + Sync
        + 'static,
{
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        let why = why(path.last_state());
        panic!("{property}: {why:?} after {:?}", path.into_actions());
    }
    assert!(checker.is_done() && checker.unique_state_count() > least);
}

/// Returns the first failure among the cases, which are always the same.
#[cfg(feature = "mutants")]
pub(crate) fn find_failure<T: Debug>(
    sequences: u32,
    strategy: &impl Strategy<Value = T>,
    property: &impl Fn(T) -> Result<(), String>,
) -> Option<String> {
    let config = Config {
        cases: sequences,
        failure_persistence: None,
        max_shrink_iters: 0,
        rng_seed: RngSeed::Fixed(1),
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

/// Returns the names of all mutants in the sources below a folder.
#[cfg(feature = "mutants")]
fn mutants_in(folder: &str) -> Vec<&'static str> {
    fn read(path: &std::path::Path, text: &mut String) {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).unwrap();
            entries.for_each(|entry| read(&entry.unwrap().path(), text));
        } else if path.extension().is_some_and(|end| end == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
    let mut text = String::new();
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    read(&sources.join(folder), &mut text);
    // Split, so that this file does not contain the macro's name.
    let uses = text.split(concat!("mutant", "!(")).skip(1);
    let name = |after: &str| after.split(':').next().unwrap().trim().to_owned();
    uses.map(|after| &*name(after).leak())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect()
}

/// Enables each mutant of a folder and expects the property to fail.
#[cfg(feature = "mutants")]
pub(crate) fn check_mutants<T: Debug>(
    folder: &str,
    sequences: u32,
    regressions: impl Fn() -> Vec<T>,
    strategy: &impl Strategy<Value = T>,
    property: &impl Fn(T) -> Result<(), String>,
) {
    // Cases that detected a mutant before are tried first.
    let find = || {
        let earlier = regressions()
            .into_iter()
            .find_map(|value| property(value).err());
        earlier.or_else(|| find_failure(sequences, strategy, property))
    };
    let names = mutants_in(folder);
    assert!(!names.is_empty());
    // Without a mutant nothing is found.
    assert_eq!(find(), None);
    let mut missed = Vec::new();
    for name in names {
        crate::mutants::enable(Some(name));
        let found = find();
        crate::mutants::enable(None);
        match found {
            Some(why) => println!("{name}: {}", why.lines().next().unwrap_or_default()),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Every mutant is in a folder whose tests enable it.
#[cfg(feature = "mutants")]
#[test]
fn every_mutant_has_a_proof() {
    let proven = ["watch_sync", "lease", "backend"].map(|folder| mutants_in(folder).len());
    let all = mutants_in("");
    // The macro's documentation and definition are not mutants.
    let all = all.iter().filter(|name| **name != "NAME").count();
    assert_eq!(proven.iter().sum::<usize>(), all);
    assert!(all >= 20, "{all}");
}
