//! Holdfast over HTTP/2 without TLS, by prior knowledge: hyper's client, many requests on each connection.
//!
//! The connections live on a runtime of this thread alone, which runs only while the link is polled.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Uri,
    client::conn::http2::SendRequest,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::AbortHandle,
};

use super::{
    Answer, Asker, Clock, Error, Ledger, Link, Request, Said, Sent, Target, http1::OPEN_PATIENCE,
    reactor::Reactor, share_of, speech,
};
use crate::plan::{Plan, Step};

/// Requests under way on one connection; a server that allows fewer makes the rest wait within hyper,
/// which counts as service time.
const STREAMS_MAX: usize = 100;
/// The largest answer.
const BODY_BYTES_MAX: usize = 16 << 20;
/// The pause after a connection that could not be opened.
const REOPEN_PAUSE: Duration = Duration::from_millis(5);

/// A Holdfast server at an address.
#[derive(Debug, Clone)]
pub struct Http2 {
    /// How it is asked before and after a run: over HTTP/1.1.
    pub asker: Asker,
    /// Connections, over all senders.
    pub connections: u32,
    /// Threads that send.
    pub senders: u32,
}

impl Target for Http2 {
    fn name(&self) -> String {
        format!("holdfast over HTTP/2, {} connections", self.connections)
    }

    fn prepare(&self, plan: &Plan) -> Result<(), Error> {
        speech::stock(&self.asker, plan)
    }

    fn link(&self, plan: &Arc<Plan>, clock: Clock, sender: u32) -> Result<Box<dyn Link>, Error> {
        let connections = share_of(self.connections, self.senders, sender);
        Ok(Box::new(Http2Link::open(self.asker.clone(), connections, plan.clone(), clock)?))
    }

    fn ledger(&self, plan: &Plan) -> Result<Ledger, Error> {
        speech::ledger(&self.asker, plan)
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// One connection, or the time of the next attempt to have one.
struct Connection {
    sender: Option<Sender>,
    under_way: usize,
    again_at: Instant,
}

/// What comes out of the tasks on the runtime.
enum Came {
    Answer { connection: usize, answer: Answer },
    Opened { connection: usize, sender: Option<Sender> },
}

struct Http2Link {
    reactor: Reactor,
    asker: Asker,
    plan: Arc<Plan>,
    clock: Clock,
    connections: Vec<Connection>,
    turn: usize,
    /// Requests under way, to be given up, each with its connection.
    under_way: HashMap<u32, (usize, AbortHandle)>,
    tell: UnboundedSender<Came>,
    came: UnboundedReceiver<Came>,
}

impl Http2Link {
    fn open(asker: Asker, count: u32, plan: Arc<Plan>, clock: Clock) -> Result<Self, Error> {
        let reactor = Reactor::start().map_err(Error::io("starting the runtime of HTTP/2"))?;
        let connect = async {
            let mut connections = Vec::new();
            for _ in 0..count {
                let sender = tokio::time::timeout(OPEN_PATIENCE, connected(&asker)).await;
                let sender = sender.map_err(|_| std::io::ErrorKind::TimedOut)??;
                let again_at = Instant::now();
                connections.push(Connection { sender: Some(sender), under_way: 0, again_at });
            }
            Ok::<_, std::io::Error>(connections)
        };
        let connections =
            reactor.runtime.block_on(connect).map_err(|source| Error::Unreachable {
                what: "speaking HTTP/2 with",
                address: asker.address.to_string(),
                source,
            })?;
        let (tell, came) = unbounded_channel();
        let under_way = HashMap::new();
        Ok(Self { reactor, asker, plan, clock, connections, turn: 0, under_way, tell, came })
    }

    /// The next connection that has room, in turn.
    fn roomy(&mut self) -> Option<usize> {
        let count = self.connections.len();
        (0..count).map(|n| (self.turn + n) % count).find(|at| {
            let connection = &mut self.connections[*at];
            connection.under_way < STREAMS_MAX
                && connection.sender.as_ref().is_some_and(|sender| !sender.is_closed())
        })
    }

    fn request(&self, request: &Request<'_>) -> Option<hyper::Request<Full<Bytes>>> {
        let (mut path, mut key, mut body) = (Vec::new(), Vec::new(), Vec::new());
        speech::path(request, &mut path);
        self.plan.write_key(request.visit.shopper, request.step, &mut key);
        self.plan.body(request.visit, request.step, &mut body);
        let path = String::from_utf8(path).ok()?;
        let uri: Uri = format!("http://{}{path}", self.asker.host).parse().ok()?;
        let mut built = hyper::Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header("idempotency-key", HeaderValue::from_bytes(&key).ok()?);
        if !body.is_empty() {
            built = built.header(CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.asker.authorization {
            built = built.header(AUTHORIZATION, authorization);
        }
        built.body(Full::new(body.into())).ok()
    }

    /// Opens again what is closed and whose pause is over.
    fn reopen(&mut self) {
        let now = Instant::now();
        for (at, connection) in self.connections.iter_mut().enumerate() {
            let closed = connection.sender.as_ref().is_none_or(SendRequest::is_closed);
            if !closed || connection.again_at > now {
                continue;
            }
            // Not again before this attempt has ended.
            connection.again_at = now + OPEN_PATIENCE + REOPEN_PAUSE;
            let (asker, tell) = (self.asker.clone(), self.tell.clone());
            self.reactor.runtime.spawn(async move {
                let opened = tokio::time::timeout(OPEN_PATIENCE, connected(&asker)).await;
                let sender = opened.ok().and_then(Result::ok);
                // Nobody is there to be told when the run is over.
                let _ = tell.send(Came::Opened { connection: at, sender });
            });
        }
    }

    fn take(&mut self, came: Came, answers: &mut Vec<Answer>) {
        match came {
            Came::Answer { connection, answer } => {
                if self.under_way.remove(&answer.ticket).is_some() {
                    self.connections[connection].under_way -= 1;
                    answers.push(answer);
                }
            }
            Came::Opened { connection, sender } => {
                let pause = if sender.is_some() { Duration::ZERO } else { REOPEN_PAUSE };
                let connection = &mut self.connections[connection];
                connection.again_at = Instant::now() + pause;
                connection.sender = sender;
            }
        }
    }
}

/// Opens a connection, and has the runtime drive it.
async fn connected(asker: &Asker) -> std::io::Result<Sender> {
    let stream = TcpStream::connect(asker.address).await?;
    stream.set_nodelay(true)?;
    let shake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = shake.await.map_err(std::io::Error::other)?;
    // How it ends is told to each request on it.
    tokio::spawn(async move { drop(connection.await) });
    sender.ready().await.map_err(std::io::Error::other)?;
    Ok(sender)
}

/// Sends a request and reads its answer.
async fn exchange(mut sender: Sender, request: hyper::Request<Full<Bytes>>, step: Step) -> Said {
    let Ok(response) = sender.send_request(request).await else { return Said::Broken };
    let status = response.status().as_u16();
    match Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => speech::said(status, step, &body.to_bytes()),
        Err(_) => Said::Broken,
    }
}

impl Link for Http2Link {
    fn send(&mut self, ticket: u32, request: &Request<'_>) -> Sent {
        let Some(at) = self.roomy() else { return Sent::Full };
        let (Some(sender), Some(built)) =
            (self.connections[at].sender.clone(), self.request(request))
        else {
            return Sent::Full;
        };
        self.turn = at + 1;
        self.connections[at].under_way += 1;
        let (tell, clock, step) = (self.tell.clone(), self.clock, request.step);
        let task = self.reactor.runtime.spawn(async move {
            let said = exchange(sender, built, step).await;
            let answer = Answer { ticket, at: clock.now(), said };
            // Nobody is there to be told when the run is over.
            let _ = tell.send(Came::Answer { connection: at, answer });
        });
        self.under_way.insert(ticket, (at, task.abort_handle()));
        Sent::Taken
    }

    fn poll(&mut self, wait: Duration, answers: &mut Vec<Answer>) {
        self.reopen();
        let first = self.reactor.wait(wait, self.came.recv());
        if let Some(first) = first {
            self.take(first, answers);
        }
        while let Ok(came) = self.came.try_recv() {
            self.take(came, answers);
        }
    }

    fn abandon(&mut self, ticket: u32) {
        if let Some((connection, task)) = self.under_way.remove(&ticket) {
            // Dropping the request resets its stream; the others go on.
            task.abort();
            self.connections[connection].under_way -= 1;
        }
    }
}
