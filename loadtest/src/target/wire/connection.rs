//! One connection: a socket that never blocks, what is still to be written to it, and what it has
//! brought so far.

use std::{net::SocketAddr, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt},
};

use super::response::{self, Read, Response};

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is being opened.
    Opening,
    /// It waits for a request.
    Idle,
    /// It carries the request with this token.
    Busy(u64),
    /// It is closed, and to be opened again at this time of the run's clock.
    Closed(u64),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub socket: Option<OwnedFd>,
    pub state: State,
    /// What is to be written, and how much of it was.
    out: Vec<u8>,
    written: usize,
    /// What came and is not read yet.
    came: Vec<u8>,
    /// Whether epoll tells when it can be written to.
    pub watches_writing: bool,
}

/// What became of reading.
pub(super) enum Came<'a> {
    /// An answer.
    Answer(Response<'a>),
    /// Nothing whole yet.
    Nothing,
    /// The connection is of no use any more.
    End,
}

impl Connection {
    pub fn new() -> Self {
        Self {
            socket: None,
            state: State::Closed(0),
            out: Vec::new(),
            written: 0,
            came: Vec::new(),
            watches_writing: false,
        }
    }

    /// Begins to connect.
    pub fn open(&mut self, address: &SocketAddr) -> Result<(), Errno> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match connect(&socket, address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        self.out.clear();
        self.came.clear();
        self.written = 0;
        self.watches_writing = true;
        self.state = State::Opening;
        self.socket = Some(socket);
        Ok(())
    }

    /// Whether the connecting has failed.
    pub fn failed(&self) -> bool {
        match &self.socket {
            Some(socket) => !matches!(sockopt::socket_error(socket), Ok(Ok(()))),
            None => true,
        }
    }

    pub fn close(&mut self, again_at: u64) {
        // Closing the socket takes it out of epoll, too.
        self.socket = None;
        self.state = State::Closed(again_at);
    }

    /// Writes a request, or as much of it as goes; false if the connection is broken.
    pub fn write(&mut self, request: &[u8]) -> bool {
        let Some(socket) = &self.socket else { return false };
        self.out.clear();
        self.written = 0;
        match rustix::io::write(socket, request) {
            Ok(written) if written == request.len() => true,
            Ok(written) => {
                self.out.extend_from_slice(&request[written..]);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                self.out.extend_from_slice(request);
                true
            }
            Err(_) => false,
        }
    }

    /// Whether something is left to be written.
    pub fn wants_writing(&self) -> bool {
        self.written < self.out.len()
    }

    /// Writes what is left; false if the connection is broken.
    pub fn write_rest(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        while self.written < self.out.len() {
            match rustix::io::write(socket, &self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads what is there, by way of `buffer`, and shows it to `each`, which says whether it was an
    /// answer that may have a successor. An answer that came in one piece is not copied.
    pub fn read(&mut self, buffer: &mut [u8], each: impl FnOnce(Came<'_>)) {
        let Some(socket) = &self.socket else { return each(Came::End) };
        let length = match rustix::io::read(socket, &mut *buffer) {
            Ok(0) => return self.end(each),
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return each(Came::Nothing),
            Err(_) => return each(Came::End),
        };
        let State::Busy(_) = self.state else {
            // An answer that nobody asked for.
            return each(Came::End);
        };
        if self.came.is_empty() {
            match response::read(&buffer[..length], false) {
                // What is behind an answer is none of ours: nothing was asked yet.
                Read::Whole(whole) if whole.taken == length => return each(Came::Answer(whole)),
                Read::Part => self.came.extend_from_slice(&buffer[..length]),
                Read::Whole(_) | Read::Wrong(_) => return each(Came::End),
            }
            return each(Came::Nothing);
        }
        self.came.extend_from_slice(&buffer[..length]);
        let came = std::mem::take(&mut self.came);
        match response::read(&came, false) {
            Read::Whole(whole) if whole.taken == came.len() => each(Came::Answer(whole)),
            Read::Part => {
                self.came = came;
                return each(Came::Nothing);
            }
            Read::Whole(_) | Read::Wrong(_) => return each(Came::End),
        }
        // The memory is kept.
        self.came = came;
        self.came.clear();
    }

    /// The other side has closed it, which may be the end of an answer.
    fn end(&mut self, each: impl FnOnce(Came<'_>)) {
        match response::read(&self.came, true) {
            Read::Whole(whole) if matches!(self.state, State::Busy(_)) => {
                each(Came::Answer(Response { keep: false, ..whole }));
            }
            _ => each(Came::End),
        }
    }
}
