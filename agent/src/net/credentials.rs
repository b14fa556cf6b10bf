//! Credentials that may change while the agent runs: the certificate and the bearer token. Existing connections
//! keep the certificate with which they started.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use discover_core::{Error, ErrorKind, Result};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use crate::net::tls::{TlsFiles, acceptor};
use crate::runtime::component::Component;

/// Interval at which the files are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum length of the token, in bytes.
const MIN_TOKEN_BYTES: usize = 16;

/// The certificate and the token, read from files.
#[derive(Default)]
pub struct Credentials {
    tls: Option<TlsFiles>,
    token_file: Option<PathBuf>,
    loaded: Mutex<LoadedCredentials>,
    /// Stamps of the files when they were last read, valid or not.
    read_stamps: Mutex<Vec<FileStamp>>,
}

#[derive(Clone, Default)]
struct LoadedCredentials {
    acceptor: Option<TlsAcceptor>,
    token: Option<Arc<str>>,
}

/// Inode, modification time (seconds, nanoseconds) and size, by which a changed file is recognized. `None` if the
/// file does not exist.
type FileStamp = Option<(u64, i64, i64, u64)>;

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read or its content is invalid; the message names the file.
    pub fn read(tls: Option<TlsFiles>, token_file: Option<PathBuf>) -> Result<Credentials> {
        let credentials = Credentials {
            tls,
            token_file,
            ..Credentials::default()
        };
        credentials.reload()?;
        Ok(credentials)
    }

    /// Creates credentials with a token and without files.
    #[cfg(test)]
    pub fn from_token(token: &str) -> Credentials {
        let loaded = LoadedCredentials {
            token: Some(token.into()),
            ..LoadedCredentials::default()
        };
        Credentials {
            loaded: Mutex::new(loaded),
            ..Credentials::default()
        }
    }

    /// Reads the files again.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read or its content is invalid. The previous credentials then remain in use.
    pub fn reload(&self) -> Result<()> {
        *self.read_stamps() = self.current_stamps();
        let loaded = LoadedCredentials {
            acceptor: self.tls.as_ref().map(acceptor).transpose()?,
            token: self.token_file.as_deref().map(read_token).transpose()?,
        };
        *self.loaded() = loaded;
        Ok(())
    }

    /// Returns true if neither a certificate nor a token is configured.
    pub fn is_empty(&self) -> bool {
        self.tls.is_none() && self.token_file.is_none()
    }

    /// Returns true if both a certificate and a token are configured, as addresses that other hosts reach require.
    pub fn is_complete(&self) -> bool {
        self.tls.is_some() && self.token_file.is_some()
    }

    /// Returns the acceptor for new TLS connections.
    pub fn acceptor(&self) -> Option<TlsAcceptor> {
        self.loaded().acceptor.clone()
    }

    /// Returns the token that requests must carry.
    pub fn token(&self) -> Option<Arc<str>> {
        self.loaded().token.clone()
    }

    /// Reloads the files whenever they change. Never returns, unless there are none.
    async fn watch_files(&self) {
        let mut previous = self.current_stamps();
        while !self.is_empty() {
            sleep(CHECK_INTERVAL).await;
            let current = self.current_stamps();
            // The certificate and its key are two files, so a change is complete once both stay the same.
            let is_settled = std::mem::replace(&mut previous, current.clone()) == current;
            if !is_settled || *self.read_stamps() == current {
                continue;
            }
            match self.reload() {
                Ok(()) => {
                    tracing::info!("certificate and token files changed, using the new ones");
                }
                Err(error) => tracing::error!(
                    error = %error.report(),
                    "certificate and token files changed and are invalid, using the previous ones"
                ),
            }
        }
    }

    fn loaded(&self) -> MutexGuard<'_, LoadedCredentials> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_stamps(&self) -> MutexGuard<'_, Vec<FileStamp>> {
        let stamps = self.read_stamps.lock();
        stamps.unwrap_or_else(PoisonError::into_inner)
    }

    fn current_stamps(&self) -> Vec<FileStamp> {
        let tls = self.tls.iter().flat_map(|files| {
            let client_ca = files.client_ca.as_ref();
            [&files.cert, &files.key].into_iter().chain(client_ca)
        });
        let stamp = |file: Metadata| (file.ino(), file.mtime(), file.mtime_nsec(), file.len());
        tls.chain(&self.token_file)
            .map(|path| std::fs::metadata(path).ok().map(stamp))
            .collect()
    }
}

fn read_token(path: &Path) -> Result<Arc<str>> {
    let shown = path.display();
    let read = std::fs::read_to_string(path).map_err(|e| {
        let text = format!("token_file: cannot read {shown}");
        Error::caused_by(ErrorKind::InvalidArgument, text, e)
    })?;
    let token = read.trim();
    let is_valid = token.len() >= MIN_TOKEN_BYTES && token.bytes().all(|b| b.is_ascii_graphic());
    if !is_valid {
        return Err(Error::invalid(format!(
            "token_file: {shown} contains no valid token; a token has at least {MIN_TOKEN_BYTES} printable ASCII \
             characters and no spaces"
        )));
    }
    Ok(token.into())
}

/// The component that reloads the credentials when their files change.
pub struct CredentialsComponent {
    credentials: Arc<Credentials>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl CredentialsComponent {
    /// Wraps credentials.
    pub fn new(credentials: Arc<Credentials>) -> CredentialsComponent {
        CredentialsComponent {
            credentials,
            tasks: tokio::sync::Mutex::default(),
        }
    }
}

impl Component for CredentialsComponent {
    fn name(&self) -> &'static str {
        "credentials"
    }

    fn start(&self, _: Option<Value>) -> BoxFuture<'_, Result<()>> {
        async move {
            let credentials = self.credentials.clone();
            let watch = async move { credentials.watch_files().await };
            self.tasks.lock().await.spawn(watch);
            Ok(())
        }
        .boxed()
    }

    fn stop(&self, _: Instant) -> BoxFuture<'_, ()> {
        async move { self.tasks.lock().await.shutdown().await }.boxed()
    }
}
