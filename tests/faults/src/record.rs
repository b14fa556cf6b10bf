//! What a watcher under test printed, one JSON object a line, and read back.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::clock::Micros;
use crate::history::{Instance, Set};

/// How fresh a watcher believed its set to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing received yet.
    Pending,
    /// As the store has it.
    Current,
    /// The store is lost.
    Stale,
}

/// What a watcher held at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was looked at.
    pub at: Micros,
    /// How fresh it said to be.
    pub state: State,
    /// The revision that it said to be of.
    pub revision: u64,
    /// What was in it, as the store has it.
    pub set: Set,
    /// What was in it besides, marked as suspect: the store may have lost it by mistake.
    pub suspects: Set,
}

/// One event about one instance.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it was told.
    pub at: Micros,
    /// `up`, `update` or `down`.
    pub kind: String,
    /// Which instance.
    pub id: String,
    /// When that came, as a revision.
    pub created: u64,
}

/// A line of a watcher.
#[derive(Clone, Debug)]
pub enum Line {
    /// The set of a service.
    Snapshot(String, Snapshot),
    /// News of a service.
    Event(String, Event),
    /// A registration stands so from now on.
    Standing(Micros, String, String),
    /// It is set up: its registrations are made.
    Ready(Micros),
    /// What the library counted, by name.
    Metrics(BTreeMap<String, u64>),
    /// It cannot go on.
    Failed(String),
    /// It left, and its registrations could not be taken back in order.
    Left(String),
}

/// Reads a line; an error names what is wrong with it.
pub fn parse(line: &str) -> Result<Line, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))?;
    let text = |name: &str| {
        value[name]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| format!("no {name} in {line}"))
    };
    let number = |name: &str| {
        value[name]
            .as_u64()
            .ok_or_else(|| format!("no {name} in {line}"))
    };
    Ok(match text("kind")?.as_str() {
        "snapshot" => {
            let snapshot = Snapshot {
                at: number("t")?,
                state: state(&text("state")?)?,
                revision: number("revision")?,
                set: set(&value["set"], false)?,
                suspects: set(&value["set"], true)?,
            };
            Line::Snapshot(text("service")?, snapshot)
        }
        "event" => {
            let (at, kind, id, created) = (
                number("t")?,
                text("event")?,
                text("id")?,
                number("created")?,
            );
            Line::Event(
                text("service")?,
                Event {
                    at,
                    kind,
                    id,
                    created,
                },
            )
        }
        "standing" => Line::Standing(number("t")?, text("id")?, text("standing")?),
        "ready" => Line::Ready(number("t")?),
        "metrics" => {
            let all = value["values"].as_object().into_iter().flatten();
            Line::Metrics(
                all.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)))
                    .collect(),
            )
        }
        "left" => Line::Left(text("text")?),
        "error" => Line::Failed(text("text")?),
        other => return Err(format!("a line of kind {other}")),
    })
}

fn state(name: &str) -> Result<State, String> {
    match name {
        "pending" => Ok(State::Pending),
        "current" => Ok(State::Current),
        "stale" => Ok(State::Stale),
        other => Err(format!("no state is called {other}")),
    }
}

/// Those that are under suspicion, or those that are not.
fn set(value: &Value, suspects: bool) -> Result<Set, String> {
    let instances = value
        .as_object()
        .ok_or_else(|| format!("not a set: {value}"))?;
    let one = |(id, value): (&String, &Value)| {
        let created = value["created"]
            .as_u64()
            .ok_or_else(|| format!("{id} has no created"))?;
        let attributes = attributes(&value["attributes"])?;
        Ok((
            id.clone(),
            Arc::new(Instance {
                created,
                attributes,
            }),
        ))
    };
    let these = |(_, value): &(&String, &Value)| value["suspect"].as_bool() == Some(suspects);
    instances.iter().filter(these).map(one).collect()
}

/// Attributes from a JSON object of strings, or from null.
pub fn attributes(value: &Value) -> Result<BTreeMap<String, String>, String> {
    if value.is_null() {
        return Ok(BTreeMap::new());
    }
    let all = value
        .as_object()
        .ok_or_else(|| format!("not attributes: {value}"))?;
    let one = |(name, value): (&String, &Value)| {
        let text = value
            .as_str()
            .ok_or_else(|| format!("attribute {name} is no string"))?;
        Ok((name.clone(), text.to_owned()))
    };
    all.iter().map(one).collect()
}
