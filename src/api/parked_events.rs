//! Reports of partners that came before their order: what waits, what was refused when the order was
//! there, and what a person may do about either.

use axum::{
    extract,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    State,
    answer::{self, Effect},
    front,
    problem::Problem,
    request::{PathParams, QueryParams},
    reservations::page_limit,
};
use crate::{
    engine::ParkedFilter,
    model::{
        Lsn, OrderId,
        inbound::{ParkedEventView, ParkedState},
        view::FactView,
    },
};

/// The most characters of a reason.
const REASON_CHARS_MAX: usize = 256;

/// A page of parked events.
#[derive(Serialize, ToSchema)]
pub(super) struct ParkedEventPage {
    /// Oldest first.
    parked_events: Vec<ParkedEventView>,
    /// What to send as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<Lsn>,
}

/// Lists parked events.
#[utoipa::path(get, path = "/v1/parked-events", tag = "operations",
    params(("order_id" = Option<OrderId>, Query, description = "Those of an order."),
        ("state" = Option<ParkedState>, Query, description = "`parked` or `refused`."),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The most on a page; default 100."),
        ("after" = Option<u64>, Query, description = "The `next_after` of the page before.")),
    responses((status = 200, description = "Those there are.", body = ParkedEventPage)))]
pub(super) async fn list(
    extract::State(state): extract::State<State>,
    query: QueryParams,
) -> Result<Response, Problem> {
    query.only(&["order_id", "state", "limit", "after"])?;
    let limit = page_limit(query.text("limit"), state.options().page_max)?;
    let filter = ParkedFilter {
        order: query.get("order_id")?,
        state: query.text("state").map(parked_state).transpose()?,
        after: query.text("after").map(|text| number("after", text)).transpose()?,
        // One more says whether there is another page.
        events_max: limit + 1,
    };
    let decision = state.engine()?.parked_events(&filter);
    let deadline = answer::deadline(&state);
    let mut events = answer::settle(&state, decision, Effect::Read, deadline).await?.value;
    let is_last = events.len() <= limit;
    events.truncate(limit);
    let next_after = events.last().filter(|_| !is_last).map(|event| event.id);
    Ok(answer::json(StatusCode::OK, &ParkedEventPage { parked_events: events, next_after }))
}

/// Reads a parked event, with what was reported.
#[utoipa::path(get, path = "/v1/parked-events/{id}", tag = "operations",
    params(("id" = u64, Path, description = "Its id.")),
    responses((status = 200, description = "As it stands.", body = ParkedEventView)))]
pub(super) async fn get(
    extract::State(state): extract::State<State>,
    path: PathParams,
) -> Result<Response, Problem> {
    let id = number("id", path.text("id"))?;
    answer::done(&state, state.engine()?.parked_event(id), Effect::Read).await
}

/// Lets a parked event happen now, also one that was refused. The answer is that of the order's route;
/// asking twice does nothing twice, so it needs no key.
#[utoipa::path(post, path = "/v1/parked-events/{id}/retry", tag = "operations",
    params(("id" = u64, Path, description = "Its id.")),
    responses((status = 200, description = "It happened.", body = FactView)))]
pub(super) async fn retry(
    extract::State(state): extract::State<State>,
    path: PathParams,
) -> Result<Response, Problem> {
    let id = number("id", path.text("id"))?;
    answer::done(&state, state.engine()?.retry_parked_event(id), Effect::Change).await
}

/// Discards a parked event; why stands in its record. Asking again is 404.
#[utoipa::path(delete, path = "/v1/parked-events/{id}", tag = "operations",
    params(("id" = u64, Path, description = "Its id."),
        ("reason" = Option<String>, Query, max_length = 256, description = "Why; at most 256 characters.")),
    responses((status = 200, description = "It is discarded; as it was.", body = ParkedEventView)))]
pub(super) async fn discard(
    extract::State(state): extract::State<State>,
    path: PathParams,
    query: QueryParams,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    query.only(&["reason"])?;
    let id = number("id", path.text("id"))?;
    let reason = query.text("reason").unwrap_or_default();
    if reason.chars().count() > REASON_CHARS_MAX {
        let most = format!("must be at most {REASON_CHARS_MAX} characters");
        return Err(Problem::malformed("reason", &most));
    }
    let request_id = front::request_id(&headers);
    let request_id = request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    tracing::info!(%id, reason, request_id, "a parked event is discarded");
    answer::done(&state, state.engine()?.discard_parked_event(id, reason), Effect::Change).await
}

/// The position of a record, in decimal digits.
fn number(name: &str, text: &str) -> Result<Lsn, Problem> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number.map(Lsn).ok_or_else(|| Problem::malformed(name, "must be the id of a parked event"))
}

fn parked_state(text: &str) -> Result<ParkedState, Problem> {
    let states = [ParkedState::Parked, ParkedState::Refused];
    let state = states.into_iter().find(|state| state.as_str() == text);
    state.ok_or_else(|| Problem::malformed("state", "must be `parked` or `refused`"))
}
