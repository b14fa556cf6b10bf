//! `tidy`: the house rules, as findings of the form `file:line: rule`.

mod rules;

use std::fs;
use std::path::Path;

use crate::root;
use crate::source::{self, Line};

/// Where sources are. A folder that does not exist is passed over.
const FOLDERS: &[&str] = &[
    "agent", "bindings", "core", "examples", "ffi", "include", "tests", "tools",
];

/// Folders of things that we build or fetch.
const NOT_OURS: &[&str] = &["__pycache__", "dist", "node_modules", "target"];

const EXTENSIONS: &[&str] = &["c", "cc", "cjs", "h", "hpp", "js", "mjs", "py", "rs", "ts"];

/// A source file, its path told from the top of the repository with `/`.
pub struct File {
    path: String,
    text: String,
    /// Empty where the lexer does not know the language.
    lines: Vec<Line>,
}

pub fn run() -> Result<(), String> {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        collect(folder, &mut paths).map_err(|error| format!("{folder}: {error}"))?;
    }
    let mut findings = Vec::new();
    for path in &paths {
        match fs::read_to_string(root().join(path)) {
            Ok(text) => findings.extend(rules::check(&File::new(path, text))),
            Err(error) => findings.push(format!("{path}:1: {error}")),
        }
    }
    if findings.is_empty() {
        println!("{} files are tidy", paths.len());
        return Ok(());
    }
    Err(format!(
        "{}\n{} findings",
        findings.join("\n"),
        findings.len()
    ))
}

/// The paths of all sources under `folder`, in the order of their names.
fn collect(folder: &str, paths: &mut Vec<String>) -> std::io::Result<()> {
    let dir = root().join(folder);
    if !dir.exists() {
        return Ok(());
    }
    let mut entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{folder}/{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() && !name.starts_with('.') && !NOT_OURS.contains(&name.as_str()) {
            collect(&path, paths)?;
        } else if kind.is_file() && EXTENSIONS.contains(&extension(&path)) {
            paths.push(path);
        }
    }
    Ok(())
}

fn extension(path: &str) -> &str {
    Path::new(path)
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or("")
}

impl File {
    fn new(path: &str, text: String) -> File {
        let lines = match extension(path) {
            "c" | "cc" | "h" | "hpp" | "rs" => source::lines(&text),
            _ => Vec::new(),
        };
        File {
            path: path.to_owned(),
            text,
            lines,
        }
    }

    /// `prefixes` are folders and files, separated by spaces.
    fn is_under(&self, prefixes: &str) -> bool {
        prefixes
            .split_whitespace()
            .any(|prefix| self.path.starts_with(prefix))
    }

    /// Whether the whole file is a test; a Rust file may also hold tests among other things.
    fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| ["tests", "test", "tests.rs", "benches", "fuzz"].contains(&part))
    }

    fn is_generated(&self) -> bool {
        self.path == rules::HEADER || self.path.ends_with(".d.ts")
    }
}
