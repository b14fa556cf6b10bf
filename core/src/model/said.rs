//! What instances say of themselves, held and read once where many say the very same.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use crate::model::check::MAX_WEIGHT;
use crate::model::{Attributes, Instance};

/// Among how many different words the same are looked for.
const DIFFERENT: usize = 1024;

/// A place for what a language binding makes of something, so that it is made once.
pub type Foreign = OnceLock<Box<dyn Any + Send + Sync>>;

/// Attributes and tags, with what follows from them.
#[derive(Default)]
pub struct Said {
    attributes: Attributes,
    tags: Vec<String>,
    weight: u32,
    fitness: Fitness,
    foreign: Foreign,
}

/// How fit for calls an instance is, by its attribute `health`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// `passing`; or a word that means nothing to us, or none.
    #[default]
    Fit,
    /// `warning`
    Weak,
    /// `critical`, `maintenance` and `draining`
    Unfit,
}

impl Said {
    /// Foreign data may say anything as a weight; what is none counts as one.
    pub(crate) fn new(attributes: Attributes, tags: Vec<String>) -> Said {
        let weight = attributes.get("weight").and_then(|w| w.parse().ok());
        let fitness = match attributes.get("health").map(String::as_str) {
            Some("critical" | "maintenance" | "draining") => Fitness::Unfit,
            Some("warning") => Fitness::Weak,
            _ => Fitness::Fit,
        };
        Said {
            attributes,
            tags,
            weight: weight.unwrap_or(1).min(MAX_WEIGHT),
            fitness,
            foreign: Foreign::new(),
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
    pub fn foreign(&self) -> &Foreign {
        &self.foreign
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    pub(crate) fn fitness(&self) -> Fitness {
        self.fitness
    }

    /// The same with what others add: attributes and tags that this lacks.
    pub(crate) fn joined_by<'a>(&self, others: impl Iterator<Item = &'a Said>) -> Said {
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
        Said::new(attributes, tags)
    }
}

impl PartialEq for Said {
    fn eq(&self, other: &Said) -> bool {
        self.attributes == other.attributes && self.tags == other.tags
    }
}

impl Eq for Said {}

impl Hash for Said {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.attributes, &self.tags).hash(state);
    }
}

/// What was said so far by those of one list.
#[derive(Default)]
pub struct Sayings {
    /// By the records that say nothing else.
    records: HashMap<Arc<[u8]>, Arc<Said>>,
    /// The last of them.
    last: Option<(Arc<[u8]>, Arc<Said>)>,
    all: HashSet<Arc<Said>>,
}

impl Sayings {
    /// What a record says that says nothing else; it is read if no other said the very same before.
    pub(crate) fn of<E>(
        &mut self,
        record: &Arc<[u8]>,
        read: impl FnOnce(&[u8]) -> Result<Said, E>,
    ) -> Result<Arc<Said>, E> {
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
        match self.all.get(instance.said()) {
            Some(same) => instance.says(same.clone()),
            None if self.all.len() < DIFFERENT => drop(self.all.insert(instance.said().clone())),
            None => {}
        }
    }
}
