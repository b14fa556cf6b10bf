//! What instances say of themselves, held and read once where many say the very same.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use crate::model::validate::MAX_WEIGHT;
use crate::model::{Attributes, Instance, Redacted};

/// Among how many different words the same are looked for.
const DIFFERENT: usize = 1024;

/// A place for what a language binding makes of something, so that it is made once.
pub type BindingCache = OnceLock<Box<dyn Any + Send + Sync>>;

/// Attributes and tags, with what follows from them.
pub struct Metadata {
    attributes: Attributes,
    tags: Vec<String>,
    weight: u32,
    fitness: Eligibility,
    foreign: BindingCache,
}

/// How fit for calls an instance is, by its attribute `health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eligibility {
    /// `passing`; or a word that means nothing to us, or none.
    Fit,
    /// `warning`
    Weak,
    /// `critical`, `maintenance` and `draining`
    Unfit,
}

impl Metadata {
    /// BindingCache data may say anything as a weight; what is none counts as one.
    pub(crate) fn new(attributes: Attributes, tags: Vec<String>) -> Metadata {
        let weight = attributes.get("weight").and_then(|w| w.parse().ok());
        let fitness = match attributes.get("health").map(String::as_str) {
            Some("critical" | "maintenance" | "draining") => Eligibility::Unfit,
            Some("warning") => Eligibility::Weak,
            _ => Eligibility::Fit,
        };
        Metadata {
            attributes,
            tags,
            weight: weight.unwrap_or(1).min(MAX_WEIGHT),
            fitness,
            foreign: BindingCache::new(),
        }
    }

    /// The attributes.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The tags, in the order given.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// A place for what a language binding makes of the attributes and tags.
    pub fn binding_cache(&self) -> &BindingCache {
        &self.foreign
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    pub(crate) fn fitness(&self) -> Eligibility {
        self.fitness
    }

    /// The same with what others add: attributes and tags that this lacks.
    pub(crate) fn joined_by<'a>(&self, others: impl Iterator<Item = &'a Metadata>) -> Metadata {
        let (mut attributes, mut tags) = (self.attributes.clone(), self.tags.clone());
        for other in others {
            for (name, value) in &other.attributes {
                if !attributes.contains_key(name) {
                    attributes.insert(name.clone(), value.clone());
                }
            }
            if tags.is_empty() {
                tags.clone_from(&other.tags);
            }
        }
        Metadata::new(attributes, tags)
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("attributes", &Redacted(&self.attributes))
            .field("tags", &self.tags)
            .finish()
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Metadata) -> bool {
        self.attributes == other.attributes && self.tags == other.tags
    }
}

impl Eq for Metadata {}

impl Hash for Metadata {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.attributes, &self.tags).hash(state);
    }
}

/// What was said so far by those of one list.
#[derive(Default)]
pub struct MetadataInterner {
    /// By the records that say nothing else.
    records: HashMap<Arc<[u8]>, Arc<Metadata>>,
    /// The last of them.
    last: Option<(Arc<[u8]>, Arc<Metadata>)>,
    all: HashSet<Arc<Metadata>>,
}

impl MetadataInterner {
    /// What a record says that says nothing else; it is read if no other said the very same before.
    pub(crate) fn of<E>(
        &mut self,
        record: &Arc<[u8]>,
        read: impl FnOnce(&[u8]) -> Result<Metadata, E>,
    ) -> Result<Arc<Metadata>, E> {
        if let Some((last, said)) = &self.last
            && Arc::ptr_eq(last, record)
        {
            return Ok(said.clone());
        }
        let said = match self.records.get(record) {
            Some(same) => same.clone(),
            None => {
                let said = Arc::new(read(record)?);
                if self.records.len() < DIFFERENT {
                    self.records.insert(record.clone(), said.clone());
                }
                said
            }
        };
        self.last = Some((record.clone(), said.clone()));
        Ok(said)
    }

    /// Has an instance hold what another one said before, where that is the very same.
    pub(crate) fn share(&mut self, instance: &mut Instance) {
        match self.all.get(instance.metadata()) {
            Some(same) => instance.says(same.clone()),
            None if self.all.len() < DIFFERENT => {
                self.all.insert(instance.metadata().clone());
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceName;

    fn said(text: &str) -> Metadata {
        Metadata::new([("a".to_owned(), text.to_owned())].into(), Vec::new())
    }

    fn instance(text: &str, port: u16) -> Instance {
        let web = ServiceName::new("web").unwrap();
        let attributes = said(text).attributes;
        Instance::new(web, "", "h", port, attributes, Vec::new(), 1)
    }

    #[test]
    fn a_record_that_was_read_is_not_read_again() {
        let (mut sayings, mut reads) = (MetadataInterner::default(), 0);
        let mut of = |record: &[u8]| {
            let read = |record: &[u8]| {
                reads += 1;
                std::str::from_utf8(record).map(said)
            };
            sayings.of(&record.into(), read)
        };
        let (one, other, again) = (of(b"1").unwrap(), of(b"2").unwrap(), of(b"1").unwrap());
        assert!(Arc::ptr_eq(&one, &again) && one != other);
        assert!(of(b"\xff").is_err() && of(b"\xff").is_err());
        assert_eq!(reads, 4);
    }

    #[test]
    fn who_says_the_same_holds_the_same() {
        let mut sayings = MetadataInterner::default();
        let all = [("x", 1), ("y", 2), ("x", 3)];
        let [one, other, again] = all.map(|(text, port)| {
            let mut instance = instance(text, port);
            sayings.share(&mut instance);
            instance
        });
        assert!(Arc::ptr_eq(one.metadata(), again.metadata()));
        assert!(one.metadata() != other.metadata() && one != again);
    }

    #[test]
    fn what_is_always_different_does_not_pile_up() {
        let mut sayings = MetadataInterner::default();
        for number in 0..DIFFERENT * 2 {
            let text = number.to_string();
            sayings.share(&mut instance(&text, 1));
            let read = |_: &[u8]| Ok::<_, ()>(said(&text));
            assert_eq!(
                *sayings.of(&text.as_bytes().into(), read).unwrap(),
                said(&text)
            );
        }
        assert_eq!(
            (sayings.all.len(), sayings.records.len()),
            (DIFFERENT, DIFFERENT)
        );
    }
}
