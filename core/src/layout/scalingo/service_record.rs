//! The service description that all hosts of a service share.

use crate::error::Result;
use crate::layout::json;
use crate::layout::scalingo::host_record::HostRecord;
use crate::model::{Attributes, OnConflict};

/// The service description. Only that of a public service contains more than its name.
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
    /// Returns the description that a host implies.
    pub(super) fn from_host(host: &HostRecord) -> ServiceRecord {
        let fresh_record = |text: &str| {
            if host.public {
                text.to_owned()
            } else {
                String::new()
            }
        };
        ServiceRecord {
            name: host.service_name.clone(),
            critical: host.critical,
            hostname: fresh_record(&host.hostname),
            user: fresh_record(&host.user),
            password: fresh_record(&host.password),
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

    /// Returns the credentials in the record as attributes; a missing credential clears nothing.
    pub(super) fn credentials(&self) -> Attributes {
        let both = [("user", &self.user), ("password", &self.password)];
        let named = both.into_iter().filter(|(_, text)| !text.is_empty());
        named
            .map(|(name, text)| (name.to_owned(), text.clone()))
            .collect()
    }
}

/// Merges the description `fresh` of a host into the existing one. The public host registered last determines the address
/// and the credentials. A host without credentials clears none, a private host changes nothing of a public service, and a
/// restored host keeps what others have written since.
pub(super) fn merge(fresh: &[u8], before: &[u8], on_conflict: OnConflict) -> Option<Vec<u8>> {
    let (Ok(mut fresh_record), Ok(old)) =
        (ServiceRecord::parse(fresh), ServiceRecord::parse(before))
    else {
        return Some(fresh.to_vec());
    };
    if old.public && (on_conflict == OnConflict::RestoreOnly || !fresh_record.public) {
        return None;
    }
    if fresh_record.public && fresh_record.user.is_empty() && fresh_record.password.is_empty() {
        (fresh_record.user, fresh_record.password) = (old.user, old.password);
    }
    let fresh_record = fresh_record.write().ok()?;
    let kept = json::keep_unknown(&fresh_record, before, &KNOWN).unwrap_or(fresh_record);
    (kept != before).then_some(kept)
}
