//! JSON encoding of instances, used by the cache files and the API of the agent.

use serde_json::{Value, json};

use crate::model::{Attributes, Instance, ServiceName};

/// Encodes all fields that `decode` needs.
pub(crate) fn encode(instance: &Instance) -> Value {
    json!({
        "id": instance.id(),
        "host": instance.host(),
        "port": instance.port(),
        "attributes": instance.attributes(),
        "tags": instance.tags(),
        "created": instance.created(),
        "layouts": instance.layouts(),
    })
}

/// Decodes an instance. Returns none if a field is missing or malformed, or a text contains a NUL character; ignores
/// unknown fields.
pub(crate) fn decode(service: &ServiceName, record: &Value) -> Option<Instance> {
    let text = |value: &Value| Some(value.as_str()?.to_owned());
    let attributes = record["attributes"].as_object()?.iter();
    let attributes: Option<Attributes> = attributes
        .map(|(k, v)| Some((k.clone(), text(v)?)))
        .collect();
    let tags: Option<Vec<String>> = record["tags"].as_array()?.iter().map(text).collect();
    let port = u16::try_from(record["port"].as_u64()?).ok()?;
    let instance = Instance::new(
        service.clone(),
        record["id"].as_str()?,
        record["host"].as_str()?,
        port,
        attributes?,
        tags?,
        record["created"].as_u64()?,
    );
    if instance.contains_nul() {
        return None;
    }
    // The field `layouts` is optional.
    let layouts = record["layouts"].as_array();
    let layouts: Option<Vec<String>> =
        layouts.map_or(Some(Vec::new()), |all| all.iter().map(text).collect());
    let instance = instance.with_layouts(layouts?.into());
    let suspect = record["suspect"].as_bool().unwrap_or(false);
    Some(if suspect {
        instance.to_suspect()
    } else {
        instance
    })
}
