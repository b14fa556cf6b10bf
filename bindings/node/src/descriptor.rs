//! Descriptors: service requirements in one line of text.

use std::collections::BTreeMap;

use discover_core::embed::Descriptor;
use napi_derive::napi;
use serde_json::{Value, json};

use crate::error::{Result, failure};

/// Parses a descriptor and returns its fields as JSON.
#[napi]
pub fn parse_descriptor(text: String) -> Result<String> {
    let descriptor = Descriptor::parse(&text).map_err(failure)?;
    Ok(fields(&descriptor).to_string())
}

/// Reads the descriptors in a set of variables. Returns a JSON list of pairs of a name and a descriptor.
#[napi]
pub fn descriptors_from_pairs(
    prefix: String,
    #[napi(ts_arg_type = "Record<string, string>")] pairs: BTreeMap<String, String>,
) -> Result<String> {
    let descriptors = Descriptor::from_pairs(&prefix, pairs).map_err(failure)?;
    let pairs = descriptors.iter();
    let pairs = pairs.map(|(name, descriptor)| json!([name, fields(descriptor)]));
    Ok(Value::from_iter(pairs).to_string())
}

fn fields(descriptor: &Descriptor) -> Value {
    json!({
        "service": descriptor.service(),
        "path": descriptor.path(),
        "tags": descriptor.tags(),
        "port": descriptor.port(),
        "protocol": descriptor.protocol().name(),
        "text": descriptor.to_string(),
    })
}
