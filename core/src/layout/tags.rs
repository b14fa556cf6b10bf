//! Tags in formats that have only named strings: the string `tags`, joined by commas.

use crate::error::{Error, Result};
use crate::model::Attributes;

const TAGS: &str = "tags";

/// Returns the attributes with the tags among them.
pub(super) fn join(layout: &str, attributes: &Attributes, tags: &[String]) -> Result<Attributes> {
    if attributes.contains_key(TAGS) {
        return Err(Error::invalid(format!(
            "attribute \"tags\": layout {layout} keeps the tags there; give them as tags"
        )));
    }
    if let Some(tag) = tags.iter().find(|tag| tag.contains(',')) {
        return Err(Error::invalid(format!(
            "tag {tag:?}: layout {layout} separates tags by commas"
        )));
    }
    let mut all = attributes.clone();
    if !tags.is_empty() {
        all.insert(TAGS.to_owned(), tags.join(","));
    }
    Ok(all)
}

/// Removes the tags from the attributes and returns them.
pub(super) fn split(attributes: &mut Attributes) -> Vec<String> {
    let tags = attributes.remove(TAGS).unwrap_or_default();
    tags.split(',')
        .filter(|tag| !tag.is_empty())
        .map(str::to_owned)
        .collect()
}
