//! The JSON documents of the API. Pure.

use std::sync::Arc;

use discover_core::{Error, Instance, Snapshot};
use serde_json::{Value, json};

/// Encodes an instance. The text is cached in the instance, so all responses and streams share it.
pub fn instance(instance: &Instance) -> Arc<str> {
    let cached = instance
        .binding_cache()
        .get_or_init(|| Box::new(Arc::<str>::from(value(instance).to_string())));
    match cached.downcast_ref::<Arc<str>>() {
        Some(text) => text.clone(),
        None => value(instance).to_string().into(),
    }
}

/// Returns an instance as a value, to be part of another document.
pub fn value(instance: &Instance) -> Value {
    json!({
        "service": instance.service().as_str(),
        "id": instance.id(),
        "address": instance.address(),
        "host": instance.host(),
        "port": instance.port(),
        "attributes": instance.attributes(),
        "tags": instance.tags(),
        "weight": instance.weight(),
        "zone": instance.zone(),
        "created": instance.created(),
        "layouts": instance.layouts(),
        "suspect": instance.is_suspect(),
    })
}

/// Returns the state of a set and its position in the history of the store.
pub fn status(snapshot: &Snapshot, index: &str) -> Value {
    json!({
        "state": snapshot.state().name(),
        "index": index,
        "epoch": snapshot.epoch(),
        "revision": snapshot.revision(),
        "invalid": snapshot.invalid(),
        "error": snapshot.fault().map(|fault| problem(&fault.error)),
    })
}

/// Encodes a set with its online instances, oldest first.
pub fn set(service: &str, snapshot: &Snapshot, index: &str) -> String {
    let instances: Vec<Arc<str>> = snapshot.online().iter().map(|i| instance(i)).collect();
    let leader = snapshot
        .leader()
        .map_or("null".into(), |leader| instance(leader));
    let status = status(snapshot, index);
    let service = Value::from(service);
    format!(
        r#"{{"service":{service},"status":{status},"leader":{leader},"instances":[{}]}}"#,
        instances.join(",")
    )
}

/// Returns an error as the name of its kind and its text.
pub fn problem(error: &Error) -> Value {
    json!({ "kind": error.kind().name(), "detail": error.report() })
}
