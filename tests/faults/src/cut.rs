//! Cuts in the network, made by packet filters on the machine that is cut off.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::etcd::PORT;
use crate::netns::Host;

/// A cut that lasts until it is healed, or dropped.
pub struct Cut {
    host: Host,
}

impl Cut {
    /// Nothing comes from these machines, and nothing goes to them.
    pub fn from(host: &Host, others: &[Ipv4Addr]) -> Result<Cut, String> {
        let both = |other: &Ipv4Addr| {
            [
                format!("INPUT -s {other} -j DROP"),
                format!("OUTPUT -d {other} -j DROP"),
            ]
        };
        Cut::with(host, &others.iter().flat_map(both).collect::<Vec<_>>())
    }

    /// Nothing comes in, and nothing goes out.
    pub fn everything(host: &Host) -> Result<Cut, String> {
        let rules = [
            "INPUT ! -i lo -j DROP".to_owned(),
            "OUTPUT ! -o lo -j DROP".to_owned(),
        ];
        Cut::with(host, &rules)
    }

    /// Nothing comes from these machines; what goes to them arrives.
    pub fn replies(host: &Host, others: &[Ipv4Addr]) -> Result<Cut, String> {
        let one = |other: &Ipv4Addr| format!("INPUT -s {other} -j DROP");
        Cut::with(host, &others.iter().map(one).collect::<Vec<_>>())
    }

    /// Packets of these machines that are not small are lost on the way, and nobody is told.
    pub fn big(host: &Host, others: &[Ipv4Addr]) -> Result<Cut, String> {
        let one = |other: &Ipv4Addr| format!("INPUT -s {other} -m length --length 1000: -j DROP");
        Cut::with(host, &others.iter().map(one).collect::<Vec<_>>())
    }

    /// The connections to the store that are open are dead, without a sign; new ones work.
    pub fn open_connections(host: &Host) -> Result<Cut, String> {
        let ports = open_ports(host)?;
        let both = |port: &u16| {
            [
                format!("INPUT -p tcp --dport {port} -j DROP"),
                format!("OUTPUT -p tcp --sport {port} -j DROP"),
            ]
        };
        Cut::with(host, &ports.iter().flat_map(both).collect::<Vec<_>>())
    }

    /// Every packet to the store is answered with a reset: open connections end, new ones are refused.
    pub fn refuse(host: &Host) -> Result<Cut, String> {
        Cut::with(
            host,
            &[format!(
                "OUTPUT -p tcp --dport {PORT} -j REJECT --reject-with tcp-reset"
            )],
        )
    }

    fn with(host: &Host, rules: &[String]) -> Result<Cut, String> {
        let add = |rule: &String| format!("iptables -w -A {rule}\n");
        host.shell(&rules.iter().map(add).collect::<String>())?;
        Ok(Cut { host: host.clone() })
    }

    /// How many packets it has stopped so far.
    pub fn stopped(&self) -> u64 {
        let listed = self
            .host
            .shell("iptables -w -L -v -x -n")
            .unwrap_or_default();
        let packets = |line: &str| line.split_whitespace().next()?.parse::<u64>().ok();
        listed.lines().filter_map(packets).sum()
    }

    /// Ends it, and gives how many packets it stopped.
    pub fn heal(self) -> u64 {
        self.stopped()
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        // The machine is the lab's own, so all its rules are ours.
        let _ = self.host.shell("iptables -w -F");
    }
}

/// The local ports of the open connections of a machine to the store.
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

/// A connection of a machine to the store: its own port, and the address at the other end.
pub type Connection = (String, String);

/// How many bytes each connection to the store has received.
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
