//! Lineage of an order: every record of it and the batches that carried it.

use axum::{extract, response::Response};

use super::{
    State,
    answer::{self, Effect, beside},
    problem::Problem,
    request::PathParams,
};
use crate::model::{OrderId, lineage::TraceView};

/// Reads where an order comes from and what became of it.
#[utoipa::path(get, path = "/v1/orders/{order_id}/trace", tag = "orders",
    params(("order_id" = OrderId, Path, description = "The order's id, percent-encoded.")),
    responses((status = 200, description = "Its records in the order of the log.", body = TraceView)))]
pub(super) async fn get(
    extract::State(state): extract::State<State>,
    path: PathParams,
) -> Result<Response, Problem> {
    let id: OrderId = path.id("order_id")?;
    let engine = state.engine()?.clone();
    let decision = beside(&state, move || engine.trace(&id)).await?;
    answer::done(&state, decision, Effect::Read).await
}
