//! Suggestions for misspelled names.

/// Returns the candidate that is most similar to `word`, if it differs in at most a third of the characters.
/// Of equally similar candidates, the first is returned.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let max_distance = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= max_distance && *distance < candidate.chars().count()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the text ` (did you mean NAME?)` for the nearest candidate, or an empty text.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    let nearest = nearest(word, candidates);
    nearest.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_has_a_suggestion_and_another_word_has_none() {
        let names = ["etcd", "etcd2", "layout", "native", "ttl"];
        for (typo, meant) in [
            ("etcd3", "etcd"),
            ("lauout", "layout"),
            ("natve", "native"),
            ("tll", "ttl"),
            ("naitve", "native"),
        ] {
            assert_eq!(nearest(typo, names), Some(meant), "{typo}");
        }
        for other in ["", "x", "zookeeper", "consul"] {
            assert_eq!(nearest(other, names), None, "{other}");
        }
        assert_eq!(did_you_mean("natve", names), " (did you mean native?)");
    }
}
