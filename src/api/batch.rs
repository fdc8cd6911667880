//! `POST /v1/reservations/batch`: many carts, each decided alone. All are decided first and settled
//! after, so that the whole batch costs one sync of the log.

use axum::{body::Bytes, extract, http::StatusCode, response::Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    State,
    access::Caller,
    answer::{self, Effect},
    problem::Problem,
    request::{Json, Names},
};
use crate::{
    engine::Answer,
    model::{
        command::BatchReserve,
        view::{ReservationState, ReservationView},
    },
};

/// Carts to be decided.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// Each with a key of its own.
    pub reservations: Vec<BatchReserve>,
}

/// What became of the carts.
#[derive(ToSchema)]
#[allow(dead_code)] // A schema: the answer is written by hand, view by view.
pub(super) struct BatchAnswer {
    /// In the order of the request.
    pub results: Vec<BatchResult>,
}

/// What became of one cart: the members of a reservation, or those of a problem.
#[derive(ToSchema)]
#[allow(dead_code)] // A schema, as above.
pub(super) struct BatchResult {
    /// The status that it would have had as a request of its own.
    pub status: u16,
    /// `true` where the key was used before for the same cart.
    pub idempotent_replayed: Option<bool>,
    /// What the reservation has become since its first answer.
    pub current_state: Option<ReservationState>,
}

/// Takes stock for many carts.
#[utoipa::path(post, path = "/v1/reservations/batch", tag = "reservations",
    request_body = Batch,
    responses((status = 200, description = "What became of each.", body = BatchAnswer)))]
pub(super) async fn reserve(
    extract::State(state): extract::State<State>,
    caller: Caller,
    names: Names,
    Json(batch): Json<Batch>,
) -> Result<Response, Problem> {
    let limit = state.options().batch_max;
    if batch.reservations.len() > limit {
        return Err(Problem::malformed("reservations", &format!("must be at most {limit}")));
    }
    let engine = state.engine()?;
    let decide = |cart: BatchReserve| {
        let (key, reserve) = cart.into_parts();
        engine.reserve(names.key_of_many(caller.name(), &key), &reserve)
    };
    let decisions: Vec<_> = batch.reservations.into_iter().map(decide).collect();
    let deadline = answer::deadline(&state);
    let mut body = Vec::with_capacity(64 + decisions.len() * 256);
    body.extend_from_slice(b"{\"results\":[");
    for (index, decision) in decisions.into_iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        match answer::settle(&state, decision, Effect::Change, deadline).await {
            Ok(answer) => write_answer(&mut body, &answer),
            Err(problem) => answer::write(&mut body, &problem),
        }
    }
    body.extend_from_slice(b"]}");
    Ok(answer::json_bytes(StatusCode::OK, Bytes::from(body)))
}

/// The reservation's members behind the status it would have had.
fn write_answer(body: &mut Vec<u8>, answer: &Answer<ReservationView>) {
    let status = if answer.created { "{\"status\":201," } else { "{\"status\":200," };
    body.extend_from_slice(status.as_bytes());
    if answer.replayed {
        body.extend_from_slice(b"\"idempotent_replayed\":true,");
    }
    let mut view = Vec::with_capacity(256);
    answer::write(&mut view, &answer.value);
    body.extend_from_slice(view.strip_prefix(b"{").unwrap_or(b"}"));
    answer::add_current_state(body, answer.current_state);
}
