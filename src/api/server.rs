//! Accepts connections and serves them, with limits, until told to stop; then answers what was
//! accepted and returns.
//!
//! Stopping has two steps. First the server turns new requests away with 503 `shutting_down` while
//! those under way are answered. Then every connection is told to finish and no more are accepted;
//! what is still open when the grace is over is cut.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, http::Request};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower::Service;

use super::{
    Options, State, router,
    tls::{self, Tls},
};

/// After an accept that failed for want of something (descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// New requests are turned away for so long at least, so that one that is on its way when the server
/// stops gets an answer rather than a closed connection.
const DRAIN_TIME_MIN: Duration = Duration::from_millis(50);
/// How often the drain looks whether it is done.
const DRAIN_PACE: Duration = Duration::from_millis(2);
/// What a connection begins with if it is HTTP/2 (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often a preface that came in pieces is looked at again.
const PREFACE_PACE: Duration = Duration::from_millis(1);
/// An HTTP/2 connection on which nothing comes is asked so often whether the other end is there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// A connection's read buffer; hyper takes no less.
const BUFFER_BYTES_MIN: usize = 8_192;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Without API keys only this machine may be served.
    #[error(
        "refusing to serve on {address}: without API keys anybody who reaches it could reserve and \
         sell stock; give a partner an API key, or listen on 127.0.0.1 or [::1]"
    )]
    NotLoopback {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// The listener has no address.
    #[error("the listening socket's address can't be read: {0}")]
    Address(#[source] io::Error),
}

/// Serves until `shutdown` is done and what was accepted is answered. Limits are those that `state`
/// was made with.
pub async fn serve(
    listener: TcpListener,
    state: State,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let address = listener.local_addr().map_err(Error::Address)?;
    if !address.ip().to_canonical().is_loopback() {
        if !state.needs_keys() {
            return Err(Error::NotLoopback { address });
        }
        // Whoever is revoked later: nobody is let in without a key.
        state.require_keys();
    }
    let watch = state.tls().map(|tls| tokio::spawn(tls.clone().watch()));
    let mut server = Server::new(listener, state);
    server.accept_until(shutdown).await;
    server.drain().await;
    if let Some(watch) = watch {
        watch.abort();
    }
    Ok(())
}

struct Server {
    listener: TcpListener,
    state: State,
    router: Router,
    connections: JoinSet<()>,
    closing: watch::Sender<bool>,
}

impl Server {
    fn new(listener: TcpListener, state: State) -> Self {
        Self {
            listener,
            router: router(state.clone()),
            state,
            connections: JoinSet::new(),
            closing: watch::Sender::new(false),
        }
    }

    /// Accepts connections until `end`, as many at once as the options allow.
    async fn accept_until(&mut self, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        let connections_max = self.state.options().connections_max.max(1);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return,
                Some(_) = self.connections.join_next() => {}
                accepted = self.listener.accept(), if self.connections.len() < connections_max => {
                    match accepted {
                        Ok((stream, _)) => self.spawn(stream),
                        Err(error) => {
                            tracing::warn!(%error, "a connection was not accepted");
                            sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
            }
        }
    }

    fn spawn(&mut self, stream: TcpStream) {
        // Small answers must not wait for the acknowledgement of the ones before.
        let _ = stream.set_nodelay(true);
        let (http, router) = (Http::new(&self.state.options()), self.router.clone());
        let tls = self.state.tls().cloned();
        let closing = self.closing.subscribe();
        self.connections.spawn(async move {
            if let Err(error) = http.serve(stream, tls, router, closing).await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }

    async fn drain(mut self) {
        let begun = Instant::now();
        let end = begun + Duration::from_millis(self.state.options().shutdown_grace_ms);
        let state = self.state.clone();
        state.drain();
        let answered = async move {
            sleep_until((begun + DRAIN_TIME_MIN).min(end)).await;
            while state.in_flight() > 0 && Instant::now() < end {
                sleep(DRAIN_PACE).await;
            }
        };
        self.accept_until(answered).await;
        let Self { listener, mut connections, closing, .. } = self;
        drop(listener);
        closing.send_replace(true);
        let finished = async { while connections.join_next().await.is_some() {} };
        tokio::select! {
            () = finished => {}
            () = sleep_until(end) => tracing::warn!("connections were cut at the end of the grace"),
        }
    }
}

/// Waits until the connection shall finish.
async fn told(mut closing: watch::Receiver<bool>) {
    // An error means that the server is gone, and then the connection shall finish too.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// How connections are served: the limits that only they can keep. Those on headers are kept with a
/// problem further in; here they are twice as wide, and what is beyond gets a bare 431.
#[derive(Clone)]
struct Http {
    first: http1::Builder,
    second: http2::Builder<TokioExecutor>,
    /// How long a connection may take to show which of the two it speaks.
    preface_wait: Duration,
}

impl Http {
    fn new(options: &Options) -> Self {
        let preface_wait = Duration::from_millis(options.header_read_timeout_ms);
        Self { first: http1_limits(options), second: http2_limits(options), preface_wait }
    }

    /// Serves a connection to its end, or until what is under way is answered once it is `closing`.
    async fn serve(
        self,
        stream: TcpStream,
        tls: Option<Arc<Tls>>,
        router: Router,
        closing: watch::Receiver<bool>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if let Some(tls) = tls {
            let shaken = tokio::select! {
                shaken = tls.accept(stream) => shaken,
                () = told(closing.clone()) => return Ok(()),
            };
            let Some(stream) = shaken else { return Ok(()) };
            let speaks_http2 = tls::speaks_http2(&stream);
            return self.converse(stream, speaks_http2, router, closing).await;
        }
        let speaks_http2 = tokio::select! {
            speaks = timeout(self.preface_wait, speaks_http2(&stream)) => speaks??,
            () = told(closing.clone()) => return Ok(()),
        };
        self.converse(stream, speaks_http2, router, closing).await
    }

    /// Answers what comes on a connection.
    async fn converse(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        speaks_http2: bool,
        router: Router,
        closing: watch::Receiver<bool>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let service = service_fn(move |request: Request<Incoming>| {
            let mut router = router.clone();
            async move {
                let answered: Result<_, Infallible> = router.call(request.map(Body::new)).await;
                answered
            }
        });
        let io = TokioIo::new(stream);
        if speaks_http2 {
            let connection = self.second.serve_connection(io, service);
            to_the_end(connection, closing, http2::Connection::graceful_shutdown).await?;
        } else {
            let connection = self.first.serve_connection(io, service);
            to_the_end(connection, closing, http1::Connection::graceful_shutdown).await?;
        }
        Ok(())
    }
}

/// Serves a connection; told to close, it is let finish what is under way.
async fn to_the_end<C: Future>(
    connection: C,
    closing: watch::Receiver<bool>,
    finish: impl FnOnce(Pin<&mut C>),
) -> C::Output {
    let mut connection = pin!(connection);
    tokio::select! {
        served = connection.as_mut() => served,
        () = told(closing) => {
            finish(connection.as_mut());
            connection.await
        }
    }
}

/// Whether a connection begins as HTTP/2 does, which is how a client without TLS says that it knows
/// that the server speaks it. What is looked at stays to be read.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut begun = [0; HTTP2_PREFACE.len()];
    loop {
        let bytes = stream.peek(&mut begun).await?;
        if bytes == 0 || begun[..bytes] != HTTP2_PREFACE[..bytes] {
            return Ok(false);
        }
        if bytes == HTTP2_PREFACE.len() {
            return Ok(true);
        }
        sleep(PREFACE_PACE).await;
    }
}

fn http1_limits(options: &Options) -> http1::Builder {
    let header_bytes_max = options.header_bytes_max.saturating_mul(2).max(BUFFER_BYTES_MIN);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(options.header_read_timeout_ms))
        .keep_alive(options.keep_alive)
        .max_headers(options.headers_max.saturating_mul(2).max(8))
        .max_buf_size(header_bytes_max.max(64 << 10))
        .max_header_size(header_bytes_max);
    http
}

fn http2_limits(options: &Options) -> http2::Builder<TokioExecutor> {
    let header_bytes_max = options.header_bytes_max.saturating_mul(2).max(BUFFER_BYTES_MIN);
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_max)
        .max_header_list_size(u32::try_from(header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(Duration::from_millis(options.header_read_timeout_ms));
    http
}
