//! JSON as Go's encoding/json reads and writes it, which most of the older systems store.
//!
//! Writing: no spaces, members in the order of the struct, maps ordered by name, `null` for an empty map; `<`, `>`, `&` and
//! Unicode line separators escaped. Reading: member names match in any case, unknown members are ignored, and `null` is
//! empty.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::kv::MAX_VALUE_BYTES;
use crate::model::{Attributes, MAX_ATTRIBUTES};

/// Writes an object with its members in the given order.
pub(super) struct Writer(String);

impl Writer {
    pub(super) fn new() -> Writer {
        Writer("{".to_owned())
    }

    pub(super) fn value(mut self, name: &str, value: impl Into<Value>) -> Writer {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0
            .push_str(&format!("{}:{}", Value::from(name), value.into()));
        self
    }

    /// Adds a string, unless it is empty.
    pub(super) fn optional_string(self, name: &str, text: &str) -> Writer {
        match text {
            "" => self,
            text => self.value(name, text),
        }
    }

    /// Adds a boolean, unless it is false.
    pub(super) fn optional_bool(self, name: &str, flag: bool) -> Writer {
        if flag { self.value(name, true) } else { self }
    }

    /// Adds a map of strings; `null` if it is empty.
    pub(super) fn map(self, name: &str, map: &Attributes) -> Writer {
        self.value(name, map_or_null(map))
    }

    /// Adds a map of strings, unless it is empty.
    pub(super) fn optional_map(self, name: &str, map: &Attributes) -> Writer {
        if map.is_empty() {
            self
        } else {
            self.map(name, map)
        }
    }

    /// Adds a list of strings, unless it is empty.
    pub(super) fn optional_list(self, name: &str, list: &[String]) -> Writer {
        if list.is_empty() {
            self
        } else {
            self.value(name, list.to_vec())
        }
    }

    /// Adds a list of one object.
    pub(super) fn list_of(mut self, name: &str, one: Writer) -> Writer {
        self = self.value(name, "");
        // Replaces the placeholder of the empty string.
        self.0.truncate(self.0.len() - 2);
        self.0.push_str(&format!("[{}}}]", one.0));
        self
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.0.push('}');
        encode(&self.0)
    }
}

/// Returns a map of strings, or `null` if it is empty.
pub(super) fn map_or_null(map: &Attributes) -> Value {
    match map.is_empty() {
        true => Value::Null,
        false => map.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
    }
}

/// Encodes a document as Go does. The escaped characters occur in strings only.
pub(super) fn encode(json: &str) -> Result<Vec<u8>> {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    match text.len() {
        n if n > MAX_VALUE_BYTES => Err(Error::invalid(format!(
            "attributes and tags have {n} bytes in JSON; the limit is {MAX_VALUE_BYTES}"
        ))),
        _ => Ok(text.into_bytes()),
    }
}

/// A parsed object.
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub(super) fn parse(value: &[u8]) -> std::result::Result<Object, String> {
        if value.len() > MAX_VALUE_BYTES {
            let n = value.len();
            return Err(format!(
                "the value has {n} bytes; the limit is {MAX_VALUE_BYTES}"
            ));
        }
        match serde_json::from_slice(value) {
            Ok(Value::Object(members)) => Ok(Object(members)),
            Ok(_) => Err("the value is JSON, but no object".to_owned()),
            Err(e) => Err(format!("the value is not a JSON object: {e}")),
        }
    }

    pub(super) fn of(value: &Value) -> Option<Object> {
        value.as_object().cloned().map(Object)
    }

    /// Returns the member with this name, in any case.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let any_case = || {
            let mut all = self.0.iter();
            all.find(|(other, _)| other.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        };
        self.0
            .get(name)
            .or_else(any_case)
            .filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Returns a string; empty if it is missing.
    pub(super) fn text(&self, name: &str) -> std::result::Result<&str, String> {
        match self.get(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(format!("{name} is not a string")),
        }
    }

    pub(super) fn flag(&self, name: &str) -> std::result::Result<bool, String> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(format!("{name} is not a boolean")),
        }
    }

    /// Returns a map of strings; empty if it is missing.
    pub(super) fn map(&self, name: &str) -> std::result::Result<Attributes, String> {
        let Some(value) = self.get(name) else {
            return Ok(Attributes::new());
        };
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.into()));
        let map = value.as_object().map(|map| map.iter().map(text).collect());
        map.flatten()
            .ok_or_else(|| format!("{name} is not an object of strings"))
    }

    /// Returns a list of strings; empty if it is missing.
    pub(super) fn list(&self, name: &str) -> std::result::Result<Vec<String>, String> {
        let Some(value) = self.get(name) else {
            return Ok(Vec::new());
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let list = value.as_array().map(|list| list.iter().map(text).collect());
        list.flatten()
            .ok_or_else(|| format!("{name} is not a list of strings"))
    }

    /// Adds the members that are not in `known`, so that members of other programs survive a rewrite.
    pub(super) fn add_unknown(&self, mut writer: Writer, known: &[&str]) -> Writer {
        let is_known = |name: &str| known.iter().any(|k| k.eq_ignore_ascii_case(name));
        for (name, value) in self.0.iter().filter(|(name, _)| !is_known(name)) {
            writer = writer.value(name, value.clone());
        }
        writer
    }
}

/// Returns `fresh` with the unknown members of `before`; `fresh` alone if there are none.
pub(super) fn keep_unknown(fresh: &[u8], before: &[u8], known: &[&str]) -> Option<Vec<u8>> {
    let before = Object::parse(before).ok()?;
    let fresh = std::str::from_utf8(fresh).ok()?.strip_suffix('}')?;
    before
        .add_unknown(Writer(fresh.to_owned()), known)
        .finish()
        .ok()
}

/// Parses a number, or a string that contains one, as a port.
pub(super) fn port(value: &Value) -> Option<u16> {
    let port = match value {
        Value::String(text) => text.parse().ok()?,
        other => u16::try_from(other.as_u64()?).ok()?,
    };
    (port > 0).then_some(port)
}

/// Checks that there are no more attributes than an instance may have.
pub(super) fn check_count(attributes: &Attributes) -> std::result::Result<(), String> {
    match attributes.len() {
        n if n > MAX_ATTRIBUTES => Err(format!("{n} attributes; the limit is {MAX_ATTRIBUTES}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E14, byte for byte.
    #[test]
    fn writes_as_go_does() {
        let odd = "\u{1}\t\n\r\u{8}\u{c}<a&b>\u{7f}é\u{2028}\u{2029}\"\\/";
        let map = Attributes::from([("b".into(), "2".into()), ("a".into(), "1".into())]);
        let written = Writer::new()
            .value("odd", odd)
            .map("map", &map)
            .map("none", &Attributes::new())
            .optional_string("left", "")
            .optional_bool("out", false)
            .finish();
        let expected = "{\"odd\":\"\\u0001\\t\\n\\r\\b\\f\\u003ca\\u0026b\\u003e\u{7f}é\\u2028\\u2029\\\"\\\\/\",\
                        \"map\":{\"a\":\"1\",\"b\":\"2\"},\"none\":null}";
        assert_eq!(String::from_utf8(written.unwrap()).unwrap(), expected);
    }

    /// E14: names in any case, the exact one first; `null` is empty.
    #[test]
    fn reads_as_go_does() {
        let read = Object::parse(br#"{"ADDR":"a","addr":"b","None":null,"n":3}"#).unwrap();
        assert_eq!(read.text("addr"), Ok("b"));
        assert_eq!(read.text("Addr"), Ok("a"));
        assert_eq!(read.text("none"), Ok(""));
        assert!(read.text("n").unwrap_err().contains("n is not a string"));
    }

    #[test]
    fn unknown_members_survive_a_rewrite() {
        let before = br#"{"id":"old","mine":{"deep":[1]},"null":null}"#;
        let kept = keep_unknown(br#"{"id":"new"}"#, before, &["id"]).unwrap();
        assert_eq!(
            String::from_utf8(kept).unwrap(),
            r#"{"id":"new","mine":{"deep":[1]},"null":null}"#
        );
        assert_eq!(keep_unknown(b"{}", b"10.0.0.1:80", &[]), None);
    }
}
