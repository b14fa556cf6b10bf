//! JSON as Go writes and reads it: what most of the older systems put into a store.
//!
//! Written: no spaces, members in the order of the struct, maps by name, `null` for an empty map, and
//! `<`, `>`, `&` and the line separators of Unicode escaped. Read: names match whatever their case,
//! unknown members are passed over, and `null` is nothing.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::kv::MAX_VALUE_BYTES;
use crate::model::{Attributes, MAX_ATTRIBUTES};

/// An object being written, its members in the order in which they are given.
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

    /// Left out when it is empty.
    pub(super) fn some_text(self, name: &str, text: &str) -> Writer {
        match text {
            "" => self,
            text => self.value(name, text),
        }
    }

    /// Left out when it is false.
    pub(super) fn some_flag(self, name: &str, flag: bool) -> Writer {
        if flag { self.value(name, true) } else { self }
    }

    /// A map of texts; `null` when it is empty.
    pub(super) fn map(self, name: &str, map: &Attributes) -> Writer {
        self.value(name, map_or_null(map))
    }

    /// A map of texts; left out when it is empty.
    pub(super) fn some_map(self, name: &str, map: &Attributes) -> Writer {
        if map.is_empty() {
            self
        } else {
            self.map(name, map)
        }
    }

    /// A list of texts; left out when it is empty.
    pub(super) fn some_list(self, name: &str, list: &[String]) -> Writer {
        if list.is_empty() {
            self
        } else {
            self.value(name, list.to_vec())
        }
    }

    /// A list of one object.
    pub(super) fn list_of(mut self, name: &str, one: Writer) -> Writer {
        self = self.value(name, "");
        // In the place of the empty text.
        self.0.truncate(self.0.len() - 2);
        self.0.push_str(&format!("[{}}}]", one.0));
        self
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.0.push('}');
        written(&self.0)
    }
}

/// A map of texts, `null` when it is empty.
pub(super) fn map_or_null(map: &Attributes) -> Value {
    match map.is_empty() {
        true => Value::Null,
        false => map.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
    }
}

/// A document as Go has it. The signs that are escaped occur in texts only.
pub(super) fn written(json: &str) -> Result<Vec<u8>> {
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

/// An object that was read.
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

    /// The member of that name, in this case or any other.
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

    /// A text; empty without one.
    pub(super) fn text(&self, name: &str) -> std::result::Result<&str, String> {
        match self.get(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(format!("{name} is no text")),
        }
    }

    pub(super) fn flag(&self, name: &str) -> std::result::Result<bool, String> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(format!("{name} is neither true nor false")),
        }
    }

    /// A map of texts; empty without one.
    pub(super) fn map(&self, name: &str) -> std::result::Result<Attributes, String> {
        let Some(value) = self.get(name) else {
            return Ok(Attributes::new());
        };
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.into()));
        let map = value.as_object().map(|map| map.iter().map(text).collect());
        map.flatten()
            .ok_or_else(|| format!("{name} is no object of texts"))
    }

    /// A list of texts; empty without one.
    pub(super) fn list(&self, name: &str) -> std::result::Result<Vec<String>, String> {
        let Some(value) = self.get(name) else {
            return Ok(Vec::new());
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let list = value.as_array().map(|list| list.iter().map(text).collect());
        list.flatten()
            .ok_or_else(|| format!("{name} is no list of texts"))
    }

    /// Adds what was in a record before and is none of `known`: what others keep there, they keep.
    pub(super) fn add_unknown(&self, mut writer: Writer, known: &[&str]) -> Writer {
        let is_known = |name: &str| known.iter().any(|k| k.eq_ignore_ascii_case(name));
        for (name, value) in self.0.iter().filter(|(name, _)| !is_known(name)) {
            writer = writer.value(name, value.clone());
        }
        writer
    }
}

/// The members of `before` that `fresh` does not know, added to it; just `fresh` where there is nothing
/// to add, or no object.
pub(super) fn keep_unknown(fresh: &[u8], before: &[u8], known: &[&str]) -> Option<Vec<u8>> {
    let before = Object::parse(before).ok()?;
    let fresh = std::str::from_utf8(fresh).ok()?.strip_suffix('}')?;
    before
        .add_unknown(Writer(fresh.to_owned()), known)
        .finish()
        .ok()
}

/// A number, or a text that is one, as a port.
pub(super) fn port(value: &Value) -> Option<u16> {
    let port = match value {
        Value::String(text) => text.parse().ok()?,
        other => u16::try_from(other.as_u64()?).ok()?,
    };
    (port > 0).then_some(port)
}

/// No more attributes than an instance may have.
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
            .some_text("left", "")
            .some_flag("out", false)
            .finish();
        let expected = "{\"odd\":\"\\u0001\\t\\n\\r\\b\\f\\u003ca\\u0026b\\u003e\u{7f}é\\u2028\\u2029\\\"\\\\/\",\
                        \"map\":{\"a\":\"1\",\"b\":\"2\"},\"none\":null}";
        assert_eq!(String::from_utf8(written.unwrap()).unwrap(), expected);
    }

    /// E14: names in any case, the exact one first; `null` is nothing.
    #[test]
    fn reads_as_go_does() {
        let read = Object::parse(br#"{"ADDR":"a","addr":"b","None":null,"n":3}"#).unwrap();
        assert_eq!(read.text("addr"), Ok("b"));
        assert_eq!(read.text("Addr"), Ok("a"));
        assert_eq!(read.text("none"), Ok(""));
        assert!(read.text("n").unwrap_err().contains("n is no text"));
    }

    #[test]
    fn what_others_keep_in_a_record_is_kept() {
        let before = br#"{"id":"old","mine":{"deep":[1]},"null":null}"#;
        let kept = keep_unknown(br#"{"id":"new"}"#, before, &["id"]).unwrap();
        assert_eq!(
            String::from_utf8(kept).unwrap(),
            r#"{"id":"new","mine":{"deep":[1]},"null":null}"#
        );
        assert_eq!(keep_unknown(b"{}", b"10.0.0.1:80", &[]), None);
    }
}
