//! A receiver to test against: an ERP or a finance system on a loopback port, as a partner would
//! build one from the HTTP contract.
//!
//! - It takes each batch once: a repeated one is answered 409 `already_processed`.
//! - It keeps sums, and checks what it gets: numbers that rise in each lane, entries that balance and are
//!   chained by their digests, waves that call off no more than they had asked for, events that come once, a
//!   repeated batch that has the same bytes. What is wrong is counted in
//!   [`Totals::violations`].
//! - It can be made slow, rate-limited, unavailable, forgetful of its answers, or be stopped and
//!   started again with what it knew.
//! - It remembers at most [`BATCHES_MAX`] batches and then answers 507.

mod book;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::post,
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinHandle};

pub use book::{BATCHES_MAX, Sum, Totals};
use book::{Book, Verdict};

use crate::model::signature::Signer;

/// How the receiver behaves; may be changed while it runs.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// The most requests a second; above it 429 with `Retry-After: 1`.
    pub rate_per_s: Option<u32>,
    /// How long it takes to answer.
    pub latency: Duration,
    /// Whether everything is answered 503 and has no effect.
    pub outage: bool,
    /// Whether batches are taken but the answer is 503, as if it had been lost.
    pub lose_answers: bool,
    /// A status that is answered to everything instead, without effect.
    pub refuse_with: Option<u16>,
    /// The secret that signatures must fit; else 401.
    pub signing_secret: Option<String>,
}

#[derive(Debug, Default)]
struct Inside {
    behaviour: Behaviour,
    book: Book,
    /// The second that is counted, and its requests.
    counted: Option<(Instant, u32)>,
}

/// What a receiver knows; outlives its port.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Inside>>);

/// A running receiver. Dropping it stops it.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    memory: Memory,
    server: JoinHandle<io::Result<()>>,
}

impl Receiver {
    /// Starts one on a free loopback port.
    pub async fn start(behaviour: Behaviour) -> io::Result<Self> {
        let memory = Memory::default();
        memory.0.lock().behaviour = behaviour;
        Self::start_with(memory, 0).await
    }

    /// Starts one with what an earlier one knew, on a given loopback port (0: a free one).
    pub async fn start_with(memory: Memory, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let app = Router::new().route("/", post(receive)).with_state(memory.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { address, memory, server })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it knows: for a successor, or to look on after it is stopped.
    pub fn memory(&self) -> Memory {
        self.memory.clone()
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.memory.0.lock().behaviour);
    }

    /// Its sums.
    pub fn totals(&self) -> Totals {
        self.memory.totals()
    }
}

impl Memory {
    /// The sums so far.
    pub fn totals(&self) -> Totals {
        self.0.lock().book.totals().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(State(memory): State<Memory>, headers: HeaderMap, body: Bytes) -> Response {
    let latency = memory.0.lock().behaviour.latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let mut inside = memory.0.lock();
    if let Some(refusal) = inside.refusal(&headers, &body) {
        return refusal;
    }
    let Some(id) = text(&headers, "idempotency-key") else {
        return (StatusCode::BAD_REQUEST, r#"{"code":"idempotency_key_missing"}"#).into_response();
    };
    let verdict = inside.book.take(id, &body);
    if inside.behaviour.lose_answers {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match verdict {
        Verdict::Taken => StatusCode::OK.into_response(),
        Verdict::Known => (StatusCode::CONFLICT, r#"{"code":"already_processed"}"#).into_response(),
        Verdict::Wrong(why) => (StatusCode::UNPROCESSABLE_ENTITY, why).into_response(),
        Verdict::Full => StatusCode::INSUFFICIENT_STORAGE.into_response(),
    }
}

impl Inside {
    /// The answer, if the batch is not looked at.
    fn refusal(&mut self, headers: &HeaderMap, body: &[u8]) -> Option<Response> {
        if self.behaviour.outage {
            return Some(StatusCode::SERVICE_UNAVAILABLE.into_response());
        }
        if self.behaviour.rate_per_s.is_some_and(|limit| !self.within(limit)) {
            return Some((StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response());
        }
        if let Some(status) = self.behaviour.refuse_with {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            return Some((status, r#"{"code":"refused"}"#).into_response());
        }
        let secret = self.behaviour.signing_secret.as_ref()?;
        let genuine = is_signed(secret, headers, body);
        (!genuine).then(|| StatusCode::UNAUTHORIZED.into_response())
    }

    fn within(&mut self, limit: u32) -> bool {
        let now = Instant::now();
        let (since, count) = match self.counted {
            Some((since, count)) if now.duration_since(since) < Duration::from_secs(1) => {
                (since, count + 1)
            }
            _ => (now, 1),
        };
        self.counted = Some((since, count));
        count <= limit
    }
}

fn is_signed(secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let signed = || {
        let signer = Signer::new(secret).ok()?;
        let second = text(headers, "webhook-timestamp")?.parse().ok()?;
        let id = text(headers, "webhook-id")?;
        Some(signer.verify(text(headers, "webhook-signature")?, id, second, body))
    };
    signed().unwrap_or(false)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
