//! A TCP proxy that breaks connections on command: it resets them, as when the server's host dies, or closes new
//! ones at once, as a server that is shutting down does.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The time limit for the client to reconnect.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Proxy {
    pub address: SocketAddr,
    /// Receives a message for each new connection.
    connected: Receiver<()>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    /// The number of new connections still to be closed.
    to_reject: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts a proxy, which runs until the process exits.
    pub fn start(server: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (on_connect, connected) = channel();
        let open = Arc::new(Mutex::new(Vec::new()));
        let open_connections = open.clone();
        let to_reject = Arc::new(AtomicUsize::new(0));
        let counted = to_reject.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let decrement = |left: usize| left.checked_sub(1);
                if counted.fetch_update(SeqCst, SeqCst, decrement).is_ok() {
                    continue;
                }
                // If the server refuses the connection, the client's is dropped too.
                if let Ok(server) = TcpStream::connect(&server) {
                    connect_pair(client, server, &open_connections, &on_connect)
                        .expect("sockets can be cloned");
                }
            }
        });
        Proxy {
            address,
            connected,
            open,
            to_reject,
        }
    }

    /// Closes all connections and the next `times` new ones, then waits for one that stays open.
    pub fn close_connections(&self, times: usize) {
        while self.connected.try_recv().is_ok() {}
        self.to_reject.store(times, SeqCst);
        for client in self.open.lock().expect("no thread panicked").drain(..) {
            // It may be closed already.
            let _ = client.shutdown(Shutdown::Both);
        }
        self.await_reconnect();
    }

    /// Resets all connections and waits for a new one.
    pub fn reset(&self) {
        while self.connected.try_recv().is_ok() {}
        for client in self.open.lock().expect("no thread panicked").drain(..) {
            let now = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            let size = size_of::<libc::linger>() as libc::socklen_t;
            // SAFETY: the descriptor is open, and the option is of that type and size.
            let set = unsafe {
                let option = std::ptr::from_ref(&now).cast();
                libc::setsockopt(
                    client.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_LINGER,
                    option,
                    size,
                )
            };
            assert_eq!(set, 0);
            // SAFETY: as above. Unread data is lost and the peer gets the reset at once, although the threads
            // of the connection still hold the socket.
            unsafe { reset_socket(client.as_raw_fd()) };
        }
        self.await_reconnect();
    }

    fn await_reconnect(&self) {
        let back = self.connected.recv_timeout(RECONNECT_TIMEOUT);
        back.expect("the program reconnects");
    }
}

/// Resets a connection with a TCP RST instead of a FIN.
unsafe fn reset_socket(socket: libc::c_int) {
    let unspecified = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let size = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: an address of that size; the caller guarantees that the socket is open.
    unsafe { libc::connect(socket, &unspecified, size) };
}

fn connect_pair(
    client: TcpStream,
    server: TcpStream,
    open: &Mutex<Vec<TcpStream>>,
    on_connect: &Sender<()>,
) -> io::Result<()> {
    let (upstream, downstream) = (client.try_clone()?, server.try_clone()?);
    open.lock()
        .expect("no thread panicked")
        .push(client.try_clone()?);
    thread::spawn(move || copy_until_closed(upstream, server));
    thread::spawn(move || copy_until_closed(downstream, client));
    // The receiver is dropped when the test ends.
    let _ = on_connect.send(());
    Ok(())
}

/// Copies data until either side closes, then closes both.
fn copy_until_closed(mut from: TcpStream, mut to: TcpStream) {
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
