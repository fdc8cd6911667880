//! A partner on a real port that does to a request what bad networks and bad partners do: it hangs, closes
//! the connection before or in the middle of its answer, says what is no answer. What it takes, and what
//! that does, is in a [`Link`]'s memory.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use holdfast::delivery::{Outcome, Part};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::link::Link;

/// The most bytes of a request.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The header in which a sender may say which of its lives it is.
pub const LIFE: &str = "x-life";

/// What it does to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Does {
    /// Takes it and answers.
    Answers,
    /// Nobody is there: the connection is closed, and nothing has come.
    Dead,
    /// Keeps it until something else is to be done.
    Waits,
    /// Never answers; whether the request has its effect.
    Hangs { effect: bool },
    /// Closes the connection without a byte; whether the request has its effect.
    Cuts { effect: bool },
    /// The request has its effect, and the answer breaks off in its body.
    Breaks,
    /// Says these bytes instead, the last of them so often, and closes; the request has no effect.
    Says { first: Bytes, then: Bytes, times: usize },
}

#[derive(Debug)]
struct Inside {
    link: Link,
    /// What is not said to it by this life of the sender came too late.
    life: AtomicU64,
    does: watch::Sender<Does>,
    /// Answers that were written whole.
    answered: AtomicUsize,
    /// Bytes that were said again and again, as many as the other side took.
    said: AtomicUsize,
}

/// See the module; stopped when dropped.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    inside: Arc<Inside>,
    server: JoinHandle<()>,
}

impl Port {
    /// One on a free port, with the memory of `link`.
    pub async fn open(link: Link) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inside = Inside {
            link,
            life: AtomicU64::new(0),
            does: watch::Sender::new(Does::Answers),
            answered: AtomicUsize::new(0),
            said: AtomicUsize::new(0),
        };
        let inside = Arc::new(inside);
        let server = tokio::spawn(serve(listener, inside.clone()));
        Self { address, inside, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn link(&self) -> &Link {
        &self.inside.link
    }

    /// What it does from now on; requests that it keeps or never answers are not concerned, except those
    /// that wait.
    pub fn does(&self, does: Does) {
        self.inside.does.send_replace(does);
    }

    /// From now on it hears only who says that this is its life, in the header [`LIFE`]: what a dead
    /// process has under way is never seen again.
    pub fn hears_only(&self, life: u64) {
        self.inside.life.store(life, Ordering::Relaxed);
    }

    pub fn answered(&self) -> usize {
        self.inside.answered.load(Ordering::Relaxed)
    }

    pub fn said(&self) -> usize {
        self.inside.said.load(Ordering::Relaxed)
    }
}

impl Does {
    /// Says this, once.
    pub fn says(text: impl Into<Bytes>) -> Self {
        Self::Says { first: text.into(), then: Bytes::new(), times: 0 }
    }

    /// Answers this status with these headers, and nothing else.
    pub fn status(status: u16, headers: &str) -> Self {
        Self::says(format!(
            "HTTP/1.1 {status} So\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n"
        ))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, inside: Arc<Inside>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let inside = inside.clone();
                // Who closes a connection early makes errors here; they concern nobody.
                open.spawn(async move { drop(exchange(stream, &inside).await) });
            }
            Some(_) = open.join_next() => {}
        }
    }
}

async fn exchange(mut stream: TcpStream, inside: &Inside) -> io::Result<()> {
    let Some((head, body)) = request(&mut stream).await? else { return Ok(()) };
    let id = value(&head, "idempotency-key").unwrap_or_default();
    let life = value(&head, LIFE).and_then(|life| life.parse().ok()).unwrap_or(0);
    let mut does = inside.does.subscribe();
    if *does.borrow() == Does::Dead || inside.life.load(Ordering::Relaxed) != life {
        return Ok(());
    }
    inside.link.erp().sent.push((id.clone(), body.clone()));
    let part = Part { id, body, config_version: 0, uncertain: false };
    let take = || inside.link.erp().take(&part);
    let does = does.wait_for(|does| *does != Does::Waits).await.map(|does| does.clone());
    match does.unwrap_or(Does::Dead) {
        Does::Answers => {
            let answer = answer(&take());
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            inside.answered.fetch_add(1, Ordering::Relaxed);
        }
        Does::Hangs { effect } => {
            effect.then(take);
            std::future::pending().await
        }
        Does::Cuts { effect } => drop(effect.then(take)),
        Does::Breaks => {
            take();
            let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"rejected\": [";
            stream.write_all(half.as_bytes()).await?;
        }
        Does::Says { first, then, times } => {
            stream.write_all(&first).await?;
            for _ in 0..times {
                stream.write_all(&then).await?;
                inside.said.fetch_add(then.len(), Ordering::Relaxed);
            }
        }
        Does::Dead | Does::Waits => {}
    }
    Ok(())
}

/// The head and the body of a request; `None`: it broke off.
async fn request(stream: &mut TcpStream) -> io::Result<Option<(String, Bytes)>> {
    let mut got = Vec::new();
    loop {
        if let Some(end) = got.windows(4).position(|at| at == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&got[..end]).into_owned();
            let length = value(&head, "content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
            if got.len() >= end + 4 + length {
                return Ok(Some((head, got[end + 4..][..length].to_vec().into())));
            }
        }
        assert!(got.len() < REQUEST_BYTES_MAX, "a request has no end");
        if stream.read_buf(&mut got).await? == 0 {
            return Ok(None);
        }
    }
}

/// A header's value.
fn value(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}

/// What the contract has for an outcome.
fn answer(outcome: &Outcome) -> String {
    let rejected = |lines: &[holdfast::feed::Rejected]| {
        let line = |line: &holdfast::feed::Rejected| json!({"line_id": line.line_id, "reason": line.reason});
        json!({"rejected": lines.iter().map(line).collect::<Vec<_>>()}).to_string()
    };
    let (status, body) = match outcome {
        Outcome::Done { status: 409, .. } => {
            (409, json!({"code": "already_processed"}).to_string())
        }
        Outcome::Done { status, rejected: lines } => (*status, rejected(lines)),
        Outcome::Refused { status, rejected: lines, .. } => (*status, rejected(lines)),
        _ => (503, String::new()),
    };
    let length = body.len();
    format!("HTTP/1.1 {status} So\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}
