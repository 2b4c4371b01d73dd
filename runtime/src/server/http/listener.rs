//! The listening socket: accepts connections, limits their number, and stops.
//!
//! At the connection limit, a new connection evicts one that is waiting for its client, so that silent clients cannot lock
//! others out. A connection whose request is being answered is never evicted.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::connection::{serve, turn_away};
use super::socket::{Socket, Source, Waker};
use super::{Handler, Peer, Refusal};
use crate::server::limits::Limits;

/// A connection may be evicted once its body has been arriving for this long.
const BODY_PROTECTED_FOR: Duration = Duration::from_secs(5);

/// A bound listener, not yet accepting.
pub struct Listener {
    source: Source,
    limits: Limits,
    shared: Arc<Shared>,
}

/// What a connection is doing; connections are evicted in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Nothing of a request has arrived.
    Idle,
    /// A head is arriving.
    Head,
    /// A body is arriving.
    Body,
    /// A request is being answered; never evicted.
    Answering,
}

struct Open {
    socket: Socket,
    address: Option<IpAddr>,
    phase: Phase,
    since: Instant,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    next: AtomicU64,
    /// Open connections by their number.
    open: Mutex<HashMap<u64, Open>>,
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops a listener from another thread.
#[derive(Clone)]
pub struct Stopper {
    shared: Arc<Shared>,
    waker: Waker,
}

impl Stopper {
    /// Stops accepting; `Listener::run` returns after the grace period.
    pub fn stop(&self) {
        if !self.shared.stopping.swap(true, Ordering::SeqCst) {
            // `accept` has no timeout: a connection of our own wakes it.
            self.waker.wake();
        }
    }
}

impl Listener {
    /// Binds `address`; port 0 takes any free one.
    ///
    /// # Errors
    /// The socket's, among them `AddrInUse`.
    pub fn bind(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        Ok(Self { source: Source::tcp(address)?, limits, shared: Arc::default() })
    }

    /// Binds a Unix socket at `path`, which is removed with the listener.
    ///
    /// # Errors
    /// `AddrInUse` if a server listens there or the path is another kind of file; `Unsupported` on systems without them.
    pub fn bind_unix(path: &Path, limits: Limits) -> io::Result<Self> {
        Ok(Self { source: Source::unix(path)?, limits, shared: Arc::default() })
    }

    /// The bound address; `None` for a Unix socket.
    ///
    /// # Errors
    /// The socket's.
    pub fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.source.address()
    }

    /// The path of a Unix socket.
    pub fn path(&self) -> Option<&Path> {
        self.source.path()
    }

    /// A handle that stops this listener.
    ///
    /// # Errors
    /// The socket's.
    pub fn stopper(&self) -> io::Result<Stopper> {
        Ok(Stopper { shared: self.shared.clone(), waker: self.source.waker()? })
    }

    /// Accepts and serves until stopped. Then calls `drain` with the grace period's deadline, which should return once no
    /// request is being answered, and closes the remaining connections.
    pub fn run(self, handler: Arc<dyn Handler>, drain: impl FnOnce(Instant)) {
        let limits = Arc::new(self.limits);
        let budget = Budget::new(limits.max_bytes_in_flight);
        loop {
            let accepted = self.source.accept();
            if self.shared.stopping.load(Ordering::SeqCst) {
                break;
            }
            match accepted {
                Ok(socket) => admit(socket, &limits, &budget, &handler, &self.shared),
                // Out of file descriptors, or a connection reset while queued: the next may work.
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
        drop(self.source);
        drain(Instant::now() + limits.shutdown_grace);
        for open in self.shared.open().values() {
            open.socket.shutdown(Shutdown::Both);
        }
    }
}

fn admit(socket: Socket, limits: &Arc<Limits>, budget: &Arc<Budget>, handler: &Arc<dyn Handler>, shared: &Arc<Shared>) {
    let Ok(registered) = socket.try_clone() else {
        return;
    };
    let key = shared.next.fetch_add(1, Ordering::Relaxed);
    let address = socket.peer();
    let room = {
        let mut open = shared.open();
        make_room(&mut open, address, limits).map(|()| {
            open.insert(key, Open { socket: registered, address, phase: Phase::Idle, since: Instant::now() });
        })
    };
    if let Err(refusal) = room {
        turn_away(socket, &handler.refuse(None, &refusal));
        return;
    }
    let place = Place { shared: shared.clone(), peer: Peer { connection: key, address } };
    let (limits, budget, handler) = (limits.clone(), budget.clone(), handler.clone());
    let spawned = thread::Builder::new().name("http".to_string()).spawn(move || {
        serve(socket, &limits, &budget, &*handler, &place);
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for a connection");
    }
}

/// Evicts a waiting connection if the limit, or the limit per address, is reached.
fn make_room(open: &mut HashMap<u64, Open>, address: Option<IpAddr>, limits: &Limits) -> Result<(), Refusal> {
    // No limit per address for loopback: a local proxy stands for many clients, and local users could exhaust the machine
    // anyway.
    let from_network = address.filter(|address| !address.is_loopback());
    let same = |open: &Open| from_network.is_some() && open.address == from_network;
    let full_for_one = open.values().filter(|other| same(other)).count() >= limits.max_connections_per_address;
    if !full_for_one && open.len() < limits.max_connections {
        return Ok(());
    }
    let gives_way = |open: &Open| match open.phase {
        Phase::Idle | Phase::Head => true,
        Phase::Body => open.since.elapsed() > BODY_PROTECTED_FOR,
        Phase::Answering => false,
    };
    let candidates = open.iter().filter(|(_, open)| gives_way(open) && (!full_for_one || same(open)));
    let longest = candidates.min_by_key(|(_, open)| (open.phase, open.since)).map(|(key, _)| *key);
    match longest.and_then(|key| open.remove(&key)) {
        Some(waiting) => {
            waiting.socket.shutdown(Shutdown::Both);
            Ok(())
        }
        None if full_for_one => {
            let most = limits.max_connections_per_address;
            let message = format!("{most} connections from your address are busy, the most this server allows");
            Err(Refusal::new(503, message))
        }
        None => {
            let most = limits.max_connections;
            Err(Refusal::new(503, format!("{most} connections are busy, the most this server allows")))
        }
    }
}

/// A connection's entry among the open ones; removed when its thread ends, even by a panic.
pub(super) struct Place {
    shared: Arc<Shared>,
    pub(super) peer: Peer,
}

impl Place {
    /// Records the connection's phase; false if it has been evicted and must end.
    pub(super) fn enter(&self, phase: Phase) -> bool {
        let mut open = self.shared.open();
        let place = open.get_mut(&self.peer.connection);
        place.map(|place| (place.phase, place.since) = (phase, Instant::now())).is_some()
    }

    /// Whether the server is stopping.
    pub(super) fn stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open().remove(&self.peer.connection);
    }
}

/// An address to connect to for a socket bound to `address`: loopback if that is unspecified.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
