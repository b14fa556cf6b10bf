//! Change of the attributes of an instance. Pure.

use std::collections::BTreeMap;

use discover_core::Attributes;

/// Change of the attributes of an instance.
#[derive(Clone, Debug)]
pub enum AttributeChange {
    /// These attributes replace all.
    Replace(Attributes),
    /// Sets attributes, or removes those whose value is `None`. The others stay.
    Merge(BTreeMap<String, Option<String>>),
}

impl AttributeChange {
    /// Returns the attributes after the change.
    pub fn apply(self, before: Attributes) -> Attributes {
        match self {
            AttributeChange::Replace(attributes) => attributes,
            AttributeChange::Merge(changes) => {
                let mut attributes = before;
                for (name, value) in changes {
                    match value {
                        Some(value) => attributes.insert(name, value),
                        None => attributes.remove(&name),
                    };
                }
                attributes
            }
        }
    }
}
