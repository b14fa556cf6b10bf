//! Times as people write them: `500ms`, `10s`, `2m`, `1h`, or a number of seconds. Pure.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// The longest time that is taken. Longer than anybody waits, and short enough to be added to a clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The time that a text means.
pub fn parse(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let time = number.checked_mul(millis).map(Duration::from_millis);
    time.filter(|time| *time <= LONGEST)
}

/// A time in a configuration file or in a body: more than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        from.deserialize_any(Written)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{}ms", self.0.as_millis()))
    }
}

struct Written;

impl Visitor<'_> for Written {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as \"500ms\", \"10s\" or \"2m\", or a number of seconds")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        let bad = || E::invalid_value(de::Unexpected::Str(text), &self);
        let time = parse(text).filter(|time| !time.is_zero());
        time.map(Span).ok_or_else(bad)
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Span, E> {
        self.visit_str(&seconds.to_string())
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
        self.visit_str(&seconds.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_with_a_unit_or_seconds() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("3", 3000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in [
            "",
            "s",
            "-1s",
            "1.5s",
            "1d",
            "9999999h",
            "99999999999999999999m",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let span: Span = serde_json::from_str("5").unwrap();
        assert_eq!(span, Span(Duration::from_secs(5)));
        let again = serde_json::to_string(&span).unwrap();
        assert_eq!(serde_json::from_str::<Span>(&again).unwrap(), span);
        assert!(serde_json::from_str::<Span>("0").is_err(), "no time at all");
        assert!(serde_json::from_str::<Span>("\"soon\"").is_err());
    }
}
