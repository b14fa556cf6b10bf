//! Detection of names that occur twice in one JSON object. Of two values, a parser may use either, so a program in
//! front of the agent could see another registration than the agent. Pure.

use std::collections::HashSet;
use std::fmt;

use discover_core::printable_excerpt;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Maximum length of a repeated name in the message, in characters.
const MAX_NAME_CHARS: usize = 128;

/// A JSON value without repeated names, at any depth. The value itself is dropped.
pub struct UniqueNames;

impl<'de> Deserialize<'de> for UniqueNames {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<UniqueNames, D::Error> {
        from.deserialize_any(UniqueNames)
    }
}

impl<'de> Visitor<'de> for UniqueNames {
    type Value = UniqueNames;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<UniqueNames, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<UniqueNames, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<UniqueNames, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<UniqueNames, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<UniqueNames, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<UniqueNames, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<UniqueNames, A::Error> {
        while items.next_element::<UniqueNames>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<UniqueNames, A::Error> {
        let mut names = HashSet::new();
        while let Some((name, _)) = members.next_entry::<String, UniqueNames>()? {
            if names.contains(&name) {
                let name = printable_excerpt(&name, MAX_NAME_CHARS);
                return Err(A::Error::custom(format!(
                    "the name \"{name}\" is given twice"
                )));
            }
            names.insert(name);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_occur_once_in_each_object() {
        let check = |json: &str| serde_json::from_str::<UniqueNames>(json).map(|_| ());
        check(r#"{"a": {"a": [1, -1, 1.5, true, null, "x"]}, "b": {"a": {}}}"#).unwrap();
        for repeated in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#] {
            let error = check(repeated).unwrap_err().to_string();
            assert!(error.contains("\"a\" is given twice"), "{error}");
        }
    }
}
