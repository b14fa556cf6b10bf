use super::*;

fn resolved(flags: &str, environment: &str, file: &str) -> Result<Config> {
    let layer = |text| parse_file(text).unwrap();
    resolve(layer(flags), layer(environment), layer(file), None)
}

fn origin(config: &Config, key: &str) -> &'static str {
    let setting = config.settings.iter().find(|setting| setting.key == key);
    setting.unwrap().origin.name()
}

#[test]
fn flags_override_the_environment_the_file_and_the_defaults() {
    let config = resolved(
        "bind = '127.0.0.1:5'",
        "bind = '127.0.0.1:6'\nlog = 'json'",
        "log = 'text'\nstore = 'local://'",
    )
    .unwrap();
    assert_eq!(config.net.bind.as_deref(), Some("127.0.0.1:5"));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.store.url, "local://");
    assert_eq!(origin(&config, "bind"), "flag");
    assert_eq!(origin(&config, "log_format"), "environment");
    assert_eq!(origin(&config, "store"), "file");
    assert_eq!(origin(&config, "streams"), "default");
    assert_eq!(resolved("", "", "").unwrap().store.url, EMBEDDED_STORE);
}

#[test]
fn a_key_stands_at_the_top_level_or_in_the_table_of_its_component() {
    let nested =
        "[net]\nbind = '127.0.0.1:7'\n[health]\nchecks = 3\n[logging]\nlog_level = 'debug'";
    let config = resolved("", "", nested).unwrap();
    assert_eq!(config.net.bind.as_deref(), Some("127.0.0.1:7"));
    assert_eq!(config.check_policy.max_checks, 3);
    assert_eq!(config.log.level, LevelFilter::DEBUG);
    assert_eq!(origin(&config, "bind"), "file");
    let twice = parse_file("bind = 'a'\n[net]\nbind = 'b'").unwrap_err();
    assert!(twice.to_string().contains("[net]"), "{twice}");
    let elsewhere = parse_file("[health]\nbind = 'a'").unwrap_err();
    assert!(
        elsewhere.to_string().contains("unknown field `bind`"),
        "{elsewhere}"
    );
}

#[test]
fn the_environment_ignores_empty_variables() {
    let env = |name: &str| match name {
        "DISCOVERD_STORE" => Some(String::new()),
        "DISCOVERD_TLS_CERT" => Some("/a.pem".to_owned()),
        _ => None,
    };
    let layer = Layer::from_env(env).unwrap();
    assert_eq!(layer.store, None);
    assert_eq!(layer.tls_cert.as_deref(), Some(Path::new("/a.pem")));
}

#[test]
fn values_are_shown_without_secrets() {
    let config = resolved("store = 'etcd://me:hunter2@h'", "", "").unwrap();
    let store = config
        .settings
        .iter()
        .find(|setting| setting.key == "store");
    let shown = store.unwrap().value.as_deref().unwrap();
    assert!(shown.contains("me:***@h"), "{shown}");
}

#[test]
fn the_state_file_is_next_to_the_socket() {
    let config = resolved("socket = '/run/x'", "", "").unwrap();
    assert_eq!(config.store.state_file, Some("/run/x.state".into()));
    let without = resolved("socket = '/run/x'\nstate = 'none'", "", "").unwrap();
    assert_eq!(without.store.state_file, None);
    assert_eq!(
        resolved("socket = 'none'", "", "")
            .unwrap()
            .store
            .state_file,
        None
    );
}

#[test]
fn invalid_and_contradictory_settings_are_rejected() {
    for (bad, why) in [
        ("bind = 'none'\nsocket = 'none'", "must listen somewhere"),
        ("log = 'xml'", "text or json"),
        ("log_level = 'loud'", "log_level"),
        ("tls_cert = 'a.pem'", "belong together"),
        ("check_targets = 'x'", "check_targets"),
    ] {
        let error = resolved(bad, "", "").unwrap_err().to_string();
        assert!(error.contains(why), "{bad}: {error}");
    }
    let unknown = parse_file("prot = 3").unwrap_err().to_string();
    assert!(unknown.contains("unknown field `prot`"), "{unknown}");
}

#[test]
fn the_default_socket_is_where_only_this_user_can_create_files() {
    let in_session = default_socket(|_| Some("/run/user/7".to_owned()), false);
    assert_eq!(in_session, Some("/run/user/7/discoverd.sock".into()));
    assert_eq!(default_socket(|_| None, false), None);
    assert!(default_socket(|_| None, true).is_some());
}
