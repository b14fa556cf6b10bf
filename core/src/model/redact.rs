//! Attributes that are secret, and how they are redact.

use std::fmt;

use crate::model::Attributes;

/// What names end in whose values are secret; `password` is so called by layouts.
const SECRET_SUFFIXES: [&str; 4] = ["password", "passwd", "secret", "token"];
/// What is redact in their place.
const MASK: &str = "***";

/// Whether an attribute of that name is for those who use the instance, and for no log.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_SUFFIXES.iter().any(|word| name.ends_with(word))
}

/// Attributes as they are redact where people read them: those that are secret as `***`.
pub fn redact(attributes: &Attributes) -> Attributes {
    let show = |(name, value): (&String, &String)| {
        let secret = is_secret(name) && !value.is_empty();
        let value = if secret { MASK } else { value };
        (name.clone(), value.to_owned())
    };
    attributes.iter().map(show).collect()
}

/// The same for `Debug`.
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
    fn the_end_of_a_name_says_that_it_is_secret() {
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
