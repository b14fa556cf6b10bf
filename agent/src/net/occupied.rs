//! Whether another process uses the addresses on which an agent would listen.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use discover_core::{Error, ErrorKind, Result};

use crate::net::listener::{Listener, is_socket};

/// Limit on the time that the process at an address gets for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum size of the answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 4096;
/// A request that an agent answers without a token.
const REQUEST: &[u8] = b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
/// Header that each response of an agent has.
const AGENT_HEADER: &str = "\r\ndiscoverd-boot:";

/// Checks that an agent could listen on these addresses. Returns those that an agent uses already, which the next agent
/// can only use after the running one, or by a hand-over. With `is_own_port`, the TCP address is in use by the agent that
/// runs this check.
///
/// # Errors
///
/// Fails if an address cannot be used, or another program than an agent uses it.
pub async fn check_addresses(
    bind: Option<&str>,
    socket: Option<&Path>,
    is_own_port: bool,
) -> Result<Vec<String>> {
    let mut used = Vec::new();
    let socket_used = socket.map(is_used_by_agent).transpose()?.unwrap_or(false);
    if let Some(address) = bind
        && let Err(error) = Listener::tcp(address).await
    {
        // An agent that requires TLS answers only on its socket.
        if !is_own_port && !socket_used && !is_agent(TcpStream::connect(address)) {
            return Err(error);
        }
        used.push(address.to_owned());
    }
    if let (Some(path), true) = (socket, socket_used) {
        used.push(path.display().to_string());
    }
    Ok(used)
}

/// Returns true if an agent listens on the socket.
fn is_used_by_agent(path: &Path) -> Result<bool> {
    let shown = path.display();
    if !is_socket(path) {
        return match path.symlink_metadata() {
            Ok(_) => {
                let text = format!(
                    "cannot listen on {shown}: there is a file that is not a socket; remove it, or set socket to \
                     another path"
                );
                Err(Error::new(ErrorKind::Resource, text))
            }
            Err(_) => Ok(false),
        };
    }
    // The file of a process that has ended is replaced.
    let Ok(stream) = UnixStream::connect(path) else {
        return Ok(false);
    };
    if is_agent(Ok(stream)) {
        return Ok(true);
    }
    let text = format!("cannot listen on {shown}: another process listens on it");
    Err(Error::new(ErrorKind::Busy, text))
}

/// Returns true if the process at the other end of a connection is an agent.
fn is_agent(connection: std::io::Result<impl Connection>) -> bool {
    let answer = connection.and_then(|mut connection| {
        connection.set_timeout(ANSWER_TIMEOUT)?;
        connection.write_all(REQUEST)?;
        let mut answer = Vec::new();
        // What arrives before the timeout is enough.
        let _ = connection.take(MAX_ANSWER_BYTES).read_to_end(&mut answer);
        Ok(answer)
    });
    let answer = answer.unwrap_or_default();
    String::from_utf8_lossy(&answer)
        .to_ascii_lowercase()
        .contains(AGENT_HEADER)
}

trait Connection: Read + Write {
    fn set_timeout(&self, limit: Duration) -> std::io::Result<()>;
}

impl Connection for TcpStream {
    fn set_timeout(&self, limit: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}

impl Connection for UnixStream {
    fn set_timeout(&self, limit: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}
