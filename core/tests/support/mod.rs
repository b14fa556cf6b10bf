//! What the tests of the core share: real servers, registries of their own, and listening with a deadline.

#![allow(dead_code, reason = "each test program uses a part")]

pub mod agent;
pub mod etcd;
pub mod fleet;

use std::time::Duration;

use discover_core::{Client, Event, Instance, Registration, ServiceSet};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

/// A test of each of these schemes, with a registry of its own.
#[allow(unused_macros, reason = "each test program uses a part")]
macro_rules! on {
    ($($scheme:ident)*; $test:ident) => {
        mod $test {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scheme() {
                if let Some(registry) = super::TestRegistry::new(stringify!($scheme)) {
                    super::$test(&registry).await;
                }
            })*
        }
    };
}
#[allow(unused_imports, reason = "each test program uses a part")]
pub(crate) use on;

/// How long to wait for what must come.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// An instance of the service `web` on this machine.
pub fn web(port: u16) -> Registration {
    Registration::new("web", port)
        .unwrap()
        .host("127.0.0.1")
        .unwrap()
}

/// A registry for one test: its URL, and the servers that must live as long.
pub struct TestRegistry {
    pub url: String,
    _directory: Option<tempfile::TempDir>,
    _agent: Option<agent::Agent>,
}

impl TestRegistry {
    /// A registry of this scheme for one test; none, said loudly, when its server cannot be had.
    pub fn new(scheme: &str) -> Option<TestRegistry> {
        let unique = format!("{:016x}", fastrand::u64(..));
        Some(match scheme {
            "memory" => TestRegistry {
                url: format!("memory://{unique}?ttl=1s"),
                _directory: None,
                _agent: None,
            },
            "local" => {
                let directory = tempfile::tempdir().unwrap();
                let url = format!("local://{}?ttl=1s", directory.path().display());
                TestRegistry {
                    url,
                    _directory: Some(directory),
                    _agent: None,
                }
            }
            "etcd" => {
                let url = format!("etcd://{}/{unique}?ttl=2s", etcd::shared()?.endpoint());
                TestRegistry {
                    url,
                    _directory: None,
                    _agent: None,
                }
            }
            "etcd2" => {
                let server = etcd::shared_v2()?;
                let url = format!("etcd2://{}/{unique}?ttl=2s", server.endpoint());
                TestRegistry {
                    url,
                    _directory: None,
                    _agent: None,
                }
            }
            "agent" => TestRegistry::through_agent(None)?,
            "agent_etcd" => {
                let endpoint = etcd::shared()?.endpoint();
                TestRegistry::through_agent(Some(format!("etcd://{endpoint}/{unique}?ttl=2s")))?
            }
            other => panic!("no scheme {other}"),
        })
    }

    /// Through an agent of its own, in front of this store.
    fn through_agent(store: Option<String>) -> Option<TestRegistry> {
        let agent = agent::start(store.as_deref())?;
        Some(TestRegistry {
            url: format!("{}?ttl=1s", agent.socket_url()),
            _directory: None,
            _agent: Some(agent),
        })
    }

    /// The same registry with further options, which lives as long as the first.
    pub fn with_options(base: &TestRegistry, options: &str) -> TestRegistry {
        TestRegistry {
            url: format!("{}&{options}", base.url),
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
pub struct Subscriber(BoxStream<'static, Event>);

impl Subscriber {
    pub fn new(set: &ServiceSet) -> Subscriber {
        Subscriber(set.subscribe())
    }

    /// The next event as text, its instance as address and attributes.
    pub async fn next_event(&mut self) -> String {
        let event = tokio::time::timeout(WAIT_TIMEOUT, self.0.next()).await;
        let event = event.expect("nothing was heard").expect("the watch ended");
        match event.instance() {
            Some(instance) => format!("{} {}", event.kind(), describe(instance)),
            None => event.kind().to_owned(),
        }
    }

    pub async fn expect_events(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.next_event().await, *expected);
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
    let deadline = tokio::time::Instant::now() + WAIT_TIMEOUT;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        // tidy: sleep, polling a condition with a deadline
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
