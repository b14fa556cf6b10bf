//! What is read from files and may become another: the certificate and the token. Read again when asked
//! and when a file has changed; connections that are there go on as they began.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use discover_core::{Error, ErrorKind, Result};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::net::tls::{Files, acceptor};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The shortest token that is taken, in bytes.
const SHORTEST: usize = 16;

/// See the module.
#[derive(Default)]
pub struct Credentials {
    tls: Option<Files>,
    token_file: Option<PathBuf>,
    now: Mutex<Held>,
    /// The files as they were read last, of use or not.
    known: Mutex<Vec<Mark>>,
}

#[derive(Clone, Default)]
struct Held {
    acceptor: Option<TlsAcceptor>,
    token: Option<Arc<str>>,
}

/// How a file is known to be another: none where there is none.
type Mark = Option<(u64, i64, i64, u64)>;

impl Credentials {
    /// Reads the files.
    pub fn read(tls: Option<Files>, token_file: Option<PathBuf>) -> Result<Credentials> {
        let secrets = Credentials {
            tls,
            token_file,
            now: Mutex::default(),
            known: Mutex::default(),
        };
        secrets.read_again()?;
        Ok(secrets)
    }

    /// Of a token alone, without a file.
    #[cfg(test)]
    pub fn of_token(token: &str) -> Credentials {
        let held = Held {
            token: Some(token.into()),
            ..Held::default()
        };
        Credentials {
            now: Mutex::new(held),
            ..Credentials::default()
        }
    }

    /// Reads the files again. When one is wrong, all stays as it was.
    pub fn read_again(&self) -> Result<()> {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = self.marks();
        let held = Held {
            acceptor: self.tls.as_ref().map(acceptor).transpose()?,
            token: self.token_file.as_deref().map(token).transpose()?,
        };
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(())
    }

    /// Reads the files again whenever they have changed, for ever.
    pub async fn follow(self: Arc<Credentials>) {
        let mut before = self.marks();
        while !self.is_empty() {
            sleep(LOOK).await;
            let now = self.marks();
            // A certificate and its key are two files: both are there once nothing changes any more.
            let settled = std::mem::replace(&mut before, now.clone()) == now;
            if !settled || self.knows(&now) {
                continue;
            }
            match self.read_again() {
                Ok(()) => {
                    log::info!("the certificate or the token has changed, and holds from now on")
                }
                Err(error) => log::error!(
                    "the certificate or the token has changed and is of no use, so the old one holds: {error:#}"
                ),
            }
        }
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.tls.is_none() && self.token_file.is_none()
    }

    /// Whether there are all that an address needs which is open to the network.
    pub fn is_complete(&self) -> bool {
        self.tls.is_some() && self.token_file.is_some()
    }

    /// What speaks TLS with who comes now.
    pub fn acceptor(&self) -> Option<TlsAcceptor> {
        self.held().acceptor
    }

    /// The token that is asked for now.
    pub fn token(&self) -> Option<Arc<str>> {
        self.held().token
    }

    fn held(&self) -> Held {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.clone()
    }

    fn knows(&self, now: &[Mark]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known == now
    }

    fn marks(&self) -> Vec<Mark> {
        let tls = self.tls.iter().flat_map(|files| {
            let ca = files.client_ca.as_ref();
            [&files.cert, &files.key].into_iter().chain(ca)
        });
        let all = tls.chain(&self.token_file);
        let mark = |about: Metadata| (about.ino(), about.mtime(), about.mtime_nsec(), about.len());
        all.map(|path| std::fs::metadata(path).ok().map(mark))
            .collect()
    }
}

fn token(path: &Path) -> Result<Arc<str>> {
    let shown = path.display();
    let read = std::fs::read_to_string(path).map_err(|e| {
        let text = format!("token_file: cannot read {shown}");
        Error::caused_by(ErrorKind::InvalidArgument, text, e)
    })?;
    let token = read.trim();
    let fits = token.len() >= SHORTEST && token.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        return Err(Error::invalid(format!(
            "token_file: {shown} holds no token; one has at least {SHORTEST} letters, digits or signs"
        )));
    }
    Ok(token.into())
}
