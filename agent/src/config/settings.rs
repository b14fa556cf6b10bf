//! The definition of every setting: its type, key, flag and environment variable.

use std::path::{Path, PathBuf};

use discover_core::{Error, HumanDuration, Result, Url};
use serde::Deserialize;

use crate::config::plan::{Hook, Service};

/// Defines all settings, grouped by the component that they configure.
///
/// Generates [`Layer`], which holds what one source provides: it is at the same time the flags of `run`, the
/// configuration file (each key stands in the table of its component, or at the top level) and the environment.
macro_rules! settings {
    ($(
        $(#[doc = $group_doc:literal])*
        $group:ident: $Table:ident {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $ty:ty,
                flag [$($flag:tt)*]
                $(, env $env:literal)?
                $(, file alias $alias:literal)?;
            )*
        }
    )*) => {
        $(
            $(#[doc = $group_doc])*
            #[derive(Clone, Debug, Default, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub struct $Table {
                $(
                    $(#[doc = $doc])*
                    $(#[serde(alias = $alias)])?
                    pub $field: Option<$ty>,
                )*
            }
        )*

        /// The settings of one source: the flags, the environment, the file or the defaults.
        #[derive(Clone, Debug, Default, Deserialize, clap::Args)]
        #[serde(default, deny_unknown_fields)]
        pub struct Layer {
            $($(
                $(#[doc = $doc])*
                #[arg(long, $($flag)*)]
                $(#[serde(alias = $alias)])?
                pub $field: Option<$ty>,
            )*)*
            $(
                $(#[doc = $group_doc])*
                #[arg(skip)]
                pub(super) $group: $Table,
            )*
            /// Services to register, `[[service]]`; only in a file.
            #[arg(skip)]
            pub service: Vec<Service>,
            /// Hooks, `[[watch]]`; only in a file.
            #[arg(skip)]
            pub watch: Vec<Hook>,
        }

        impl Layer {
            /// Moves the keys of the component tables to the top level.
            ///
            /// # Errors
            ///
            /// Fails if a key stands in both places.
            pub(super) fn flatten_tables(mut self) -> Result<Layer> {
                $($(
                    if let Some(value) = self.$group.$field.take() {
                        if self.$field.replace(value).is_some() {
                            let (group, key) = (stringify!($group), stringify!($field));
                            let text = format!("{key} is set twice: at the top level and in [{group}]");
                            return Err(Error::invalid(text));
                        }
                    }
                )*)*
                Ok(self)
            }

            /// Reads the environment. Variables that are not set or empty are ignored.
            ///
            /// # Errors
            ///
            /// Fails if a value does not parse; the message names the variable.
            pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Layer> {
                let mut layer = Layer::default();
                $($($(
                    if let Some(text) = env($env).filter(|text| !text.is_empty()) {
                        let parsed = text.parse::<$ty>();
                        layer.$field = Some(parsed.map_err(|e| Error::invalid(format!("{}: {e:#}", $env)))?);
                    }
                )?)*)*
                Ok(layer)
            }

            /// Takes each setting from the first layer that has it, and reports its value and origin.
            pub(super) fn merge(layers: &[(Origin, Layer)]) -> (Layer, Vec<Setting>) {
                let (mut merged, mut settings) = (Layer::default(), Vec::new());
                $($(
                    let mut setting = Setting {
                        group: stringify!($group),
                        key: stringify!($field),
                        value: None,
                        origin: Origin::Default,
                    };
                    let set = |(origin, layer): &(Origin, Layer)| Some((*origin, layer.$field.clone()?));
                    if let Some((origin, value)) = layers.iter().find_map(set) {
                        setting.value = Some(value.display());
                        setting.origin = origin;
                        merged.$field = Some(value);
                    }
                    settings.push(setting);
                )*)*
                for (_, layer) in layers {
                    merged.service.extend_from_slice(&layer.service);
                    merged.watch.extend_from_slice(&layer.watch);
                }
                (merged, settings)
            }
        }

        /// The environment variables of the settings, each with its setting, `TABLE.KEY`.
        pub const VARIABLES: &[(&str, &str)] = &[
            $($($( ($env, concat!(stringify!($group), ".", stringify!($field))), )?)*)*
        ];
    };
}

settings! {
    /// The store behind the agent, and this host's address in it.
    registry: RegistryTable {
        /// The URL of the store behind the agent [default: a registry of its own, in memory]
        store: String, flag [value_name = "URL"], env "DISCOVERD_STORE";
        /// File in which the agent's own registry survives a crash, or none [default: next to the socket]
        state: String, flag [value_name = "FILE"], env "DISCOVERD_STATE";
        /// Maximum number of registrations; one client may make half of them [default: 65536]
        registrations: usize, flag [value_name = "COUNT"];
        /// Maximum size of all registrations, in bytes; one client may use half of it [default: 67108864]
        registration_bytes: usize, flag [value_name = "BYTES"];
        /// This host's address for other hosts: an address, or rules such as eth0:inet,10.0.0.0/8
        advertise: String, flag [value_name = "RULES"], env "EXTERNAL_IP";
    }
    /// Listeners, and who may connect.
    net: NetTable {
        /// The TCP address to listen on, or none [default: 127.0.0.1:1111]
        bind: String, flag [value_name = "ADDRESS"], env "DISCOVERD_BIND";
        /// The Unix socket to listen on, or none [default: $XDG_RUNTIME_DIR/discoverd.sock]
        socket: String, flag [value_name = "PATH"], env "DISCOVERD_SOCKET";
        /// Require the bearer token in this file over TCP
        token_file: PathBuf, flag [value_name = "FILE"], env "DISCOVERD_TOKEN_FILE";
        /// Use TLS on the TCP address with this certificate chain, in PEM
        tls_cert: PathBuf, flag [value_name = "FILE"], env "DISCOVERD_TLS_CERT";
        /// The private key of the certificate, in PEM
        tls_key: PathBuf, flag [value_name = "FILE"], env "DISCOVERD_TLS_KEY";
        /// Require client certificates of the authorities in this file, in PEM
        tls_client_ca: PathBuf, flag [value_name = "FILE"], env "DISCOVERD_TLS_CLIENT_CA";
        /// Additional names that are accepted as Host over TCP, separated by commas
        hosts: String, flag [value_name = "NAMES"];
        /// Maximum number of connections to each listener [default: 4096]
        connections: usize, flag [value_name = "COUNT"];
        /// Maximum number of connections of one peer [default: 128 per remote host, 1024 per local user]
        connections_of_one: usize, flag [value_name = "COUNT"];
    }
    /// The HTTP API.
    api: ApiTable {
        /// Maximum number of event streams; one client may open half of them [default: 4096]
        streams: usize, flag [value_name = "COUNT"];
        /// Maximum size of all responses that clients have not read yet, in bytes; one client may leave half of it [default: 268435456]
        unread_bytes: usize, flag [value_name = "BYTES"];
    }
    /// The services that are watched for clients.
    service_cache: ServiceCacheTable {
        /// Maximum number of services that are watched at the same time; half of them for one client [default: 4096]
        services: usize, flag [value_name = "COUNT"];
    }
    /// Health checks that the agent makes.
    health: HealthTable {
        /// Let clients on the Unix socket or with the token run commands as the agent's user, as exec checks
        allow_exec: bool, flag [num_args = 0, default_missing_value = "true"];
        /// Maximum number of checked instances [default: 1024]
        checks: usize, flag [value_name = "COUNT"];
        /// Minimum interval of checks that are defined over the API [default: 1s]
        check_interval: HumanDuration, flag [value_name = "TIME"];
        /// Networks that checks of any client may target, separated by commas
        check_targets: String, flag [value_name = "NETWORKS"];
    }
    /// The log.
    logging: LoggingTable {
        /// Format of the log: text or json [default: text]
        log_format: String, flag [alias = "log", value_name = "FORMAT"], env "DISCOVERD_LOG", file alias "log";
        /// Level of the log: off, error, warn, info, debug or trace [default: info]
        log_level: String, flag [value_name = "LEVEL"], env "DISCOVERD_LOG_LEVEL";
    }
}

/// The source that a setting was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command.
    Flag,
    /// An environment variable.
    Environment,
    /// The configuration file.
    File,
    /// The default.
    Default,
}

impl Origin {
    /// Returns the name: `flag`, `environment`, `file` or `default`.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Flag => "flag",
            Origin::Environment => "environment",
            Origin::File => "file",
            Origin::Default => "default",
        }
    }
}

/// A setting as it applies.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The table of the component.
    pub group: &'static str,
    /// The key in the table.
    pub key: &'static str,
    /// The value as text, with secrets masked. `None` if the setting is not set and has no default.
    pub value: Option<String>,
    /// The source of the value.
    pub origin: Origin,
}

/// Text of a setting's value for people, with secrets masked.
trait DisplayValue {
    fn display(&self) -> String;
}

impl DisplayValue for String {
    /// Masks the secrets of a value that is a URL.
    fn display(&self) -> String {
        match self.contains("://") {
            true => Url::parse(self).map_or("(not a valid URL)".to_owned(), |url| url.to_string()),
            false => self.escape_debug().to_string(),
        }
    }
}

impl DisplayValue for PathBuf {
    fn display(&self) -> String {
        Path::display(self).to_string()
    }
}

impl DisplayValue for usize {
    fn display(&self) -> String {
        self.to_string()
    }
}

impl DisplayValue for bool {
    fn display(&self) -> String {
        self.to_string()
    }
}

impl DisplayValue for HumanDuration {
    fn display(&self) -> String {
        self.to_string()
    }
}
