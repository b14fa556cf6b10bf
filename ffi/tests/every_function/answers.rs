//! What is to be answered where the words of a comment do not say it to a machine.

/// Answers of functions without a status, to NULL and to a bug, other than NULL, 0 and false.
pub fn neutral(function: &str) -> Option<&'static str> {
    Some(match function {
        "discover_error_message" => "\"\"",
        "discover_feed_fd" => "-1",
        "discover_status_name"
        | "discover_standing_name"
        | "discover_state_name"
        | "discover_departure_name"
        | "discover_event_kind_name"
        | "discover_level_name"
        | "discover_connection_name" => "\"unknown\"",
        _ => return None,
    })
}

/// Functions whose answer is as neutral when all is well with what the program has at hand: there is
/// nothing wrong with its registry, and records can be read.
pub const NEUTRAL_WHEN_WELL: &[&str] = &[
    "discover_status_is_retriable",
    "discover_error_is_retriable",
    "discover_instance_is_suspect",
    "discover_host_is_public",
    "discover_host_is_critical",
    "discover_host_port_count",
    "discover_host_port_scheme",
    "discover_service_is_public",
    "discover_service_is_critical",
    "discover_snapshot_epoch",
    "discover_snapshot_invalid_count",
    "discover_snapshot_take_fault",
    "discover_snapshot_fault_since_ms",
    "discover_event_error",
];

/// Functions that only return what the compiler has put there, in which nothing can go wrong.
pub const UNGUARDED: &[&str] = &["discover_version_number", "discover_version_string"];

/// Functions of a client that is open. A client that was closed is freed, and like with any pointer that
/// was freed, nobody can tell.
pub const NEED_AN_OPEN_CLIENT: &[&str] = &[
    "discover_client_url",
    "discover_client_register",
    "discover_client_services",
    "discover_client_connection",
    "discover_client_on_connection",
    "discover_client_metric",
];

/// How calls that return a status end when the client of what they are given is closed.
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
        | "discover_host_url"
        | "discover_host_private_url"
        | "discover_service_shard"
        | "discover_service_url" => "DISCOVER_OK",
        // These have nothing to do with any client but the one that they open or close.
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
        unknown => panic!("say how {unknown} ends when the client is closed"),
    }
}

/// What a text parameter is given when all is well. NULL where others must not go with it.
pub fn text(function: &str, parameter: &str) -> &'static str {
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
        unknown => panic!("say what is a good {unknown}"),
    }
}

/// What a number is when all is well.
pub fn number(parameter: &str) -> &'static str {
    match parameter {
        "port" => "7009",
        "ttl_ms" => "10000",
        "timeout_ms" => "PATIENCE_MS",
        "index" => "0",
        "count" | "attribute_count" | "tag_count" => "1",
        "status" | "standing" | "state" | "departure" | "kind" | "level" | "connection" => "1",
        unknown => panic!("say what is a good {unknown}"),
    }
}
