//! The addresses that a health check may connect to. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use discover_core::{Error, ErrorKind, Result};
use ipnet::IpNet;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

/// The addresses that a health check may connect to.
///
/// Part of the hand-over state. The networks are not read from it: they come from the settings of the process
/// that continues the check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TargetPolicy {
    /// All addresses: the check is defined in the configuration file.
    Anywhere,
    /// All unicast addresses except link-local ones and metadata services, and addresses in these networks.
    Ordinary(#[serde(deserialize_with = "skip")] Vec<IpNet>),
    /// This address, and addresses in these networks.
    Only(IpAddr, #[serde(deserialize_with = "skip")] Vec<IpNet>),
}

fn skip<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<IpNet>, D::Error> {
    IgnoredAny::deserialize(from).map(|IgnoredAny| Vec::new())
}

impl TargetPolicy {
    /// Returns true if a check may connect to this address.
    pub fn allows(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&ip));
        match self {
            TargetPolicy::Anywhere => true,
            TargetPolicy::Ordinary(networks) => is_ordinary(ip) || is_in(networks),
            TargetPolicy::Only(own, networks) => (ip == *own && is_ordinary(ip)) || is_in(networks),
        }
    }

    /// Checks the host of `host:port` if it is an address. Host names are checked when they are resolved, at each
    /// run of the check.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::PermissionDenied`] if the address is not allowed.
    pub fn admit(&self, address: &str) -> Result<()> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
        match ip {
            Ok(ip) if !self.allows(ip) => Err(Error::new(
                ErrorKind::PermissionDenied,
                format!("check: {}", refusal(ip)),
            )),
            _ => Ok(()),
        }
    }
}

/// Returns the reason why a check may not connect to an address.
pub fn refusal(ip: IpAddr) -> String {
    format!("this client may not check {ip}; the setting check_targets allows more addresses")
}

/// Addresses of metadata services and of the other services that a cloud gives to each of its hosts, which give
/// secrets to every process. Those over link-local addresses (169.254.169.254 and fe80::a9fe:a9fe of most clouds,
/// 169.254.170.2 of ECS) need no entry.
const CLOUD_SERVICES: [&str; 6] = [
    // Alibaba.
    "100.100.100.200/32",
    // Azure: WireServer.
    "168.63.129.16/32",
    // Oracle.
    "192.0.0.192/32",
    // AWS: metadata, names, time, credentials of EKS.
    "fd00:ec2::/32",
    // Google.
    "fd20:ce::254/128",
    // Scaleway.
    "fd00:42::42/128",
];

/// Returns false for addresses that a check of a client must not reach: unspecified, multicast, broadcast and
/// link-local ones, those of cloud services, and IPv6 addresses that stand for such an IPv4 address.
fn is_ordinary(ip: IpAddr) -> bool {
    let is_special = match ip {
        IpAddr::V4(v4) => {
            // All of 0.0.0.0/8 means this host.
            let is_this_host = v4.octets()[0] == 0;
            is_this_host || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || embedded_ipv4(v6).is_some_and(|v4| !is_ordinary(v4.into()))
        }
    };
    let is_cloud_service = |network: &str| {
        let network: Result<IpNet, _> = network.parse();
        network.is_ok_and(|network| network.contains(&ip))
    };
    !is_special && !CLOUD_SERVICES.into_iter().any(is_cloud_service)
}

/// Returns the IPv4 address that a gateway or the kernel may connect to in place of an IPv6 address: IPv4-mapped,
/// -compatible and -translated addresses, NAT64, 6to4, Teredo and ISATAP.
fn embedded_ipv4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let ipv4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0) if (g, h) != (0, 1) => Some(ipv4(g, h)),
        (0, 0, 0, 0, 0, 0xffff) | (0, 0, 0, 0, 0xffff, 0) => Some(ipv4(g, h)),
        (0x64, 0xff9b, ..) => Some(ipv4(g, h)),
        (0x2002, ..) => Some(ipv4(b, c)),
        (0x2001, 0, ..) => Some(ipv4(!g, !h)),
        (.., 0 | 0x200, 0x5efe) => Some(ipv4(g, h)),
        _ => None,
    }
}
