//! A way to a server that breaks on command: every connection is reset, as by a peer that has died, or hung up on
//! as soon as it is made, as by a server that is going away.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How long anybody may take to connect again.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Proxy {
    pub address: SocketAddr,
    /// One for each connection that was made.
    connected: Receiver<()>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    /// How many new connections are still to be hung up on.
    unwanted: Arc<AtomicUsize>,
}

impl Proxy {
    /// Ends with the program; so do its threads.
    pub fn to(server: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (made, connected) = channel();
        let open = Arc::new(Mutex::new(Vec::new()));
        let kept = open.clone();
        let unwanted = Arc::new(AtomicUsize::new(0));
        let counted = unwanted.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let less = |left: usize| left.checked_sub(1);
                if counted.fetch_update(SeqCst, SeqCst, less).is_ok() {
                    continue;
                }
                // A server that is away refuses, and so do we.
                if let Ok(server) = TcpStream::connect(&server) {
                    join(client, server, &kept, &made).expect("sockets can be cloned");
                }
            }
        });
        Proxy {
            address,
            connected,
            open,
            unwanted,
        }
    }

    /// Ends all connections and so many new ones, each with a goodbye, and waits until one may stay.
    pub fn hang_up(&self, times: usize) {
        while self.connected.try_recv().is_ok() {}
        self.unwanted.store(times, SeqCst);
        for client in self.open.lock().expect("nobody panics").drain(..) {
            // It may be over already.
            let _ = client.shutdown(Shutdown::Both);
        }
        self.comes_back();
    }

    /// Resets all connections, and waits until there is a new one.
    pub fn reset(&self) {
        while self.connected.try_recv().is_ok() {}
        for client in self.open.lock().expect("nobody panics").drain(..) {
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
            // SAFETY: as above. What was sent and not yet read is lost, and the peer is told so at
            // once, although the threads of the connection hold the socket still.
            unsafe { abort(client.as_raw_fd()) };
        }
        self.comes_back();
    }

    fn comes_back(&self) {
        let back = self.connected.recv_timeout(PATIENCE);
        back.expect("the program is gone, for it does not come back");
    }
}

/// Disconnects a socket as a server that has died does: TCP's RST, not its FIN.
unsafe fn abort(socket: libc::c_int) {
    let nowhere = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let size = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: an address of that size; the caller has seen to the socket.
    unsafe { libc::connect(socket, &nowhere, size) };
}

fn join(
    client: TcpStream,
    server: TcpStream,
    open: &Mutex<Vec<TcpStream>>,
    made: &Sender<()>,
) -> io::Result<()> {
    let (up, down) = (client.try_clone()?, server.try_clone()?);
    open.lock()
        .expect("nobody panics")
        .push(client.try_clone()?);
    thread::spawn(move || carry(up, server));
    thread::spawn(move || carry(down, client));
    // Whoever made us is gone when a test ends.
    let _ = made.send(());
    Ok(())
}

/// Until either end is over; then both are.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
