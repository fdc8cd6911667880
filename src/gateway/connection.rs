//! One connection and its thread: bytes in, decisions, bytes out, and sleep between.

use std::{
    future::Future,
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    os::fd::AsFd,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use rustix::event::PollFlags;

use crate::{
    engine::Engine,
    model::{Lsn, command},
    protocol::{
        self, Called, Code, Frame, Hello, Inbox, MAGIC, Refused, Stream, Unframed, VERSION,
        Welcome, flags, kind,
    },
    telemetry::{Gateway, GatewayAnswer, GatewayBatch},
    wal::Storage,
};

use super::{
    bell::Bell,
    calls::Calls,
    desk::{Became, Desk},
    house::{Reply, Stranger},
    named::Naming,
    queue::{Answers, Due},
    server::Shared,
};

/// The longest frame of a caller who has not said who he is.
const HELLO_BYTES_MAX: usize = protocol::FRAME_BYTES_MIN;
/// Requests that come while the server stops are refused rather than left without an answer for so
/// long at least.
const DRAIN_TIME_MIN: Duration = Duration::from_millis(50);
/// With nothing to wait for but the caller.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Requests between two looks at what may leave: an answer that is due does not wait for all that has
/// come in.
const ROUND_REQUESTS_MAX: usize = 2_048;

/// A wait for a record: whether it was acknowledged in the end.
type Wait = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Why a connection is over.
#[derive(Debug)]
enum Over {
    /// In order: the caller has closed, or the server has stopped.
    Done,
    /// The caller was told why.
    Told,
    /// The socket failed, or nobody reads what is said.
    Lost(io::Error),
}

impl From<io::Error> for Over {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// See the module.
pub(super) struct Connection<S: Storage> {
    stream: Stream,
    bell: Arc<Bell>,
    waker: Waker,
    shared: Arc<Shared<S>>,
    inbox: Inbox,
    answers: Answers,
    desk: Desk<S>,
    wait: Option<Wait>,
    /// The caller will send no more.
    ended: bool,
    /// Whether whole frames may be left in the inbox.
    has_frames: bool,
    /// Since when a part of a frame is there.
    partial_since: Option<Instant>,
    /// Since when the socket takes nothing more.
    stalled_since: Option<Instant>,
    draining_since: Option<Instant>,
    batch: GatewayBatch,
}

impl<S: Storage> Connection<S> {
    pub(super) fn new(stream: Stream, shared: Arc<Shared<S>>) -> io::Result<(Self, Arc<Bell>)> {
        stream.prepare()?;
        let bell = Bell::new()?;
        let desk = Desk {
            engine: shared.engine.clone(),
            house: shared.house.clone(),
            partner: "".into(),
            api_key: "".into(),
            guest: Box::new(Stranger),
            calls: Calls::new(bell.clone()),
            naming: Naming::new(shared.house.spans()),
            reserve: command::Reserve {
                lines: Vec::new(),
                customer: None,
                order_id: None,
                ttl_ms: None,
            },
        };
        let connection = Self {
            stream,
            bell: bell.clone(),
            waker: bell.clone().into(),
            shared,
            inbox: Inbox::new(HELLO_BYTES_MAX),
            answers: Answers::default(),
            desk,
            wait: None,
            ended: false,
            has_frames: false,
            partial_since: None,
            stalled_since: None,
            draining_since: None,
            batch: GatewayBatch::default(),
        };
        Ok((connection, bell))
    }

    /// Serves it until it is over.
    pub(super) fn serve(mut self) {
        let over = match self.greet().and_then(|()| self.run()) {
            Ok(()) => Over::Done,
            Err(over) => over,
        };
        self.record();
        match over {
            Over::Done => tracing::debug!("a gateway's connection has ended"),
            Over::Told => tracing::debug!("a gateway's connection was ended with a reason"),
            Over::Lost(error) => {
                tracing::debug!(%error, "a gateway's connection was lost");
                return;
            }
        }
        self.leave();
    }

    /// Sends what is left, says that it is all, and gives the caller a moment to read it: a socket that
    /// is closed with unread bytes in it takes the answers with it.
    fn leave(&mut self) {
        let end = Instant::now() + DRAIN_TIME_MIN * 4;
        while self.flush().is_ok() && !self.answers.to_send().is_empty() && Instant::now() < end {
            let socket = [(self.stream.as_fd(), PollFlags::OUT)];
            let _ = self.bell.sleep(&socket, end - Instant::now(), || false);
        }
        self.stream.end(Shutdown::Write);
        let end = Instant::now() + DRAIN_TIME_MIN;
        let mut rest = [0; 4 << 10];
        while Instant::now() < end {
            match (&self.stream).read(&mut rest) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_for_later(&error) => {
                    let socket = [(self.stream.as_fd(), PollFlags::IN)];
                    let _ = self.bell.sleep(&socket, DRAIN_TIME_MIN, || false);
                }
                Err(_) => return,
            }
        }
    }

    /// Waits for the hello and answers it.
    fn greet(&mut self) -> Result<(), Over> {
        let end = Instant::now() + self.frame_timeout();
        loop {
            match self.inbox.next() {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    let met = meet(&frame, &mut self.desk);
                    return self.welcome(met);
                }
                Err(unframed) => return Err(self.tell_unframed(&unframed)),
            }
            let left = end.saturating_duration_since(Instant::now());
            if self.shared.is_draining() {
                return Err(self.tell(0, Code::SHUTTING_DOWN, "the server is shutting down"));
            }
            if left.is_zero() {
                return Err(self.tell(0, Code::REQUEST_TIMEOUT, "no hello came in time"));
            }
            match self.inbox.fill(&mut &self.stream) {
                Ok(0) => return Err(Over::Done),
                Ok(_) => {}
                Err(error) if is_for_later(&error) => {
                    let socket = [(self.stream.as_fd(), PollFlags::IN)];
                    let shared = &self.shared;
                    self.bell.sleep(&socket, left, || shared.is_draining())?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn welcome(&mut self, met: Result<(), (Code, &'static str)>) -> Result<(), Over> {
        if let Err((code, detail)) = met {
            self.shared.counters.refused_hellos.fetch_add(1, Ordering::Relaxed);
            return Err(self.tell(MAGIC, code, detail));
        }
        let options = &self.shared.options;
        let welcome = Welcome {
            incarnation: self.shared.engine.log().incarnation().0,
            frame_bytes_max: u32::try_from(options.frame_bytes_max).unwrap_or(u32::MAX),
            in_flight_max: u32::try_from(options.in_flight_max).unwrap_or(u32::MAX),
        };
        protocol::push(self.answers.open(), kind::WELCOME, VERSION, MAGIC, &welcome);
        self.inbox.set_frame_bytes_max(options.frame_bytes_max);
        self.has_frames = true;
        Ok(())
    }

    fn run(&mut self) -> Result<(), Over> {
        loop {
            self.settle();
            self.flush()?;
            self.check_times()?;
            if self.is_done() {
                return Ok(());
            }
            if !self.take()? {
                self.sleep()?;
            }
        }
    }

    /// Lets answers go that are due.
    fn settle(&mut self) {
        if self.answers.waiting() > 0 {
            let acked = self.shared.engine.log().acked();
            let (counters, partner) = (&self.shared.counters, &self.desk.partner);
            self.answers.release(acked, |due| count(due, &mut self.batch, counters, partner));
        }
        for (id, reply) in self.desk.calls.replies() {
            push_reply(&mut self.answers, id, &reply);
        }
        self.record();
    }

    /// Adds what was counted to the whole.
    fn record(&mut self) {
        let guest = &self.desk.guest;
        self.batch.record(&self.shared.counters, |status, count| guest.answered(status, count));
    }

    /// Writes as much as the socket takes.
    fn flush(&mut self) -> Result<(), Over> {
        while !self.answers.to_send().is_empty() {
            match (&self.stream).write(self.answers.to_send()) {
                Ok(0) => return Err(Over::Lost(ErrorKind::WriteZero.into())),
                Ok(bytes) => {
                    self.answers.sent(bytes);
                    self.stalled_since = None;
                }
                Err(error) if is_for_later(&error) => {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Ends what takes too long: an answer's wait for the log, a frame, a reader.
    fn check_times(&mut self) -> Result<(), Over> {
        let time = self.answer_timeout();
        let (counters, partner) = (&self.shared.counters, &self.desk.partner);
        self.answers.fail_old(time, |due| count(due, &mut self.batch, counters, partner));
        if self.stalled_since.is_some_and(|since| since.elapsed() > time) {
            return Err(Over::Lost(ErrorKind::TimedOut.into()));
        }
        let partial = self.partial_since.map(|since| since.elapsed());
        if partial.is_some_and(|time| time > self.frame_timeout()) {
            return Err(self.tell(0, Code::REQUEST_TIMEOUT, "the rest of a frame did not come"));
        }
        if self.draining_since.is_none() && self.shared.is_draining() {
            self.draining_since = Some(Instant::now());
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let drained = self.draining_since.is_some_and(|since| since.elapsed() >= DRAIN_TIME_MIN);
        let answered = self.in_flight() == 0 && self.answers.to_send().is_empty();
        let asked = self.ended && !self.has_frames;
        (drained || asked) && answered || self.shared.is_cut()
    }

    fn in_flight(&self) -> usize {
        self.answers.waiting() + self.desk.calls.under_way()
    }

    /// Whether another request may be taken: not beyond what may be under way, nor while more answers
    /// are held than may be.
    fn may_take(&self) -> bool {
        let options = &self.shared.options;
        self.in_flight() < options.in_flight_max && self.answers.bytes() < options.answer_bytes_max
    }

    /// Takes requests in; whether there were any.
    fn take(&mut self) -> Result<bool, Over> {
        if !self.may_take() {
            self.batch.paused();
            // While it is not read from, the rest of a frame can't come.
            self.partial_since = None;
            return Ok(false);
        }
        if !self.has_frames && !self.read()? {
            return Ok(false);
        }
        self.has_frames = true;
        let began = Instant::now();
        let acked = self.shared.engine.log().acked();
        let mut is_new = self.partial_since.is_none();
        for _ in 0..ROUND_REQUESTS_MAX {
            if !self.may_take() {
                break;
            }
            match self.inbox.next() {
                Ok(Some(frame)) => {
                    let became = if self.draining_since.is_some() {
                        refuse_late(&frame, &mut self.answers, began)
                    } else {
                        self.desk.decide(frame, &mut self.answers, acked, began)
                    };
                    is_new = true;
                    let is_over = matches!(became, Became::Ended(_));
                    if let Became::Answered(due) | Became::Ended(due) = became {
                        let (counters, partner) = (&self.shared.counters, &self.desk.partner);
                        count(due, &mut self.batch, counters, partner);
                    }
                    if is_over {
                        return Err(Over::Told);
                    }
                }
                Ok(None) => {
                    self.has_frames = false;
                    break;
                }
                Err(unframed) => return Err(self.tell_unframed(&unframed)),
            }
        }
        let is_partial = !self.has_frames && self.inbox.is_in_a_frame();
        // The time of each frame counts for itself.
        let since = if is_new { Some(began) } else { self.partial_since };
        self.partial_since = since.filter(|_| is_partial);
        Ok(true)
    }

    /// Reads once; whether something came.
    fn read(&mut self) -> Result<bool, Over> {
        if self.ended {
            return Ok(false);
        }
        match self.inbox.fill(&mut &self.stream) {
            Ok(0) => {
                self.ended = true;
                Ok(false)
            }
            Ok(_) => Ok(true),
            Err(error) if is_for_later(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sleeps until there is something to do.
    fn sleep(&mut self) -> Result<(), Over> {
        if self.ended && self.in_flight() == 0 && self.answers.to_send().is_empty() {
            return Ok(());
        }
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, self.may_take() && !self.ended);
        wanted.set(PollFlags::OUT, !self.answers.to_send().is_empty());
        let socket = [(self.stream.as_fd(), wanted)];
        // A socket of which nothing is asked would still say that it has broken, again and again.
        let others = if wanted.is_empty() { &socket[..0] } else { &socket[..] };
        let time = self.sleep_time();
        let (shared, calls) = (&self.shared, &self.desk.calls);
        let (wait, waker, answers) = (&mut self.wait, &self.waker, &mut self.answers);
        let draining = self.draining_since.is_some();
        let mut count = |due| count(due, &mut self.batch, &shared.counters, &self.desk.partner);
        self.bell.sleep(others, time, || {
            (shared.is_draining() && !draining)
                || shared.is_cut()
                || calls.has_replies()
                || is_due(&shared.engine, wait, waker, answers, &mut count)
        })?;
        Ok(())
    }

    fn sleep_time(&self) -> Duration {
        let until = |since: Option<Instant>, time: Duration| {
            since.map(|since| (since + time).saturating_duration_since(Instant::now()))
        };
        let times = [
            until(self.answers.oldest_began(), self.answer_timeout()),
            until(self.stalled_since, self.answer_timeout()),
            until(self.partial_since, self.frame_timeout()),
            until(self.draining_since, DRAIN_TIME_MIN),
        ];
        let least = times.into_iter().flatten().min().unwrap_or(SLEEP_MAX);
        // A little longer, so that what is waited for is over then.
        least + Duration::from_millis(1)
    }

    fn frame_timeout(&self) -> Duration {
        Duration::from_millis(self.shared.options.frame_timeout_ms)
    }

    fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.shared.options.answer_timeout_ms)
    }

    /// Tells why the connection ends.
    fn tell(&mut self, id: u64, code: Code, detail: &str) -> Over {
        Refused::new(code, detail).push(self.answers.open(), id);
        Over::Told
    }

    fn tell_unframed(&mut self, unframed: &Unframed) -> Over {
        self.shared.counters.broken_frames.fetch_add(1, Ordering::Relaxed);
        let code = match unframed {
            Unframed::TooLong { .. } => Code::TOO_LARGE,
            Unframed::Length(_) | Unframed::Reserved => Code::MALFORMED,
        };
        self.tell(0, code, &unframed.to_string())
    }
}

/// Whether an answer is due that waited for the log; if not, the log wakes us once the oldest is.
fn is_due<S: Storage>(
    engine: &Engine<S>,
    wait: &mut Option<Wait>,
    waker: &Waker,
    answers: &mut Answers,
    count: &mut impl FnMut(Due),
) -> bool {
    let Some(oldest) = answers.oldest() else { return false };
    let waiting = wait.get_or_insert_with(|| wait_for(engine.clone(), oldest));
    match waiting.as_mut().poll(&mut Context::from_waker(waker)) {
        Poll::Pending => false,
        Poll::Ready(acked) => {
            *wait = None;
            if !acked {
                answers.fail_all(count);
            }
            true
        }
    }
}

fn wait_for<S: Storage>(engine: Engine<S>, lsn: Lsn) -> Wait {
    Box::pin(async move { engine.log().wait(lsn).await.is_ok() })
}

/// Finds out who says hello.
fn meet<S: Storage>(frame: &Frame<'_>, desk: &mut Desk<S>) -> Result<(), (Code, &'static str)> {
    let header = frame.header;
    if header.kind != kind::HELLO || header.id != MAGIC {
        return Err((Code::MALFORMED, "a connection begins with a hello"));
    }
    if header.flags != VERSION {
        return Err((Code::MALFORMED, "this server speaks version 1 of the protocol"));
    }
    let Some(hello) = frame.access::<Hello<'_>>() else {
        return Err((Code::MALFORMED, "the body of the hello is none"));
    };
    if desk.house.needs_keys() {
        let unknown = (Code::UNAUTHENTICATED, "no partner has this API key");
        desk.partner = desk.house.partner(&hello.api_key).ok_or(unknown)?;
        desk.api_key = (&*hello.api_key).into();
    }
    let unknown = (Code::UNAUTHENTICATED, "no partner has this API key");
    desk.guest = desk.house.guest(&hello.api_key).ok_or(unknown)?;
    Ok(())
}

/// The answer to a request that came when the server was stopping already.
fn refuse_late(frame: &Frame<'_>, answers: &mut Answers, began: Instant) -> Became {
    let (code, detail) = (Code::SHUTTING_DOWN, "the server is shutting down; nothing was changed");
    Refused::new(code, detail).push(answers.open(), frame.header.id);
    let kind = frame.header.kind;
    let answer = GatewayAnswer { began, kind, status: code.status(), durable: false };
    Became::Answered(Due { answer, named: None })
}

/// Counts a request whose answer may leave.
fn count(due: Due, batch: &mut GatewayBatch, counters: &Gateway, partner: &str) {
    if let Some(named) = due.named {
        named.end(counters, &due.answer, partner);
    }
    batch.answered(due.answer);
}

fn push_reply(answers: &mut Answers, id: u64, reply: &Reply) {
    let flags = if reply.replayed { flags::REPLAYED } else { 0 };
    let body = Called { status: reply.status.into(), body: &reply.body };
    protocol::push(answers.open(), kind::CALLED, flags, id, &body);
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
