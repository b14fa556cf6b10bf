//! The log of the agent on the standard error output, as lines of text or of JSON.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::SystemTime;

use discover_core::printable_excerpt;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};
use crate::rfc3339::rfc3339;

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
        let time = rfc3339(SystemTime::now());
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
}
