//! What the API says, as JSON. Pure.

use std::sync::Arc;

use discover_core::{Error, Instance, Snapshot};
use serde_json::{Value, json};

/// An instance; written once, however many are told of it.
pub fn instance(instance: &Instance) -> Arc<str> {
    let made = instance
        .binding_cache()
        .get_or_init(|| Box::new(Arc::<str>::from(value(instance).to_string())));
    match made.downcast_ref::<Arc<str>>() {
        Some(text) => text.clone(),
        None => value(instance).to_string().into(),
    }
}

/// The same, to be a part of something.
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

/// How fresh a set is, and where it stands.
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

/// A set, with those of its instances that are online, oldest first.
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

/// An error, by the name of its kind.
pub fn problem(error: &Error) -> Value {
    json!({ "kind": error.kind().name(), "detail": error.report() })
}
