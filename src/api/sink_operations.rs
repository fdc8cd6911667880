//! What an operator does to a sink: pause, resume, replay, skip.
//!
//! None of it needs an idempotency key: a repeat of what is done changes nothing, a replay is refused
//! while one is under way, and what is sent again goes out under the identity that it had.

use axum::{extract, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    State,
    access::Caller,
    answer, codes,
    problem::Problem,
    request::{OptionalJson, PathParams},
};
use crate::model::{
    Lsn, Timestamp,
    sink::wish::{By, Denied, From, Granted, Wish},
};

/// The most characters of a reason.
const REASON_CHARS_MAX: usize = 500;

/// Why something is done.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    /// For the log.
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// Do it in a freeze window all the same; then a reason must be given.
    #[serde(default)]
    force: bool,
}

/// From where a sink's batches are sent again; one of the two.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    /// From the batch of the record at this position in the log.
    from_lsn: Option<Lsn>,
    /// From the first batch that was sealed at or after this time.
    from_time: Option<Timestamp>,
    /// For the log.
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// Do it in a freeze window all the same; then a reason must be given.
    #[serde(default)]
    force: bool,
}

/// What was done.
#[derive(Serialize, ToSchema)]
pub(super) struct Done {
    /// Batches or letters that it is about.
    count: u64,
}

/// Makes no attempt at a sink's partner until it is resumed, over restarts too. What is under way is
/// heard; batches grow wider meanwhile.
#[utoipa::path(post, path = "/v1/sinks/{name}/pause", tag = "operations",
    params(("name" = String, Path, description = "The sink.")), request_body = Option<Why>,
    responses((status = 200, description = "It is written down.", body = Done)))]
pub(super) async fn pause(
    extract::State(state): extract::State<State>,
    caller: Caller,
    path: PathParams,
    OptionalJson(why): OptionalJson<Why>,
) -> Result<Response, Problem> {
    grant(&state, path.text("name"), Wish::Pause, by(&caller, why.reason, why.force)?).await
}

/// Makes attempts again.
#[utoipa::path(post, path = "/v1/sinks/{name}/resume", tag = "operations",
    params(("name" = String, Path, description = "The sink.")), request_body = Option<Why>,
    responses((status = 200, description = "It is written down.", body = Done)))]
pub(super) async fn resume(
    extract::State(state): extract::State<State>,
    caller: Caller,
    path: PathParams,
    OptionalJson(why): OptionalJson<Why>,
) -> Result<Response, Problem> {
    grant(&state, path.text("name"), Wish::Resume, by(&caller, why.reason, why.force)?).await
}

/// Sends a sink's sealed batches again from a position or time on, with the ids and bytes that they
/// had, before anything new: for a partner that lost them. Nothing is summed up anew.
#[utoipa::path(post, path = "/v1/sinks/{name}/replay", tag = "operations",
    params(("name" = String, Path, description = "The sink.")), request_body = Replay,
    responses((status = 202, description = "It is written down and begins; `/v1/sinks` counts `replaying` down.", body = Done)))]
pub(super) async fn replay(
    extract::State(state): extract::State<State>,
    caller: Caller,
    path: PathParams,
    OptionalJson(body): OptionalJson<Replay>,
) -> Result<Response, Problem> {
    let from = match (body.from_lsn, body.from_time) {
        (Some(lsn), None) => From::Lsn(lsn),
        (None, Some(time)) => From::Time(time),
        (None, None) => return Err(Problem::malformed("from_lsn", "or `from_time` must be given")),
        (Some(_), Some(_)) => {
            return Err(Problem::malformed("from_lsn", "and `from_time` exclude each other"));
        }
    };
    let by = by(&caller, body.reason, body.force)?;
    let done = wish(&state, path.text("name"), Wish::Replay { from }, by).await?;
    Ok(answer::json(StatusCode::ACCEPTED, &Done { count: done.count }))
}

/// Sets the sink's oldest batch under way aside as a dead letter, so that the next can go. It is not
/// lost: it can be sent again from there.
#[utoipa::path(post, path = "/v1/sinks/{name}/skip", tag = "operations",
    params(("name" = String, Path, description = "The sink.")), request_body = Option<Why>,
    responses((status = 200, description = "It is written down, and will be.", body = Done)))]
pub(super) async fn skip(
    extract::State(state): extract::State<State>,
    caller: Caller,
    path: PathParams,
    OptionalJson(why): OptionalJson<Why>,
) -> Result<Response, Problem> {
    grant(&state, path.text("name"), Wish::Skip, by(&caller, why.reason, why.force)?).await
}

/// Who wants something, and why.
pub(super) fn by(caller: &Caller, reason: Option<String>, forced: bool) -> Result<By, Problem> {
    let reason = reason.unwrap_or_default();
    if reason.chars().count() > REASON_CHARS_MAX {
        return Err(Problem::malformed("reason", "must be at most 500 characters"));
    }
    if forced && reason.trim().is_empty() {
        return Err(Problem::malformed("reason", "must be given with `force`"));
    }
    Ok(By { who: caller.name().to_owned(), reason, forced })
}

/// Asks a sink for something, and answers when it is done.
pub(super) async fn grant(
    state: &State,
    sink: &str,
    wished: Wish,
    by: By,
) -> Result<Response, Problem> {
    let done = wish(state, sink, wished, by).await?;
    Ok(answer::json(StatusCode::OK, &Done { count: done.count }))
}

async fn wish(state: &State, sink: &str, wished: Wish, by: By) -> Result<Granted, Problem> {
    state.engine()?;
    match state.wish(sink, wished, by).await {
        None => Err(Problem::detailed(&codes::NOT_FOUND, "there is no sink of this name")),
        Some(answer) => answer.map_err(|denied| refused(&denied)),
    }
}

fn refused(denied: &Denied) -> Problem {
    let detail = denied.to_string();
    match denied {
        Denied::NoLetter(_) => Problem::detailed(&codes::NOT_FOUND, detail),
        Denied::Content(what) => Problem::malformed("content", what),
        Denied::Frozen { .. } => Problem::detailed(&codes::FROZEN, detail),
        Denied::Sending(_) | Denied::Behind { .. } | Denied::Nothing(_) => {
            Problem::detailed(&codes::WRONG_STATE, detail)
        }
        Denied::TooLarge { bytes_max, .. } => Problem::too_large(*bytes_max as u64),
        Denied::TooMany(_) => Problem::detailed(&codes::OVERLOADED, detail),
        Denied::Stopped => Problem::detailed(&codes::SHUTTING_DOWN, detail),
    }
}
