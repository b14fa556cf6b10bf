//! What is shown to people, and to programs.

use std::io::{IsTerminal, Write};

use discover_core::{Event, Instance, Snapshot};
use serde_json::{Value, json};

/// Writes to the standard output; a reader that is gone is no error.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Whether a person is looking, who likes colours.
pub fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !unwanted
}

/// A set as a table, oldest first.
pub fn table(snapshot: &Snapshot) -> String {
    let leader = snapshot.leader().map(|leader| leader.id());
    let rows: Vec<[String; 3]> = snapshot
        .online()
        .iter()
        .map(|i| {
            let mark = if Some(i.id()) == leader { "leader" } else { "" };
            let mark = if i.is_suspect() { "suspect" } else { mark };
            [plain(i.address()), mark.to_owned(), about(i)]
        })
        .collect();
    let width = |at: usize| {
        rows.iter()
            .map(|row| row[at].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    let line = |[address, mark, about]: &[String; 3]| {
        let line = format!("{address:<first$}  {mark:<second$}  {about}");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

/// A set as JSON.
pub fn set(snapshot: &Snapshot) -> Value {
    let online: Vec<Value> = snapshot.online().iter().map(|i| instance(i)).collect();
    json!({
        "state": snapshot.state().name(),
        "leader": snapshot.leader().map(|leader| leader.id()),
        "instances": online,
    })
}

/// An event as a line of JSON.
pub fn event_json(event: &Event) -> String {
    let mut line = json!({ "event": event.kind() });
    if let Some(of) = event.instance() {
        line["instance"] = instance(of);
    }
    if let Some(error) = event.error() {
        line["error"] = json!({ "kind": error.kind().name(), "detail": error.report() });
    }
    format!("{line}\n")
}

/// An event as a line for people.
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
        (Some(of), _) => format!("{}  {}", plain(of.address()), about(of)),
        (None, Some(error)) => plain(&error.report()),
        (None, None) => String::new(),
    };
    format!("{}\n", format!("{kind}{rest}").trim_end())
}

fn instance(of: &Instance) -> Value {
    json!({
        "id": of.id(),
        "address": of.address(),
        "attributes": of.attributes(),
        "tags": of.tags(),
        "created": of.created(),
        "suspect": of.is_suspect(),
    })
}

fn about(of: &Instance) -> String {
    let attributes = of.attributes().iter();
    let attributes = attributes.map(|(name, value)| plain(&format!("{name}={value}")));
    let tags = of.tags().iter().map(|tag| plain(&format!("#{tag}")));
    attributes.chain(tags).collect::<Vec<String>>().join(" ")
}

/// What others wrote, without what a terminal would take for an order.
fn plain(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() || is_invisible(c) {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

/// Marks that turn the direction of what follows.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use discover_core::Registration;
    use std::sync::Arc;

    fn made(value: &str) -> Arc<Instance> {
        let web = Registration::new("web", 80).unwrap().host("h").unwrap();
        let web = web.attributes([("v", value)]).unwrap();
        Arc::new(web.tags(["a"]).unwrap().instance(3))
    }

    #[test]
    fn an_event_is_one_line_and_coloured_only_for_terminals() {
        let up = Event::Up(made("1"));
        assert_eq!(event_text(&up, false), "up      h:80  v=1 #a\n");
        assert!(event_text(&up, true).starts_with("\u{1b}[32mup"));
        assert_eq!(event_text(&Event::Leader(None), false), "leader\n");
        let line: Value = serde_json::from_str(&event_json(&up)).unwrap();
        assert_eq!(line["instance"]["attributes"]["v"], "1");
    }

    #[test]
    fn what_others_wrote_gives_a_terminal_no_orders() {
        let text = event_text(&Event::Up(made("\u{1b}[2J\n\u{202e}x")), false);
        assert_eq!(text.matches(char::is_control).count(), 1, "{text:?}");
        assert!(!text.contains('\u{202e}'));
    }
}
