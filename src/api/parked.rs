//! What a finance sink holds back until something else is booked: a list, and the release by hand.

use axum::{extract, http::StatusCode, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{State, answer, codes, problem::Problem, request::PathParams};
use crate::model::{
    OrderId,
    sink::{ParkedView, Release},
};

/// What is parked.
#[derive(Serialize, ToSchema)]
pub(super) struct ParkedList {
    /// Oldest first.
    parked: Vec<ParkedView>,
}

/// What is to be released.
#[derive(Serialize, ToSchema)]
pub(super) struct ReleaseView {
    /// Records that go into the sink's next window.
    records: u64,
}

/// Reads what a sink has parked.
#[utoipa::path(get, path = "/v1/sinks/{name}/parked", tag = "operations",
    params(("name" = String, Path, description = "The sink.")),
    responses((status = 200, description = "As it stands.", body = ParkedList)))]
pub(super) async fn list(
    extract::State(state): extract::State<State>,
    path: PathParams,
) -> Result<Response, Problem> {
    state.engine()?;
    let parked = state.parked(path.text("name")).ok_or_else(unknown_sink)?;
    Ok(answer::json(StatusCode::OK, &ParkedList { parked }))
}

/// Releases what a sink has parked of an order: it is booked as it is, with the next window. Nothing is
/// lost and nothing booked twice by asking again, so it needs no key; until its batch is sealed the
/// records stay parked, and a crash in between needs another request.
#[utoipa::path(post, path = "/v1/sinks/{name}/parked/{order_id}/release", tag = "operations",
    params(("name" = String, Path, description = "The sink."),
        ("order_id" = OrderId, Path, description = "The order's id, percent-encoded.")),
    responses((status = 202, description = "It will be.", body = ReleaseView)))]
pub(super) async fn release(
    extract::State(state): extract::State<State>,
    path: PathParams,
) -> Result<Response, Problem> {
    state.engine()?;
    let order: OrderId = path.id("order_id")?;
    let asked = state.release_parked(path.text("name"), order.as_str());
    match asked.ok_or_else(unknown_sink)? {
        Release::Asked { records } => {
            Ok(answer::json(StatusCode::ACCEPTED, &ReleaseView { records }))
        }
        Release::NothingParked => {
            let detail = "the sink has nothing parked of this order";
            Err(Problem::detailed(&codes::NOT_FOUND, detail))
        }
        Release::TooMany => {
            let detail = "too many orders wait to be released; nothing was changed";
            Err(Problem::detailed(&codes::OVERLOADED, detail))
        }
    }
}

fn unknown_sink() -> Problem {
    Problem::detailed(&codes::NOT_FOUND, "there is no sink of this name")
}
