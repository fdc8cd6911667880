//! The storefront: HTTP connections that are kept, the patience of a good client (a busy server or a
//! broken connection is asked again with the same key), and the watch.
//!
//! A latency runs from the moment at which the shopper wants something to the final answer, so that
//! waiting for a free connection and repeated attempts count.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use holdfast::model::command::ImportStock;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use super::{
    super::Error,
    random::Dice,
    tally::{Operation, Tally},
};

/// Attempts of one request.
const ATTEMPTS_MAX: u32 = 20;
/// The longest wait before an attempt is repeated.
const PAUSE_MS_MAX: u64 = 1_000;
/// The longest that one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: bytes::Bytes,
    /// Whether it says that it is a repeat.
    pub replayed: bool,
}

impl Reply {
    /// The body, if it is what was hoped for.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body)
            .map_err(|e| format!("answered {} with what can't be read: {e}", self.status))
    }

    /// The code of a problem; empty if there is none.
    pub fn code(&self) -> String {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
        }
        self.read::<Problem>().map(|problem| problem.code).unwrap_or_default()
    }

    fn is_final(&self) -> bool {
        !matches!(self.status.as_u16(), 408 | 429 | 503 | 504)
    }
}

/// The part of an import's answer that is needed.
#[derive(Deserialize)]
struct Imported {
    applied: u64,
}

/// The storefront.
#[derive(Debug)]
pub struct Shop {
    client: Client,
    url: String,
    connections: Semaphore,
    pauses: AtomicU64,
    /// What is counted.
    pub tally: Tally,
}

impl Shop {
    /// A storefront of the server at `url` with so many connections.
    pub fn new(url: String, connections: usize, tally: Tally) -> Result<Self, Error> {
        let client = Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(connections)
            .timeout(ATTEMPT_TIMEOUT)
            .build()
            .map_err(|e| Error::Server { url: url.clone(), reason: e.to_string() })?;
        let connections = Semaphore::new(connections);
        Ok(Self { client, url, connections, pauses: AtomicU64::new(0), tally })
    }

    /// Asks for something with a key, until the answer is final.
    pub async fn ask<B: Serialize>(
        &self,
        operation: Operation,
        path: &str,
        key: &str,
        body: &B,
    ) -> Result<Reply, String> {
        let body = serde_json::to_vec(body).map_err(|e| e.to_string())?;
        let wanted = Instant::now();
        let mut failure = String::new();
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                self.tally.retries.add(1);
                sleep(self.pause(attempt)).await;
            }
            match self.send(self.post(path, key, body.clone())).await {
                Ok(reply) if reply.is_final() => {
                    self.tally.answered(operation, wanted.elapsed());
                    return Ok(reply);
                }
                Ok(reply) => failure = format!("{} {}", reply.status, reply.code()),
                Err(error) => failure = error,
            }
        }
        Err(format!("{path}: no final answer in {ATTEMPTS_MAX} attempts, the last: {failure}"))
    }

    /// Reads something, past the shoppers who wait for a connection.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let failed = |reason| Error::Server { url: format!("{}{path}", self.url), reason };
        let reply = self
            .send(self.request(Method::GET, path, None, Vec::new(), ""))
            .await
            .map_err(failed)?;
        if reply.status != StatusCode::OK {
            let failed_with = format!("answered {} {}", reply.status, reply.code());
            return Err(failed(failed_with));
        }
        reply.read().map_err(failed)
    }

    /// Sets all positions, in one request.
    pub async fn stock(&self, positions: &[ImportStock]) -> Result<(), Error> {
        const PATH: &str = "/v1/stock/import";
        let failed = |reason| Error::Server { url: format!("{}{PATH}", self.url), reason };
        let mut body = Vec::new();
        for position in positions {
            serde_json::to_writer(&mut body, position).map_err(|e| failed(e.to_string()))?;
            body.push(b'\n');
        }
        let request = self.request(Method::POST, PATH, None, body, "application/x-ndjson");
        let reply = self.send(request).await.map_err(failed)?;
        let imported: Imported = reply.read().map_err(failed)?;
        if imported.applied == positions.len() as u64 {
            return Ok(());
        }
        let applied = format!("only {} of {} were applied", imported.applied, positions.len());
        Err(failed(applied))
    }

    fn post(&self, path: &str, key: &str, body: Vec<u8>) -> RequestBuilder {
        self.request(Method::POST, path, Some(key), body, "application/json")
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Vec<u8>,
        media_type: &str,
    ) -> RequestBuilder {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if !body.is_empty() {
            request = request.header("content-type", media_type).body(body);
        }
        request
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply, String> {
        // The semaphore is never closed.
        let _connection = self.connections.acquire().await.map_err(|e| e.to_string())?;
        read(request).await
    }

    /// How long to wait before this attempt: random, so that those who were sent away together do
    /// not come back together.
    fn pause(&self, attempt: u32) -> Duration {
        let number = self.pauses.fetch_add(1, Ordering::Relaxed);
        let most = (10u64 << attempt.min(7)).min(PAUSE_MS_MAX);
        Duration::from_millis(1 + Dice::new(0, number).below(most))
    }
}

async fn read(request: RequestBuilder) -> Result<Reply, String> {
    let response = request.send().await.map_err(|e| e.to_string())?;
    let status = response.status();
    let replayed = response.headers().contains_key("idempotent-replayed");
    let body = response.bytes().await.map_err(|e| e.to_string())?;
    Ok(Reply { status, body, replayed })
}
