//! Parses the functions that the header declares, with the description of each parameter.

use std::fs;

use super::root;

/// A declared function.
#[derive(Clone)]
pub struct Function {
    pub name: String,
    /// The C type of the result, for example `const char *`.
    pub result: String,
    pub parameters: Vec<Parameter>,
    /// The lines of its comment.
    pub comment: Vec<String>,
}

/// A parameter of a declared function.
#[derive(Clone)]
pub struct Parameter {
    pub name: String,
    /// Its C type, for example `discover_set **`.
    pub kind: String,
    /// Its description: the ownership in brackets, then prose. Numbers have no brackets.
    pub description: String,
}

impl Parameter {
    pub fn is_optional(&self) -> bool {
        // Callbacks have no ownership in brackets; a sentence states that they may be NULL.
        let sentence = self.kind.ends_with("_fn")
            && (self.description.contains("may be NULL")
                || self.description.contains("NULL for no"));
        sentence || self.ownership().contains("optional")
    }

    pub fn is_taken(&self) -> bool {
        self.ownership().contains("taken")
    }

    /// The ownership, for example `in, borrowed`; empty if there is none.
    pub fn ownership(&self) -> &str {
        let inside = self.description.strip_prefix('[').unwrap_or_default();
        inside.split(']').next().unwrap_or_default()
    }
}

/// Returns all functions in the order of the header.
pub fn functions() -> Vec<Function> {
    let header = fs::read_to_string(root().join("include/discover.h")).expect("the header");
    let chunks = header.split("/**").skip(1);
    let pairs = chunks.filter_map(|chunk| chunk.split_once("*/"));
    pairs
        .filter_map(|(comment, code)| function(comment, code))
        .collect()
}

fn function(comment: &str, code: &str) -> Option<Function> {
    let (declaration, _) = code.trim_start().split_once(");")?;
    if declaration.starts_with("typedef") || declaration.starts_with('#') {
        return None;
    }
    let (head, inside) = declaration.split_once('(')?;
    let (result, name) = type_and_name(head);
    let lines = |line: &str| line.trim_start_matches([' ', '*']).to_owned();
    let comment: Vec<String> = comment.lines().map(lines).collect();
    let all = inside.split(',').filter(|one| one.trim() != "void");
    let mut parameters: Vec<Parameter> = all
        .map(|one| {
            let (kind, name) = type_and_name(one);
            let description = String::new();
            Parameter {
                name,
                kind,
                description,
            }
        })
        .collect();
    add_descriptions(&mut parameters, &comment);
    Some(Function {
        name,
        result,
        parameters,
        comment,
    })
}

/// Splits `const char *url` into its type and its name.
fn type_and_name(text: &str) -> (String, String) {
    let text = text.trim();
    let at = text.rfind(['*', ' ']).map_or(0, |at| at + 1);
    (text[..at].trim().to_owned(), text[at..].to_owned())
}

/// Adds the description of each parameter: the lines from the one that begins with its name to the next
/// parameter or a blank line.
fn add_descriptions(parameters: &mut [Parameter], comment: &[String]) {
    let mut current = None;
    for line in comment {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(at) = parameters.iter().position(|one| one.name == first) {
            // A table row has two spaces after the name; prose that begins with the same word has one.
            if rest.starts_with(' ') {
                current = Some(at);
                parameters[at].description.push_str(rest.trim());
                continue;
            }
        }
        match current {
            Some(_) if line.is_empty() => current = None,
            Some(at) => {
                parameters[at].description.push(' ');
                parameters[at].description.push_str(line);
            }
            None => {}
        }
    }
}
