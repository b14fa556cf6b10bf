//! The one error type, and the one table of error kinds.
//!
//! Every language derives its codes, names and exception classes from [`ErrorKind::ALL`].

use std::fmt;
use std::sync::Arc;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($kind:ident = $code:literal, $name:literal, $retriable:literal, $meaning:literal;)*) => {
        /// What went wrong, as far as a program can act on it.
        ///
        /// Numbers and names never change and are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(i32)]
        pub enum ErrorKind { $(#[doc = $meaning] $kind = $code,)* }

        impl ErrorKind {
            /// Every kind there is, in the order of its number.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$kind),*];

            /// The name, the same in every language: `lease_lost`.
            pub const fn name(self) -> &'static str {
                match self { $(ErrorKind::$kind => $name,)* }
            }

            /// Whether the same call may succeed later, its arguments unchanged.
            pub const fn is_retriable(self) -> bool {
                match self { $(ErrorKind::$kind => $retriable,)* }
            }

            /// What the kind means, in one sentence.
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
    Timeout          = 5,  "timeout",           true,  "The deadline passed first.";
    PermissionDenied = 6,  "permission_denied", false, "The store refused the credentials or the access.";
    NotFound         = 7,  "not_found",         false, "There is no such thing.";
    LeaseLost        = 8,  "lease_lost",        true,  "The store no longer holds this registration.";
    Replaced         = 9,  "replaced",          false, "Another owner has taken over this instance id.";
    Closed           = 10, "closed",            false, "The client, lease or subscription was closed.";
    Busy             = 11, "busy",              true,  "Not from inside a callback.";
    Forked           = 12, "forked",            false, "The client belongs to the parent process; open one here.";
    Resource         = 13, "resource",          true,  "Out of memory, descriptors, threads or space.";
}

impl ErrorKind {
    /// The stable number; 0 is never used, it means success.
    pub const fn code(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failure: its kind, a message that names what was wrong and what would be right, and its cause.
///
/// Cheap to clone, so that a set can keep the reason why it is stale.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`. The message is a clause without capital or full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Arc::new(Inner {
            kind,
            message: message.into(),
            source: None,
        }))
    }

    /// The same with the failure that caused it; the message need not repeat it.
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

    /// Bad input.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidArgument, message)
    }

    /// What a program can act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        self.0.kind.is_retriable()
    }

    /// What was wrong, where, what would be right, and the causes after colons.
    pub fn message(&self) -> String {
        let mut text = self.0.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let part = error.to_string();
            // Wrappers of wrappers like to repeat their inner text.
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
        f.write_str(&self.message())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.message())
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
    fn a_message_ends_with_its_causes_once_each() {
        let cause = std::io::Error::other("connection refused");
        let error = Error::caused_by(ErrorKind::Unavailable, "cannot reach http://h:1", cause);
        assert_eq!(
            error.to_string(),
            "cannot reach http://h:1: connection refused"
        );
        assert_eq!(
            format!("{error:?}"),
            "unavailable: cannot reach http://h:1: connection refused"
        );
    }
}
