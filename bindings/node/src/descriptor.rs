//! What a program asks for in a line of text.

use std::collections::BTreeMap;

use discover_core::embed::Descriptor;
use napi_derive::napi;
use serde_json::{Value, json};

use crate::error::{Result, failure};

/// Reads a descriptor, as JSON.
#[napi]
pub fn parse_descriptor(text: String) -> Result<String> {
    let read = Descriptor::parse(&text).map_err(failure)?;
    Ok(fields(&read).to_string())
}

/// The descriptors among variables, as a JSON list of pairs of a name and a descriptor.
#[napi]
pub fn descriptors_from_pairs(
    prefix: String,
    #[napi(ts_arg_type = "Record<string, string>")] pairs: BTreeMap<String, String>,
) -> Result<String> {
    let read = Descriptor::from_pairs(&prefix, pairs).map_err(failure)?;
    let pairs = read.iter().map(|(name, one)| json!([name, fields(one)]));
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
