//! What every request goes through: its id, admission, the limits of its headers, who it is from, its
//! timing. Lean,
//! since a lone caller's latency is counted in microseconds: one allocation, no lock.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use tower::{Layer, Service};
use tracing::Instrument;

use super::{
    State,
    access::{self, Caller},
    codes,
    problem::Problem,
    spans::{Traced, trace_id},
    stages::LAPS,
};
use crate::{
    model::{REQUEST_ID_CHARS_MAX, partner::Scope},
    telemetry::{Endpoint, Laps, Stage},
};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Whether a route is one that load and shutdown may turn away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Counted against the limit, refused while shutting down.
    Counted,
    /// Always answered: health, status, metrics, pages.
    Open,
}

/// Wraps the handler of one route and method. A request takes one reference to it, and borrows the rest from
/// there: what all processors count on costs more than it seems.
#[derive(Clone)]
pub(super) struct Front(Arc<Shared>);

struct Shared {
    state: State,
    endpoint: Arc<Endpoint>,
    gate: Gate,
    /// One of these is needed where there are API keys; none: it is for anyone, and what else is needed
    /// the handler sees to.
    scopes: &'static [Scope],
}

impl Front {
    pub(super) fn new(
        state: &State,
        endpoint: Arc<Endpoint>,
        gate: Gate,
        scopes: &'static [Scope],
    ) -> Self {
        Self(Arc::new(Shared { state: state.clone(), endpoint, gate, scopes }))
    }
}

impl<S> Layer<S> for Front {
    type Service = FrontService<S>;

    fn layer(&self, inner: S) -> FrontService<S> {
        FrontService { front: self.clone(), inner }
    }
}

/// A handler behind a [`Front`].
#[derive(Clone)]
pub(super) struct FrontService<S> {
    front: Front,
    inner: S,
}

impl<S> Service<Request> for FrontService<S>
where
    S: Service<Request, Error = Infallible> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let Front(front) = self.front.clone();
        let given = request_id(request.headers());
        let is_new = given.is_none();
        let id = given.unwrap_or_else(|| front.state.new_request_id());
        let new_id = is_new.then(|| id.clone());
        let trace = traceparent(request.headers());
        let traced =
            Traced::begin(&front.state, &front.endpoint, trace.as_ref(), (&mut request, started));
        let span = tracing::debug_span!(
            "request",
            id = id.to_str().unwrap_or_default(),
            traceparent = trace.as_ref().and_then(|t| t.to_str().ok()),
        );
        let mut inner = self.inner.clone();
        let answered = async move {
            let Shared { state, endpoint, .. } = &*front;
            let (mut response, caller) = front.answer(&mut inner, request, new_id).await;
            let status = response.status().as_u16();
            caller.count(status);
            let elapsed = record(endpoint, status, started);
            if let Some(trace) = trace_id(trace.as_ref(), traced.as_ref()) {
                endpoint.example(trace, elapsed);
            }
            if let Some(traced) = traced {
                traced.end(endpoint, status, &id, &caller);
            }
            // Whether it drains is asked when the answer is there, not before.
            finish(response.headers_mut(), id, trace, state.is_draining());
            tracing::debug!(status, ?elapsed, "answered");
            Ok(response)
        };
        Box::pin(LAPS.scope(Laps::new(started), answered.instrument(span)))
    }
}

impl Shared {
    /// What the handler answers, or why it is not asked; and who the request is from.
    async fn answer<S>(
        &self,
        handler: &mut S,
        mut request: Request,
        new_id: Option<HeaderValue>,
    ) -> (Response, Caller)
    where
        S: Service<Request, Error = Infallible>,
        S::Response: IntoResponse,
    {
        let effect = is_effect(request.method());
        let identified = check_headers(&request, &self.state)
            .and_then(|()| access::identify(&self.state, self.scopes, &request));
        let account = match identified {
            Ok(account) => account,
            Err(problem) => return (problem.into_response(), Caller::default()),
        };
        // Only who is known takes up a place, and only who has one is charged.
        let admitted = match self.gate {
            Gate::Open => None,
            Gate::Counted => match self.state.admit() {
                Ok(admitted) => Some(admitted),
                Err(problem) => return (problem.into_response(), Caller::default()),
            },
        };
        let entered = match access::enter(&self.state, account, self.scopes, &mut request) {
            Ok(entered) => entered,
            Err(refusal) => return (*refusal, Caller::default()),
        };
        let caller = Caller::of(request.extensions());
        if let Some(id) = new_id {
            // For what the request causes: it is named there as in the answer.
            request.headers_mut().insert(REQUEST_ID.clone(), id);
        }
        let answered = unpanicked(handler.call(request), effect);
        let mut response = in_time(answered, entered.time_max(), effect).await;
        entered.tell(response.headers_mut());
        drop(admitted);
        (response, caller)
    }
}

/// Counts an answered request, whose stopwatch is running; how long it took.
fn record(endpoint: &Endpoint, status: u16, started: Instant) -> Duration {
    LAPS.with(|laps| {
        let now = Instant::now();
        laps.lap(Stage::Reply, now);
        let elapsed = now.saturating_duration_since(started);
        endpoint.record(status, elapsed, laps);
        elapsed
    })
}

fn is_effect(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Headers that every answer has.
fn finish(headers: &mut HeaderMap, id: HeaderValue, trace: Option<HeaderValue>, closing: bool) {
    headers.insert(REQUEST_ID.clone(), id);
    if let Some(trace) = trace {
        headers.insert(TRACEPARENT.clone(), trace);
    }
    if closing {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// The caller's id of the request, if it is one: visible ASCII, at most 128 characters.
pub(super) fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(&REQUEST_ID)?;
    let bytes = value.as_bytes();
    let valid =
        (1..=REQUEST_ID_CHARS_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    valid.then(|| value.clone())
}

/// The trace that the request belongs to, if it is named as W3C Trace Context has it.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(&TRACEPARENT)?;
    is_traceparent(value.as_bytes()).then(|| value.clone())
}

fn is_traceparent(bytes: &[u8]) -> bool {
    let parts: [&[u8]; 4] = match bytes {
        b if b.len() == 55 => [&b[..2], &b[3..35], &b[36..52], &b[53..]],
        _ => return false,
    };
    let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    let not_zero = |part: &[u8]| part.iter().any(|b| *b != b'0');
    [bytes[2], bytes[35], bytes[52]] == *b"---"
        && parts.iter().all(|part| part.iter().all(hex))
        && parts[0] != b"ff"
        && not_zero(parts[1])
        && not_zero(parts[2])
}

/// Refuses more headers than the options allow.
fn check_headers(request: &Request, state: &State) -> Result<(), Problem> {
    let headers = request.headers();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let options = state.options();
    if headers.len() > options.headers_max
        || target + bytes.sum::<usize>() > options.header_bytes_max
    {
        return Err(Problem::new(&codes::HEADERS_TOO_LARGE));
    }
    Ok(())
}

/// Waits for the answer as long as the partner has. What was decided stands: only the wait is cut.
async fn in_time(
    answer: impl Future<Output = Response>,
    time_max: Option<Duration>,
    effect: bool,
) -> Response {
    let Some(time_max) = time_max else { return answer.await };
    let late = if effect { &codes::OUTCOME_UNKNOWN } else { &codes::OVERLOADED };
    let answered = tokio::time::timeout(time_max, answer).await;
    answered.unwrap_or_else(|_| Problem::new(late).into_response())
}

/// Waits for the handler; a panic in it becomes an answer. What it had begun is closed by its guards,
/// but whether it took effect can't be told from here.
async fn unpanicked<R: IntoResponse>(
    handler: impl Future<Output = Result<R, Infallible>>,
    effect: bool,
) -> Response {
    let mut handler = pin!(handler);
    let polled = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    });
    match polled.await {
        Some(Ok(response)) => response.into_response(),
        Some(Err(never)) => match never {},
        None if effect => Problem::new(&codes::OUTCOME_UNKNOWN).into_response(),
        None => Problem::new(&codes::INTERNAL).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_taken_over_if_it_is_one() {
        let with = |id: &str| {
            let value = HeaderValue::from_bytes(id.as_bytes()).unwrap();
            request_id(&HeaderMap::from_iter([(REQUEST_ID.clone(), value)])).is_some()
        };
        assert!(with("abc-1") && with(&"x".repeat(128)));
        assert!(!with("") && !with("a b") && !with("ä") && !with(&"x".repeat(129)));
    }

    #[test]
    fn a_traceparent_is_taken_over_if_it_is_one() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good.as_bytes()));
        for bad in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(bad.as_bytes()), "{bad}");
        }
    }

    /// What was asked for may have happened where it had an effect; what was only read can be asked again.
    #[tokio::test(start_paused = true)]
    async fn an_answer_is_waited_for_as_long_as_the_partner_has() {
        let after = |ms| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Response::default()
        };
        let status = |ms, max: Option<u64>, effect| async move {
            in_time(after(ms), max.map(Duration::from_millis), effect).await.status().as_u16()
        };
        assert_eq!(status(199, Some(200), true).await, 200);
        assert_eq!(status(201, Some(200), true).await, 504);
        assert_eq!(status(201, Some(200), false).await, 503);
        assert_eq!(status(3_600_000, None, true).await, 200);
    }

    #[tokio::test]
    async fn a_panic_becomes_an_answer() {
        async fn broken() -> Result<Response, Infallible> {
            panic!("a test of what a panic does")
        }
        assert_eq!(unpanicked(broken(), true).await.status().as_u16(), 504);
        assert_eq!(unpanicked(broken(), false).await.status().as_u16(), 500);
    }
}
