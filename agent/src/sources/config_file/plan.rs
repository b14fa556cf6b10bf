//! The services of a configuration file, and the steps from one file to the next. Pure.

use std::collections::HashSet;
use std::net::IpAddr;

use discover_core::{Attributes, Error, HumanDuration, Result, ServiceName};
use serde::{Deserialize, Serialize};

use crate::config::one_or_many::OneOrMany;
use crate::health::check::CheckDefinition;
use crate::health::target_policy::TargetPolicy;

/// `[[service]]`: a program that knows nothing of us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The service.
    pub name: String,
    /// Where the program listens.
    pub port: u16,
    /// The id; the address, if there is none.
    #[serde(default)]
    pub id: Option<String>,
    /// Rules for the address, as in `advertise`; the agent's, if there are none.
    #[serde(default)]
    pub interfaces: OneOrMany,
    /// Attributes.
    #[serde(default)]
    pub attributes: Attributes,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// How long the instance outlives the agent, if that is killed.
    #[serde(default)]
    pub ttl: Option<HumanDuration>,
    /// What says that it lives; without a check it always does.
    #[serde(default)]
    pub check: Option<CheckDefinition>,
}

/// Validates the services of a file, before anything is registered.
///
/// # Errors
///
/// Fails with the first service that can never be registered; the message names it.
pub fn validate(services: &[Service]) -> Result<()> {
    let mut places = HashSet::new();
    for service in services {
        let failed = |e: Error| Error::invalid(format!("service {:?}: {e:#}", service.name));
        ServiceName::new(&service.name).map_err(failed)?;
        if service.port == 0 {
            return Err(failed(Error::invalid("port is 0; it must be 1 to 65535")));
        }
        if let Some(check) = &service.check {
            if check.ttl.is_some() {
                let text = "check: ttl is for programs that speak to us; use tcp, http or exec";
                return Err(failed(Error::invalid(text)));
            }
            check
                .resolve("localhost", service.port, TargetPolicy::Anywhere)
                .map_err(failed)?;
        }
        if !places.insert((&service.name, service.place())) {
            let text = "is there twice; give each another id";
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
pub fn placed(
    services: &[Service],
    host: impl Fn(&Service) -> Result<IpAddr>,
) -> Result<Vec<Placed>> {
    let placed = |service: &Service| {
        let host = host(service)?;
        let service = service.clone();
        Ok(Placed { service, host })
    };
    services.iter().map(placed).collect()
}

/// A service, and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The service.
    pub service: Service,
    /// The host that its rules lead to.
    pub host: IpAddr,
}

/// The way from what is registered to what is to be.
#[derive(Debug, PartialEq)]
pub struct Steps {
    /// Services to be unregistered, unless they begin anew.
    pub end: Vec<Placed>,
    /// Services to be registered.
    pub begin: Vec<Placed>,
}

impl Steps {
    /// What stays as and where it is, is left alone.
    pub fn new(registered: &[Placed], wanted: &[Placed]) -> Steps {
        let without = |all: &[Placed], others: &[Placed]| {
            let only = all.iter().filter(|one| !others.contains(one));
            only.cloned().collect()
        };
        Steps {
            end: without(registered, wanted),
            begin: without(wanted, registered),
        }
    }
}

impl Service {
    /// What tells it from others of its name in one file.
    fn place(&self) -> String {
        let own = || format!("{}:{}", self.interfaces.0.join(","), self.port);
        self.id.clone().unwrap_or_else(own)
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
    fn a_file_says_what_to_register_and_what_to_watch() {
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
    fn what_makes_no_sense_is_refused_by_its_name() {
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
                "is there twice",
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
    fn what_stays_as_it_is_is_left_alone() {
        let one = |name: &str, port| format!("[[service]]\nname = '{name}'\nport = {port}\n");
        let before = plan(&format!("{}{}", one("a", 1), one("b", 2))).unwrap();
        let after = plan(&format!("{}{}", one("a", 1), one("b", 3))).unwrap();
        let at = |plan: &Plan, host: [u8; 4]| placed(&plan.services, |_| Ok(host.into())).unwrap();
        let (here, next) = (at(&before, [10, 0, 0, 1]), at(&after, [10, 0, 0, 1]));
        let steps = Steps::new(&here, &next);
        assert_eq!(steps.end, here[1..]);
        assert_eq!(steps.begin, next[1..]);
        let none = Steps::new(&here, &here);
        assert!(none.end.is_empty() && none.begin.is_empty());
        let moved = at(&before, [10, 0, 0, 2]);
        let steps = Steps::new(&here, &moved);
        assert_eq!((steps.end, steps.begin), (here, moved));
    }
}
