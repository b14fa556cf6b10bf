//! Masking of secret attributes.

use std::fmt;

use crate::model::Attributes;

/// Suffixes of the names of secret attributes; layouts use `password`.
const SECRET_SUFFIXES: [&str; 4] = ["password", "passwd", "secret", "token"];
/// Replacement of secret values.
const MASK: &str = "***";

/// Returns true if the attribute is secret and must not be logged.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_SUFFIXES.iter().any(|word| name.ends_with(word))
}

/// Returns the attributes with secret values replaced by `***`, for output to people.
pub fn redact(attributes: &Attributes) -> Attributes {
    let show = |(name, value): (&String, &String)| {
        let secret = is_secret(name) && !value.is_empty();
        let value = if secret { MASK } else { value };
        (name.clone(), value.to_owned())
    };
    attributes.iter().map(show).collect()
}

/// Formats attributes for `Debug` with secret values masked.
pub(crate) struct Redacted<'a>(pub(crate) &'a Attributes);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&redact(self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_secret_by_its_suffix() {
        for name in [
            "password",
            "Password",
            "db.password",
            "api-token",
            "CLIENT_SECRET",
            "dbPassword",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["", "passwordless", "token.kind", "user", "secretary"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
