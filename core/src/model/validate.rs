//! Limits and validation of registrations; error messages name the value and the limit.

use std::net::IpAddr;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::Attributes;

/// Maximum length of service names, instance ids and tags in bytes.
pub const MAX_NAME: usize = 128;
/// Maximum length of host names in bytes, as in DNS.
pub const MAX_HOST: usize = 253;
/// Maximum number of attributes of an instance.
pub const MAX_ATTRIBUTES: usize = 64;
/// Maximum size of all attribute names, attribute values and tags together, in bytes.
pub const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024;
/// Maximum weight. The weight of an instance without the attribute `weight` is 1.
pub const MAX_WEIGHT: u32 = 65_535;
/// Range of the TTL.
pub const TTL_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// Checks attributes and tags against the limits.
pub(crate) fn check_attributes(attributes: &Attributes, tags: &[String]) -> Result<()> {
    if attributes.len() > MAX_ATTRIBUTES {
        let n = attributes.len();
        return Err(Error::invalid(format!(
            "{n} attributes; the limit is {MAX_ATTRIBUTES}"
        )));
    }
    let bytes = attributes
        .iter()
        .map(|(k, v)| k.len() + v.len())
        .sum::<usize>()
        + tags.iter().map(String::len).sum::<usize>();
    if bytes > MAX_ATTRIBUTE_BYTES {
        return Err(Error::invalid(format!(
            "attributes and tags have {bytes} bytes; the limit is {MAX_ATTRIBUTE_BYTES}"
        )));
    }
    let has_nul = |(name, value): &(&String, &String)| name.contains('\0') || value.contains('\0');
    if let Some((name, _)) = attributes.iter().find(has_nul) {
        return Err(Error::invalid(format!(
            "attribute {name:?} has a NUL character, where C programs would end the text"
        )));
    }
    if attributes.keys().any(String::is_empty) {
        return Err(Error::invalid("an attribute has an empty name"));
    }
    if let Some(weight) = attributes.get("weight") {
        weight
            .parse::<u32>()
            .ok()
            .filter(|w| *w <= MAX_WEIGHT)
            .ok_or_else(|| {
                Error::invalid(format!(
                    "attribute weight is {weight:?}; it must be 0 to {MAX_WEIGHT}"
                ))
            })?;
    }
    tags.iter()
        .try_for_each(|tag| check_text("tag", tag, MAX_NAME))
}

/// Checks a TTL.
pub(crate) fn check_ttl(ttl: Duration) -> Result<Duration> {
    if TTL_RANGE.contains(&ttl) {
        return Ok(ttl);
    }
    Err(Error::invalid(format!(
        "ttl is {ttl:?}; it must be 1s to 24h"
    )))
}

/// Checks a host and strips the brackets of an IPv6 address.
pub(crate) fn check_host(host: &str) -> Result<&str> {
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if bare.is_empty() || bare.len() > MAX_HOST {
        let n = bare.len();
        return Err(Error::invalid(format!(
            "host has {n} bytes; it must have 1 to {MAX_HOST}"
        )));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_v6 = bare.parse::<std::net::Ipv6Addr>().is_ok();
    // A command would take a host with a hyphen at its beginning for an option.
    if !is_v6 && (bare.starts_with('-') || !bare.chars().all(is_name)) {
        return Err(Error::invalid(format!(
            "host {host:?} is neither a host name nor an IP address"
        )));
    }
    Ok(bare)
}

/// Checks a host under which other hosts are to reach an instance. Returns it without brackets, an IPv6 address in its
/// canonical form, so that each spelling is the same instance.
pub(crate) fn check_advertised_host(host: &str) -> Result<String> {
    let bare = check_host(host)?;
    let Ok(ip) = bare.parse::<IpAddr>() else {
        return Ok(bare.to_owned());
    };
    let is_link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let why = match () {
        () if ip.is_unspecified() => "means every address of a host",
        () if is_link_local => "is valid on one link only",
        () => return Ok(ip.to_string()),
    };
    Err(Error::invalid(format!(
        "host {host:?} {why}; register an address that other hosts can reach, or leave the host out"
    )))
}

/// Checks the length of a text and that it has no control characters.
pub(crate) fn check_text(what: &str, text: &str, limit: usize) -> Result<()> {
    if text.is_empty() || text.len() > limit {
        let n = text.len();
        return Err(Error::invalid(format!(
            "{what} has {n} bytes; it must have 1 to {limit}"
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "{what} {text:?} has a control character"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_with_a_nul_character_is_refused() {
        for (name, value) in [("a\0b", "c"), ("a", "b\0c")] {
            let attributes = Attributes::from([(name.to_owned(), value.to_owned())]);
            let error = check_attributes(&attributes, &[]).unwrap_err().to_string();
            assert!(error.contains("NUL character"), "{error}");
        }
        let lines = Attributes::from([("key".to_owned(), "line\nline".to_owned())]);
        assert!(check_attributes(&lines, &[]).is_ok());
    }

    #[test]
    fn an_advertised_ipv6_address_has_one_spelling_and_reaches_other_hosts() {
        for spelling in ["2001:DB8:0:0::1", "[2001:db8::1]", "2001:db8:0:0:0:0:0:1"] {
            assert_eq!(check_advertised_host(spelling).unwrap(), "2001:db8::1");
        }
        assert_eq!(check_advertised_host("Web-1").unwrap(), "Web-1");
        for (bad, why) in [
            ("0.0.0.0", "every address"),
            ("::", "every address"),
            ("fe80::1", "one link"),
            ("fe80::1%eth0", "neither a host name"),
            ("[::1]x", "neither a host name"),
            ("-oProxyCommand", "neither a host name"),
        ] {
            let error = check_advertised_host(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
