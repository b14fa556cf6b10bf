//! What a configuration file asks for, and what to do when it asks for something else. Pure.

use std::collections::BTreeMap;

use discover_core::Attributes;
use serde::Deserialize;

use crate::health::Declared;

/// `[[register]]`: an instance of a program that knows nothing of us.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The service.
    pub service: String,
    /// `host:port`, or `:port` of this host.
    pub address: String,
    /// Its attributes.
    #[serde(default)]
    pub attributes: Attributes,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// How to look after it; without it, it is there for as long as the agent is.
    pub check: Option<Declared>,
}

/// `[[watch]]`: a command to run when a service changes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The service.
    pub service: String,
    /// The command: its program and arguments.
    pub on_change: Vec<String>,
    /// How long it may take, in milliseconds; then it is killed.
    #[serde(default = "usual_timeout")]
    pub timeout_ms: u64,
}

fn usual_timeout() -> u64 {
    30_000
}

/// What a file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to register.
    pub register: Vec<Member>,
    /// What to watch.
    pub watch: Vec<Watch>,
}

/// What to do for members.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Take this one away.
    Unregister(Member),
    /// Make this one visible, or visible as it is now.
    Register(Member),
}

/// What leads from what there is to what is wanted: first away, then anew. What stays is left alone.
pub fn steps(have: &[Member], want: &[Member]) -> Vec<Step> {
    let by_place = |members: &[Member]| -> BTreeMap<(String, String), Member> {
        let place = |m: &Member| ((m.service.clone(), m.address.clone()), m.clone());
        members.iter().map(place).collect()
    };
    let (have, want) = (by_place(have), by_place(want));
    let gone = have.iter().filter(|(place, _)| !want.contains_key(*place));
    let gone = gone.map(|(_, member)| Step::Unregister(member.clone()));
    let new = want
        .iter()
        .filter(|(place, member)| have.get(*place) != Some(*member));
    let new = new.map(|(_, member)| Step::Register(member.clone()));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(port: u16, tag: &str) -> Member {
        Member {
            service: "web".to_owned(),
            address: format!(":{port}"),
            attributes: Attributes::new(),
            tags: vec![tag.to_owned()],
            check: None,
        }
    }

    #[test]
    fn only_what_differs_is_done_and_first_what_goes() {
        let have = [member(1, "a"), member(2, "a"), member(3, "a")];
        let want = [member(2, "b"), member(3, "a"), member(4, "a")];
        let all = [
            Step::Unregister(member(1, "a")),
            Step::Register(member(2, "b")),
            Step::Register(member(4, "a")),
        ];
        assert_eq!(steps(&have, &want), all);
        assert!(steps(&want, &want).is_empty());
        // Written twice, the last one counts.
        assert_eq!(steps(&[], &[member(1, "a"), member(1, "b")]).len(), 1);
    }
}
