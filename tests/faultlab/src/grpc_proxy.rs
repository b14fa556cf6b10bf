//! `etcd grpc-proxy` on the host of the programs under test.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::netns::Host;

const ADDRESS: &str = "127.0.0.1:2378";

/// The proxy, killed when it is dropped.
pub struct GrpcProxy {
    host: Host,
    endpoints: String,
    child: Mutex<Option<Child>>,
}

impl GrpcProxy {
    /// Starts the proxy, without waiting.
    pub fn start(host: &Host, members: &[SocketAddr]) -> GrpcProxy {
        let endpoints: Vec<String> = members.iter().map(ToString::to_string).collect();
        let proxy = GrpcProxy {
            host: host.clone(),
            endpoints: endpoints.join(","),
            child: Mutex::default(),
        };
        proxy.restart();
        proxy
    }

    /// The address of the proxy, on its host.
    pub fn address(&self) -> String {
        ADDRESS.to_owned()
    }

    /// Kills the proxy (SIGKILL).
    pub fn kill(&self) {
        let child = self
            .child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the proxy again, without waiting.
    pub fn restart(&self) {
        self.kill();
        let mut command = self.host.command("etcd");
        command
            .args(["grpc-proxy", "start", "--endpoints", &self.endpoints])
            .args(["--listen-addr", ADDRESS])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("setpriv is installed");
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    }
}

impl Drop for GrpcProxy {
    fn drop(&mut self) {
        self.kill();
    }
}
