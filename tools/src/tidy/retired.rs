//! Words that the project has retired, so that they do not return: names of types, modules and functions, and
//! idioms that a reader from outside does not understand.

use super::{File, extension};

/// Whole identifiers that may not occur in code, each with its replacement.
const NAMES: &[(&str, &str)] = &[
    ("AT_A_TIME", "MAX_CONCURRENT_LEASE_CALLS"),
    ("AT_ONCE", "MAX_CONCURRENT_BATCHES"),
    ("AskSign", "RequestProgress"),
    ("Barred", "PermissionDenied"),
    ("CLOSED_IN", "CALLBACKS_REFUSED"),
    ("CLOSED_OUT", "CALLS_REFUSED"),
    ("Claim", "OnConflict"),
    ("ClientFacts", "ClientBase"),
    ("Complaint", "LogRateLimit"),
    ("Crowd", "PeerCounts"),
    ("Departed", "OfflineInstance"),
    ("Departure", "OfflineReason"),
    ("Doing", "ActiveCall"),
    ("Doors", "ConnectionLimiter"),
    ("Doubt", "FailConnection"),
    ("Fitness", "Eligibility"),
    ("Follower", "WatchSync"),
    ("HOMEWARD", "DRAIN_TIMEOUT"),
    ("Heard", "Activity"),
    ("Holding", "Ownership"),
    ("LeaseFacts", "LeaseBase"),
    ("LeasedFolder", "LeasedDirectory"),
    ("MOMENT", "RECONNECT_GRACE"),
    ("MOST_CHANGES", "MAX_CHANGES"),
    ("MOST_ROWS", "MAX_ROWS"),
    ("Mirror", "ViewBuilder"),
    ("NEW_EAR", "NEW_OBSERVER"),
    ("OF_ALL", "QUORUM_CHECK_INTERVAL"),
    ("OVERTAKEN", "PRECONDITION_CODES"),
    ("OnPurpose", "ExpectedError"),
    ("OneOrMore", "OneOrMany"),
    ("OrderId", "RequestId"),
    ("PATIENCE_MS", "TIMEOUT_MS"),
    ("PATIENCE_S", "TIMEOUT_S"),
    ("PLUMBING", "C_ONLY_PARAMETERS"),
    ("PartId", "RangeId"),
    ("Pended", "CoreOperation"),
    ("PutBack", "RestoreOnly"),
    ("REMEMBERED", "MAX_OFFLINE"),
    ("Ringer", "Notifier"),
    ("SEEING", "OBSERVE_TIMEOUT"),
    ("Said", "Metadata"),
    ("Sayings", "MetadataInterner"),
    ("Seniority", "InstanceOrder"),
    ("TakeOver", "Replace"),
    ("TreeBackend", "KvBackend"),
    ("Unwatch", "CancelWatch"),
    ("WentBack", "StartEpoch"),
    ("adopt_held", "restore_maintenance"),
    ("as_it_is", "reported_health"),
    ("ask_sign", "request_progress"),
    ("await_heard", "await_events"),
    ("believed_alive", "unconfirmed_stays_live"),
    ("came_since", "find_replacements"),
    ("discover_cue_panic", "discover_inject_panic"),
    ("discover_departure_name", "discover_offline_reason_name"),
    ("discover_host_of", "discover_scalingo_host_from_instance"),
    ("discover_set_hosts", "discover_scalingo_service_from_set"),
    ("each_is_found", "check_mutants"),
    ("ear_hear", "observer_on_event"),
    ("end_post", "remove_wake_fn"),
    ("expect_tree", "check_kv_options"),
    ("feed_posting", "feed_with_wake_fn"),
    ("folder_of", "directory_of"),
    ("held_back", "maintenance_rules"),
    ("hold_sigpipe", "block_sigpipe"),
    ("is_own_news", "is_own_write"),
    ("is_uneven", "revisions_differ"),
    ("joined_by", "merged_with"),
    ("know_nothing", "reset"),
    ("may_be_a_mass", "may_be_mass_expiry"),
    ("not_ours", "lost_error"),
    ("now_taken", "accepted"),
    ("pass_over", "ignore_variable"),
    ("settle_if_explained", "finish_audit"),
    ("sound_alarms", "signal_overdue"),
    ("split_address", "HostPort::split"),
    ("still_ours", "check_ownership"),
    ("tell_again", "force_next_view"),
    ("tell_systemd", "notify_systemd"),
    ("unforked", "hold_forks"),
    ("wait_until_home", "wait_until_none_is_detached"),
    ("was_away", "was_withdrawn"),
    ("what_it_means", "status_of_error"),
    ("why_canceled", "cancel_reason"),
    ("write_down", "write_journal"),
];

/// Idioms that may not occur in comments, messages and documents.
const IDIOMS: &[&str] = &[
    "fares",
    "for ever",
    "is let go of",
    "is told",
    "are told",
    "let go of",
    "nobody",
    "who says",
    "whoever",
];

/// Documents that quote retired words.
const EXCEPT: &[&str] = &["CHANGELOG.md", "tools/src/tidy/retired.rs"];

pub fn check(file: &File) -> Vec<String> {
    if EXCEPT.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (at, text) in file.text.lines().enumerate() {
        let number = at + 1;
        let code = file.lines.get(at).map_or(text, |line| line.code.as_str());
        if extension(&file.path) != "md" {
            let retired = NAMES.iter().find(|(name, _)| has_word(code, name));
            if let Some((name, instead)) = retired {
                findings.push(format!(
                    "{}:{number}: `{name}` is retired; the name is {instead}",
                    file.path
                ));
            }
        }
        let lower = text.to_lowercase();
        if let Some(idiom) = IDIOMS.iter().find(|idiom| has_word(&lower, idiom)) {
            findings.push(format!(
                "{}:{number}: \"{idiom}\": use plain technical English",
                file.path
            ));
        }
    }
    findings
}

fn has_word(text: &str, word: &str) -> bool {
    let in_name = |char: char| char.is_alphanumeric() || char == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(in_name) && !after.starts_with(in_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&File::new(path, text.to_owned())).len()
    }

    #[test]
    fn retired_names_and_idioms_are_found() {
        assert_eq!(findings("core/src/a.rs", "use crate::model::Claim;"), 1);
        assert_eq!(
            findings("core/src/a.rs", "// A Claim is made.\nfn claim() {}"),
            0
        );
        assert_eq!(findings("core/src/a.rs", "// Nobody waits."), 1);
        assert_eq!(findings("docs/a.md", "The subscriber is told of it."), 1);
        assert_eq!(findings("CHANGELOG.md", "`Claim` is told."), 0);
    }
}
