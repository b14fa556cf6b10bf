//! The proxies that etcd contains, between the client and an etcd: `etcd grpc-proxy` and `etcd gateway`.

use std::net::TcpStream;
use std::process::{Child, Stdio};

use crate::eventually;
use crate::process::{dies_with_parent, free_port, spawn};

/// A proxy process, killed when it is dropped.
pub struct EtcdProxy {
    kind: &'static str,
    /// The endpoint of etcd.
    endpoint: String,
    child: Child,
    port: u16,
}

impl EtcdProxy {
    /// Starts the proxy that speaks gRPC itself. It merges watches, chooses their ids, and drops progress requests.
    pub fn grpc(endpoint: &str) -> EtcdProxy {
        EtcdProxy::start("grpc-proxy", endpoint)
    }

    /// Starts the proxy that forwards bytes.
    pub fn gateway(endpoint: &str) -> EtcdProxy {
        EtcdProxy::start("gateway", endpoint)
    }

    fn start(kind: &'static str, endpoint: &str) -> EtcdProxy {
        eventually("a proxy starts", || {
            EtcdProxy::start_at(kind, endpoint.to_owned(), free_port())
        })
    }

    /// Returns `None` if the proxy exits, because the port is taken by another test.
    fn start_at(kind: &'static str, endpoint: String, port: u16) -> Option<EtcdProxy> {
        let mut command = dies_with_parent("etcd");
        command
            .args([kind, "start", "--endpoints", &endpoint])
            .args(["--listen-addr", &format!("127.0.0.1:{port}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = spawn(command);
        let started = eventually("the proxy answers or exits", || {
            let answers = TcpStream::connect(("127.0.0.1", port)).is_ok();
            let exited = child.try_wait().unwrap().is_some();
            (answers || exited).then_some(answers && !exited)
        });
        started.then_some(EtcdProxy {
            kind,
            endpoint,
            child,
            port,
        })
    }

    /// Kills the proxy and starts it again on its port, after `meanwhile`.
    pub fn restart(&mut self, meanwhile: impl FnOnce()) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        meanwhile();
        *self = eventually("the proxy starts again", || {
            EtcdProxy::start_at(self.kind, self.endpoint.clone(), self.port)
        });
    }

    /// The endpoint, `127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for EtcdProxy {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
