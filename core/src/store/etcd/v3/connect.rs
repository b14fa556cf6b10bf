//! Opening of a connection: TCP and TLS, login, and a read of the checkpoint.

use std::future::Future;
use std::sync::Arc;

use etcd_client::{Client, ConnectOptions, Error as EtcdError, GetOptions};

use crate::error::Result;
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v3::channel;
use crate::store::etcd::v3::error::{connect_error, is_permission_denied};
use crate::store::etcd::v3::login::Login;
use crate::transport::socket_stats::SocketStats;
use crate::watch_sync::{Checkpoint, CheckpointStatus};

/// An established connection.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) login: Arc<Login>,
    pub(super) stats: Arc<SocketStats>,
}

impl Connection {
    /// Runs a call. If the server refuses the login as outdated, logs in again and repeats the call once.
    pub(super) async fn call<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, EtcdError>>,
    {
        let mut is_repeated = false;
        loop {
            let logins = self.login.count();
            match call(self.client.clone()).await {
                Err(error) if !is_repeated && self.login.may_help(&error) => {
                    self.login.renew(&self.client, logins).await?;
                    is_repeated = true;
                }
                result => return result,
            }
        }
    }

    /// Returns the store's revision, read so that only a member in contact with a quorum can answer.
    pub(super) async fn revision(&self, config: &EtcdConfig) -> Result<u64, EtcdError> {
        let count = |mut client: Client| {
            let (key, options) = (config.path("/"), GetOptions::new().with_count_only());
            async move { client.get(key, Some(options)).await }
        };
        match self.call(count).await {
            Ok(answer) => Ok(answer.header().map_or(0, |header| header.revision()) as u64),
            // Any key will do: the authenticated user need not have permission for this one.
            Err(error) if config.proves_who_we_are() && is_permission_denied(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Connects to an endpoint and compares the checkpoint with the store. Returns the store's revision, too.
pub(super) async fn connect(
    config: &EtcdConfig,
    at: &str,
    checkpoint: Option<Checkpoint>,
) -> Result<(Connection, CheckpointStatus, u64)> {
    let read = checkpoint
        .as_ref()
        .map_or("/", |checkpoint| checkpoint.node.key.as_str());
    let keys_read = config.path(read);
    let explain = |error| connect_error(config, at, &keys_read, &error);
    let stats = Arc::new(SocketStats::default());
    let opened = channel::open(at, config.tls_options()?, &stats).await;
    let opened = opened.map_err(|error| explain(error.into()))?;
    let options = ConnectOptions::new().with_require_leader(true);
    let client = Client::from_channel(opened, Some(options)).await;
    let client = client.map_err(explain)?;
    let login = Login::new(config, &client).await.map_err(explain)?;
    let connection = Connection {
        client,
        login: Arc::new(login),
        stats,
    };
    let (status, head) = match checkpoint {
        Some(checkpoint) => read_checkpoint(config, &connection, checkpoint).await,
        None => {
            let head = connection.revision(config).await;
            head.map(|head| (CheckpointStatus::Unknown, head))
        }
    }
    .map_err(explain)?;
    Ok((connection, status, head))
}

async fn read_checkpoint(
    config: &EtcdConfig,
    connection: &Connection,
    Checkpoint { node }: Checkpoint,
) -> Result<(CheckpointStatus, u64), EtcdError> {
    let get = |mut client: Client| {
        let then = GetOptions::new().with_revision(node.modified as i64);
        let key = config.path(node.key.as_str());
        async move { client.get(key, Some(then)).await }
    };
    match connection.call(get).await {
        Ok(answer) => {
            let head = answer.header().map_or(0, |header| header.revision()) as u64;
            let same = answer.kvs().first().and_then(|kv| config.node(kv)) == Some(node);
            match same {
                true => Ok((CheckpointStatus::Unchanged, head)),
                false => Ok((CheckpointStatus::Diverged, head)),
            }
        }
        Err(error) => {
            let status = status_of_error(&error).ok_or(error)?;
            Ok((status, connection.revision(config).await?))
        }
    }
}

/// Returns what a failed read of the checkpoint tells about the epoch; `None` if it tells nothing.
fn status_of_error(error: &EtcdError) -> Option<CheckpointStatus> {
    if is_permission_denied(error) {
        return Some(CheckpointStatus::Unknown);
    }
    let EtcdError::GRpcStatus(status) = error else {
        return None;
    };
    match status.message() {
        // The store does not have the revision any more.
        text if text.contains("future revision") => Some(CheckpointStatus::Diverged),
        text if text.contains("compacted") => Some(CheckpointStatus::Unknown),
        _ => None,
    }
}
