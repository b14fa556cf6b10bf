//! The addresses that a health check may connect to. Pure.

use std::net::IpAddr;

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

/// Returns false for unspecified, multicast, broadcast and link-local addresses and for metadata services of
/// clouds, which give secrets to every process of the host.
fn is_ordinary(ip: IpAddr) -> bool {
    /// Address of the metadata service of a cloud over IPv6; over IPv4 it is link-local.
    const METADATA: [u16; 8] = [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
    match ip {
        IpAddr::V4(v4) => {
            !(v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast())
                && v6.segments() != METADATA
        }
    }
}
