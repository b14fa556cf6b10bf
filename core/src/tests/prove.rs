//! Properties: how many sequences are tried, and what is kept of those that failed.

use std::fmt::Debug;
use std::hash::Hash;

use proptest::strategy::Strategy;
use proptest::test_runner::{
    Config, FileFailurePersistence, RngSeed, TestCaseError, TestError, TestRunner,
};
use stateright::{Checker, Model};

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
    // The same ones in every everyday run, others in each search for more.
    let rng_seed = match asked() {
        None => RngSeed::Fixed(20_261_121),
        Some(_) => RngSeed::Random,
    };
    let config = Config {
        cases: asked().unwrap_or(sequences),
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

/// Visits every state that a model can be in, at least so many, and fails with the way to the first in
/// which a property does not hold; `why` says it in words.
pub(crate) fn every_order<M>(model: M, least: usize, why: impl Fn(&M::State) -> Option<String>)
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

/// The first sequence among so many, the same ones each time, that does not hold.
#[cfg(feature = "mutants")]
pub(crate) fn find<T: Debug>(
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

/// The names of the mistakes that are planted in the sources under a folder. None can be forgotten.
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
    // In two pieces, so that it does not find itself.
    let uses = text.split(concat!("mutant", "!(")).skip(1);
    let name = |after: &str| after.split(':').next().unwrap().trim().to_owned();
    uses.map(|after| &*name(after).leak())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect()
}

/// Makes each mistake of a folder in turn, and expects the property to show it.
#[cfg(feature = "mutants")]
pub(crate) fn each_is_found<T: Debug>(
    folder: &str,
    sequences: u32,
    kept: impl Fn() -> Vec<T>,
    strategy: &impl Strategy<Value = T>,
    property: &impl Fn(T) -> Result<(), String>,
) {
    // Those that showed a mistake once are tried first.
    let find = || {
        let old = kept().into_iter().find_map(|value| property(value).err());
        old.or_else(|| find(sequences, strategy, property))
    };
    let names = mutants_in(folder);
    assert!(!names.is_empty());
    // Nothing is found where nothing is planted.
    assert_eq!(find(), None);
    let mut missed = Vec::new();
    for name in names {
        crate::mutants::plant(Some(name));
        let found = find();
        crate::mutants::plant(None);
        match found {
            Some(why) => println!("{name}: {}", why.lines().next().unwrap_or_default()),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Every planted mistake belongs to a folder whose proof plants it.
#[cfg(feature = "mutants")]
#[test]
fn every_mutant_has_a_proof() {
    let proven = ["watch_sync", "lease", "backend"].map(|folder| mutants_in(folder).len());
    let all = mutants_in("");
    // Two lines of the macro's own documentation and definition are none.
    let all = all.iter().filter(|name| **name != "NAME").count();
    assert_eq!(proven.iter().sum::<usize>(), all);
    assert!(all >= 20, "{all}");
}
