//! What handlers answer with: a decision is settled, its view written as JSON, and a repeat marked as
//! one.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::{
    State,
    codes::{self, Code},
    problem::Problem,
    stages,
};
use crate::{
    engine::{Answer, Decision},
    model::view::ReservationState,
    telemetry::Stage,
};

/// The media type of every answer that isn't a problem or a page.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

static REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Whether a request changes something, which decides what a lack of an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It does: without an answer the outcome is unknown.
    Change,
    /// It only reads: it can simply be asked again.
    Read,
}

impl Effect {
    fn unanswered(self) -> &'static Code {
        match self {
            Self::Change => &codes::OUTCOME_UNKNOWN,
            Self::Read => &codes::OVERLOADED,
        }
    }
}

/// When a request that came now must have its answer.
pub(super) fn deadline(state: &State) -> Instant {
    Instant::now() + Duration::from_millis(state.options().request_timeout_ms)
}

/// Waits until what the decision says is durable, until `deadline` at most.
pub(super) async fn settle<T>(
    state: &State,
    decision: Decision<T>,
    effect: Effect,
    deadline: Instant,
) -> Result<Answer<T>, Problem> {
    let engine = state.engine()?;
    let is_first = stages::decided(effect);
    let must_wait = decision.lsn().is_some_and(|lsn| !engine.log().is_acked(lsn));
    if must_wait && !is_first {
        // Since the one before was settled, its part of the answer was written.
        stages::lap(Stage::Reply);
    }
    let settled = timeout_at(deadline, engine.settle(decision)).await;
    if must_wait {
        stages::lap(Stage::SyncWait);
    }
    match settled {
        Ok(settled) => settled.map_err(Problem::from),
        Err(_) => Err(Problem::new(effect.unanswered())),
    }
}

/// Settles and answers: 201 where something was made, on a repeat as on the first time; else 200.
pub(super) async fn made<T: Serialize>(
    state: &State,
    decision: Decision<T>,
) -> Result<Response, Problem> {
    let answer = settle(state, decision, Effect::Change, deadline(state)).await?;
    let status = if answer.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(respond(status, &answer))
}

/// Settles and answers 200.
pub(super) async fn done<T: Serialize>(
    state: &State,
    decision: Decision<T>,
    effect: Effect,
) -> Result<Response, Problem> {
    let answer = settle(state, decision, effect, deadline(state)).await?;
    Ok(respond(StatusCode::OK, &answer))
}

/// Reads the log, from the disk if it must be: beside the threads that serve requests, and a few
/// readers at a time.
pub(super) async fn beside<T: Send + 'static>(
    state: &State,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let permit = timeout_at(deadline(state), state.log_reads().acquire_owned()).await;
    let Ok(Ok(permit)) = permit else { return Err(Problem::new(&codes::OVERLOADED)) };
    let reading = tokio::task::spawn_blocking(move || {
        // Held by the reading itself: a caller who goes away does not let another one in.
        let _permit = permit;
        read()
    });
    reading.await.map_err(|_| Problem::new(&codes::INTERNAL))
}

/// An answer as it is, with a status.
pub(super) fn respond<T: Serialize>(status: StatusCode, answer: &Answer<T>) -> Response {
    let mut body = Vec::with_capacity(512);
    write(&mut body, &answer.value);
    add_current_state(&mut body, answer.current_state);
    let mut response = json_bytes(status, body);
    if answer.replayed {
        response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    }
    response
}

/// Writes a value as JSON. The views can't fail to be written: their maps have text keys, and the
/// buffer grows; should one, the answer is `null` rather than a panic.
pub(super) fn write(json: &mut Vec<u8>, value: &impl Serialize) {
    let start = json.len();
    if serde_json::to_writer(&mut *json, value).is_err() {
        json.truncate(start);
        json.extend_from_slice(b"null");
    }
}

/// Adds what the thing has become since the first answer to the object that was written.
pub(super) fn add_current_state(json: &mut Vec<u8>, state: Option<ReservationState>) {
    if let (Some(state), Some(b'}')) = (state, json.last()) {
        json.pop();
        json.extend_from_slice(b",\"current_state\":\"");
        json.extend_from_slice(state.as_str().as_bytes());
        json.extend_from_slice(b"\"}");
    }
}

/// Answers with a value.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    stages::decided(Effect::Read);
    let mut body = Vec::with_capacity(512);
    write(&mut body, value);
    json_bytes(status, body)
}

/// Answers with JSON that is written already.
pub(super) fn json_bytes(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Lsn, ReservationId, view::ReservationView};

    #[test]
    fn a_repeat_says_what_became_of_it() {
        let view = ReservationView {
            id: ReservationId { lsn: Lsn(8), slot: 1 },
            state: ReservationState::Held,
            lines: vec![],
            expires_at: None,
            order_id: None,
            lsn: Lsn(8),
        };
        let mut body = Vec::new();
        write(&mut body, &view);
        add_current_state(&mut body, Some(ReservationState::Released));
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["state"], "held");
        assert_eq!(json["current_state"], "released");
    }
}
