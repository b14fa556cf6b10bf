//! Helpers for the tests of the core: real servers, a registry for each test, and subscriptions with a time limit.

#![allow(dead_code, reason = "each test program uses a part")]

pub mod agent;
pub mod etcd;
pub mod fleet;

use std::time::Duration;

use discover_core::{Client, Event, Instance, Registration, ServiceSet};
use discover_testkit::etcd_proxy::EtcdProxy;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

/// Defines one test for each scheme, with a registry of its own.
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

/// Time limit of each wait for an expected event or condition.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns a registration of the service `web` on this machine.
pub fn web(port: u16) -> Registration {
    Registration::new("web", port)
        .unwrap()
        .host("127.0.0.1")
        .unwrap()
}

/// A registry for one test: its URL, and the servers that it uses.
pub struct TestRegistry {
    pub url: String,
    _directory: Option<tempfile::TempDir>,
    _agent: Option<agent::Agent>,
    _proxy: Option<EtcdProxy>,
}

impl TestRegistry {
    /// Creates a registry of this scheme. Returns `None`, announced as a skip, if its server is not available.
    pub fn new(scheme: &str) -> Option<TestRegistry> {
        let unique = format!("{:016x}", fastrand::u64(..));
        Some(match scheme {
            "memory" => TestRegistry {
                url: format!("memory://{unique}?ttl=1s"),
                _directory: None,
                _agent: None,
                _proxy: None,
            },
            "local" => {
                let directory = tempfile::tempdir().unwrap();
                let url = format!("local://{}?ttl=1s", directory.path().display());
                TestRegistry {
                    url,
                    _directory: Some(directory),
                    _agent: None,
                    _proxy: None,
                }
            }
            "etcd" => {
                let url = format!("etcd://{}/{unique}?ttl=2s", etcd::shared()?.endpoint());
                TestRegistry {
                    url,
                    _directory: None,
                    _agent: None,
                    _proxy: None,
                }
            }
            "etcd2" => {
                let server = etcd::shared_v2()?;
                let url = format!("etcd2://{}/{unique}?ttl=2s", server.endpoint());
                TestRegistry {
                    url,
                    _directory: None,
                    _agent: None,
                    _proxy: None,
                }
            }
            "etcd_grpc_proxy" => TestRegistry::through_proxy(EtcdProxy::grpc, &unique)?,
            "etcd_gateway" => TestRegistry::through_proxy(EtcdProxy::gateway, &unique)?,
            "agent" => TestRegistry::through_agent(None)?,
            "agent_etcd" => {
                let endpoint = etcd::shared()?.endpoint();
                TestRegistry::through_agent(Some(format!("etcd://{endpoint}/{unique}?ttl=2s")))?
            }
            other => panic!("unknown scheme {other}"),
        })
    }

    /// Starts a proxy in front of etcd, and returns the registry behind it.
    fn through_proxy(start: fn(&str) -> EtcdProxy, unique: &str) -> Option<TestRegistry> {
        let proxy = start(&etcd::shared()?.endpoint());
        Some(TestRegistry {
            url: format!("etcd://{}/{unique}?ttl=2s", proxy.endpoint()),
            _directory: None,
            _agent: None,
            _proxy: Some(proxy),
        })
    }

    /// Starts an agent in front of this store, and returns the registry of the agent.
    fn through_agent(store: Option<String>) -> Option<TestRegistry> {
        let agent = agent::start(store.as_deref())?;
        Some(TestRegistry {
            url: format!("{}?ttl=1s", agent.socket_url()),
            _directory: None,
            _agent: Some(agent),
            _proxy: None,
        })
    }

    /// Returns the same registry with further options. `base` must outlive it.
    pub fn with_options(base: &TestRegistry, options: &str) -> TestRegistry {
        TestRegistry {
            url: format!("{}&{options}", base.url),
            _directory: None,
            _agent: None,
            _proxy: None,
        }
    }

    /// Connects a new client.
    pub async fn client(&self) -> Client {
        Client::connect(&self.url).await.unwrap()
    }
}

/// Receives the events of one set, in order.
pub struct Subscriber(BoxStream<'static, Event>);

impl Subscriber {
    pub fn new(set: &ServiceSet) -> Subscriber {
        Subscriber(set.subscribe())
    }

    /// Returns the next event as text: its kind, then the address and the attributes of its instance.
    pub async fn next_event(&mut self) -> String {
        let event = tokio::time::timeout(WAIT_TIMEOUT, self.0.next()).await;
        let event = event.expect("no event arrived").expect("the watch ended");
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

/// Waits until a condition holds; fails after [`WAIT_TIMEOUT`].
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + WAIT_TIMEOUT;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "timed out: {what}");
        // tidy: sleep, polling a condition with a deadline
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
