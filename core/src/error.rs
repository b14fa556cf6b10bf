//! The error type of the library and the table of error kinds.
//!
//! The codes, names and exception classes of every language derive from [`ErrorKind::ALL`].

use std::fmt;
use std::sync::Arc;

/// Result with [`Error`] as its default error type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($kind:ident = $code:literal, $name:literal, $retriable:literal, $meaning:literal;)*) => {
        /// Category of an error, on which programs act.
        ///
        /// Codes and names never change and are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(i32)]
        pub enum ErrorKind { $(#[doc = $meaning] $kind = $code,)* }

        impl ErrorKind {
            /// All kinds, ordered by code.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$kind),*];

            /// Returns the name, which is the same in every language, for example `lease_lost`.
            pub const fn name(self) -> &'static str {
                match self { $(ErrorKind::$kind => $name,)* }
            }

            /// Returns true if the same call may succeed later with the same arguments.
            pub const fn is_retriable(self) -> bool {
                match self { $(ErrorKind::$kind => $retriable,)* }
            }

            /// Returns the meaning of the kind in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(ErrorKind::$kind => $meaning,)* }
            }
        }
    };
}

kinds! {
    Internal         = 1,  "internal",          false, "A bug in libdiscover or in a backend.";
    InvalidArgument  = 2,  "invalid_argument",  false, "An argument, option or name is not acceptable.";
    Unsupported      = 3,  "unsupported",       false, "This build, store or layout cannot do that.";
    Unavailable      = 4,  "unavailable",       true,  "The store cannot be reached or cannot answer now.";
    Timeout          = 5,  "timeout",           true,  "The deadline passed before the call finished.";
    PermissionDenied = 6,  "permission_denied", false, "The store refused the credentials or denied access.";
    NotFound         = 7,  "not_found",         false, "The named object does not exist.";
    LeaseLost        = 8,  "lease_lost",        true,  "The store no longer holds this registration.";
    Replaced         = 9,  "replaced",          false, "Another owner registered this instance id.";
    Closed           = 10, "closed",            false, "The client, lease or subscription was closed.";
    Busy             = 11, "busy",              true,  "The call is not allowed inside a callback.";
    Forked           = 12, "forked",            false, "The client belongs to the parent process; open a new one in this process.";
    Resource         = 13, "resource",          true,  "Out of memory, descriptors, threads or space.";
}

impl ErrorKind {
    /// Returns the stable code. No kind has the code 0, which means success in C.
    pub const fn code(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error: its kind, its own message and, where known, its cause.
///
/// `Display` shows the own message; the alternate form `{:#}` and [`Error::report`] add the causes after
/// colons, once each. Use one of these for text that people read: `source()` walks the same causes, so error
/// reporters that print the whole chain repeat nothing.
///
/// Cheap to clone: clones share their contents.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates an error without a cause. The message is a lower-case clause without a full stop that names
    /// what is wrong and, where known, what would be right.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Arc::new(Inner {
            kind,
            message: message.into(),
            source: None,
        }))
    }

    /// Creates an error with the failure that caused it. The message does not repeat the cause.
    pub fn caused_by(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error(Arc::new(Inner {
            kind,
            message: message.into(),
            source: Some(source.into()),
        }))
    }

    /// Creates an error of kind [`ErrorKind::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidArgument, message)
    }

    /// Returns the kind, on which programs act.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns true if the same call may succeed later with the same arguments.
    pub fn is_retriable(&self) -> bool {
        self.0.kind.is_retriable()
    }

    /// Returns the own message without the causes, as `Display` shows it.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the own message and all causes, joined by colons.
    pub fn report(&self) -> String {
        let mut text = self.0.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let part = error.to_string();
            // Some error types of other crates repeat the text of their source.
            if !text.contains(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match f.alternate() {
            true => f.write_str(&self.report()),
            false => f.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.report())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_start_at_one() {
        for (index, kind) in ErrorKind::ALL.iter().enumerate() {
            assert_eq!(kind.code(), index as i32 + 1);
            assert_eq!(
                ErrorKind::ALL
                    .iter()
                    .filter(|other| other.name() == kind.name())
                    .count(),
                1
            );
        }
    }

    #[test]
    fn display_shows_the_own_message_and_the_report_adds_each_cause_once() {
        let cause = std::io::Error::other("connection refused");
        let error = Error::caused_by(ErrorKind::Unavailable, "cannot reach http://h:1", cause);
        let joined = "cannot reach http://h:1: connection refused";
        assert_eq!(error.report(), joined);
        assert_eq!(format!("{error:#}"), joined);
        assert_eq!(
            format!("{error:?}"),
            "unavailable: cannot reach http://h:1: connection refused"
        );
    }

    #[test]
    fn display_does_not_repeat_the_source() {
        use std::error::Error as _;
        let inner = Error::caused_by(
            ErrorKind::Timeout,
            "read",
            std::io::Error::other("slow disk"),
        );
        let outer = Error::caused_by(ErrorKind::Timeout, "open", inner);
        assert_eq!(
            (outer.to_string(), outer.message()),
            ("open".to_owned(), "open")
        );
        assert_eq!(outer.source().unwrap().to_string(), "read");
        assert_eq!(outer.report(), "open: read: slow disk");
    }
}
