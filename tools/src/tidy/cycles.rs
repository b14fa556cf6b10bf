//! Import cycles between the files of a crate. A parent module and its children may use each other; any other cycle
//! means that two files are one idea, or that a shared type is in the wrong file.

use std::collections::{BTreeMap, BTreeSet};

use super::File;

/// The source folders of the crates that are checked.
const CRATES: &[&str] = &[
    "agent/src/",
    "bindings/node/src/",
    "bindings/python/src/",
    "core/src/",
    "ffi/src/",
];

/// A module path, such as `store::etcd::v3`; empty for the root of the crate.
type Module = Vec<String>;

/// Imports of each module, by module.
type Graph = BTreeMap<Module, BTreeSet<Module>>;

/// Returns one finding for each cycle.
pub fn check(files: &[File]) -> Vec<String> {
    CRATES
        .iter()
        .flat_map(|folder| check_crate(folder, files))
        .collect()
}

fn check_crate(folder: &str, files: &[File]) -> Vec<String> {
    let in_crate = |file: &&File| {
        file.path.starts_with(folder) && file.path.ends_with(".rs") && !file.is_test()
    };
    let files: Vec<&File> = files.iter().filter(in_crate).collect();
    let modules: BTreeSet<Module> = files
        .iter()
        .map(|file| module_of(folder, &file.path))
        .collect();
    let mut graph = Graph::new();
    for file in &files {
        let module = module_of(folder, &file.path);
        let imports = imports(&file.code(), &module).into_iter();
        let targets = imports.filter_map(|path| longest_module(&path, &modules));
        let targets = targets
            .filter(|target| !is_related(&module, target))
            .collect();
        graph.insert(module, targets);
    }
    cycles(&graph)
        .into_iter()
        .map(|cycle| {
            let names: Vec<String> = cycle.iter().map(|module| module.join("::")).collect();
            format!("{folder}: import cycle: {}", names.join(" -> "))
        })
        .collect()
}

/// Returns the module that a file contains.
fn module_of(folder: &str, path: &str) -> Module {
    let path = path.trim_start_matches(folder).trim_end_matches(".rs");
    let parts = path.split('/').map(str::to_owned);
    let mut module: Module = parts.collect();
    if matches!(
        module.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        module.pop();
    }
    module
}

/// Returns true if one module is the other, or contains it.
fn is_related(one: &Module, other: &Module) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn longest_module(path: &[String], modules: &BTreeSet<Module>) -> Option<Module> {
    (0..=path.len())
        .rev()
        .map(|length| path[..length].to_vec())
        .find(|prefix| modules.contains(prefix))
}

/// Returns all paths in `code` that begin with `crate` or `super`, resolved from the root of the crate.
fn imports(code: &str, module: &Module) -> Vec<Module> {
    let tokens = tokens(code);
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let follows_path = at > 0 && tokens[at - 1] == "::";
        let base = match tokens[at] {
            "crate" if !follows_path => Some(Module::new()),
            "super" if !follows_path => module.split_last().map(|(_, parent)| parent.to_vec()),
            _ => None,
        };
        match base.filter(|_| tokens.get(at + 1) == Some(&"::")) {
            Some(base) => at = read_tree(&tokens, at + 2, base, &mut paths),
            None => at += 1,
        }
    }
    paths
}

/// Reads a path or a `{…}` list of paths that begins at `at`, and returns the position after it.
fn read_tree(tokens: &[&str], mut at: usize, mut prefix: Module, paths: &mut Vec<Module>) -> usize {
    loop {
        match tokens.get(at) {
            Some(&"{") => {
                at += 1;
                while let Some(token) = tokens.get(at) {
                    match *token {
                        "}" => return at + 1,
                        "," => at += 1,
                        _ => at = read_tree(tokens, at, prefix.clone(), paths).max(at + 1),
                    }
                }
                return at;
            }
            Some(&"super") => drop(prefix.pop()),
            Some(&"self") => {}
            Some(name) if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                prefix.push((*name).to_owned());
            }
            _ => break,
        }
        if tokens.get(at + 1) != Some(&"::") {
            at += 1;
            break;
        }
        at += 2;
    }
    // A renamed import: `path as name`.
    if tokens.get(at) == Some(&"as") {
        at += 2;
    }
    paths.push(prefix);
    at
}

/// Splits code into names, `::`, and single other characters.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let in_name = |c: char| c.is_alphanumeric() || c == '_';
        let length = match first {
            ':' if rest.starts_with("::") => 2,
            c if in_name(c) => rest.find(|c| !in_name(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Returns one shortest cycle through each module that is on one, without repetitions of the same set of modules.
fn cycles(graph: &Graph) -> Vec<Vec<Module>> {
    let mut found: BTreeMap<BTreeSet<Module>, Vec<Module>> = BTreeMap::new();
    for start in graph.keys() {
        if let Some(cycle) = shortest_cycle(graph, start) {
            found
                .entry(cycle.iter().cloned().collect())
                .or_insert(cycle);
        }
    }
    found.into_values().collect()
}

fn shortest_cycle(graph: &Graph, start: &Module) -> Option<Vec<Module>> {
    let mut previous: BTreeMap<&Module, &Module> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(module) = queue.pop_front() {
        for next in graph.get(module).into_iter().flatten() {
            if next == start {
                let mut cycle = vec![start.clone(), module.clone()];
                let mut at = module;
                while let Some(before) = previous.get(at) {
                    cycle.push((*before).clone());
                    at = before;
                }
                cycle.dedup();
                cycle.reverse();
                cycle.push(start.clone());
                cycle.dedup();
                return Some(cycle);
            }
            if next != start && !previous.contains_key(next) {
                previous.insert(next, module);
                queue.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let file = |(path, text): &(&str, &str)| File::new(path, (*text).to_owned());
        check(&files.iter().map(file).collect::<Vec<_>>())
    }

    #[test]
    fn two_files_that_use_each_other_are_a_cycle() {
        let found = findings(&[
            ("core/src/a.rs", "use crate::{c::X, b::{self, Y}};"),
            ("core/src/b.rs", "fn f() { crate::a::g() }"),
            ("core/src/c.rs", ""),
        ]);
        assert_eq!(found, ["core/src/: import cycle: a -> b -> a"]);
    }

    #[test]
    fn a_longer_cycle_is_found_once() {
        let found = findings(&[
            ("core/src/a/mod.rs", "use super::b::X;"),
            ("core/src/b.rs", "use crate::c::Y as Z;"),
            ("core/src/c.rs", "use crate::a::{V, W};"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn parents_and_children_may_use_each_other() {
        let found = findings(&[
            (
                "core/src/a/mod.rs",
                "mod b; use crate::a::b::X; use crate::d::D;",
            ),
            ("core/src/a/b.rs", "use crate::a::Y; use super::Z;"),
            (
                "core/src/d.rs",
                "// use crate::a::Y;\n#[cfg(test)]\nmod tests { use crate::a::Y; }",
            ),
        ]);
        assert_eq!(found, [""; 0]);
    }
}
