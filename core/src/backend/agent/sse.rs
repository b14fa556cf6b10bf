//! Incremental parser of server-sent events. Pure.

use crate::error::{Error, ErrorKind, Result};

/// The longest accepted event, in bytes: several times the largest record. A line is no longer either.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// One named event of a stream.
#[derive(Debug, PartialEq)]
pub(super) struct Message {
    pub(super) event: String,
    pub(super) data: String,
}

/// Parser of one stream. Comments and events without a name are skipped.
#[derive(Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    event: String,
    data: String,
}

impl Parser {
    /// Adds bytes and returns the events that they complete.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Internal`] if an event is too long.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() + self.data.len() > MAX_EVENT_BYTES {
                let text = format!(
                    "malformed event stream from the agent: an event is longer than {MAX_EVENT_BYTES} bytes"
                );
                return Err(Error::new(ErrorKind::Internal, text));
            }
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                messages.extend(self.add_line(&String::from_utf8_lossy(&line)));
            }
        }
        Ok(messages)
    }

    fn add_line(&mut self, line: &str) -> Option<Message> {
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            let message = Message {
                event: std::mem::take(&mut self.event),
                data: std::mem::take(&mut self.data),
            };
            return (!message.event.is_empty()).then_some(message);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" if self.data.is_empty() => value.clone_into(&mut self.data),
            "data" => {
                self.data.push('\n');
                self.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parser: &mut Parser, text: &str) -> Vec<(String, String)> {
        let messages = parser.push(text.as_bytes()).unwrap();
        messages.into_iter().map(|m| (m.event, m.data)).collect()
    }

    #[test]
    fn an_event_ends_with_an_empty_line_however_the_bytes_are_split() {
        let text = ": hello\nevent: up\r\ndata: {\"a\":1}\ndata: x\nid: 7\n\ndata: nameless\n\n";
        let all = [("up".to_owned(), "{\"a\":1}\nx".to_owned())];
        assert_eq!(parse(&mut Parser::default(), text), all);
        let mut parser = Parser::default();
        let bytes = text.as_bytes().chunks(1);
        let messages: Vec<Message> = bytes.flat_map(|byte| parser.push(byte).unwrap()).collect();
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].data, all[0].1);
    }

    #[test]
    fn an_event_that_is_too_long_is_an_error() {
        let mut parser = Parser::default();
        let half = vec![b'x'; MAX_EVENT_BYTES / 2 + 1];
        assert!(parser.push(&half).is_ok());
        assert!(parser.push(&half).is_err());
        let line = format!("data: {}\n", "x".repeat(1000));
        let mut parser = Parser::default();
        let error =
            (0..MAX_EVENT_BYTES / 1000 + 1).find_map(|_| parser.push(line.as_bytes()).err());
        let text = error.unwrap().to_string();
        assert!(
            text.contains("an event is longer than 4194304 bytes"),
            "{text}"
        );
        let event = format!("event: up\n{line}\n");
        let mut parser = Parser::default();
        for _ in 0..MAX_EVENT_BYTES / 1000 + 1 {
            assert_eq!(parser.push(event.as_bytes()).unwrap().len(), 1);
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(bytes: Vec<u8>) {
            let _ = Parser::default().push(&bytes);
        }
    }
}
