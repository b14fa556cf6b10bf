//! Network partitions, made by packet filters on the host that is cut off.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::etcd::PORT;
use crate::netns::Host;

/// A partition that lasts until it is healed or dropped.
pub struct Partition {
    host: Host,
}

impl Partition {
    /// Drops all packets from and to some hosts.
    pub fn from(host: &Host, others: &[Ipv4Addr]) -> Result<Partition, String> {
        let both = |other: &Ipv4Addr| {
            [
                format!("INPUT -s {other} -j DROP"),
                format!("OUTPUT -d {other} -j DROP"),
            ]
        };
        Partition::with(host, &others.iter().flat_map(both).collect::<Vec<_>>())
    }

    /// Drops all packets.
    pub fn everything(host: &Host) -> Result<Partition, String> {
        let rules = [
            "INPUT ! -i lo -j DROP".to_owned(),
            "OUTPUT ! -o lo -j DROP".to_owned(),
        ];
        Partition::with(host, &rules)
    }

    /// Drops packets from some hosts; packets to them arrive.
    pub fn replies(host: &Host, others: &[Ipv4Addr]) -> Result<Partition, String> {
        let one = |other: &Ipv4Addr| format!("INPUT -s {other} -j DROP");
        Partition::with(host, &others.iter().map(one).collect::<Vec<_>>())
    }

    /// Drops large packets of some hosts, without notice to the sender.
    pub fn big(host: &Host, others: &[Ipv4Addr]) -> Result<Partition, String> {
        let one = |other: &Ipv4Addr| format!("INPUT -s {other} -m length --length 1000: -j DROP");
        Partition::with(host, &others.iter().map(one).collect::<Vec<_>>())
    }

    /// Drops all packets of the open connections to the store; new ones work.
    pub fn open_connections(host: &Host) -> Result<Partition, String> {
        let ports = open_ports(host)?;
        let both = |port: &u16| {
            [
                format!("INPUT -p tcp --dport {port} -j DROP"),
                format!("OUTPUT -p tcp --sport {port} -j DROP"),
            ]
        };
        Partition::with(host, &ports.iter().flat_map(both).collect::<Vec<_>>())
    }

    /// Answers every packet to the store with a reset: open connections end, new ones are refused.
    pub fn refuse(host: &Host) -> Result<Partition, String> {
        Partition::with(
            host,
            &[format!(
                "OUTPUT -p tcp --dport {PORT} -j REJECT --reject-with tcp-reset"
            )],
        )
    }

    fn with(host: &Host, rules: &[String]) -> Result<Partition, String> {
        let add = |rule: &String| format!("iptables -w -A {rule}\n");
        host.shell(&rules.iter().map(add).collect::<String>())?;
        Ok(Partition { host: host.clone() })
    }

    /// Returns how many packets were stopped so far.
    pub fn stopped(&self) -> u64 {
        let listed = self
            .host
            .shell("iptables -w -L -v -x -n")
            .unwrap_or_default();
        let packets = |line: &str| line.split_whitespace().next()?.parse::<u64>().ok();
        listed.lines().filter_map(packets).sum()
    }

    /// Ends the partition and returns how many packets it stopped.
    pub fn heal(self) -> u64 {
        self.stopped()
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        // The namespace belongs to the lab, with all its rules.
        let _ = self.host.shell("iptables -w -F");
    }
}

/// Returns the local ports of the open connections of a host to the store.
pub fn open_ports(host: &Host) -> Result<Vec<u16>, String> {
    let listed = host.shell(&format!("ss -Htn state established '( dport = :{PORT} )'"))?;
    let port = |line: &str| {
        line.split_whitespace()
            .nth(2)?
            .rsplit(':')
            .next()?
            .parse()
            .ok()
    };
    Ok(listed.lines().filter_map(port).collect())
}

/// A connection of a host to the store: local port and remote address.
pub type Connection = (String, String);

/// Returns how many bytes each connection to the store has received.
pub fn received(host: &Host) -> Result<BTreeMap<Connection, u64>, String> {
    let listed = host.shell(&format!(
        "ss -HOtni state established '( dport = :{PORT} )'"
    ))?;
    let one = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (local, peer) = (
            words.get(2)?.rsplit_once(':')?.1,
            words.get(3)?.rsplit_once(':')?.0,
        );
        let bytes = words
            .iter()
            .find_map(|word| word.strip_prefix("bytes_received:"))?
            .parse()
            .ok()?;
        Some(((local.to_owned(), peer.to_owned()), bytes))
    };
    Ok(listed.lines().filter_map(one).collect())
}
