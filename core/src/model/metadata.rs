//! Instance metadata (attributes and tags), interned: identical values are stored and parsed once.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use crate::model::validate::MAX_WEIGHT;
use crate::model::{Attributes, Instance, Redacted};

/// Maximum number of distinct values that an interner remembers.
const MAX_ENTRIES: usize = 1024;

/// Cache in which a language binding stores its object for a value of the core.
pub type BindingCache = OnceLock<Box<dyn Any + Send + Sync>>;

/// Attributes and tags, with values derived from them.
pub struct Metadata {
    attributes: Attributes,
    tags: Vec<String>,
    weight: u32,
    eligibility: Eligibility,
    contains_nul: bool,
    binding_cache: BindingCache,
}

/// Eligibility of an instance for calls, from its attribute `health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eligibility {
    /// `passing`, unknown values, or no attribute.
    Eligible,
    /// `warning`: picked only if no instance is eligible.
    LastResort,
    /// `critical`, `maintenance` and `draining`: never picked.
    Ineligible,
}

impl Metadata {
    /// Creates metadata. Other programs may write any text as `weight`; malformed weights count as 1.
    pub(crate) fn new(attributes: Attributes, tags: Vec<String>) -> Metadata {
        let weight = attributes.get("weight").and_then(|w| w.parse().ok());
        let eligibility = match attributes.get("health").map(String::as_str) {
            Some("critical" | "maintenance" | "draining") => Eligibility::Ineligible,
            Some("warning") => Eligibility::LastResort,
            _ => Eligibility::Eligible,
        };
        let texts = attributes.iter().flat_map(|(k, v)| [k, v]).chain(&tags);
        let contains_nul = { texts }.any(|text| text.contains('\0'));
        Metadata {
            contains_nul,
            attributes,
            tags,
            weight: weight.unwrap_or(1).min(MAX_WEIGHT),
            eligibility,
            binding_cache: BindingCache::new(),
        }
    }

    /// Returns the attributes.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Returns the tags in the order given.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Returns the cache in which a language binding stores its object for this metadata.
    pub fn binding_cache(&self) -> &BindingCache {
        &self.binding_cache
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    /// Returns true if a text contains a NUL character.
    pub(crate) fn contains_nul(&self) -> bool {
        self.contains_nul
    }

    pub(crate) fn eligibility(&self) -> Eligibility {
        self.eligibility
    }

    /// Merges metadata: adds attributes and tags that are missing here.
    pub(crate) fn merged_with<'a>(&self, others: impl Iterator<Item = &'a Metadata>) -> Metadata {
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

/// Interner of metadata for the records of one listing.
#[derive(Default)]
pub struct MetadataInterner {
    /// Metadata by its encoded record, for records that contain only metadata.
    records: HashMap<Arc<[u8]>, Arc<Metadata>>,
    /// Result of the last lookup.
    last: Option<(Arc<[u8]>, Arc<Metadata>)>,
    all: HashSet<Arc<Metadata>>,
}

impl MetadataInterner {
    /// Returns the metadata of a record that contains only metadata; parses the record unless an identical
    /// one was parsed before.
    pub(crate) fn get_or_parse<E>(
        &mut self,
        record: &Arc<[u8]>,
        parse: impl FnOnce(&[u8]) -> Result<Metadata, E>,
    ) -> Result<Arc<Metadata>, E> {
        if let Some((last, metadata)) = &self.last
            && Arc::ptr_eq(last, record)
        {
            return Ok(metadata.clone());
        }
        let metadata = match self.records.get(record) {
            Some(same) => same.clone(),
            None => {
                let metadata = Arc::new(parse(record)?);
                if self.records.len() < MAX_ENTRIES {
                    self.records.insert(record.clone(), metadata.clone());
                }
                metadata
            }
        };
        self.last = Some((record.clone(), metadata.clone()));
        Ok(metadata)
    }

    /// Replaces the metadata of an instance by an equal interned value.
    pub(crate) fn intern(&mut self, instance: &mut Instance) {
        match self.all.get(instance.metadata()) {
            Some(same) => instance.set_metadata(same.clone()),
            None if self.all.len() < MAX_ENTRIES => {
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

    fn metadata(text: &str) -> Metadata {
        Metadata::new([("a".to_owned(), text.to_owned())].into(), Vec::new())
    }

    fn instance(text: &str, port: u16) -> Instance {
        let web = ServiceName::new("web").unwrap();
        let attributes = metadata(text).attributes;
        Instance::new(web, "", "h", port, attributes, Vec::new(), 1)
    }

    #[test]
    fn a_record_that_was_read_is_not_read_again() {
        let (mut interner, mut reads) = (MetadataInterner::default(), 0);
        let mut parse = |record: &[u8]| {
            let read = |record: &[u8]| {
                reads += 1;
                std::str::from_utf8(record).map(metadata)
            };
            interner.get_or_parse(&record.into(), read)
        };
        let (one, other, again) = (
            parse(b"1").unwrap(),
            parse(b"2").unwrap(),
            parse(b"1").unwrap(),
        );
        assert!(Arc::ptr_eq(&one, &again) && one != other);
        assert!(parse(b"\xff").is_err() && parse(b"\xff").is_err());
        assert_eq!(reads, 4);
    }

    #[test]
    fn equal_metadata_is_shared() {
        let mut interner = MetadataInterner::default();
        let all = [("x", 1), ("y", 2), ("x", 3)];
        let [one, other, again] = all.map(|(text, port)| {
            let mut instance = instance(text, port);
            interner.intern(&mut instance);
            instance
        });
        assert!(Arc::ptr_eq(one.metadata(), again.metadata()));
        assert!(one.metadata() != other.metadata() && one != again);
    }

    #[test]
    fn values_that_are_always_different_do_not_accumulate() {
        let mut interner = MetadataInterner::default();
        for number in 0..MAX_ENTRIES * 2 {
            let text = number.to_string();
            interner.intern(&mut instance(&text, 1));
            let read = |_: &[u8]| Ok::<_, ()>(metadata(&text));
            assert_eq!(
                *interner
                    .get_or_parse(&text.as_bytes().into(), read)
                    .unwrap(),
                metadata(&text)
            );
        }
        assert_eq!(
            (interner.all.len(), interner.records.len()),
            (MAX_ENTRIES, MAX_ENTRIES)
        );
    }
}
