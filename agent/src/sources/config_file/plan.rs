//! The services of a configuration file, and the changes from one file to the next. Pure.

use std::collections::HashSet;
use std::net::IpAddr;

use discover_core::{Attributes, Error, HumanDuration, Result, ServiceName};
use serde::{Deserialize, Serialize};

use crate::config::one_or_many::OneOrMany;
use crate::health::check::CheckDefinition;
use crate::health::target_policy::TargetPolicy;

/// `[[service]]`: a program that does not register itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The name of the service.
    pub name: String,
    /// The port on which the program listens.
    pub port: u16,
    /// The id of the instance. Default: its address.
    #[serde(default)]
    pub id: Option<String>,
    /// Rules for the host of the instance, as in `advertise`. Default: the address of the agent.
    #[serde(default)]
    pub interfaces: OneOrMany,
    /// The attributes of the instance.
    #[serde(default)]
    pub attributes: Attributes,
    /// The tags of the instance.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Time after which the registration expires if the agent is killed.
    #[serde(default)]
    pub ttl: Option<HumanDuration>,
    /// The health check. An instance without a check is always `passing`.
    #[serde(default)]
    pub check: Option<CheckDefinition>,
}

/// Validates the services of a file, before anything is registered.
///
/// # Errors
///
/// Fails if a service can never be registered; the message names the first such service.
pub fn validate(services: &[Service]) -> Result<()> {
    let mut identities = HashSet::new();
    for service in services {
        let failed = |e: Error| Error::invalid(format!("service {:?}: {e:#}", service.name));
        ServiceName::new(&service.name).map_err(failed)?;
        if service.port == 0 {
            return Err(failed(Error::invalid("port is 0; it must be 1 to 65535")));
        }
        if let Some(check) = &service.check {
            if check.ttl.is_some() {
                let text =
                    "check: ttl requires a program that sends heartbeats; use tcp, http or exec";
                return Err(failed(Error::invalid(text)));
            }
            check
                .resolve("localhost", service.port, TargetPolicy::Anywhere)
                .map_err(failed)?;
        }
        if !identities.insert((&service.name, service.identity())) {
            let text = "is defined twice; set a different id for each";
            return Err(failed(Error::invalid(text)));
        }
    }
    Ok(())
}

/// Resolves the host of each service.
///
/// # Errors
///
/// Fails with the first error of `host`.
pub fn place(
    services: &[Service],
    host: impl Fn(&Service) -> Result<IpAddr>,
) -> Result<Vec<Placed>> {
    let place = |service: &Service| {
        let host = host(service)?;
        let service = service.clone();
        Ok(Placed { service, host })
    };
    services.iter().map(place).collect()
}

/// A service with its host.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The service.
    pub service: Service,
    /// The host that the rules of the service choose.
    pub host: IpAddr,
}

/// The changes that lead from the registered services to the wanted ones.
#[derive(Debug, PartialEq)]
pub struct ServiceChanges {
    /// Services to unregister, unless `register` contains a new version.
    pub unregister: Vec<Placed>,
    /// Services to register.
    pub register: Vec<Placed>,
}

impl ServiceChanges {
    /// Compares the services. Services with the same definition and host are in neither list.
    pub fn new(registered: &[Placed], wanted: &[Placed]) -> ServiceChanges {
        let without = |all: &[Placed], others: &[Placed]| {
            let remaining = all.iter().filter(|placed| !others.contains(placed));
            remaining.cloned().collect()
        };
        ServiceChanges {
            unregister: without(registered, wanted),
            register: without(wanted, registered),
        }
    }
}

impl Service {
    /// Returns the text that distinguishes this service from others of the same name in one file.
    fn identity(&self) -> String {
        let by_address = || format!("{}:{}", self.interfaces.0.join(","), self.port);
        self.id.clone().unwrap_or_else(by_address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{Hook, Plan};
    use std::time::Duration;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        service: Vec<Service>,
        #[serde(default)]
        watch: Vec<Hook>,
    }

    fn plan(text: &str) -> std::result::Result<Plan, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        Plan::new(file.service, file.watch).map_err(|e| e.to_string())
    }

    #[test]
    fn a_file_defines_services_and_hooks() {
        let plan = plan(
            r#"
            [[service]]
            name = "web"
            port = 8080
            interfaces = ["eth0:inet", "inet"]
            tags = ["blue"]
            attributes = { zone = "eu" }
            ttl = "30s"
            check = { http = "/up", interval = "5s" }

            [[watch]]
            service = "db"
            tag = "main"
            onChange = "/usr/local/bin/reload --soft"
            timeout = "10s"
            "#,
        )
        .unwrap();
        let web = &plan.services[0];
        assert_eq!(web.interfaces.0, ["eth0:inet", "inet"]);
        assert_eq!(web.attributes["zone"], "eu");
        let watch = &plan.hooks[0];
        assert_eq!(watch.tag.0, ["main"]);
        assert_eq!(watch.command.text(), "/usr/local/bin/reload --soft");
        assert_eq!(watch.command_timeout(), Duration::from_secs(10));
    }

    #[test]
    fn an_invalid_entry_is_refused_with_its_name() {
        for (bad, why) in [
            ("[[service]]\nname = ''\nport = 1", "service \"\""),
            ("[[service]]\nname = 'a'\nport = 0", "port is 0"),
            ("[[service]]\nname = 'a'\nport = 70000", "port"),
            ("[[service]]\nname = 'a'", "missing field `port`"),
            (
                "[[service]]\nname = 'a'\nport = 1\ncheck = {}",
                "exactly one of",
            ),
            (
                "[[service]]\nname = 'a'\nport = 1\ncheck = { ttl = 5 }",
                "tcp, http or exec",
            ),
            (
                "[[service]]\nname = 'a'\nport = 1\n[[service]]\nname = 'a'\nport = 1",
                "is defined twice",
            ),
            ("[[watch]]\nservice = 'a'", "missing field `onChange`"),
            (
                "[[watch]]\nservice = 'a'\nonChange = ''",
                "specify a program",
            ),
            ("[[job]]\n", "unknown field `job`"),
        ] {
            let error = plan(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error:#}");
        }
    }

    #[test]
    fn unchanged_services_are_in_neither_list() {
        let service = |name: &str, port| format!("[[service]]\nname = '{name}'\nport = {port}\n");
        let before = plan(&format!("{}{}", service("a", 1), service("b", 2))).unwrap();
        let after = plan(&format!("{}{}", service("a", 1), service("b", 3))).unwrap();
        let at = |plan: &Plan, host: [u8; 4]| place(&plan.services, |_| Ok(host.into())).unwrap();
        let (here, next) = (at(&before, [10, 0, 0, 1]), at(&after, [10, 0, 0, 1]));
        let changes = ServiceChanges::new(&here, &next);
        assert_eq!(changes.unregister, here[1..]);
        assert_eq!(changes.register, next[1..]);
        let unchanged = ServiceChanges::new(&here, &here);
        assert!(unchanged.unregister.is_empty() && unchanged.register.is_empty());
        let moved = at(&before, [10, 0, 0, 2]);
        let changes = ServiceChanges::new(&here, &moved);
        assert_eq!((changes.unregister, changes.register), (here, moved));
    }
}
