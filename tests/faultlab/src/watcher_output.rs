//! Parses the output of a program under test, one JSON object per line.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::history::{Instance, Set};
use discover_testkit::clock::Micros;

/// The state of a set as the watcher reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No view received yet.
    Pending,
    /// Equal to the store.
    Current,
    /// The store is unreachable.
    Stale,
}

/// The set of a watcher at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was read.
    pub at: Micros,
    /// Its state.
    pub state: State,
    /// The revision that it names.
    pub revision: u64,
    /// Its instances, without suspects.
    pub set: Set,
    /// Instances marked as suspect: the store may have lost them by mistake.
    pub suspects: Set,
}

/// One event of an instance.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it was delivered.
    pub at: Micros,
    /// `up`, `update` or `down`.
    pub kind: String,
    /// The instance.
    pub id: String,
    /// The revision at which it was created.
    pub created: u64,
}

/// A line of output.
#[derive(Clone, Debug)]
pub enum OutputLine {
    /// The set of a service.
    Snapshot(String, Snapshot),
    /// An event of a service.
    Event(String, Event),
    /// The new standing of a registration.
    Standing(Micros, String, String),
    /// The registrations are made.
    Ready(Micros),
    /// The counters of the library, by name.
    Metrics(BTreeMap<String, u64>),
    /// The program cannot continue.
    Failed(String),
    /// Closing the client failed.
    Left(String),
}

/// Parses a line; the error names what is wrong with it.
pub fn parse(line: &str) -> Result<OutputLine, String> {
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
            OutputLine::Snapshot(text("service")?, snapshot)
        }
        "event" => {
            let (at, kind, id, created) = (
                number("t")?,
                text("event")?,
                text("id")?,
                number("created")?,
            );
            OutputLine::Event(
                text("service")?,
                Event {
                    at,
                    kind,
                    id,
                    created,
                },
            )
        }
        "standing" => OutputLine::Standing(number("t")?, text("id")?, text("standing")?),
        "ready" => OutputLine::Ready(number("t")?),
        "metrics" => {
            let all = value["values"].as_object().into_iter().flatten();
            OutputLine::Metrics(
                all.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)))
                    .collect(),
            )
        }
        "left" => OutputLine::Left(text("text")?),
        "error" => OutputLine::Failed(text("text")?),
        other => return Err(format!("unknown kind {other}")),
    })
}

fn state(name: &str) -> Result<State, String> {
    match name {
        "pending" => Ok(State::Pending),
        "current" => Ok(State::Current),
        "stale" => Ok(State::Stale),
        other => Err(format!("unknown state {other}")),
    }
}

/// Returns the suspects, or all other instances.
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

/// Parses attributes from a JSON object of strings, or null.
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
            .ok_or_else(|| format!("attribute {name} is not a string"))?;
        Ok((name.clone(), text.to_owned()))
    };
    all.iter().map(one).collect()
}
