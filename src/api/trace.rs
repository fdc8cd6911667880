//! Lineage of an order: every record of it and the batches that carried it.

use axum::{extract, response::Response};
use tokio::time::timeout_at;

use super::{
    State,
    answer::{self, Effect},
    codes,
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
    let deadline = answer::deadline(&state);
    // The log is read, from the disk if it must be: beside the threads that serve requests, and a
    // few at a time.
    let permit = timeout_at(deadline, state.log_reads().acquire_owned()).await;
    let Ok(Ok(permit)) = permit else { return Err(Problem::new(&codes::OVERLOADED)) };
    let traced = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        engine.trace(&id)
    });
    let decision = traced.await.map_err(|_| Problem::new(&codes::INTERNAL))?;
    answer::done(&state, decision, Effect::Read).await
}
