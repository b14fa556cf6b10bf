//! Durations as people write them in URLs, configuration files, the agent's API and on the command line.
//!
//! One grammar for all of them: a decimal number, optionally with a fraction, followed by `ms`, `s`, `m` or
//! `h`; a number without a unit is in seconds. Examples: `500ms`, `1.5s`, `10s`, `2m`, `1h`, `30`.
//!
//! The crate `humantime` is not used: it accepts neither fractions (`1.5s`) nor plain numbers, both of which
//! existing URLs and configuration files contain.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::error::{Error, Result};

const NANOS_PER_SECOND: u128 = 1_000_000_000;
/// Digits of a fraction that count; later ones are below a nanosecond for every unit.
const MAX_FRACTION_DIGITS: usize = 18;

/// Parses a duration.
///
/// # Errors
///
/// Fails with [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the text does not follow
/// the grammar of this module or exceeds the range of [`Duration`]. The message shows the text and examples.
pub fn parse_duration(text: &str) -> Result<Duration> {
    parse(text).ok_or_else(|| Error::invalid(format!("{text:?} is not a duration; {EXPECTED}")))
}

/// The remedy in every error about a duration.
const EXPECTED: &str =
    "write for example 500ms, 1.5s, 10s, 2m or 1h (a number without a unit is in seconds)";

fn parse(text: &str) -> Option<Duration> {
    let unit_start = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let unit_nanos = match unit {
        "ms" => 1_000_000,
        "s" | "" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3600 * NANOS_PER_SECOND,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return None;
    }
    let digits = |digits: &str| match digits {
        "" => Some(0),
        digits => digits.parse::<u128>().ok(),
    };
    let fraction = &fraction[..fraction.len().min(MAX_FRACTION_DIGITS)];
    let fraction_nanos = digits(fraction)? * unit_nanos / 10u128.pow(fraction.len() as u32);
    let nanos = digits(whole)?
        .checked_mul(unit_nanos)?
        .checked_add(fraction_nanos)?;
    let seconds = u64::try_from(nanos / NANOS_PER_SECOND).ok()?;
    Some(Duration::new(seconds, (nanos % NANOS_PER_SECOND) as u32))
}

/// A duration that parses and prints by the grammar of this module: more than zero, at most a year.
///
/// Deserializes from a string or a whole number of seconds. Serializes as a string, in milliseconds where the
/// value is a whole number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// The longest accepted value: longer than any timeout, and short enough to be added to a clock.
    pub const MAX: Duration = Duration::from_secs(365 * 24 * 3600);
}

impl FromStr for HumanDuration {
    type Err = Error;

    fn from_str(text: &str) -> Result<HumanDuration> {
        let duration = parse_duration(text)?;
        if duration.is_zero() || duration > HumanDuration::MAX {
            return Err(Error::invalid(format!(
                "the duration {text:?} is out of range; it must be more than 0 and at most 8760h"
            )));
        }
        Ok(HumanDuration(duration))
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Duration {
        duration.0
    }
}

impl fmt::Display for HumanDuration {
    /// Writes the shortest exact form: `250ms`, `1.5s`, `90s`, `2m`, `1h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit_nanos, unit) = match self.0.as_secs() {
            0 if nanos > 0 => (1_000_000, "ms"),
            seconds if self.0.subsec_nanos() > 0 || seconds % 60 > 0 || seconds == 0 => {
                (NANOS_PER_SECOND, "s")
            }
            seconds if seconds % 3600 > 0 => (60 * NANOS_PER_SECOND, "m"),
            _ => (3600 * NANOS_PER_SECOND, "h"),
        };
        write!(f, "{}", nanos / unit_nanos)?;
        let rest = nanos % unit_nanos;
        if rest > 0 {
            let width = unit_nanos.ilog10() as usize;
            let digits = format!("{rest:0width$}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str(unit)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<HumanDuration, D::Error> {
        from.deserialize_any(HumanDurationVisitor)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0.subsec_nanos() % 1_000_000 {
            0 => to.collect_str(&format_args!("{}ms", self.0.as_millis())),
            _ => to.collect_str(self),
        }
    }
}

struct HumanDurationVisitor;

impl Visitor<'_> for HumanDurationVisitor {
    type Value = HumanDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"500ms\", \"1.5s\" or \"2m\", or a number of seconds, more than 0 and at most 8760h")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<HumanDuration, E> {
        let unexpected = || E::invalid_value(de::Unexpected::Str(text), &self);
        text.parse().map_err(|_| unexpected())
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> std::result::Result<HumanDuration, E> {
        self.visit_str(&seconds.to_string())
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> std::result::Result<HumanDuration, E> {
        self.visit_str(&seconds.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_decimal_number_with_a_unit_or_seconds() {
        for (text, millis) in [
            ("500ms", 500),
            ("0.5s", 500),
            (".5s", 500),
            ("1.5s", 1500),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1.5m", 90_000),
            ("1h", 3_600_000),
            ("3", 3000),
            ("3.", 3000),
            ("0", 0),
            ("1.0000000000000000000000001s", 1000),
        ] {
            assert_eq!(
                parse_duration(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
        let long = parse_duration("18000000000000000000s").unwrap();
        assert_eq!(long.as_secs(), 18_000_000_000_000_000_000);
        for bad in [
            "",
            ".",
            "s",
            "-1s",
            "1d",
            "soon",
            "1.2.3s",
            "1e3s",
            "1 s",
            "99999999999999999999h",
            "\u{661}s",
        ] {
            let error = parse_duration(bad).unwrap_err().to_string();
            assert!(error.contains("500ms, 1.5s"), "{error}");
        }
    }

    #[test]
    fn the_printed_form_is_short_and_parses_to_the_same_value() {
        for text in [
            "0s",
            "250ms",
            "0.25ms",
            "1s",
            "1.5s",
            "59s",
            "90s",
            "2m",
            "61m",
            "1h",
            "24h",
            "1.000000001s",
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(HumanDuration(duration).to_string(), text);
        }
        assert_eq!(HumanDuration(Duration::from_secs(600)).to_string(), "10m");
    }

    #[test]
    fn json_takes_a_string_or_seconds_and_refuses_zero_and_more_than_a_year() {
        let read = serde_json::from_str::<HumanDuration>;
        let five = read("5").unwrap();
        assert_eq!(five, HumanDuration(Duration::from_secs(5)));
        assert_eq!(read("\"1.5s\"").unwrap().0, Duration::from_millis(1500));
        let written = serde_json::to_string(&five).unwrap();
        assert_eq!(written, "\"5000ms\"");
        assert_eq!(read(&written).unwrap(), five);
        for bad in [
            "0",
            "-1",
            "\"soon\"",
            "\"0s\"",
            "\"9999999h\"",
            "\"8760.1h\"",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("\"8760h\"").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_duration_survives_printing_and_parsing(seconds: u64, nanos in 0u32..1_000_000_000) {
            let duration = Duration::new(seconds, nanos);
            let text = HumanDuration(duration).to_string();
            proptest::prop_assert_eq!(parse_duration(&text).unwrap(), duration);
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = parse_duration(&text);
        }
    }
}
