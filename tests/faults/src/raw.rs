//! Threads that talk to etcd from a machine of the lab, with the bare client crate: nothing of the
//! library under test is between them and the store.

use std::net::Ipv4Addr;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};

use crate::etcd::PORT;
use crate::netns::Host;

/// A name and a password.
pub type Login = Option<(String, String)>;

/// How long a single call may take.
pub const CALL: Duration = Duration::from_millis(1500);

/// Runs `work` to its end on a thread of its own, whose sockets are of the machine `host`.
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

/// Connects to one member, and to no other.
pub async fn connect(member: Ipv4Addr, login: &Login) -> Result<Client, etcd_client::Error> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(CALL)
        .with_keep_alive(Duration::from_secs(6), Duration::from_secs(2))
        .with_keep_alive_while_idle(false);
    if let Some((name, password)) = login {
        options = options.with_user(name, password);
    }
    let connected = Client::connect([format!("http://{member}:{PORT}")], Some(options));
    match tokio::time::timeout(CALL, connected).await {
        Ok(connected) => connected,
        Err(_) => Err(late()),
    }
}

/// Runs a call, for [`CALL`] at most.
pub async fn within<T>(
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, etcd_client::Error> {
    tokio::time::timeout(CALL, call)
        .await
        .unwrap_or_else(|_| Err(late()))
}

fn late() -> etcd_client::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time").into()
}
