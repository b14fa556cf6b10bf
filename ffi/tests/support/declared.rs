//! What the header declares, with what its comments say of each parameter.

use std::fs;

use super::root;

/// A function.
#[derive(Clone)]
pub struct Function {
    pub name: String,
    /// The C type of what it returns, as in `const char *`.
    pub result: String,
    pub parameters: Vec<Parameter>,
    /// Its comment, line by line.
    pub comment: Vec<String>,
}

/// A parameter of one.
#[derive(Clone)]
pub struct Parameter {
    pub name: String,
    /// Its C type, as in `discover_set **`.
    pub kind: String,
    /// What the comment says of it: first its words of ownership, in brackets; empty for most numbers.
    pub said: String,
}

impl Parameter {
    pub fn is_optional(&self) -> bool {
        // Functions have no words of ownership; theirs is said in a sentence.
        let sentence = self.kind.ends_with("_fn")
            && (self.said.contains("may be NULL") || self.said.contains("NULL for no"));
        sentence || self.words().contains("optional")
    }

    pub fn is_taken(&self) -> bool {
        self.words().contains("taken")
    }

    /// `in, borrowed` and the like.
    pub fn words(&self) -> &str {
        let inside = self.said.strip_prefix('[').unwrap_or_default();
        inside.split(']').next().unwrap_or_default()
    }
}

/// All functions, in the order of the header.
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
    let (result, name) = typed(head);
    let lines = |line: &str| line.trim_start_matches([' ', '*']).to_owned();
    let comment: Vec<String> = comment.lines().map(lines).collect();
    let all = inside.split(',').filter(|one| one.trim() != "void");
    let mut parameters: Vec<Parameter> = all
        .map(|one| {
            let (kind, name) = typed(one);
            let said = String::new();
            Parameter { name, kind, said }
        })
        .collect();
    say(&mut parameters, &comment);
    Some(Function {
        name,
        result,
        parameters,
        comment,
    })
}

/// `const char *url` as the type and the name.
fn typed(text: &str) -> (String, String) {
    let text = text.trim();
    let at = text.rfind(['*', ' ']).map_or(0, |at| at + 1);
    (text[..at].trim().to_owned(), text[at..].to_owned())
}

/// Gives each parameter its lines: from the one that begins with its name to the next one's or a gap.
fn say(parameters: &mut [Parameter], comment: &[String]) {
    let mut current = None;
    for line in comment {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(at) = parameters.iter().position(|one| one.name == first) {
            // Prose may begin with such a word too; a table has two spaces after it.
            if rest.starts_with(' ') {
                current = Some(at);
                parameters[at].said.push_str(rest.trim());
                continue;
            }
        }
        match current {
            Some(_) if line.is_empty() => current = None,
            Some(at) => {
                parameters[at].said.push(' ');
                parameters[at].said.push_str(line);
            }
            None => {}
        }
    }
}
