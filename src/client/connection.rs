//! A connection: requests with the caller's ids, and a thread that reads answers in place.

use std::{
    io::{self, ErrorKind},
    net::{Shutdown, SocketAddr, TcpStream},
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    Answer, Error, Options,
    outbox::{Outbox, Wrote},
};
use crate::protocol::{
    self, Frame, Hello, Inbox, MAGIC, Refused, Request, Stream, VERSION, Welcome, kind,
};

/// Where a gateway listens: `127.0.0.1:7412`, or the path of a Unix socket, which has a `/` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address such as 127.0.0.1:7412 nor the path of a socket, with a `/`")]
pub struct NotAnAddress(String);

impl FromStr for Address {
    type Err = NotAnAddress;
    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| NotAnAddress(text.chars().take(80).collect()))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Address {
    fn connect(&self) -> io::Result<Stream> {
        let stream = match self {
            Self::Tcp(address) => Stream::Tcp(TcpStream::connect(address)?),
            Self::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
        };
        stream.prepare()?;
        Ok(stream)
    }
}

/// Takes the answers of a connection, on its thread. It must not wait for anything that another answer
/// brings.
pub trait Handler: Send + 'static {
    /// The answer to a request.
    fn answer(&mut self, id: u64, answer: Answer<'_>);

    /// No more answers come; what was under way may have been done.
    fn closed(&mut self, why: &Error);
}

struct Shared {
    stream: Stream,
    outbox: Outbox,
    frame_bytes_max: usize,
    in_flight_max: u32,
}

/// Sends requests; clones share the connection.
#[derive(Clone)]
pub struct Sender {
    shared: Arc<Shared>,
    /// Whether it is the handler's, which must not wait for the server: it would not read meanwhile.
    is_handlers: bool,
}

impl Sender {
    /// Puts a request among those that are sent with the next [`Sender::flush`], or as soon as there
    /// are enough of them. Its answer will come under `id`, which is not 0 and which no other request
    /// under way may have.
    /// Waits if too much waits to be sent already, except in the handler.
    ///
    /// # Errors
    /// If it is longer than the server takes, its id is 0, or the connection is broken.
    pub fn send(&self, id: u64, request: &Request<'_>) -> Result<(), Error> {
        self.send_with(id, request, false)
    }

    /// The same; `can_wait` marks new work that is refused first when the log's disk budget comes to
    /// its end.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send_with(&self, id: u64, request: &Request<'_>, can_wait: bool) -> Result<(), Error> {
        if id == 0 {
            return Err(Error::Protocol("0 is the id of the connection itself, not of a request"));
        }
        let push = |out: &mut Vec<u8>| request.push(out, id, can_wait);
        match self.shared.outbox.put(self.shared.frame_bytes_max, push)? {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Sends what was put. In the handler it need not be called: what it sends leaves once it has had
    /// all answers that have come.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn flush(&self) -> Result<(), Error> {
        if self.is_handlers {
            return self.shared.outbox.write(&self.shared.stream).map(drop);
        }
        self.shared.outbox.write_all(&self.shared.stream)
    }

    /// Requests that the server lets be under way at once; it does not read more until some are
    /// answered.
    pub fn in_flight_max(&self) -> u32 {
        self.shared.in_flight_max
    }
}

/// A connection. Dropped, it is closed; what is under way then may be done.
pub struct Connection {
    sender: Sender,
    reader: Option<JoinHandle<()>>,
}

impl Connection {
    /// Connects and says hello; `handler` makes the handler, which may keep the sender that it gets.
    ///
    /// # Errors
    /// If the server can't be reached, refuses, or says nothing in time.
    pub fn open<H: Handler>(
        address: &Address,
        options: &Options,
        handler: impl FnOnce(Sender) -> H,
    ) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Connect {
            address: address.to_string(),
            source: Arc::new(source),
        };
        let stream = address.connect().map_err(failed)?;
        let outbox = Outbox::new(options.unsent_bytes_max);
        let hello = Hello { reserved: 0, api_key: &options.api_key };
        outbox.put(usize::MAX, |out| protocol::push(out, kind::HELLO, VERSION, MAGIC, &hello))?;
        outbox.write_all(&stream)?;
        let mut inbox = Inbox::new(options.answer_bytes_max);
        let timeout = Duration::from_millis(options.hello_timeout_ms);
        let (frame_bytes_max, in_flight_max) = welcomed(&stream, &mut inbox, timeout)?;
        let shared = Arc::new(Shared { stream, outbox, frame_bytes_max, in_flight_max });
        let sender = Sender { shared: shared.clone(), is_handlers: false };
        let handler = handler(Sender { is_handlers: true, ..sender.clone() });
        let reader = thread::Builder::new().name("holdfast-client".to_owned());
        let reader = reader.spawn(move || read_all(&shared, inbox, handler)).map_err(failed)?;
        Ok(Self { sender, reader: Some(reader) })
    }

    /// What sends on it.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.sender.shared.stream.end(Shutdown::Both);
        if let Some(reader) = self.reader.take()
            && reader.thread().id() != thread::current().id()
        {
            // A handler that panicked has said so already.
            let _ = reader.join();
        }
    }
}

fn broken(error: &io::Error) -> Error {
    Error::Broken(error.to_string())
}

/// Waits until the socket has something, or takes something if `wants_out`.
fn wait(stream: &Stream, wants_out: bool, time: Option<Duration>) -> Result<(), Error> {
    let mut flags = PollFlags::IN;
    flags.set(PollFlags::OUT, wants_out);
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    let mut socket = [PollFd::from_borrowed_fd(stream.as_fd(), flags)];
    match poll(&mut socket, time.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(broken(&error.into())),
    }
}

/// Reads once; whether something came.
fn fill(stream: &Stream, inbox: &mut Inbox) -> Result<bool, Error> {
    let mut stream = stream;
    match inbox.fill(&mut stream) {
        Ok(0) => Err(Error::Broken("the server has closed it".to_owned())),
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(false)
        }
        Err(error) => Err(broken(&error)),
    }
}

fn next(inbox: &mut Inbox) -> Result<Option<Frame<'_>>, Error> {
    inbox.next().map_err(|_| Error::Protocol("an answer can't be a frame, or is too long"))
}

fn welcomed(stream: &Stream, inbox: &mut Inbox, timeout: Duration) -> Result<(usize, u32), Error> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(frame) = next(inbox)? {
            return read_welcome(&frame);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Broken("no answer to the hello in time".to_owned()));
        }
        if !fill(stream, inbox)? {
            wait(stream, false, Some(left))?;
        }
    }
}

fn read_welcome(frame: &Frame<'_>) -> Result<(usize, u32), Error> {
    if frame.header.kind == kind::REFUSED {
        let refused: Option<&_> = frame.access::<Refused<'static>>();
        let refused = refused.ok_or(Error::Protocol("a refusal can't be read"))?;
        return Err(Error::Refused(refused.into()));
    }
    let is_welcome = frame.header.kind == kind::WELCOME && frame.header.id == MAGIC;
    let welcome = is_welcome.then(|| frame.access::<Welcome>()).flatten();
    let welcome = welcome.ok_or(Error::Protocol("the hello was not answered with a welcome"))?;
    Ok((welcome.frame_bytes_max.to_native() as usize, welcome.in_flight_max.to_native()))
}

/// Hands every answer to the handler, until the connection ends.
fn read_all(shared: &Shared, mut inbox: Inbox, mut handler: impl Handler) {
    let why = loop {
        if let Err(why) = read_some(shared, &mut inbox, &mut handler) {
            break why;
        }
    };
    shared.outbox.break_off(&why);
    shared.stream.end(Shutdown::Both);
    handler.closed(&why);
}

fn read_some(shared: &Shared, inbox: &mut Inbox, handler: &mut impl Handler) -> Result<(), Error> {
    while let Some(frame) = next(inbox)? {
        let answer = Answer::of(&frame)?;
        if let (0, Answer::Refused(refused)) = (frame.header.id, answer) {
            return Err(Error::Refused(refused.into()));
        }
        handler.answer(frame.header.id, answer);
    }
    let wrote = shared.outbox.write(&shared.stream)?;
    if !fill(&shared.stream, inbox)? {
        wait(&shared.stream, wrote == Wrote::Some, None)?;
    }
    Ok(())
}
