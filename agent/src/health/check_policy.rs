//! Limits for checks that are defined over the API. Pure.
//!
//! A check makes this host send requests in its own name and from within its network. Clients on this host
//! may check all addresses except those that respond only to the host itself. Clients on other hosts may
//! check only their own address.

use std::time::Duration;

use discover_core::{Error, ErrorKind, Result};
use ipnet::IpNet;

use crate::health::check::{Check, CheckDefinition, CheckTarget};
use crate::health::target_policy::TargetPolicy;
use crate::net::peer::{Authentication, Peer};

/// Limits from the settings.
#[derive(Clone, Debug)]
pub struct CheckPolicy {
    /// Whether checks may run commands and read files.
    pub allow_exec: bool,
    /// Maximum number of checked instances.
    pub max_checks: usize,
    /// Shortest allowed interval.
    pub min_interval: Duration,
    /// Networks that any client may check.
    pub targets: Vec<IpNet>,
}

impl CheckPolicy {
    /// Returns the addresses that a check defined by this client may connect to.
    pub fn target_policy(&self, peer: Peer) -> TargetPolicy {
        let targets = self.targets.clone();
        match peer {
            Peer::Address(ip) if !ip.is_loopback() => TargetPolicy::Only(ip, targets),
            _ => TargetPolicy::Ordinary(targets),
        }
    }

    /// Returns a check of the previous process with the current limits, or `None` if it is not allowed any
    /// more.
    pub fn readmit(&self, mut check: Check) -> Option<Check> {
        match &mut check.target_policy {
            TargetPolicy::Anywhere => return Some(check),
            TargetPolicy::Ordinary(targets) | TargetPolicy::Only(_, targets) => {
                targets.clone_from(&self.targets)
            }
        }
        let uses_agent_rights = match &check.target {
            CheckTarget::Exec(..) => true,
            CheckTarget::Http { tls, .. } => matches!(tls, Some(Some(_))),
            CheckTarget::Tcp(_) => false,
        };
        (self.allow_exec || !uses_agent_rights).then_some(check)
    }

    /// Checks a definition against the limits. Only an authenticated
    /// client may make the agent run commands and read files.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::PermissionDenied`] or [`ErrorKind::InvalidArgument`] and the setting that allows the check.
    pub fn admit(&self, check: &CheckDefinition, client: Authentication) -> Result<()> {
        // Both make the agent run programs or open files as its user.
        let rights = [("exec", check.exec.is_some()), ("ca", check.ca.is_some())];
        if let Some((what, _)) = rights.iter().find(|(_, given)| *given)
            && (!self.allow_exec || client == Authentication::Anonymous)
        {
            let (way, remedy) = match self.allow_exec {
                false => ("over the API", "set allow_exec"),
                true => (
                    "over TCP without a token, from any local user",
                    "use the Unix socket, set token_file",
                ),
            };
            let text = format!(
                "check: {what} is not allowed {way}; {remedy}, or define the check in the configuration file"
            );
            return Err(Error::new(ErrorKind::PermissionDenied, text));
        }
        for (name, time) in [("interval", check.interval), ("start", check.start)] {
            let min = self.min_interval;
            if time.is_some_and(|time| time.0 < min) {
                let text = format!(
                    "check: {name} is less than {min:?}, the minimum (setting check_interval)"
                );
                return Err(Error::invalid(text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    use crate::health::check::HealthSource;
    use crate::net::cidr::parse_network;

    const UNIX: Authentication = Authentication::Authenticated;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn policy(targets: &[&str]) -> CheckPolicy {
        CheckPolicy {
            allow_exec: false,
            max_checks: 2,
            min_interval: Duration::from_secs(1),
            targets: targets
                .iter()
                .map(|text| parse_network(text).unwrap())
                .collect(),
        }
    }

    fn definition(json: &str) -> CheckDefinition {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn remote_clients_may_check_only_their_own_address() {
        let remote = policy(&["10.9.0.0/16"]).target_policy(Peer::Address(ip("10.0.0.7")));
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
    fn local_clients_may_check_all_but_host_only_addresses() {
        for peer in [Peer::User(1000), Peer::Address(ip("127.0.0.1"))] {
            let local = policy(&[]).target_policy(peer);
            for (target, may) in [
                ("127.0.0.1", true),
                ("10.0.0.8", true),
                ("2001:db8::1", true),
                ("169.254.169.254", false),
                ("::ffff:169.254.169.254", false),
                ("fe80::1", false),
                ("fd00:ec2::254", false),
                ("fd00:ec2::23", false),
                ("fd20:ce::254", false),
                ("fd00:42::42", false),
                ("fe80::a9fe:a9fe", false),
                ("168.63.129.16", false),
                ("100.100.100.200", false),
                ("192.0.0.192", false),
                ("::169.254.169.254", false),
                ("::ffff:0:169.254.169.254", false),
                ("64:ff9b::169.254.169.254", false),
                ("64:ff9b:1::100.100.100.200", false),
                ("2002:a9fe:a9fe::1", false),
                ("2001:0:1:2:3:4:5601:5601", false),
                ("2001:db8::5efe:169.254.169.254", false),
                ("64:ff9b::10.0.0.8", true),
                ("0.1.2.3", false),
                ("0.0.0.0", false),
                ("224.0.0.1", false),
                ("255.255.255.255", false),
            ] {
                assert_eq!(local.allows(ip(target)), may, "{target}");
            }
        }
        let more = policy(&["169.254.0.0/16"]).target_policy(Peer::User(0));
        assert!(more.allows(ip("169.254.169.254")), "the settings allow it");
        assert!(TargetPolicy::Anywhere.allows(ip("169.254.169.254")));
    }

    #[test]
    fn checks_of_the_previous_process_get_the_current_limits() {
        let check = |json: &str, target_policy| match definition(json).resolve(
            "10.0.0.7",
            1,
            target_policy,
        ) {
            Ok(HealthSource::Agent(check)) => check,
            other => panic!("{other:?}"),
        };
        let now = policy(&["10.9.0.0/16"]);
        let before = TargetPolicy::Only(ip("10.0.0.7"), Vec::new());
        let readmitted = now
            .readmit(check(r#"{"tcp": ":1"}"#, before.clone()))
            .unwrap();
        assert_eq!(
            readmitted.target_policy,
            now.target_policy(Peer::Address(ip("10.0.0.7")))
        );
        let exec = r#"{"exec": "true"}"#;
        assert_eq!(now.readmit(check(exec, before)), None);
        let from_config_file = check(exec, TargetPolicy::Anywhere);
        assert_eq!(
            now.readmit(from_config_file.clone()),
            Some(from_config_file)
        );
    }

    #[test]
    fn forbidden_checks_fail_with_the_setting_that_allows_them() {
        for (bad, why) in [
            (r#"{"exec": "true"}"#, "allow_exec"),
            (r#"{"http": "https://h/", "ca": "/x"}"#, "allow_exec"),
            (r#"{"tcp": ":1", "interval": "999ms"}"#, "check_interval"),
            (r#"{"tcp": ":1", "start": "10ms"}"#, "check_interval"),
        ] {
            let error = policy(&[]).admit(&definition(bad), UNIX);
            let error = error.unwrap_err();
            assert!(error.to_string().contains(why), "{bad}: {error:#}");
        }
        let fine = r#"{"tcp": ":1", "interval": "1s", "start": "1s"}"#;
        assert!(policy(&[]).admit(&definition(fine), UNIX).is_ok());
        let reports = r#"{"ttl": "10s"}"#;
        assert!(policy(&[]).admit(&definition(reports), UNIX).is_ok());
    }

    #[test]
    fn only_authenticated_clients_may_use_the_rights_of_the_agent() {
        let policy = CheckPolicy {
            allow_exec: true,
            ..policy(&[])
        };
        for check in [
            r#"{"exec": "true"}"#,
            r#"{"http": "https://h/", "ca": "/x"}"#,
        ] {
            let check = definition(check);
            assert!(policy.admit(&check, UNIX).is_ok());
            let refused = policy.admit(&check, Authentication::Anonymous);
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            let text = error.to_string();
            assert!(
                text.contains("use the Unix socket, set token_file"),
                "{text}"
            );
        }
        let probe = definition(r#"{"tcp": ":1"}"#);
        assert!(policy.admit(&probe, Authentication::Anonymous).is_ok());
    }
}
