//! Words that the project has retired, so that they do not return: names of types, modules and functions, and
//! idioms that a reader from outside does not understand.

use super::{File, extension};

/// Whole identifiers that may not occur in code, each with its replacement.
const NAMES: &[(&str, &str)] = &[
    ("Claim", "OnConflict"),
    ("Complaint", "RateLimitedWarn"),
    ("Departed", "OfflineInstance"),
    ("Departure", "OfflineReason"),
    ("Fitness", "Eligibility"),
    ("Follower", "WatchSync"),
    ("Mirror", "ViewBuilder"),
    ("PartId", "RangeId"),
    ("PutBack", "RestoreOnly"),
    ("Ringer", "Notifier"),
    ("Said", "Metadata"),
    ("Sayings", "MetadataInterner"),
    ("Seniority", "InstanceOrder"),
    ("TakeOver", "Replace"),
    ("TreeBackend", "KvBackend"),
    ("planted", "mutant"),
    ("unforked", "hold_forks"),
];

/// Idioms that may not occur in comments, messages and documents.
const IDIOMS: &[&str] = &[
    "fares",
    "for ever",
    "is let go of",
    "is told",
    "are told",
    "let go of",
    "nobody",
    "who says",
    "whoever",
];

/// Documents that quote retired words.
const EXCEPT: &[&str] = &["CHANGELOG.md", "tools/src/tidy/retired.rs"];

pub fn check(file: &File) -> Vec<String> {
    if EXCEPT.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (at, text) in file.text.lines().enumerate() {
        let number = at + 1;
        let code = file.lines.get(at).map_or(text, |line| line.code.as_str());
        if extension(&file.path) != "md" {
            let retired = NAMES.iter().find(|(name, _)| has_word(code, name));
            if let Some((name, instead)) = retired {
                findings.push(format!(
                    "{}:{number}: `{name}` is retired; the name is {instead}",
                    file.path
                ));
            }
        }
        let lower = text.to_lowercase();
        if let Some(idiom) = IDIOMS.iter().find(|idiom| has_word(&lower, idiom)) {
            findings.push(format!(
                "{}:{number}: \"{idiom}\": use plain technical English",
                file.path
            ));
        }
    }
    findings
}

fn has_word(text: &str, word: &str) -> bool {
    let in_name = |char: char| char.is_alphanumeric() || char == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(in_name) && !after.starts_with(in_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&File::new(path, text.to_owned())).len()
    }

    #[test]
    fn retired_names_and_idioms_are_found() {
        assert_eq!(findings("core/src/a.rs", "use crate::model::Claim;"), 1);
        assert_eq!(
            findings("core/src/a.rs", "// A Claim is made.\nfn claim() {}"),
            0
        );
        assert_eq!(findings("core/src/a.rs", "// Nobody waits."), 1);
        assert_eq!(findings("docs/a.md", "The subscriber is told of it."), 1);
        assert_eq!(findings("CHANGELOG.md", "`Claim` is told."), 0);
    }
}
