//! The JSON documents of the API. Pure.

use std::sync::Arc;

use discover_core::{Error, Instance, Snapshot};
use serde_json::{Value, json};

use crate::rfc3339::rfc3339;
use crate::service_cache::CachedService;

/// Encodes an instance of a watched service. The text is cached in the instance, so all responses and streams share it.
pub fn instance(service: &CachedService, instance: &Instance) -> Arc<str> {
    let encode = || -> Arc<str> {
        let sighting = service.sighting(instance);
        let mut document = value(instance);
        document["first_seen"] = Value::from(rfc3339(sighting.at));
        document["online_before"] = Value::from(sighting.was_online_before);
        document.to_string().into()
    };
    let cached = instance.binding_cache();
    let cached = cached.get_or_init(|| Box::new(encode()));
    match cached.downcast_ref::<Arc<str>>() {
        Some(text) => text.clone(),
        None => encode(),
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
pub fn set(service: &str, cached: &CachedService, snapshot: &Snapshot, index: &str) -> String {
    let encode = |found: &Arc<Instance>| instance(cached, found);
    let instances: Vec<Arc<str>> = snapshot.online().iter().map(encode).collect();
    let leader = snapshot.leader().map_or("null".into(), encode);
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
