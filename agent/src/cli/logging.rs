//! The log of the agent on the standard error output, as lines of text or of JSON.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use discover_core::printable_excerpt;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// Target prefix of the agent and the library.
const OWN_TARGET: &str = "discover";
/// Fields that come first in a line of text, in this order.
const LEADING_FIELDS: [&str; 5] = ["service", "instance", "endpoint", "backend", "error"];
/// Maximum length of the message and of each field, in characters.
const MAX_TEXT_CHARS: usize = 4096;
/// Prefix of the fields that carry the metadata of records of the `log` crate.
const LOG_CRATE_PREFIX: &str = "log.";

/// Installs the subscriber that writes the log. Of other crates, only warnings and errors are logged.
pub fn start(config: LogConfig) {
    let filter = Targets::new()
        .with_default(config.level.min(Level::WARN.into()))
        .with_target(OWN_TARGET, config.level);
    let lines = LineLayer {
        format: config.format,
    };
    // Fails only if the process has a subscriber already.
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
}

/// Writes each event as one line.
struct LineLayer {
    format: LogFormat,
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        // Records of the `log` crate carry their own target in fields.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = rfc3339(since.unwrap_or_default().as_millis() as u64);
        let line = match self.format {
            LogFormat::Text => fields.text_line(&time, *metadata.level()),
            LogFormat::Json => fields.json_line(&time, *metadata.level(), metadata.target()),
        };
        // A failure to write the log cannot be logged.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// The message and the fields of an event.
#[derive(Default)]
struct EventFields {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl EventFields {
    fn add(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => self.message = plain(&value),
            name if name.starts_with(LOG_CRATE_PREFIX) => {}
            name => self.fields.push((name, value)),
        }
    }

    /// Returns `TIME LEVEL MESSAGE KEY=VALUE…`. Long values are cut and control characters escaped, so that text of
    /// other parties cannot look like a line of the log.
    fn text_line(mut self, time: &str, level: Level) -> String {
        let position = |name: &str| {
            let position = LEADING_FIELDS.iter().position(|leading| *leading == name);
            position.unwrap_or(LEADING_FIELDS.len())
        };
        self.fields.sort_by_key(|(name, _)| position(name));
        let level = level_name(level);
        let message = printable_excerpt(&self.message, MAX_TEXT_CHARS);
        let mut line = format!("{time} {level:<5} {message}");
        for (name, value) in &self.fields {
            let value = printable_excerpt(&plain(value), MAX_TEXT_CHARS);
            let is_simple = |c: char| !c.is_whitespace() && c != '"';
            // Writing to a string does not fail.
            let _ = match !value.is_empty() && value.chars().all(is_simple) {
                true => write!(line, " {name}={value}"),
                false => write!(line, " {name}=\"{}\"", value.replace('"', "\\\"")),
            };
        }
        line.push('\n');
        line
    }

    /// Returns an object with `time`, `level`, `target`, `message` and the fields.
    fn json_line(self, time: &str, level: Level, target: &str) -> String {
        let mut line = String::new();
        let keys = [
            ("time", Value::from(time)),
            ("level", Value::from(level_name(level))),
            ("target", Value::from(target)),
            ("message", cut(Value::from(self.message))),
        ];
        for (name, value) in keys.into_iter().chain(self.fields) {
            let separator = if line.is_empty() { '{' } else { ',' };
            // Writing to a string does not fail.
            let _ = write!(line, "{separator}{}:{}", Value::from(name), cut(value));
        }
        line.push_str("}\n");
        line
    }
}

impl Visit for EventFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::from(value));
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Cuts a long text, which may come from another party. JSON escapes control characters.
fn cut(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() > MAX_TEXT_CHARS => {
            printable_excerpt(&text, MAX_TEXT_CHARS).into()
        }
        other => other,
    }
}

/// Formats milliseconds since the Unix epoch by RFC 3339, in UTC.
fn rfc3339(millis: u64) -> String {
    let (days, day_millis) = (millis / 86_400_000, millis % 86_400_000);
    let (seconds, millis) = (day_millis / 1000, day_millis % 1000);
    // Days are counted from 0000-03-01, so that a leap day ends a year of the 400-year cycle.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> EventFields {
        EventFields {
            message: "a\nb\u{1b}[31m".to_owned(),
            fields: vec![
                ("count", Value::from(3)),
                ("error", Value::from("no \"way\"\n")),
                ("service", Value::from("web")),
            ],
        }
    }

    #[test]
    fn a_line_of_text_has_the_fields_and_no_control_characters() {
        let line = fields().text_line("T", Level::WARN);
        let expected = r#"T warn  a\nb\u{1b}[31m service=web error="no \"way\"\n" count=3"#;
        assert_eq!(line, format!("{expected}\n"));
    }

    #[test]
    fn text_of_other_parties_is_cut_and_cannot_reorder_a_line() {
        let hostile = || EventFields {
            message: "x".repeat(10_000),
            fields: vec![(
                "error",
                Value::from(format!("\u{202e}{}", "y".repeat(10_000))),
            )],
        };
        let text = hostile().text_line("T", Level::WARN);
        assert!(
            text.contains("error=\\u{202e}yy") && text.len() < 9000,
            "{text}"
        );
        assert!(hostile().json_line("T", Level::WARN, "t").len() < 9000);
    }

    #[test]
    fn a_line_of_json_has_the_usual_keys() {
        let line = fields().json_line("T", Level::INFO, "discoverd");
        assert_eq!(line.matches('\n').count(), 1);
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&object["time"], &object["level"]),
            (&"T".into(), &"info".into())
        );
        assert_eq!(object["message"], "a\nb\u{1b}[31m");
        assert_eq!(
            (&object["service"], &object["count"]),
            (&"web".into(), &3.into())
        );
    }

    #[test]
    fn times_are_in_rfc_3339() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_798_761_600_123, "2027-01-01T00:00:00.123Z"),
        ] {
            assert_eq!(rfc3339(millis), expected);
        }
    }
}
