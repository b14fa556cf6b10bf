//! The log, on standard error: lines of text, or of JSON.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Log, Metadata, Record};
use serde_json::json;

use crate::config::{LogConfig, LogFormat};

struct Lines {
    json: bool,
}

/// Starts to write the log.
pub fn start(config: LogConfig) {
    let json = config.format == LogFormat::Json;
    if log::set_boxed_logger(Box::new(Lines { json })).is_ok() {
        log::set_max_level(config.level);
    }
}

impl Log for Lines {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        // Other crates' own affairs are told only when they go wrong.
        let ours = about.target().starts_with("discover");
        ours || about.level() <= log::Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let line = write_line(self.json, since.as_millis() as u64, record);
        // There is nobody to tell that nobody reads the log.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

fn write_line(as_json: bool, millis: u64, record: &Record<'_>) -> String {
    let level = record.level().as_str().to_lowercase();
    let text = record.args().to_string();
    if as_json {
        let target = record.target();
        let line = json!({ "at_ms": millis, "level": level, "target": target, "text": text });
        return format!("{line}\n");
    }
    // What others wrote must not look like a line of ours.
    let plain: String = text
        .chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<char>>(),
            false => vec![c],
        })
        .collect();
    let (seconds, millis) = (millis / 1000, millis % 1000);
    format!("{seconds}.{millis:03} {level:<5} {plain}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let args = format_args!("a\nb\u{1b}[31m");
        let record = Record::builder().args(args).level(log::Level::Warn).build();
        let line = write_line(false, 1234, &record);
        assert_eq!(line, "1.234 warn  a\\nb\\u{1b}[31m\n");
        let line = write_line(true, 1234, &record);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains(r#""text":"a\nb"#), "{line}");
    }
}
