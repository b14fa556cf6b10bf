//! A listening socket: a TCP address or a Unix socket, opened by this process or inherited.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use discover_core::{Error, ErrorKind, Result};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::net::inherited::{InheritedKind, InheritedSocket, NamedSocket};
use crate::net::peer::Peer;

/// Prefix of the names of sockets that an agent opened itself, as opposed to systemd. The rest of the name is
/// [`TCP_NAME`] or the percent-encoded path of the Unix socket.
const AGENT_PREFIX: &str = "discoverd=";
const TCP_NAME: &str = "tcp";
/// Name of a socket that systemd opened.
const SYSTEMD_NAME: &str = "systemd";

/// A listening socket of the API.
pub struct Listener {
    socket: Socket,
    /// Whether an agent opened the socket, and not systemd.
    is_own: bool,
    /// Whether the file of a Unix socket stays when the listener closes, because systemd or the next process uses
    /// it.
    keeps_file: bool,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket.
struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that no other file is removed in its place.
    id: Option<(u64, u64)>,
}

/// A connection over TCP, TLS or a Unix socket.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Listener {
    /// Listens on a TCP address.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`] if the address cannot be bound.
    pub async fn tcp(address: &str) -> Result<Listener> {
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|e| failed_to(&format!("listen on {address}"), e))?;
        Ok(Listener {
            socket: Socket::Tcp(listener),
            is_own: true,
            keeps_file: false,
        })
    }

    /// Listens on a Unix socket that its owner and group may use. Replaces a socket file that no process listens
    /// on any more, and no other file.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Busy`] if another process listens on the socket, and with
    /// [`ErrorKind::Resource`] if the socket cannot be created, for example because there is another file.
    pub fn unix(path: &Path) -> Result<Listener> {
        let action = format!("listen on {}", path.display());
        let failed = |e| failed_to(&action, e);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        if is_socket(path) {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                let text = format!("cannot {action}: another process listens on it");
                return Err(Error::new(ErrorKind::Busy, text));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        // The socket gets its name only after its permissions are set. The temporary name is short because the
        // path of a socket is limited to about a hundred bytes.
        let temporary = path.with_file_name(format!(".{:x}", std::process::id()));
        if is_socket(&temporary) {
            // A process with the same id was killed while it started.
            std::fs::remove_file(&temporary).map_err(failed)?;
        }
        let listener = UnixListener::bind(&temporary).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(0o660);
        // Unlike a rename, a link does not replace a file.
        let named = std::fs::set_permissions(&temporary, mode)
            .and_then(|()| std::fs::hard_link(&temporary, path));
        let removed = std::fs::remove_file(&temporary);
        named.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                let text = format!(
                    "cannot {action}: there is a file that is not a socket; remove it, or set socket to another path"
                );
                Error::new(ErrorKind::Resource, text)
            }
            _ => failed(e),
        })?;
        removed.map_err(failed)?;
        Ok(Listener {
            socket: Socket::Unix(listener, SocketFile::new(path.to_owned())),
            is_own: true,
            keeps_file: false,
        })
    }

    /// Listens on an inherited socket. Returns `None` for a socket that a previous agent opened on an address
    /// other than `bind`, or at a path other than `socket`.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Resource`] if the socket cannot be used.
    pub fn inherited(
        inherited: InheritedSocket,
        bind: Option<&str>,
        socket: Option<&Path>,
    ) -> Result<Option<Listener>> {
        let name = inherited.name;
        let failed = |e| failed_to(&format!("listen on the inherited {name:?}"), e);
        let own_name = name.strip_prefix(AGENT_PREFIX);
        let socket = match inherited.kind {
            InheritedKind::Tcp(listener) => {
                let address = listener.local_addr().map_err(failed)?;
                if own_name.is_some() && !bind.is_some_and(|bind| resolves_to(bind, address)) {
                    return Ok(None);
                }
                listener.set_nonblocking(true).map_err(failed)?;
                Socket::Tcp(TcpListener::from_std(listener).map_err(failed)?)
            }
            InheritedKind::Unix(listener) => {
                let path = match own_name {
                    // The kernel reports the temporary name under which the socket was bound.
                    Some(encoded) => {
                        PathBuf::from(percent_decode_str(encoded).decode_utf8_lossy().as_ref())
                    }
                    None => {
                        let address = listener.local_addr().map_err(failed)?;
                        let path = address.as_pathname();
                        path.map(Path::to_owned).unwrap_or_default()
                    }
                };
                if own_name.is_some() && (socket != Some(path.as_path()) || !is_socket(&path)) {
                    return Ok(None);
                }
                listener.set_nonblocking(true).map_err(failed)?;
                Socket::Unix(
                    UnixListener::from_std(listener).map_err(failed)?,
                    SocketFile::new(path),
                )
            }
        };
        Ok(Some(Listener {
            socket,
            is_own: own_name.is_some(),
            keeps_file: own_name.is_none(),
        }))
    }

    /// Duplicates the descriptor, to pass it to systemd or to the next process.
    ///
    /// # Errors
    ///
    /// Fails if the process has no descriptor left.
    pub fn named_socket(&self) -> std::io::Result<NamedSocket> {
        let descriptor = match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(listener, _) => listener.as_fd(),
        };
        Ok(NamedSocket {
            name: self.name(),
            descriptor: descriptor.try_clone_to_owned()?,
        })
    }

    fn name(&self) -> String {
        match &self.socket {
            _ if !self.is_own => SYSTEMD_NAME.to_owned(),
            Socket::Tcp(_) => format!("{AGENT_PREFIX}{TCP_NAME}"),
            Socket::Unix(_, file) => {
                let path = file.path.as_os_str().as_encoded_bytes();
                format!("{AGENT_PREFIX}{}", percent_encode(path, NON_ALPHANUMERIC))
            }
        }
    }

    /// Returns the registry URL under which the library reaches this listener.
    pub fn url(&self) -> String {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map_or_else(
                |_| "discoverd://".to_owned(),
                |address| format!("discoverd://{address}"),
            ),
            Socket::Unix(_, file) => format!("discoverd+unix://{}", file.path.display()),
        }
    }

    /// Returns the TCP address, or `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    ///
    /// Fails with the error of `accept`, for example if the process has no descriptor left.
    pub async fn accept(&self) -> std::io::Result<(Box<dyn Stream>, Peer)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Without this, a small message waits for the acknowledgement of the previous one.
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Peer::Address(peer.ip().to_canonical())))
            }
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred()?.uid();
                Ok((Box::new(stream), Peer::User(user)))
            }
        }
    }

    /// Keeps the file of a Unix socket when the listener closes, because systemd holds the socket, too.
    pub fn keep_file(&mut self) {
        self.keeps_file = true;
    }

    /// Removes the file of a Unix socket, unless [`Listener::keep_file`] was called or systemd opened the socket.
    pub fn remove_file(&self) {
        if let (false, Socket::Unix(_, file)) = (self.keeps_file, &self.socket)
            && file.id.is_some()
            && file.id == socket_id(&file.path)
        {
            // The file may have been removed already.
            let _ = std::fs::remove_file(&file.path);
        }
    }
}

impl SocketFile {
    fn new(path: PathBuf) -> SocketFile {
        SocketFile {
            id: socket_id(&path),
            path,
        }
    }
}

/// Returns true if `bind` resolves to this address. Port 0 in `bind` matches every port.
fn resolves_to(bind: &str, address: SocketAddr) -> bool {
    let mut resolved = bind.to_socket_addrs().into_iter().flatten();
    resolved.any(|wanted| {
        wanted.ip() == address.ip() && (wanted.port() == address.port() || wanted.port() == 0)
    })
}

/// Returns true if there is a socket at this path.
pub fn is_socket(path: &Path) -> bool {
    socket_id(path).is_some()
}

/// Returns device and inode of a socket; `None` for any other file.
fn socket_id(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    let is_socket = metadata.file_type().is_socket();
    is_socket.then(|| (metadata.dev(), metadata.ino()))
}

fn failed_to(action: &str, cause: std::io::Error) -> Error {
    Error::caused_by(ErrorKind::Resource, format!("cannot {action}"), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_not_the_own_socket_is_neither_replaced_nor_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        std::fs::write(&path, "data").unwrap();
        let error = Listener::unix(&path).err().unwrap();
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
        let files = || std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files(), 1, "no temporary file stays");

        std::fs::remove_file(&path).unwrap();
        let listener = Listener::unix(&path).unwrap();
        assert_eq!(files(), 1);
        let other = Listener::unix(&path).err().unwrap();
        assert_eq!(other.kind(), ErrorKind::Busy);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "data").unwrap();
        listener.remove_file();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");

        std::fs::remove_file(&path).unwrap();
        let next = Listener::unix(&path).unwrap();
        listener.remove_file();
        assert!(is_socket(&path), "the socket of the next process");
        drop(next);
        // A socket without a process is replaced.
        Listener::unix(&path).unwrap().remove_file();
        assert_eq!(files(), 0);
    }
}
