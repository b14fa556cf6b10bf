//! Expected results that do not follow from the form of a comment.

/// The default results of functions without a status, for NULL and after a panic, other than NULL, 0 and false.
pub fn default_result(function: &str) -> Option<&'static str> {
    Some(match function {
        "discover_error_message" => "\"\"",
        "discover_feed_fd" => "-1",
        "discover_status_name"
        | "discover_standing_name"
        | "discover_state_name"
        | "discover_offline_reason_name"
        | "discover_event_kind_name"
        | "discover_level_name"
        | "discover_connection_name" => "\"unknown\"",
        _ => return None,
    })
}

/// Functions that return the default result on success too, because the registry of the program is healthy
/// and has no malformed records.
pub const DEFAULT_ON_SUCCESS: &[&str] = &[
    "discover_status_is_retriable",
    "discover_error_is_retriable",
    "discover_instance_is_suspect",
    "discover_scalingo_host_is_public",
    "discover_scalingo_host_is_critical",
    "discover_scalingo_host_port_count",
    "discover_scalingo_host_port_scheme",
    "discover_scalingo_service_is_public",
    "discover_scalingo_service_is_critical",
    "discover_snapshot_epoch",
    "discover_snapshot_invalid_count",
    "discover_snapshot_take_fault",
    "discover_snapshot_fault_since_ms",
    "discover_event_error",
];

/// Functions that return constants and need no panic boundary.
pub const WITHOUT_BOUNDARY: &[&str] = &["discover_version_number", "discover_version_string"];

/// Functions of an open client. A closed client is freed, and a freed pointer cannot be recognized.
pub const NEED_AN_OPEN_CLIENT: &[&str] = &[
    "discover_client_url",
    "discover_client_register",
    "discover_client_services",
    "discover_client_connection",
    "discover_client_on_connection",
    "discover_client_metric",
];

/// The status of calls whose client is closed.
pub fn after_close(function: &str) -> &'static str {
    match function {
        "discover_lease_heartbeat"
        | "discover_lease_update"
        | "discover_lease_unregister"
        | "discover_lease_on_standing"
        | "discover_set_wait"
        | "discover_set_subscribe"
        | "discover_set_feed"
        | "discover_feed_drain" => "DISCOVER_ERR_CLOSED",
        // Sets can still be read.
        "discover_set_filter"
        | "discover_set_pick"
        | "discover_scalingo_host_url"
        | "discover_scalingo_host_private_url"
        | "discover_scalingo_service_shard"
        | "discover_scalingo_service_url" => "DISCOVER_OK",
        // These use no client, or the one that they open or close.
        "discover_client_open"
        | "discover_client_close"
        | "discover_registration_new"
        | "discover_registration_set_host"
        | "discover_registration_set_id"
        | "discover_registration_set_attribute"
        | "discover_registration_add_tag"
        | "discover_registration_set_ttl_ms"
        | "discover_registration_set_heartbeat_manual"
        | "discover_log_set"
        | "discover_descriptor_parse"
        | "discover_descriptors_from_env"
        | "discover_descriptors_from_pairs"
        | "discover_error_status" => "DISCOVER_OK",
        unknown => panic!("add the status of {unknown} for a closed client"),
    }
}

/// A valid argument for a text parameter; NULL for an optional one that excludes others.
pub fn valid_text(function: &str, parameter: &str) -> &'static str {
    match parameter {
        "name" if function == "discover_client_metric" => "\"relists\"",
        "url" => "\"memory://every-function\"",
        "service" => "\"web\"",
        "host" => "\"127.0.0.1\"",
        "id" => "\"127.0.0.1:7009\"",
        "name" => "\"zone\"",
        "value" => "\"eu\"",
        "tag" => "\"blue\"",
        "policy" => "\"random\"",
        "key" => "NULL",
        "scheme" => "\"http\"",
        "path" => "\"/x\"",
        "shard" => "\"s1\"",
        "text" => "\"web[blue];80/tcp\"",
        "prefix" => "\"BACKEND_\"",
        unknown => panic!("add a valid text for {unknown}"),
    }
}

/// A valid argument for a numeric parameter.
pub fn valid_number(parameter: &str) -> &'static str {
    match parameter {
        "port" => "7009",
        "ttl_ms" => "10000",
        "timeout_ms" => "TIMEOUT_MS",
        "index" => "0",
        "count" | "attribute_count" | "tag_count" => "1",
        "status" | "standing" | "state" | "reason" | "kind" | "level" | "connection" => "1",
        unknown => panic!("add a valid number for {unknown}"),
    }
}
