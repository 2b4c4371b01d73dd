//! The listening socket: accepts, counts, makes room, turns away, stops.
//!
//! When all places are taken, a connection that waits for its client gives way to the new one: whoever says nothing
//! cannot lock out those who do. Answers that run are never cut off for it.

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

/// A body that has been arriving for this long gives way, too.
const PATIENCE_WITH_BODIES: Duration = Duration::from_secs(5);

/// A bound listener, not yet accepting.
pub struct Listener {
    source: Source,
    limits: Limits,
    shared: Arc<Shared>,
}

/// What a connection is doing; in this order they give way to new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Nothing of a request has come.
    Idle,
    /// A head is arriving.
    Head,
    /// A body is arriving.
    Body,
    /// A request is being answered: never.
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
    /// Ends accepting; `Listener::run` then returns after its grace.
    pub fn stop(&self) {
        if !self.shared.stopping.swap(true, Ordering::SeqCst) {
            // `accept` has no time limit: one connection of our own wakes it.
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

    /// Binds a Unix socket at `path`, which goes away with the listener.
    ///
    /// # Errors
    /// `AddrInUse` where something listens or another file lies; `Unsupported` where there are no such sockets.
    pub fn bind_unix(path: &Path, limits: Limits) -> io::Result<Self> {
        Ok(Self { source: Source::unix(path)?, limits, shared: Arc::default() })
    }

    /// The address that is listened on; `None` for a Unix socket.
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

    /// The handle that stops this listener.
    ///
    /// # Errors
    /// The socket's.
    pub fn stopper(&self) -> io::Result<Stopper> {
        Ok(Stopper { shared: self.shared.clone(), waker: self.source.waker()? })
    }

    /// Accepts and serves until stopped. Then calls `drain` with the grace's end, which should return when no answer
    /// runs any more, and closes what is still open.
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
                // Out of descriptors, or a connection that was reset while it waited: the next may work.
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
        turn_away(socket, &handler.refuse(&refusal));
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

/// Closes a waiting connection where the places are used up, or one address's share of them.
fn make_room(open: &mut HashMap<u64, Open>, address: Option<IpAddr>, limits: &Limits) -> Result<(), Refusal> {
    // Whoever is on this machine has other ways to use it up; and a proxy on it speaks for many.
    let from_network = address.filter(|address| !address.is_loopback());
    let same = |open: &Open| from_network.is_some() && open.address == from_network;
    let full_for_one = open.values().filter(|other| same(other)).count() >= limits.max_connections_per_address;
    if !full_for_one && open.len() < limits.max_connections {
        return Ok(());
    }
    let gives_way = |open: &Open| match open.phase {
        Phase::Idle | Phase::Head => true,
        Phase::Body => open.since.elapsed() > PATIENCE_WITH_BODIES,
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
            let message = format!("{most} connections from your address are busy already, the most this server takes");
            Err(Refusal::new(503, message))
        }
        None => {
            let most = limits.max_connections;
            Err(Refusal::new(503, format!("{most} connections are busy already, the most this server takes")))
        }
    }
}

/// A connection's place; given back when its thread ends, also by a panic.
pub(super) struct Place {
    shared: Arc<Shared>,
    pub(super) peer: Peer,
}

impl Place {
    /// Notes what the connection does now; false when it has lost its place, and must end.
    pub(super) fn enter(&self, phase: Phase) -> bool {
        let mut open = self.shared.open();
        let place = open.get_mut(&self.peer.connection);
        place.map(|place| (place.phase, place.since) = (phase, Instant::now())).is_some()
    }

    /// Whether the server is being stopped.
    pub(super) fn stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open().remove(&self.peer.connection);
    }
}

/// An address that reaches a socket bound to `address`, also when that is "every interface".
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
