//! What a check may look at that somebody declared over the API. Pure.
//!
//! Whoever declares a check has this host ask somebody else, in its name and from within its network. So
//! somebody on this host may have all be looked at but what only ever answers the host itself, and somebody
//! elsewhere only what is at their own address.

use std::time::Duration;

use discover_core::{Error, ErrorKind, Result};
use ipnet::IpNet;

use crate::health::check::{Check, Declared, What};
use crate::health::target_policy::TargetPolicy;
use crate::net::peer::Peer;

/// What the settings say.
#[derive(Clone, Debug)]
pub struct CheckPolicy {
    /// Whether commands may be run, and files opened.
    pub exec: bool,
    /// The most instances that are looked at.
    pub most: usize,
    /// The shortest interval.
    pub interval: Duration,
    /// Networks that anybody may have looked at.
    pub targets: Vec<IpNet>,
}

impl CheckPolicy {
    /// How far a check reaches that this one declared.
    pub fn reach(&self, peer: Peer) -> TargetPolicy {
        let targets = self.targets.clone();
        match peer {
            Peer::Address(ip) if !ip.is_loopback() => TargetPolicy::Only(ip, targets),
            _ => TargetPolicy::Ordinary(targets),
        }
    }

    /// A check that was declared to the run before, as far as it may reach now; none if it is not allowed
    /// any more.
    pub fn again(&self, mut check: Check) -> Option<Check> {
        match &mut check.reach {
            TargetPolicy::Anywhere => return Some(check),
            TargetPolicy::Ordinary(targets) | TargetPolicy::Only(_, targets) => {
                targets.clone_from(&self.targets)
            }
        }
        let is_own = match &check.what {
            What::Exec(..) => true,
            What::Http { tls, .. } => matches!(tls, Some(Some(_))),
            What::Tcp(_) => false,
        };
        (self.exec || !is_own).then_some(check)
    }

    /// Refuses what is not for everybody who may register; so many others are looked at already.
    pub fn admit(&self, check: &Declared, others: usize) -> Result<()> {
        // Both make the agent open files and run programs as itself.
        let rights = [("exec", check.exec.is_some()), ("ca", check.ca.is_some())];
        if let Some((what, _)) = rights.iter().find(|(_, given)| *given && !self.exec) {
            let text = format!(
                "check: {what} is not for everybody who may register; \
                 the agent allows it with allow_exec, or in its configuration file"
            );
            return Err(Error::new(ErrorKind::PermissionDenied, text));
        }
        for (name, time) in [("interval", check.interval), ("start", check.start)] {
            let least = self.interval;
            if time.is_some_and(|time| time.0 < least) {
                let text =
                    format!("check: {name} is less than {least:?}, the setting check_interval");
                return Err(Error::invalid(text));
            }
        }
        // Whoever says itself how it is has nobody look.
        if check.ttl.is_none() && others >= self.most {
            let most = self.most;
            let text = format!(
                "{most} instances are looked at already; the limit is {most}, the setting checks"
            );
            return Err(Error::new(ErrorKind::Resource, text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    use crate::health::check::Watch;
    use crate::net::cidr::parse_network;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn allowed(targets: &[&str]) -> CheckPolicy {
        CheckPolicy {
            exec: false,
            most: 2,
            interval: Duration::from_secs(1),
            targets: targets
                .iter()
                .map(|text| parse_network(text).unwrap())
                .collect(),
        }
    }

    fn declared(json: &str) -> Declared {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn who_is_elsewhere_has_only_their_own_address_looked_at() {
        let remote = allowed(&["10.9.0.0/16"]).reach(Peer::Address(ip("10.0.0.7")));
        for (target, may) in [
            ("10.0.0.7", true),
            ("::ffff:10.0.0.7", true),
            ("10.0.0.8", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("169.254.169.254", false),
            ("10.9.1.1", true),
        ] {
            assert_eq!(remote.allows(ip(target)), may, "{target}");
        }
    }

    #[test]
    fn who_is_here_has_all_looked_at_but_what_answers_the_host_alone() {
        for peer in [Peer::User(1000), Peer::Address(ip("127.0.0.1"))] {
            let local = allowed(&[]).reach(peer);
            for (target, may) in [
                ("127.0.0.1", true),
                ("10.0.0.8", true),
                ("2001:db8::1", true),
                ("169.254.169.254", false),
                ("::ffff:169.254.169.254", false),
                ("fe80::1", false),
                ("fd00:ec2::254", false),
                ("0.0.0.0", false),
                ("224.0.0.1", false),
                ("255.255.255.255", false),
            ] {
                assert_eq!(local.allows(ip(target)), may, "{target}");
            }
        }
        let more = allowed(&["169.254.0.0/16"]).reach(Peer::User(0));
        assert!(more.allows(ip("169.254.169.254")), "somebody said so");
        assert!(TargetPolicy::Anywhere.allows(ip("169.254.169.254")));
    }

    #[test]
    fn what_the_run_before_allowed_is_judged_anew() {
        let made = |json: &str, reach| match declared(json).watch("10.0.0.7", 1, reach) {
            Ok(Watch::Check(check)) => check,
            other => panic!("{other:?}"),
        };
        let now = allowed(&["10.9.0.0/16"]);
        let before = TargetPolicy::Only(ip("10.0.0.7"), Vec::new());
        let again = now.again(made(r#"{"tcp": ":1"}"#, before.clone())).unwrap();
        assert_eq!(again.reach, now.reach(Peer::Address(ip("10.0.0.7"))));
        let exec = r#"{"exec": "true"}"#;
        assert_eq!(now.again(made(exec, before)), None);
        let of_the_file = made(exec, TargetPolicy::Anywhere);
        assert_eq!(now.again(of_the_file.clone()), Some(of_the_file));
    }

    #[test]
    fn what_is_not_for_everybody_is_refused_with_the_setting_that_allows_it() {
        for (bad, running, why) in [
            (r#"{"exec": "true"}"#, 0, "allow_exec"),
            (r#"{"http": "https://h/", "ca": "/x"}"#, 0, "allow_exec"),
            (r#"{"tcp": ":1", "interval": "999ms"}"#, 0, "check_interval"),
            (r#"{"tcp": ":1", "start": "10ms"}"#, 0, "check_interval"),
            (r#"{"tcp": ":1"}"#, 2, "the setting checks"),
        ] {
            let error = allowed(&[]).admit(&declared(bad), running).unwrap_err();
            assert!(error.to_string().contains(why), "{bad}: {error:#}");
        }
        let fine = r#"{"tcp": ":1", "interval": "1s", "start": "1s"}"#;
        assert!(allowed(&[]).admit(&declared(fine), 1).is_ok());
        let reports = r#"{"ttl": "10s"}"#;
        assert!(allowed(&[]).admit(&declared(reports), 2).is_ok());
    }
}
