//! What the hosts of a service share.

use crate::error::Result;
use crate::layout::json;
use crate::layout::scalingo::host_record::HostRecord;
use crate::model::{Attributes, OnConflict};

/// The description of a service. Only of a public one there is more to say than its name.
pub(super) struct ServiceRecord {
    name: String,
    critical: bool,
    hostname: String,
    user: String,
    password: String,
    ports: Attributes,
    pub(super) public: bool,
}

const KNOWN: [&str; 7] = [
    "name", "critical", "hostname", "user", "password", "ports", "public",
];

impl ServiceRecord {
    /// What a host says of its service.
    pub(super) fn from_host(host: &HostRecord) -> ServiceRecord {
        let said = |text: &str| {
            if host.public {
                text.to_owned()
            } else {
                String::new()
            }
        };
        ServiceRecord {
            name: host.service_name.clone(),
            critical: host.critical,
            hostname: said(&host.hostname),
            user: said(&host.user),
            password: said(&host.password),
            ports: if host.public {
                host.ports.clone()
            } else {
                Attributes::new()
            },
            public: host.public,
        }
    }

    pub(super) fn parse(value: &[u8]) -> std::result::Result<ServiceRecord, String> {
        let record = json::Object::parse(value)?;
        let text = |name: &str| record.text(name).map(str::to_owned);
        Ok(ServiceRecord {
            name: text("name")?,
            critical: record.flag("critical")?,
            hostname: text("hostname")?,
            user: text("user")?,
            password: text("password")?,
            ports: record.map("ports")?,
            public: record.flag("public")?,
        })
    }

    pub(super) fn write(&self) -> Result<Vec<u8>> {
        json::Writer::new()
            .value("name", self.name.as_str())
            .value("critical", self.critical)
            .optional_string("hostname", &self.hostname)
            .optional_string("user", &self.user)
            .optional_string("password", &self.password)
            .optional_map("ports", &self.ports)
            .optional_bool("public", self.public)
            .finish()
    }

    /// The credentials that it names, as attributes; what it does not name is nobody's to blank.
    pub(super) fn credentials(&self) -> Attributes {
        let both = [("user", &self.user), ("password", &self.password)];
        let named = both.into_iter().filter(|(_, text)| !text.is_empty());
        named
            .map(|(name, text)| (name.to_owned(), text.clone()))
            .collect()
    }
}

/// What becomes of the description `before` when a host says `fresh`. The last who registers as public
/// says where and with which credentials. Who says no credentials blanks none, who is not public says
/// nothing about a public service, and who is put back after a loss leaves what others said since.
pub(super) fn merge(fresh: &[u8], before: &[u8], claim: OnConflict) -> Option<Vec<u8>> {
    let (Ok(mut said), Ok(old)) = (ServiceRecord::parse(fresh), ServiceRecord::parse(before))
    else {
        return Some(fresh.to_vec());
    };
    if old.public && (claim == OnConflict::RestoreOnly || !said.public) {
        return None;
    }
    if said.public && said.user.is_empty() && said.password.is_empty() {
        (said.user, said.password) = (old.user, old.password);
    }
    let said = said.write().ok()?;
    let kept = json::keep_unknown(&said, before, &KNOWN).unwrap_or(said);
    (kept != before).then_some(kept)
}
