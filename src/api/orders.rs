//! Orders: placed in one step, and read.

use axum::{extract, response::Response};

use super::{
    State,
    answer::{self, Effect},
    problem::Problem,
    request::{Json, Keyed, PathParams, QueryParams},
};
use crate::model::{OrderId, command::PlaceOrder, view::OrderView};

/// Reserves and commits in one record, or makes one order of several held reservations.
#[utoipa::path(post, path = "/v1/orders", tag = "orders",
    params(("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters.")),
    request_body = PlaceOrder,
    responses((status = 201, description = "The order.", body = OrderView)))]
pub(super) async fn place(
    extract::State(state): extract::State<State>,
    keyed: Keyed,
    Json(order): Json<PlaceOrder>,
) -> Result<Response, Problem> {
    let decision = state.engine()?.place_order(keyed.key(), &order);
    answer::made(&state, decision).await
}

/// Reads an order.
#[utoipa::path(get, path = "/v1/orders/{order_id}", tag = "orders",
    params(("order_id" = OrderId, Path, description = "The order's id, percent-encoded.")),
    responses((status = 200, description = "As it stands.", body = OrderView)))]
pub(super) async fn get(
    extract::State(state): extract::State<State>,
    path: PathParams,
) -> Result<Response, Problem> {
    read(&state, &path.id("order_id")?).await
}

/// Reads an order whose id a path can't carry.
#[utoipa::path(get, path = "/v1/orders", tag = "orders",
    params(("order_id" = OrderId, Query, description = "The order's id.")),
    responses((status = 200, description = "As it stands.", body = OrderView)))]
pub(super) async fn find(
    extract::State(state): extract::State<State>,
    query: QueryParams,
) -> Result<Response, Problem> {
    query.only(&["order_id"])?;
    read(&state, &query.required("order_id")?).await
}

async fn read(state: &State, id: &OrderId) -> Result<Response, Problem> {
    let decision = state.engine()?.order(id);
    answer::done(state, decision, Effect::Read).await
}
