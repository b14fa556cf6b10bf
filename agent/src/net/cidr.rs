//! Networks in CIDR notation.

use std::net::IpAddr;

use discover_core::{Error, Result};
use ipnet::IpNet;

/// Parses a network such as `10.0.0.0/8`. An address alone is the network of that address.
///
/// # Errors
///
/// Fails if the text is neither.
pub fn parse_network(text: &str) -> Result<IpNet> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| {
        Error::invalid(format!(
            "{text:?} is not a network; write 10.0.0.0/8, fd00::/8 or an address"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.1"),
            ("0.0.0.0/0", "192.0.2.1", "::1"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("::1", "::1", "::2"),
        ] {
            let parsed = parse_network(network).unwrap();
            assert!(
                parsed.contains(&inside.parse::<IpAddr>().unwrap()),
                "{network}"
            );
            assert!(
                !parsed.contains(&outside.parse::<IpAddr>().unwrap()),
                "{network}"
            );
        }
        for bad in ["", "x/8", "10.0.0.0/33", "10.0.0.0/", "::/129"] {
            assert!(parse_network(bad).is_err(), "{bad}");
        }
    }
}
