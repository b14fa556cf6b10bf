//! Output of the commands: tables and lines for people, JSON for programs.

use std::io::{IsTerminal, Write};

use discover_core::{Event, Instance, Snapshot, printable_excerpt};
use serde_json::{Value, json};

/// Writes to the standard output. Ignores a reader that has closed its end.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a remark to the standard error output.
pub fn note(text: &str) {
    // A failure cannot be reported anywhere.
    let _ = writeln!(std::io::stderr(), "discoverd: {text}");
}

/// Returns true if the standard output is a terminal and `NO_COLOR` is not set.
pub fn use_colours() -> bool {
    let is_disabled = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !is_disabled
}

/// Formats the online instances of a set as a table, oldest first.
pub fn table(snapshot: &Snapshot) -> String {
    let leader = snapshot.leader().map(|leader| leader.id());
    let rows: Vec<[String; 3]> = snapshot
        .online()
        .iter()
        .map(|i| {
            let mark = if Some(i.id()) == leader { "leader" } else { "" };
            let mark = if i.is_suspect() { "suspect" } else { mark };
            [printable(i.address()), mark.to_owned(), details(i)]
        })
        .collect();
    columns(&rows)
}

/// Formats rows of cells as lines with aligned columns.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|at| width(at).unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<String>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

/// Returns a set as JSON.
pub fn set(snapshot: &Snapshot) -> Value {
    let online: Vec<Value> = snapshot.online().iter().map(|i| instance(i)).collect();
    json!({
        "state": snapshot.state().name(),
        "leader": snapshot.leader().map(|leader| leader.id()),
        "instances": online,
    })
}

/// Formats an event as one line of JSON.
pub fn event_json(event: &Event) -> String {
    let mut line = json!({ "event": event.kind() });
    if let Some(found) = event.instance() {
        line["instance"] = instance(found);
    }
    if let Some(error) = event.error() {
        line["error"] = json!({ "kind": error.kind().name(), "detail": error.report() });
    }
    format!("{line}\n")
}

/// Formats an event as one line for people.
pub fn event_text(event: &Event, colours: bool) -> String {
    let colour = match event {
        Event::Up(_) | Event::Fresh => "32",
        Event::Down(_) => "31",
        Event::Update(_) | Event::Stale(_) => "33",
        Event::Leader(_) | Event::Current => "36",
    };
    let kind = format!("{:<8}", event.kind());
    let kind = match colours {
        true => format!("\u{1b}[{colour}m{kind}\u{1b}[0m"),
        false => kind,
    };
    let rest = match (event.instance(), event.error()) {
        (Some(instance), _) => format!("{}  {}", printable(instance.address()), details(instance)),
        (None, Some(error)) => printable(&error.report()),
        (None, None) => String::new(),
    };
    format!("{}\n", format!("{kind}{rest}").trim_end())
}

fn instance(instance: &Instance) -> Value {
    json!({
        "id": instance.id(),
        "address": instance.address(),
        "attributes": instance.attributes(),
        "tags": instance.tags(),
        "created": instance.created(),
        "suspect": instance.is_suspect(),
    })
}

fn details(instance: &Instance) -> String {
    let attributes = instance.attributes().iter();
    let attributes = attributes.map(|(name, value)| printable(&format!("{name}={value}")));
    let tags = instance
        .tags()
        .iter()
        .map(|tag| printable(&format!("#{tag}")));
    attributes.chain(tags).collect::<Vec<String>>().join(" ")
}

/// Escapes characters of foreign text that a terminal interprets.
pub fn printable(text: &str) -> String {
    printable_excerpt(text, usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use discover_core::Registration;
    use std::sync::Arc;

    fn web_instance(value: &str) -> Arc<Instance> {
        let web = Registration::new("web", 80).unwrap().host("h").unwrap();
        let web = web.attributes([("v", value)]).unwrap();
        Arc::new(web.tags(["a"]).unwrap().instance(3))
    }

    #[test]
    fn an_event_is_one_line_and_coloured_only_for_terminals() {
        let up = Event::Up(web_instance("1"));
        assert_eq!(event_text(&up, false), "up      h:80  v=1 #a\n");
        assert!(event_text(&up, true).starts_with("\u{1b}[32mup"));
        assert_eq!(event_text(&Event::Leader(None), false), "leader\n");
        let line: Value = serde_json::from_str(&event_json(&up)).unwrap();
        assert_eq!(line["instance"]["attributes"]["v"], "1");
    }

    #[test]
    fn control_characters_of_instances_do_not_reach_the_terminal() {
        let text = event_text(&Event::Up(web_instance("\u{1b}[2J\n\u{202e}x")), false);
        assert_eq!(text.matches(char::is_control).count(), 1, "{text:?}");
        assert!(!text.contains('\u{202e}'));
    }
}
