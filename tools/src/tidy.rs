//! `tidy`: checks the house rules and prints findings of the form `file:line: rule`.

mod cycles;
mod retired;
mod rules;

use std::fs;
use std::path::Path;

use crate::root;
use crate::source::{self, Line};

/// The folders with sources and documents; a missing one is skipped.
const FOLDERS: &[&str] = &[
    "agent", "bench", "bindings", "core", "docs", "examples", "ffi", "include", "tests", "tools",
];

/// Documents beside the folders.
const DOCUMENTS: &[&str] = &[
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
];

/// Folders of generated or downloaded files.
const GENERATED: &[&str] = &["__pycache__", "dist", "node_modules", "target"];

const EXTENSIONS: &[&str] = &[
    "c", "cc", "cjs", "h", "hpp", "js", "md", "mjs", "py", "pyi", "rs", "ts",
];

/// A source file or document, with its path from the top of the repository.
pub struct File {
    path: String,
    text: String,
    /// Empty for languages that the lexer does not know.
    lines: Vec<Line>,
}

pub fn run() -> Result<(), String> {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        collect(folder, &mut paths).map_err(|error| format!("{folder}: {error}"))?;
    }
    paths.extend(DOCUMENTS.iter().map(|&path| path.to_owned()));
    let mut files = Vec::new();
    for path in &paths {
        let text =
            fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))?;
        files.push(File::new(path, text));
    }
    let mut findings = rules::dead_paths(&paths);
    findings.extend(files.iter().flat_map(rules::check));
    findings.extend(files.iter().flat_map(retired::check));
    findings.extend(cycles::check(&files));
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

/// Collects the paths of all sources under `folder`, ordered by name.
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
        if kind.is_dir() && !name.starts_with('.') && !GENERATED.contains(&name.as_str()) {
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

    /// Returns the code outside of tests, without comments and the contents of strings.
    fn code(&self) -> String {
        let lines = self.lines.iter().filter(|line| !line.test);
        lines.map(|line| format!("{}\n", line.code)).collect()
    }

    /// Returns true if the path begins with one of `prefixes`, which are separated by spaces.
    fn is_under(&self, prefixes: &str) -> bool {
        prefixes
            .split_whitespace()
            .any(|prefix| self.path.starts_with(prefix))
    }

    /// Returns true if the whole file is a test. Other Rust files may contain tests as well.
    fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| ["tests", "test", "tests.rs", "benches", "fuzz"].contains(&part))
    }

    fn is_generated(&self) -> bool {
        self.path == rules::HEADER || self.path.ends_with(".d.ts") || self.path.ends_with(".pyi")
    }
}
