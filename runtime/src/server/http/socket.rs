//! A connection over TCP or a Unix socket, and the listener that accepts it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

/// A connection.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream, IpAddr),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// Evaluates the expression with whichever stream it is.
macro_rules! either {
    ($self:expr, $stream:ident => $body:expr) => {
        match $self {
            Socket::Tcp($stream, _) => $body,
            #[cfg(unix)]
            Socket::Unix($stream) => $body,
        }
    };
}

impl Socket {
    /// The client's address; `None` for a Unix socket, which is local.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, address) => Some(address.to_canonical()),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream, address) => Ok(Self::Tcp(stream.try_clone()?, *address)),
            #[cfg(unix)]
            Self::Unix(stream) => Ok(Self::Unix(stream.try_clone()?)),
        }
    }

    /// Disables Nagle's algorithm, which could delay each token, a small write, by up to 40 ms.
    pub(super) fn send_at_once(&self) {
        match self {
            Self::Tcp(stream, _) => drop(stream.set_nodelay(true)),
            #[cfg(unix)]
            Self::Unix(_) => {}
        }
    }

    pub(super) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        either!(self, stream => stream.set_read_timeout(Some(timeout)))
    }

    pub(super) fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        either!(self, stream => stream.set_write_timeout(Some(timeout)))
    }

    pub(super) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        either!(self, stream => stream.set_nonblocking(nonblocking))
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        let _ = either!(self, stream => stream.shutdown(how));
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        either!(self, stream => stream.flush())
    }
}

/// A listener.
#[derive(Debug)]
pub(super) enum Source {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, PathBuf),
}

impl Source {
    pub(super) fn tcp(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).map(Self::Tcp)
    }

    /// Binds a socket file that only this user may connect to. A stale one, which no process listens on, is replaced.
    #[cfg(unix)]
    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        if let Ok(found) = path.symlink_metadata()
            && (!found.file_type().is_socket() || UnixStream::connect(path).is_ok())
        {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Bind in a private folder, set the mode, then rename: others never see the socket with a wider mode.
        let private = tempfile::Builder::new().prefix(".s").rand_bytes(4).tempdir_in(folder)?;
        let beside = private.path().join("s");
        let listener = UnixListener::bind(&beside)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&beside, path)?;
        Ok(Self::Unix(listener, path.to_owned()))
    }

    #[cfg(not(unix))]
    pub(super) fn unix(_: &Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, address)| Socket::Tcp(stream, address.ip())),
            #[cfg(unix)]
            Self::Unix(listener, _) => listener.accept().map(|(stream, _)| Socket::Unix(stream)),
        }
    }

    /// The bound address; `None` for a Unix socket.
    pub(super) fn address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            #[cfg(unix)]
            Self::Unix(..) => Ok(None),
        }
    }

    /// The path of a Unix socket.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            #[cfg(unix)]
            Self::Unix(_, path) => Some(path),
        }
    }

    /// A handle that wakes `accept`.
    pub(super) fn waker(&self) -> io::Result<Waker> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Waker::Tcp),
            #[cfg(unix)]
            Self::Unix(_, path) => Ok(Waker::Unix(path.clone())),
        }
    }
}

#[cfg(unix)]
impl Drop for Source {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Wakes a blocked `accept` by connecting to the listener.
#[derive(Clone, Debug)]
pub(super) enum Waker {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Waker {
    pub(super) fn wake(&self) {
        match self {
            Self::Tcp(address) => {
                let _ = TcpStream::connect_timeout(&super::reachable(*address), Duration::from_secs(1));
            }
            #[cfg(unix)]
            Self::Unix(path) => {
                let _ = UnixStream::connect(path);
            }
        }
    }
}
