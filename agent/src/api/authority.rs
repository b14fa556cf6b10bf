//! The authority of a request, `host:port`, as the header `Host` and the request target contain it. Pure.

use std::net::{IpAddr, Ipv6Addr};

/// Returns the host of `host`, `host:port`, `[ipv6]` or `[ipv6]:port`, an IPv6 address without its brackets. `None` if
/// the text has another form, so that no two programs read different hosts in it.
pub fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, port)
        }
        None => {
            let at = authority.find(':').unwrap_or(authority.len());
            let (name, port) = authority.split_at(at);
            let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            let is_valid = !name.is_empty() && !name.starts_with('-') && name.bytes().all(is_name);
            is_valid.then_some((name, port))?
        }
    };
    is_port_suffix(port).then_some(host)
}

/// Returns true if two hosts are the same name, in any case, or the same IP address.
pub fn is_same_host(a: &str, b: &str) -> bool {
    match (a.parse::<IpAddr>(), b.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a.eq_ignore_ascii_case(b),
    }
}

/// Returns true for an empty text and for `:port`.
fn is_port_suffix(text: &str) -> bool {
    let is_port =
        |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok();
    text.is_empty() || text.strip_prefix(':').is_some_and(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_authorities_have_a_host() {
        for (authority, expected) in [
            ("h", "h"),
            ("h:80", "h"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[::1]", "::1"),
            ("[::1]:80", "::1"),
        ] {
            assert_eq!(host(authority), Some(expected), "{authority}");
        }
        for malformed in [
            "",
            ":80",
            "::1",
            "[::1",
            "[::1]evil",
            "[::1]evil:80",
            "[::1]:",
            "[::1]:x",
            "[localhost]",
            "[]",
            "[fe80::1%eth0]",
            "h:",
            "h:+80",
            "h:99999",
            "h:80:80",
            "a@h",
            "h/x",
            "h h",
            "-h",
            "h,h",
            "h?x",
        ] {
            assert_eq!(host(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn hosts_are_compared_as_addresses_or_without_case() {
        assert!(is_same_host("2001:DB8::1", "2001:db8:0::1") && is_same_host("A.b", "a.B"));
        assert!(!is_same_host("10.0.0.1", "10.0.0.2"));
    }
}
