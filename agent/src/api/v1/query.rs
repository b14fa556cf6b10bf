//! The options of a query string. Pure.

use std::time::Duration;

use discover_core::{Attributes, Error, HumanDuration, Result, parse_duration};

/// Maximum of the option `wait`.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// The parsed options of a query string.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Attributes that an instance must have.
    pub attributes: Attributes,
    /// Tags that an instance must have.
    pub tags: Vec<String>,
    /// Limit on the time to wait for a state other than `index`.
    pub wait: Option<Duration>,
    /// The index of the state that the client knows.
    pub index: Option<String>,
    /// The grant of the registration.
    pub grant: Option<u64>,
    /// How the attributes of an update apply.
    pub attribute_update: Option<AttributeUpdate>,
    /// The owner whose registrations are meant.
    pub owner: Option<String>,
}

/// How the attributes of an update apply to those of the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeUpdate {
    /// They are added, replace those of the same name, or remove them.
    Merge,
    /// They replace all.
    Replace,
}

impl Query {
    /// Parses a query string such as `tag=a&attribute=zone=eu`.
    ///
    /// # Errors
    ///
    /// Fails if an option is not among `allowed` or has an invalid value; the message names the option.
    pub fn parse(text: &str, allowed: &[&str]) -> Result<Query> {
        let mut query = Query::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !allowed.contains(&name.as_str()) {
                let known = allowed.join(", ");
                let text = format!("unknown query option {name:?}; allowed options: {known}");
                return Err(Error::invalid(text));
            }
            match name.as_str() {
                "attribute" => {
                    let (key, wanted) = value.split_once('=').ok_or_else(|| {
                        Error::invalid(format!(
                            "attribute is {value:?}; it must be attribute=NAME=VALUE"
                        ))
                    })?;
                    query.attributes.insert(key.to_owned(), wanted.to_owned());
                }
                "tag" => query.tags.push(value),
                "wait" => query.wait = Some(duration(&value)?),
                "index" => query.index = Some(value),
                "attributes" => query.attribute_update = Some(attribute_update(&value)?),
                "owner" => query.owner = Some(value),
                _ => query.grant = Some(grant(&value)?),
            }
        }
        Ok(query)
    }
}

/// Parses a grant, the number of a registration, as the response to the registration contains it.
///
/// # Errors
///
/// Fails if the text is not 16 hexadecimal digits.
pub fn grant(text: &str) -> Result<u64> {
    let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
    number.ok_or_else(|| {
        Error::invalid(format!(
            "grant is {text:?}; it must be the 16 hexadecimal digits from the response to the registration"
        ))
    })
}

fn attribute_update(text: &str) -> Result<AttributeUpdate> {
    match text {
        "merge" => Ok(AttributeUpdate::Merge),
        "replace" => Ok(AttributeUpdate::Replace),
        _ => Err(Error::invalid(format!(
            "attributes is {text:?}; it must be merge or replace"
        ))),
    }
}

/// Parses a waiting time such as `500ms`, `1.5s`, `2m`, or a number of seconds.
///
/// # Errors
///
/// Fails if the text is not a duration, or longer than ten minutes.
pub fn duration(text: &str) -> Result<Duration> {
    let duration = parse_duration(text).map_err(|e| Error::invalid(format!("wait: {e}")))?;
    if duration > MAX_WAIT {
        let max = HumanDuration(MAX_WAIT);
        return Err(Error::invalid(format!(
            "wait is {text}; it must be at most {max}"
        )));
    }
    Ok(duration)
}

fn decode(text: &str) -> Result<String> {
    let spaced = text.replace('+', " ");
    let invalid = || Error::invalid("the query is not UTF-8 after percent-decoding");
    let decoded = percent_encoding::percent_decode_str(&spaced);
    Ok(decoded.decode_utf8().map_err(|_| invalid())?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 6] = ["attribute", "tag", "wait", "index", "grant", "attributes"];

    #[test]
    fn the_options_of_a_query_are_decoded() {
        let text = "tag=a&tag=b+c&attribute=zone=e%75&wait=30s&index=x.1.2&grant=00000000000000ff";
        let query = Query::parse(text, &ALL).unwrap();
        assert_eq!(query.tags, ["a", "b c"]);
        assert_eq!(query.attributes["zone"], "eu");
        assert_eq!(query.wait, Some(Duration::from_secs(30)));
        assert_eq!(query.index.as_deref(), Some("x.1.2"));
        assert_eq!(query.grant, Some(255));
        assert_eq!(Query::parse("", &[]).unwrap(), Query::default());
    }

    #[test]
    fn an_unknown_or_invalid_option_is_refused() {
        for bad in [
            "color=red",
            "wait=soon",
            "wait=11m",
            "wait=99999999999999999999",
            "wait=18446744073709551615m",
            "attribute=zone",
            "grant=12",
            "grant=+0000000000000ff",
            "tag=%ff",
            "attributes=add",
        ] {
            assert!(Query::parse(bad, &ALL).is_err(), "{bad}");
        }
        let error = Query::parse("wait=1s", &["tag"]).unwrap_err().to_string();
        assert!(error.contains("allowed options: tag"), "{error:#}");
    }
}
