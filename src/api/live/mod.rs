//! `GET /v1/live`: a snapshot a second of what an operator watches, as server-sent events.
//!
//! A snapshot is computed and written once, whoever listens, beside the threads that serve requests, and
//! not at all while nobody does. Every listener is shown the newest one: who reads slowly misses some
//! and delays nobody, and holds the bytes of one. There are at most `live_max` listeners; a further one
//! gets 503 `overloaded`. A stream ends when the server stops, and after [`LIFE`] in any case, so that no
//! key is good for ever; a listener then asks again.

mod snapshot;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    extract,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use hyper::body::Frame;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

use self::snapshot::{LiveView, Reading};
use super::{State, codes, problem::Problem};

/// How often a snapshot is made.
const PACE: Duration = Duration::from_secs(1);
/// The longest that a stream goes on.
const LIFE: Duration = Duration::from_secs(3_600);

/// What listeners are shown.
#[derive(Debug, Clone)]
enum Shown {
    /// Nothing yet.
    Nothing,
    /// The newest snapshot, as an event.
    Event(Bytes),
    /// The end.
    Closed,
}

/// The one maker of snapshots, and who listens.
pub(super) struct Live {
    shown: watch::Sender<Shown>,
    listeners: AtomicUsize,
    refused: AtomicU64,
    /// Whether snapshots are being made.
    is_making: Mutex<bool>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            shown: watch::Sender::new(Shown::Nothing),
            listeners: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            is_making: Mutex::new(false),
        }
    }
}

impl Live {
    /// How many listen.
    pub(super) fn listeners(&self) -> usize {
        self.listeners.load(Ordering::SeqCst)
    }

    /// How many were refused since as many listened as may.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Ends every stream.
    pub(super) fn close(&self) {
        self.shown.send_replace(Shown::Closed);
    }

    fn show(&self, event: Bytes) {
        self.shown.send_if_modified(|shown| {
            let is_open = !matches!(shown, Shown::Closed);
            if is_open {
                *shown = Shown::Event(event);
            }
            is_open
        });
    }

    /// Whether to make no more snapshots, since nobody listens.
    fn retires(&self) -> bool {
        let mut is_making = self.is_making.lock();
        // A listener counts itself before it looks whether snapshots are made, so that it is seen here or
        // sees that they are not.
        let is_idle = self.listeners() == 0;
        if is_idle {
            *is_making = false;
            self.shown.send_if_modified(|shown| {
                if matches!(shown, Shown::Event(_)) {
                    *shown = Shown::Nothing;
                }
                false
            });
        }
        is_idle
    }
}

/// A listener's place, until dropped.
struct Place(State);

impl Place {
    fn take(state: &State) -> Result<Self, Problem> {
        let live = state.live();
        let before = live.listeners.fetch_add(1, Ordering::SeqCst);
        let place = Self(state.clone());
        if before >= state.options().live_max {
            live.refused.fetch_add(1, Ordering::Relaxed);
            let detail = "as many listen to the live view as may (`server.live_max`)";
            return Err(Problem::detailed(&codes::OVERLOADED, detail));
        }
        let mut is_making = live.is_making.lock();
        if !*is_making {
            *is_making = true;
            tokio::spawn(make(state.clone()));
        }
        drop(is_making);
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.live().listeners.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Makes snapshots while somebody listens.
async fn make(state: State) {
    let mut clock = interval(PACE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        clock.tick().await;
        if state.live().retires() {
            return;
        }
        let of = state.clone();
        let made = spawn_blocking(move || {
            let reading = Reading::of(&of)?;
            let event = reading.event(before.as_ref());
            Some((reading, event))
        });
        before = match made.await {
            Ok(Some((reading, event))) => {
                state.live().show(event);
                Some(reading)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::error!(%error, "a live snapshot was not made; the next one will be tried");
                None
            }
        };
    }
}

/// What a listener follows.
struct Listener {
    shown: watch::Receiver<Shown>,
    until: Instant,
    _place: Place,
}

impl Listener {
    /// The next event; none at the end.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            timeout_at(self.until, self.shown.changed()).await.ok()?.ok()?;
            let shown = self.shown.borrow_and_update().clone();
            match shown {
                Shown::Nothing => {}
                Shown::Event(event) => return Some((event, self)),
                Shown::Closed => return None,
            }
        }
    }
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Listener)>> + Send>>;

/// The events as a body.
struct Events(Option<Next>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.0 else { return Poll::Ready(None) };
        let told = ready!(next.as_mut().poll(cx));
        let (event, listener) = told.unzip();
        self.0 = listener.map(|listener| Box::pin(listener.next()) as Next);
        Poll::Ready(event.map(|event| Ok(Frame::data(event))))
    }
}

/// Follows the server: an event `snapshot` a second, the first at once.
#[utoipa::path(get, path = "/v1/live", tag = "operations",
    responses((status = 200, body = LiveView, content_type = "text/event-stream",
        description = "Server-sent events without end; the data of each is this.")))]
pub(super) async fn follow(
    extract::State(state): extract::State<State>,
) -> Result<Response, Problem> {
    state.engine()?;
    let place = Place::take(&state)?;
    let mut shown = state.live().shown.subscribe();
    shown.mark_changed(); // What is there already is shown at once.
    let listener = Listener { shown, until: Instant::now() + LIFE, _place: place };
    let events = Events(Some(Box::pin(listener.next())));
    let mut response = Response::new(Body::new(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
