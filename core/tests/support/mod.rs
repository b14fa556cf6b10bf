//! What the tests of the core share: real servers, places of their own, and listening with a deadline.

#![allow(dead_code, reason = "each test program uses a part")]

pub mod agent;
pub mod etcd;
pub mod fleet;

use std::time::Duration;

use discover_core::{Client, Event, Instance, Registration, ServiceSet};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

/// A test of each of these schemes, with a place of its own.
#[allow(unused_macros, reason = "each test program uses a part")]
macro_rules! on {
    ($($scheme:ident)*; $test:ident) => {
        mod $test {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scheme() {
                if let Some(place) = super::Place::new(stringify!($scheme)) {
                    super::$test(&place).await;
                }
            })*
        }
    };
}
#[allow(unused_imports, reason = "each test program uses a part")]
pub(crate) use on;

/// How long to wait for what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An instance of the service `web` on this machine.
pub fn web(port: u16) -> Registration {
    Registration::new("web", port)
        .unwrap()
        .host("127.0.0.1")
        .unwrap()
}

/// A registry for one test: its URL, and the servers that must live as long.
pub struct Place {
    pub url: String,
    _directory: Option<tempfile::TempDir>,
    _agent: Option<agent::Agent>,
}

impl Place {
    /// A registry of this scheme for one test; none, said loudly, when its server cannot be had.
    pub fn new(scheme: &str) -> Option<Place> {
        let unique = format!("{:016x}", fastrand::u64(..));
        Some(match scheme {
            "memory" => Place {
                url: format!("memory://{unique}?ttl=1s"),
                _directory: None,
                _agent: None,
            },
            "local" => {
                let directory = tempfile::tempdir().unwrap();
                let url = format!("local://{}?ttl=1s", directory.path().display());
                Place {
                    url,
                    _directory: Some(directory),
                    _agent: None,
                }
            }
            "etcd" => {
                let url = format!("etcd://{}/{unique}?ttl=2s", etcd::shared()?.endpoint());
                Place {
                    url,
                    _directory: None,
                    _agent: None,
                }
            }
            "etcd2" => {
                let server = etcd::shared_v2()?;
                let url = format!("etcd2://{}/{unique}?ttl=2s", server.endpoint());
                Place {
                    url,
                    _directory: None,
                    _agent: None,
                }
            }
            "agent" => Place::behind(None)?,
            "agent_etcd" => {
                let endpoint = etcd::shared()?.endpoint();
                Place::behind(Some(format!("etcd://{endpoint}/{unique}?ttl=2s")))?
            }
            other => panic!("no scheme {other}"),
        })
    }

    /// Through an agent of its own, in front of this store.
    fn behind(store: Option<String>) -> Option<Place> {
        let agent = agent::start(store.as_deref())?;
        Some(Place {
            url: format!("{}?ttl=1s", agent.socket_url()),
            _directory: None,
            _agent: Some(agent),
        })
    }

    /// The same registry with further options, which lives as long as the first.
    pub fn join(first: &Place, options: &str) -> Place {
        Place {
            url: format!("{}&{options}", first.url),
            _directory: None,
            _agent: None,
        }
    }

    /// A client of its own.
    pub async fn client(&self) -> Client {
        Client::connect(&self.url).await.unwrap()
    }
}

/// Hears the events of one set, in order.
pub struct Listener(BoxStream<'static, Event>);

impl Listener {
    pub fn new(set: &ServiceSet) -> Listener {
        Listener(set.subscribe())
    }

    /// The next event as text, its instance as address and attributes.
    pub async fn hear(&mut self) -> String {
        let event = tokio::time::timeout(PATIENCE, self.0.next()).await;
        let event = event.expect("nothing was heard").expect("the watch ended");
        match event.instance() {
            Some(instance) => format!("{} {}", event.kind(), describe(instance)),
            None => event.kind().to_owned(),
        }
    }

    pub async fn hear_all(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.hear().await, *expected);
        }
    }
}

fn describe(instance: &Instance) -> String {
    let attributes = instance
        .attributes()
        .iter()
        .map(|(name, value)| format!(" {name}={value}"));
    format!("{}{}", instance.address(), attributes.collect::<String>())
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        // tidy: sleep, polling a condition with a deadline
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
