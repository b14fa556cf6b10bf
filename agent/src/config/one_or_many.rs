//! A value of the configuration file that is either one text or a list of texts.

use serde::{Deserialize, Serialize};

/// One text or a list of texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "TextOrList")]
pub struct OneOrMany(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrList {
    Text(String),
    List(Vec<String>),
}

impl From<TextOrList> for OneOrMany {
    fn from(value: TextOrList) -> OneOrMany {
        match value {
            TextOrList::Text(text) => OneOrMany(vec![text]),
            TextOrList::List(list) => OneOrMany(list),
        }
    }
}
