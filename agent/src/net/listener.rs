//! One way in: an address or a socket in the file system, opened here or inherited.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use discover_core::{Error, ErrorKind, Result};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// What the names of listeners begin with that an agent opened itself; the rest says where.
const OURS: &str = "discoverd=";
const TCP: &str = "tcp";

/// See the module.
pub struct Listener {
    socket: Socket,
    /// Whether an agent opened it, and not systemd.
    ours: bool,
    /// Whether its file is there for the next agent, too.
    stays: bool,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A listener that somebody opened before this process began, and the name that it was given with.
pub struct Given {
    /// The name.
    pub name: String,
    /// The listener.
    pub socket: GivenSocket,
}

/// See [`Given`].
pub enum GivenSocket {
    /// An address.
    Tcp(std::net::TcpListener),
    /// A socket in the file system.
    Unix(StdUnixListener),
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Somebody at this address.
    Address(IpAddr),
    /// A user of this host.
    User(u32),
}

/// A connection of whatever kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Listener {
    /// Listens on an address.
    pub async fn tcp(address: &str) -> Result<Listener> {
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|e| cannot(&format!("listen on {address}"), e))?;
        Ok(Listener {
            socket: Socket::Tcp(listener),
            ours: true,
            stays: false,
        })
    }

    /// Listens on a socket that the owner and the group can use. One that is left over from an agent that
    /// is gone is replaced; one that is in use is not.
    pub fn unix(path: &Path) -> Result<Listener> {
        let doing = format!("listen on {}", path.display());
        let failed = |e| cannot(&doing, e);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        if is_socket(path) {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                let text = format!("cannot {doing}: another agent is there");
                return Err(Error::new(ErrorKind::Busy, text));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        // Under its name only once nobody else can use it.
        // A short one: the whole path of a socket has room for some hundred bytes.
        let new = path.with_file_name(format!(".{:x}", std::process::id()));
        let listener = UnixListener::bind(&new).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(0o660);
        let named = std::fs::set_permissions(&new, mode).and_then(|()| std::fs::rename(&new, path));
        named.map_err(failed)?;
        Ok(Listener {
            socket: Socket::Unix(listener, path.to_owned()),
            ours: true,
            stays: false,
        })
    }

    /// Listens where somebody listened before. None where it was an agent, which listened elsewhere than
    /// this one is to: at neither of these.
    pub fn inherited(
        given: Given,
        bind: Option<&str>,
        socket: Option<&Path>,
    ) -> Result<Option<Listener>> {
        let failed = |e| cannot(&format!("listen on the inherited {:?}", given.name), e);
        let place = given.name.strip_prefix(OURS);
        let socket = match given.socket {
            GivenSocket::Tcp(listener) => {
                let at = listener.local_addr().map_err(failed)?;
                if place.is_some() && !bind.is_some_and(|bind| is_at(bind, at)) {
                    return Ok(None);
                }
                listener.set_nonblocking(true).map_err(failed)?;
                Socket::Tcp(TcpListener::from_std(listener).map_err(failed)?)
            }
            GivenSocket::Unix(listener) => {
                let path = match place {
                    // It was opened under another name.
                    Some(place) => {
                        PathBuf::from(percent_decode_str(place).decode_utf8_lossy().as_ref())
                    }
                    None => {
                        let at = listener.local_addr().map_err(failed)?;
                        at.as_pathname().map(Path::to_owned).unwrap_or_default()
                    }
                };
                if place.is_some() && (socket != Some(path.as_path()) || !is_socket(&path)) {
                    return Ok(None);
                }
                listener.set_nonblocking(true).map_err(failed)?;
                Socket::Unix(UnixListener::from_std(listener).map_err(failed)?, path)
            }
        };
        Ok(Some(Listener {
            socket,
            ours: place.is_some(),
            stays: place.is_none(),
        }))
    }

    /// The name with which another process inherits it.
    pub fn name(&self) -> String {
        match &self.socket {
            _ if !self.ours => "systemd".to_owned(),
            Socket::Tcp(_) => format!("{OURS}{TCP}"),
            Socket::Unix(_, path) => {
                let path = path.as_os_str().as_encoded_bytes();
                format!("{OURS}{}", percent_encode(path, NON_ALPHANUMERIC))
            }
        }
    }

    /// The descriptor once more, to be inherited.
    pub fn descriptor(&self) -> std::io::Result<OwnedFd> {
        use std::os::fd::AsFd;
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Socket::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// Where it listens, as a registry URL.
    pub fn url(&self) -> String {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map_or_else(
                |_| "discoverd://".to_owned(),
                |at| format!("discoverd://{at}"),
            ),
            Socket::Unix(_, path) => format!("discoverd+unix://{}", path.display()),
        }
    }

    /// The address, where it is one.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// The next one who comes.
    pub async fn accept(&self) -> std::io::Result<(Box<dyn Stream>, Peer)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // A small message must not wait for the acknowledgement of the one before.
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

    /// Somebody else holds it, too: its file is not removed at the end.
    pub fn stay(&mut self) {
        self.stays = true;
    }

    /// Takes the socket out of the file system, unless it stays.
    pub fn remove(&self) {
        if let (false, Socket::Unix(_, path)) = (self.stays, &self.socket) {
            // Somebody else may have removed it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether an address, as it is asked for, is this one. Any port may stand for 0.
fn is_at(bind: &str, at: SocketAddr) -> bool {
    let mut asked = bind.to_socket_addrs().into_iter().flatten();
    asked.any(|asked| asked.ip() == at.ip() && (asked.port() == at.port() || asked.port() == 0))
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket())
}

fn cannot(doing: &str, cause: std::io::Error) -> Error {
    Error::caused_by(ErrorKind::Resource, format!("cannot {doing}"), cause)
}
