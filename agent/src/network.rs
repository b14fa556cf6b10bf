//! Networks, such as `10.0.0.0/8`. Pure.

use std::net::IpAddr;

use discover_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// `ADDRESS/BITS`, or an address alone.
    pub fn parse(text: &str) -> Result<Network> {
        let bad = |why: &str| {
            let text = format!("{text:?} {why}; write 10.0.0.0/8, fd00::/8 or an address");
            Error::invalid(text)
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad("is no network"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok());
        let bits = bits.filter(|bits| *bits <= most);
        let bits = bits.ok_or_else(|| bad("has a wrong number of bits"))?;
        Ok(Network { address, bits })
    }

    /// Whether the address is one of it.
    pub fn has(&self, ip: IpAddr) -> bool {
        match (ip, self.address) {
            (IpAddr::V4(ip), IpAddr::V4(own)) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                (ip.to_bits() ^ own.to_bits()) & mask == 0
            }
            (IpAddr::V6(ip), IpAddr::V6(own)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                (ip.to_bits() ^ own.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}
