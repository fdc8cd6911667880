//! HTTP/1.1 connections of one thread, driven by epoll: one request on each at a time, as a storefront
//! without pipelining sends them. Written by hand rather than on a runtime, since a request's cost in the
//! tester is time that the target does not get: an exchange is one write, one read, and its share of a
//! wait; nothing is allocated and nothing copied where an answer comes in one piece.
//!
//! - A connection that breaks is opened again; its request is told as broken.
//! - One whose request is abandoned is closed, as a caller that gives up does, and opened again.
//! - Where a connection can't be opened it is tried again after a pause; what is sent meanwhile goes by
//!   the others.

mod connection;
mod response;

use std::{collections::VecDeque, net::SocketAddr, os::fd::OwnedFd, time::Duration};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    io::Errno,
};

pub use response::{Read, Response, read};

use super::Clock;
use connection::{Came, Connection, State};

/// Events that are taken at once.
const EVENTS_MAX: usize = 512;
/// What is read at once.
const BUFFER_BYTES: usize = 64 << 10;
/// The pause after a connection that could not be opened or was closed, in nanoseconds.
const REOPEN_PAUSE: u64 = 5_000_000;

/// What became of an exchange.
pub struct Exchanged<'a> {
    /// The token that it was begun with.
    pub token: u64,
    /// When, by the run's clock.
    pub at: u64,
    /// The answer; `None` if the connection broke.
    pub response: Option<Response<'a>>,
}

/// Connections to one address.
pub struct Wire {
    epoll: OwnedFd,
    address: SocketAddr,
    clock: Clock,
    connections: Vec<Connection>,
    /// Those that wait for a request. Taken in turn, so that all of them are used.
    idle: VecDeque<u32>,
    /// Those that are closed.
    closed: Vec<u32>,
    events: Vec<epoll::Event>,
    buffer: Box<[u8]>,
}

impl Wire {
    /// Opens so many connections, and waits for them, for `patience` at most.
    ///
    /// # Errors
    /// If the system refuses, or not all of them could be opened: a run with fewer than were asked for
    /// would be another run.
    pub fn open(
        address: SocketAddr,
        connections: u32,
        clock: Clock,
        patience: Duration,
    ) -> std::io::Result<Self> {
        let mut wire = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            address,
            clock,
            connections: (0..connections).map(|_| Connection::new()).collect(),
            idle: VecDeque::with_capacity(connections as usize),
            closed: (0..connections).collect(),
            events: Vec::with_capacity(EVENTS_MAX),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        };
        let end = std::time::Instant::now() + patience;
        wire.reopen(true);
        while wire.idle.len() < wire.connections.len() && std::time::Instant::now() < end {
            wire.poll(Duration::from_millis(5), |_| {});
            wire.reopen(true);
        }
        match (wire.idle.len(), wire.connections.len()) {
            (0, _) => Err(std::io::ErrorKind::ConnectionRefused.into()),
            (open, all) if open < all => {
                let said = format!("only {open} of {all} connections could be opened");
                Err(std::io::Error::other(said))
            }
            _ => Ok(wire),
        }
    }

    /// Whether a request can be sent now.
    pub fn has_room(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Sends a request on a connection that is idle; false if none is.
    pub fn exchange(&mut self, token: u64, request: &[u8]) -> bool {
        while let Some(at) = self.idle.pop_front() {
            let connection = &mut self.connections[at as usize];
            if connection.state != State::Idle {
                continue;
            }
            if connection.write(request) {
                connection.state = State::Busy(token);
                self.watch(at);
                return true;
            }
            // The other side had closed it before anything of this request was on its way.
            self.close(at, 0);
        }
        false
    }

    /// Gives an exchange up.
    pub fn abandon(&mut self, token: u64) {
        let found = self.connections.iter().position(|c| c.state == State::Busy(token));
        if let Some(at) = found {
            self.close(at as u32, 0);
        }
    }

    /// Waits for answers for at most so long, and shows those that are there.
    pub fn poll(&mut self, wait: Duration, mut each: impl FnMut(Exchanged<'_>)) {
        if !self.closed.is_empty() {
            self.reopen(false);
        }
        let wait = Timespec {
            tv_sec: wait.as_secs().min(3_600) as i64,
            tv_nsec: wait.subsec_nanos().into(),
        };
        self.events.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            // Nothing else can happen to a descriptor of our own; the events that are lost by it come
            // again with the next wait.
            Err(_) => return,
        }
        let mut events = std::mem::take(&mut self.events);
        for event in &events {
            self.happened(event.data.u64() as u32, event.flags, &mut each);
        }
        events.clear();
        self.events = events;
    }

    fn happened(&mut self, at: u32, flags: EventFlags, each: &mut impl FnMut(Exchanged<'_>)) {
        let connection = &mut self.connections[at as usize];
        if connection.state == State::Opening {
            if connection.failed() {
                self.close(at, REOPEN_PAUSE);
            } else if flags.contains(EventFlags::OUT) {
                connection.state = State::Idle;
                self.idle.push_back(at);
                self.watch(at);
            }
            return;
        }
        if flags.contains(EventFlags::OUT) {
            if !connection.write_rest() {
                return self.broken(at, each);
            }
            self.watch(at);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.readable(at, each);
        }
    }

    fn readable(&mut self, at: u32, each: &mut impl FnMut(Exchanged<'_>)) {
        enum Then {
            Keep,
            Idle,
            Close,
            Broken,
        }
        let clock = self.clock;
        let connection = &mut self.connections[at as usize];
        let state = connection.state;
        let mut then = Then::Keep;
        connection.read(&mut self.buffer, |came| match (came, state) {
            (Came::Answer(response), State::Busy(token)) => {
                then = if response.keep { Then::Idle } else { Then::Close };
                each(Exchanged { token, at: clock.now(), response: Some(response) });
            }
            (Came::Nothing, _) => {}
            _ => then = Then::Broken,
        });
        match then {
            Then::Keep => {}
            // An answer may come before all of the request is written; such a connection is not used again.
            Then::Idle if connection.wants_writing() => self.close(at, 0),
            Then::Idle => {
                connection.state = State::Idle;
                self.idle.push_back(at);
            }
            Then::Close => self.close(at, 0),
            Then::Broken => self.broken(at, each),
        }
    }

    fn broken(&mut self, at: u32, each: &mut impl FnMut(Exchanged<'_>)) {
        let state = self.connections[at as usize].state;
        self.close(at, REOPEN_PAUSE);
        if let State::Busy(token) = state {
            each(Exchanged { token, at: self.clock.now(), response: None });
        }
    }

    fn close(&mut self, at: u32, pause: u64) {
        let connection = &mut self.connections[at as usize];
        if connection.state == State::Idle {
            self.idle.retain(|idle| *idle != at);
        }
        connection.close(self.clock.now() + pause);
        self.closed.push(at);
    }

    /// Opens those that are closed and whose pause is over, or all of them.
    fn reopen(&mut self, all: bool) {
        let now = self.clock.now();
        let mut closed = std::mem::take(&mut self.closed);
        closed.retain(|at| {
            let connection = &mut self.connections[*at as usize];
            let State::Closed(again_at) = connection.state else { return false };
            if again_at > now && !all {
                return true;
            }
            let opened = connection.open(&self.address);
            if opened.is_ok() && add(&self.epoll, connection, *at).is_ok() {
                return false;
            }
            connection.close(now + REOPEN_PAUSE);
            true
        });
        self.closed = closed;
    }

    /// Has epoll tell when the rest can be written, if there is one, and no longer.
    fn watch(&mut self, at: u32) {
        let connection = &mut self.connections[at as usize];
        let wants = connection.wants_writing();
        if wants == connection.watches_writing {
            return;
        }
        let flags = if wants { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        if let Some(socket) = &connection.socket {
            let data = EventData::new_u64(at.into());
            // It fails only for a descriptor that isn't there.
            let _ = epoll::modify(&self.epoll, socket, data, flags);
            connection.watches_writing = wants;
        }
    }
}

fn add(epoll: &OwnedFd, connection: &Connection, at: u32) -> Result<(), Errno> {
    let Some(socket) = &connection.socket else { return Err(Errno::BADF) };
    epoll::add(epoll, socket, EventData::new_u64(at.into()), EventFlags::IN | EventFlags::OUT)
}

#[cfg(test)]
mod tests;
