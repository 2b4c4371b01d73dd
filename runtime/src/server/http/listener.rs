//! The listening socket: accepts, counts, turns away, stops.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::connection::{serve, turn_away};
use super::{Handler, Refusal};
use crate::server::limits::Limits;

/// A bound listener, not yet accepting.
pub struct Listener {
    socket: TcpListener,
    limits: Limits,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    next: AtomicUsize,
    /// Open connections, to close them at the end.
    open: Mutex<HashMap<usize, TcpStream>>,
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<usize, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops a listener from another thread.
#[derive(Clone)]
pub struct Stopper {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Stopper {
    /// Ends accepting; `Listener::run` then returns after its grace.
    pub fn stop(&self) {
        if !self.shared.stopping.swap(true, Ordering::SeqCst) {
            // `accept` has no time limit: one connection of our own wakes it.
            let _ = TcpStream::connect_timeout(&reachable(self.address), Duration::from_secs(1));
        }
    }
}

impl Listener {
    /// Binds `address`; port 0 takes any free one.
    ///
    /// # Errors
    /// The socket's, among them `AddrInUse`.
    pub fn bind(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address)?, limits, shared: Arc::default() })
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// The socket's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The handle that stops this listener.
    ///
    /// # Errors
    /// The socket's.
    pub fn stopper(&self) -> io::Result<Stopper> {
        Ok(Stopper { shared: self.shared.clone(), address: self.local_addr()? })
    }

    /// Accepts and serves until stopped. Then calls `drain` with the grace's end, which should return when no answer
    /// runs any more, and closes what is still open.
    pub fn run(self, handler: Arc<dyn Handler>, drain: impl FnOnce(Instant)) {
        let limits = Arc::new(self.limits);
        loop {
            let accepted = self.socket.accept();
            if self.shared.stopping.load(Ordering::SeqCst) {
                break;
            }
            match accepted {
                Ok((stream, _)) => admit(stream, &limits, &handler, &self.shared),
                // Out of descriptors, or a connection that was reset while it waited: the next may work.
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
        drop(self.socket);
        drain(Instant::now() + limits.shutdown_grace);
        for stream in self.shared.open().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn admit(stream: TcpStream, limits: &Arc<Limits>, handler: &Arc<dyn Handler>, shared: &Arc<Shared>) {
    let Ok(registered) = stream.try_clone() else {
        return;
    };
    let key = shared.next.fetch_add(1, Ordering::Relaxed);
    {
        let mut open = shared.open();
        if open.len() >= limits.max_connections {
            drop(open);
            let message =
                format!("{} connections are open already, the most this server takes", limits.max_connections);
            turn_away(stream, &handler.refuse(&Refusal::new(503, message)).with("Retry-After", "1"));
            return;
        }
        open.insert(key, registered);
    }
    let registration = Registration { shared: shared.clone(), key };
    let (limits, handler) = (limits.clone(), handler.clone());
    let spawned = thread::Builder::new().name("http".to_string()).spawn(move || {
        serve(stream, &limits, &*handler, &registration.shared.stopping);
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for a connection");
    }
}

/// Takes a connection off the list when its thread ends, also by a panic.
struct Registration {
    shared: Arc<Shared>,
    key: usize,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.open().remove(&self.key);
    }
}

/// An address that reaches a socket bound to `address`, also when that is "every interface".
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
