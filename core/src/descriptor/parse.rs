//! Parser of descriptors:
//!
//! ```text
//! descriptor = name [ "[" tag *( "," tag ) "]" ] ";" port [ "/" ( "tcp" / "udp" ) ]
//! name       = [ "/" ] part *( "/" part )      each part of A-Z a-z 0-9 . _ - *
//! tag        = of A-Z a-z 0-9 . _ -
//! port       = digits, from 1 to 65535
//! ```

use std::fmt;

use crate::descriptor::{Descriptor, Protocol};
use crate::model::MAX_NAME;

/// A syntax error: its position, and what is expected there.
#[derive(Debug)]
pub(super) struct Fault {
    /// Offset in bytes, which is also the offset in characters, because all bytes before it are ASCII.
    at: usize,
    why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.at + 1, self.why)
    }
}

type Result<T> = std::result::Result<T, Fault>;

pub(super) fn parse(text: &str) -> Result<Descriptor> {
    let mut rest = Rest { text, at: 0 };
    let name = rest.name()?;
    let tags = rest.tags()?;
    if !rest.skip(';') {
        return Err(rest.fault(match tags.is_empty() {
            true => "[tags] or ;port is expected; a name is of A-Z a-z 0-9 / . _ - *",
            false => ";port is expected",
        }));
    }
    let port = rest.port()?;
    let protocol = rest.protocol()?;
    Ok(Descriptor {
        name,
        tags,
        port,
        protocol,
    })
}

/// The text that is not parsed yet.
struct Rest<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Rest<'a> {
    fn left(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn fault(&self, why: impl Into<String>) -> Fault {
        fault(self.at, why)
    }

    fn skip(&mut self, sign: char) -> bool {
        let is_there = self.left().starts_with(sign);
        self.at += if is_there { sign.len_utf8() } else { 0 };
        is_there
    }

    /// Consumes the longest prefix of alphanumerics and of these characters.
    fn word(&mut self, signs: &str) -> &'a str {
        let belongs = |c: char| c.is_ascii_alphanumeric() || signs.contains(c);
        let left = self.left();
        let end = left.find(|c| !belongs(c)).unwrap_or(left.len());
        self.at += end;
        left.get(..end).unwrap_or_default()
    }

    fn name(&mut self) -> Result<String> {
        let name = self.word("/._-*");
        if name.is_empty() {
            return Err(fault(
                0,
                "a service name is expected, of A-Z a-z 0-9 / . _ - *",
            ));
        }
        let mut at = 0;
        for part in name.split('/') {
            // Before the first slash there may be nothing.
            if part.is_empty() && at > 0 {
                return Err(fault(at, "a name is expected after the /"));
            }
            if part == "." || part == ".." {
                return Err(fault(at, "a name cannot be . or .."));
            }
            check_length(at, "name", part)?;
            at += part.len() + 1;
        }
        Ok(name.to_owned())
    }

    fn tags(&mut self) -> Result<Vec<String>> {
        let mut tags = Vec::new();
        if !self.skip('[') {
            return Ok(tags);
        }
        loop {
            let at = self.at;
            let tag = self.word("._-");
            if tag.is_empty() {
                return Err(fault(at, "a tag is expected, of A-Z a-z 0-9 . _ -"));
            }
            check_length(at, "tag", tag)?;
            tags.push(tag.to_owned());
            if self.skip(']') {
                return Ok(tags);
            }
            if !self.skip(',') {
                return Err(self.fault(", or ] is expected; a tag is of A-Z a-z 0-9 . _ -"));
            }
        }
    }

    fn port(&mut self) -> Result<u16> {
        let (at, left) = (self.at, self.left());
        let end = left.find(|c: char| !c.is_ascii_digit());
        let digits = left.get(..end.unwrap_or(left.len())).unwrap_or_default();
        if digits.is_empty() {
            return Err(fault(at, "a port is expected, 1 to 65535"));
        }
        self.at += digits.len();
        let port = digits.parse().ok().filter(|port| *port != 0);
        port.ok_or_else(|| fault(at, "the port is not in 1 to 65535"))
    }

    /// The protocol, after which nothing may follow.
    fn protocol(&mut self) -> Result<Protocol> {
        if self.left().is_empty() {
            return Ok(Protocol::Tcp);
        }
        if !self.skip('/') {
            return Err(self.fault("/tcp, /udp or the end is expected"));
        }
        let at = self.at;
        let protocol = match self.word("") {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(fault(at, "tcp or udp is expected")),
        };
        match self.left() {
            "" => Ok(protocol),
            _ => Err(self.fault("the end is expected")),
        }
    }
}

fn fault(at: usize, why: impl Into<String>) -> Fault {
    let why = why.into();
    Fault { at, why }
}

fn check_length(at: usize, what: &str, word: &str) -> Result<()> {
    if word.len() <= MAX_NAME {
        return Ok(());
    }
    let n = word.len();
    let why = format!("the {what} has {n} bytes; it must have 1 to {MAX_NAME}");
    Err(fault(at, why))
}
