//! The log on the standard error output, as lines of text or of JSON.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Log, Metadata, Record};
use serde_json::json;

use crate::config::{LogConfig, LogFormat};

struct StderrLogger {
    json: bool,
}

/// Installs the logger of the process. Does nothing if there is one already.
pub fn start(config: LogConfig) {
    let json = config.format == LogFormat::Json;
    if log::set_boxed_logger(Box::new(StderrLogger { json })).is_ok() {
        log::set_max_level(config.level);
    }
}

impl Log for StderrLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Of other crates, only warnings and errors are logged.
        let is_own = metadata.target().starts_with("discover");
        is_own || metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let line = write_line(self.json, now.as_millis() as u64, record);
        // A failure to write the log cannot be reported.
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
    // Foreign text must not forge a line of the log.
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
    fn control_characters_do_not_break_a_log_line() {
        let args = format_args!("a\nb\u{1b}[31m");
        let record = Record::builder().args(args).level(log::Level::Warn).build();
        let line = write_line(false, 1234, &record);
        assert_eq!(line, "1.234 warn  a\\nb\\u{1b}[31m\n");
        let line = write_line(true, 1234, &record);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains(r#""text":"a\nb"#), "{line}");
    }
}
