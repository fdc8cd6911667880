//! Listens, makes a thread of every connection, and stops them all.
//!
//! Stopping: connections are told, refuse what comes from then on, answer what they have accepted and
//! end; what is still open when the grace is over is cut.

use std::{
    collections::HashMap,
    fs, io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::AsFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use rustix::event::PollFlags;

use crate::{
    engine::Engine,
    protocol::{FRAME_BYTES_MIN, Stream},
    telemetry::Gateway,
    wal::Storage,
};

use super::{Options, bell::Bell, connection::Connection, house::House};

/// After an accept that failed for want of something (descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Only the server's own user may connect to the Unix socket.
const SOCKET_MODE: u32 = 0o600;

/// Why the gateway does not listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Without API keys only this machine may be served.
    #[error(
        "refusing to serve gateways on {address}: without API keys anybody who reaches it could \
         reserve and sell stock; give a partner an API key, or listen on 127.0.0.1 or [::1]"
    )]
    NotLoopback {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// The TCP address can't be had.
    #[error("can't listen for gateways on {address}: {source}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The Unix socket can't be made.
    #[error("can't listen for gateways at {}: {source}", path.display())]
    Socket {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread or its bell can't be made.
    #[error("the gateway's thread can't be started: {0}")]
    Thread(#[source] io::Error),
}

/// What all connections share.
pub(super) struct Shared<S: Storage> {
    pub(super) engine: Engine<S>,
    pub(super) house: Arc<dyn House>,
    pub(super) options: Options,
    pub(super) counters: Arc<Gateway>,
    draining: AtomicBool,
    cut: AtomicBool,
    bells: Mutex<HashMap<u64, Arc<Bell>>>,
    /// Told when a connection has ended.
    ended: Condvar,
    /// That of the thread that accepts.
    door: Arc<Bell>,
}

impl<S: Storage> Shared<S> {
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    fn has_room(&self) -> bool {
        self.bells.lock().len() < self.options.connections_max.max(1)
    }

    fn tell(&self, what: &AtomicBool) {
        what.store(true, Ordering::Release);
        self.bells.lock().values().for_each(|bell| bell.ring());
        self.door.ring();
    }

    /// Waits until no connection is left, until `end` at most; whether none is.
    fn wait_until_empty(&self, end: Instant) -> bool {
        let mut bells = self.bells.lock();
        while !bells.is_empty() {
            if self.ended.wait_until(&mut bells, end).timed_out() {
                return bells.is_empty();
            }
        }
        true
    }
}

/// The sockets that are listened on.
pub struct Listeners {
    tcp: Option<TcpListener>,
    unix: Option<(UnixListener, PathBuf)>,
}

impl Listeners {
    /// Listens where the options say; nowhere if they don't. A socket file that no server listens on
    /// any more is replaced.
    ///
    /// # Errors
    /// If a place is taken or can't be had, or is not on this machine and there are no API keys.
    pub fn bind(options: &Options, needs_keys: bool) -> Result<Self, Error> {
        let tcp = options.listen.map(|address| {
            if !address.ip().to_canonical().is_loopback() && !needs_keys {
                return Err(Error::NotLoopback { address });
            }
            let bound = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            bound.map_err(|source| Error::Listen { address, source })
        });
        let unix = options.socket.as_ref().map(|path| match bind_socket(path) {
            Ok(listener) => Ok((listener, path.clone())),
            Err(source) => Err(Error::Socket { path: path.clone(), source }),
        });
        Ok(Self { tcp: tcp.transpose()?, unix: unix.transpose()? })
    }

    /// The TCP address, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    /// The Unix socket's path, if there is one.
    pub fn socket(&self) -> Option<&Path> {
        self.unix.as_ref().map(|(_, path)| path.as_path())
    }

    /// Whether there is nothing to listen on.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_none() && self.unix.is_none()
    }

    /// A connection that waits, if there is one.
    fn accept(&self) -> io::Result<Option<Stream>> {
        let later = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
        if let Some(tcp) = &self.tcp
            && let Some(stream) = tcp.accept().map(|(s, _)| Some(Stream::Tcp(s))).or_else(later)?
        {
            return Ok(Some(stream));
        }
        match &self.unix {
            Some((unix, _)) => unix.accept().map(|(s, _)| Some(Stream::Unix(s))).or_else(later),
            None => Ok(None),
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.unix {
            // It may be gone already; the next server replaces what is left.
            let _ = fs::remove_file(path);
        }
    }
}

fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |e: io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A gateway that runs; [`Handle::stop`] ends it. Dropped, it stops without any grace.
pub struct Handle {
    stop: Box<dyn Fn(Duration) + Send + Sync>,
    door: Option<JoinHandle<()>>,
    address: Option<SocketAddr>,
    socket: Option<PathBuf>,
}

impl Handle {
    /// The TCP address, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The Unix socket's path, if there is one.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Refuses what comes from now on, answers what was accepted, and ends; what is not answered within
    /// the grace is cut. Blocks until then.
    pub fn stop(mut self, grace: Duration) {
        self.end(grace);
    }

    fn end(&mut self, grace: Duration) {
        if let Some(door) = self.door.take() {
            (self.stop)(grace);
            // A thread of ours that panicked has said so already.
            let _ = door.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// Serves what comes to the listeners.
///
/// # Errors
/// If the thread that accepts can't be started.
pub fn start<S: Storage>(
    listeners: Listeners,
    engine: Engine<S>,
    house: Arc<dyn House>,
    mut options: Options,
    counters: Arc<Gateway>,
) -> Result<Handle, Error> {
    options.frame_bytes_max = options.frame_bytes_max.max(FRAME_BYTES_MIN);
    let door = Bell::new().map_err(Error::Thread)?;
    let address = listeners.address();
    let socket_path = listeners.socket().map(Path::to_owned);
    let shared = Arc::new(Shared {
        engine,
        house,
        options,
        counters,
        draining: AtomicBool::new(false),
        cut: AtomicBool::new(false),
        bells: Mutex::default(),
        ended: Condvar::new(),
        door,
    });
    let serving = shared.clone();
    let door = thread::Builder::new()
        .name("gateway-door".to_owned())
        .spawn(move || accept(&listeners, &serving))
        .map_err(Error::Thread)?;
    let stop = move |grace: Duration| {
        let end = Instant::now() + grace;
        shared.tell(&shared.draining);
        if !shared.wait_until_empty(end) {
            tracing::warn!("connections of gateways were cut at the end of the grace");
            shared.tell(&shared.cut);
            shared.wait_until_empty(Instant::now() + Duration::from_secs(1));
        }
    };
    Ok(Handle { stop: Box::new(stop), door: Some(door), address, socket: socket_path })
}

/// Accepts until the server stops.
fn accept<S: Storage>(listeners: &Listeners, shared: &Arc<Shared<S>>) {
    let mut number = 0;
    while !shared.is_draining() {
        let accepted = if shared.has_room() { listeners.accept() } else { Ok(None) };
        match accepted {
            Ok(Some(stream)) => {
                number += 1;
                if let Err(error) = spawn(stream, shared, number) {
                    tracing::warn!(%error, "a gateway's connection got no thread");
                }
            }
            Ok(None) => wait(listeners, shared),
            Err(error) => {
                tracing::warn!(%error, "a gateway's connection was not accepted");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Waits for somebody at the door, or, with no room left, for somebody to leave.
fn wait<S: Storage>(listeners: &Listeners, shared: &Shared<S>) {
    let mut sockets = Vec::new();
    let full = !shared.has_room();
    if full {
        shared.counters.connections_full.fetch_add(1, Ordering::Relaxed);
    } else {
        sockets.extend(listeners.tcp.as_ref().map(|tcp| (tcp.as_fd(), PollFlags::IN)));
        sockets.extend(listeners.unix.as_ref().map(|(unix, _)| (unix.as_fd(), PollFlags::IN)));
    }
    let news = || shared.is_draining() || (full && shared.has_room());
    if let Err(error) = shared.door.sleep(&sockets, SLEEP_MAX, news) {
        tracing::warn!(%error, "the gateway can't wait for connections");
        thread::sleep(ACCEPT_PAUSE);
    }
}

/// Takes a connection off the list when its thread ends, however it does.
struct Present<S: Storage> {
    shared: Arc<Shared<S>>,
    number: u64,
}

impl<S: Storage> Drop for Present<S> {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("a gateway's connection ended by a defect; its callers repeat");
        }
        self.shared.bells.lock().remove(&self.number);
        self.shared.counters.connections.fetch_sub(1, Ordering::Relaxed);
        self.shared.ended.notify_all();
        self.shared.door.ring();
    }
}

fn spawn<S: Storage>(stream: Stream, shared: &Arc<Shared<S>>, number: u64) -> io::Result<()> {
    let (connection, bell) = Connection::new(stream, shared.clone())?;
    shared.bells.lock().insert(number, bell);
    shared.counters.connections.fetch_add(1, Ordering::Relaxed);
    shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
    let present = Present { shared: shared.clone(), number };
    let thread = thread::Builder::new().name("gateway".to_owned());
    thread.spawn(move || {
        let _present = present;
        connection.serve();
    })?;
    Ok(())
}
