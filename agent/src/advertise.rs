//! Selects the address of this host that other hosts reach, by rules such as `eth0:inet`, `inet` or
//! `10.0.0.0/8`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use discover_core::{Error, ErrorKind, Result};
use ipnet::IpNet;

use crate::net::cidr::parse_network;

/// Name of an interface and one of its addresses.
pub type Candidate = (String, IpAddr);

/// Default rules of an agent in front of a store.
pub const DEFAULT_RULES: [&str; 2] = ["eth0:inet", "inet"];

/// Rule that selects an address.
#[derive(Clone, Debug, PartialEq)]
enum Rule {
    /// `static:ADDRESS`, or just the address.
    Static(IpAddr),
    /// `inet` and `inet6`: any interface but the loopback.
    Any { v6: bool },
    /// `IF`, `IF:inet` and `IF:inet6`.
    Interface { name: String, v6: bool },
    /// `IF[n]`: the n-th address of an interface, from 0.
    Nth { name: String, index: usize },
    /// `NETWORK/BITS`.
    Network(IpNet),
}

/// Returns the address that the first matching rule selects.
///
/// # Errors
///
/// Fails with [`ErrorKind::InvalidArgument`] if a rule is invalid, and with [`ErrorKind::NotFound`] if none
/// matches.
pub fn choose(rules: &[String], mut candidates: Vec<Candidate>) -> Result<IpAddr> {
    candidates.sort_by(|a, b| (&a.0, v6_bytes(a.1)).cmp(&(&b.0, v6_bytes(b.1))));
    let parsed = rules
        .iter()
        .map(|rule| parse(rule))
        .collect::<Result<Vec<Rule>>>()?;
    let found = parsed.iter().find_map(|rule| find(rule, &candidates));
    found.ok_or_else(|| {
        let known: Vec<String> = candidates
            .iter()
            .map(|(name, ip)| format!("{name} {ip}"))
            .collect();
        Error::new(
            ErrorKind::NotFound,
            format!(
                "no address of this host matches {}; candidates: {}",
                rules.join(", "),
                known.join(", ")
            ),
        )
    })
}

/// Lists the addresses of this host.
///
/// # Errors
///
/// Fails if the operating system does not list them.
pub fn candidates() -> Result<Vec<Candidate>> {
    let all = nix::ifaddrs::getifaddrs().map_err(|e| {
        let text = "cannot list the addresses of this host";
        Error::caused_by(ErrorKind::Resource, text, e)
    })?;
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        Some((interface.interface_name, ip))
    };
    Ok(all.filter_map(address).collect())
}

fn parse(rule: &str) -> Result<Rule> {
    let bad = |why: &str| {
        Error::invalid(format!(
            "advertise: {rule:?} {why}; use eth0, eth0:inet, eth0:inet6, eth0[1], inet, inet6, \
             10.0.0.0/8 or an address"
        ))
    };
    if let Ok(ip) = rule.strip_prefix("static:").unwrap_or(rule).parse() {
        return Ok(Rule::Static(ip));
    }
    if rule.starts_with("static:") {
        return Err(bad("is not an address"));
    }
    if rule.contains('/') {
        return parse_network(rule)
            .map(Rule::Network)
            .map_err(|_| bad("is not a network"));
    }
    if let Some((name, index)) = rule.strip_suffix(']').and_then(|r| r.split_once('[')) {
        let index = index
            .parse()
            .map_err(|_| bad("must have a number in brackets"))?;
        return Ok(Rule::Nth {
            name: name.to_owned(),
            index,
        });
    }
    let (name, family) = match rule.split_once(':') {
        Some((name, family)) => (name, family),
        None if rule == "inet" || rule == "inet6" => ("", rule),
        None => (rule, "inet"),
    };
    let v6 = match family {
        "inet" => false,
        "inet6" => true,
        _ => return Err(bad("has an unknown address family")),
    };
    match name {
        "" if rule.is_empty() => Err(bad("is empty")),
        "" => Ok(Rule::Any { v6 }),
        name => Ok(Rule::Interface {
            name: name.to_owned(),
            v6,
        }),
    }
}

fn find(rule: &Rule, candidates: &[Candidate]) -> Option<IpAddr> {
    let mut all = candidates.iter();
    let found = match rule {
        Rule::Static(ip) => return Some(*ip),
        Rule::Any { v6 } => all.find(|(_, ip)| ip.is_ipv6() == *v6 && !ip.is_loopback()),
        Rule::Interface { name, v6 } => all.find(|(n, ip)| n == name && ip.is_ipv6() == *v6),
        Rule::Nth { name, index } => all.filter(|(n, _)| n == name).nth(*index),
        Rule::Network(network) => all.find(|(_, ip)| network.contains(ip)),
    };
    found.map(|(_, ip)| *ip)
}

fn v6_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => Ipv4Addr::to_ipv6_mapped(&v4).octets(),
        IpAddr::V6(v6) => Ipv6Addr::octets(&v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rules: &[&str]) -> Result<String> {
        let candidate = |name: &str, ip: &str| (name.to_owned(), ip.parse().unwrap());
        let candidates = vec![
            candidate("lo", "127.0.0.1"),
            candidate("eth1", "192.168.3.9"),
            candidate("eth0", "fe80::1"),
            candidate("eth0", "10.1.0.7"),
            candidate("eth0", "10.0.0.7"),
        ];
        let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
        choose(&rules, candidates).map(|ip| ip.to_string())
    }

    #[test]
    fn the_first_rule_that_finds_an_address_wins() {
        for (rules, address) in [
            (&["eth0"][..], "10.0.0.7"),
            (&["eth0:inet"], "10.0.0.7"),
            (&["eth0:inet6"], "fe80::1"),
            (&["eth0[1]"], "10.1.0.7"),
            (&["wlan0", "inet"], "10.0.0.7"),
            (&["inet6"], "fe80::1"),
            (&["192.168.0.0/16"], "192.168.3.9"),
            (&["0.0.0.0/0"], "10.0.0.7"),
            (&["fe80::/10"], "fe80::1"),
            (&["static:192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1"], "192.0.2.1"),
        ] {
            assert_eq!(chosen(rules).unwrap(), address, "{rules:?}");
        }
    }

    #[test]
    fn no_match_lists_the_rules_and_the_candidates() {
        let error = chosen(&["wlan0", "172.16.0.0/12"]).unwrap_err().to_string();
        for part in ["wlan0, 172.16.0.0/12", "eth0 10.0.0.7", "lo 127.0.0.1"] {
            assert!(error.contains(part), "{error:#}");
        }
    }

    #[test]
    fn invalid_rules_are_rejected() {
        for bad in ["", "static:x", "eth0[x]", "10.0.0.0/33", "x/8", "eth0:ipx"] {
            let error = chosen(&[bad]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}: {error:#}");
        }
    }
}
