//! Threads that talk to etcd from a host of the lab with the plain client crate, without the library under test.

use std::net::Ipv4Addr;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};

use crate::etcd::PORT;
use crate::netns::Host;

/// User name and password.
pub type Login = Option<(String, String)>;

/// Timeout of a single call.
pub const CALL_TIMEOUT: Duration = Duration::from_millis(1500);

/// Runs `work` on a thread of its own, whose sockets belong to `host`.
pub fn spawn<F: Future<Output = ()>>(
    host: &Host,
    work: impl FnOnce() -> F + Send + 'static,
) -> std::thread::JoinHandle<()> {
    let host = host.clone();
    std::thread::spawn(move || {
        host.enter().expect("the namespace of the lab is there");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime can be made").block_on(work());
    })
}

/// Connects to one member only. The login is not used while authentication is disabled.
pub async fn connect(member: Ipv4Addr, login: &Login) -> Result<Client, etcd_client::Error> {
    match connect_as(member, login).await {
        Err(etcd_client::Error::GRpcStatus(status))
            if status.message().contains("authentication is not enabled") =>
        {
            connect_as(member, &None).await
        }
        connected => connected,
    }
}

async fn connect_as(member: Ipv4Addr, login: &Login) -> Result<Client, etcd_client::Error> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(CALL_TIMEOUT)
        .with_keep_alive(Duration::from_secs(6), Duration::from_secs(2))
        .with_keep_alive_while_idle(false);
    if let Some((name, password)) = login {
        options = options.with_user(name, password);
    }
    let connected = Client::connect([format!("http://{member}:{PORT}")], Some(options));
    match tokio::time::timeout(CALL_TIMEOUT, connected).await {
        Ok(connected) => connected,
        Err(_) => Err(late()),
    }
}

/// Runs a call with the timeout [`CALL_TIMEOUT`].
pub async fn within<T>(
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, etcd_client::Error> {
    tokio::time::timeout(CALL_TIMEOUT, call)
        .await
        .unwrap_or_else(|_| Err(late()))
}

fn late() -> etcd_client::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time").into()
}
