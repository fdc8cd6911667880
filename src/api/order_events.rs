//! What happens to an order after it was placed: one route for each kind of thing. Each answers 201
//! with the fact, and 200 with the same where its own id is known already.

use axum::{extract, response::Response};

use super::{
    State, answer,
    problem::Problem,
    request::{Json, Keyed, PathParams},
};
use crate::model::{
    OrderId, Reference,
    command::{AuthorizeReturn, Cancel, Invoice, Note, ReceiveReturn, Refund, Settle, Ship},
    view::FactView,
};

/// Goods of the order left.
#[utoipa::path(post, path = "/v1/orders/{order_id}/shipments", tag = "orders",
    params(("order_id" = OrderId, Path, description = "The order's id, percent-encoded."),
        ("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters.")),
    request_body = Ship,
    responses((status = 201, description = "It happened.", body = FactView)))]
pub(super) async fn ship(
    extract::State(state): extract::State<State>,
    path: PathParams,
    keyed: Keyed,
    Json(body): Json<Ship>,
) -> Result<Response, Problem> {
    let order: OrderId = path.id("order_id")?;
    answer::made(&state, state.engine()?.ship(keyed.key(), &order, &body)).await
}

/// Units that had not left are called off, and can be sold again.
#[utoipa::path(post, path = "/v1/orders/{order_id}/cancellations", tag = "orders",
    params(("order_id" = OrderId, Path, description = "The order's id, percent-encoded."),
        ("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters.")),
    request_body = Cancel,
    responses((status = 201, description = "It happened.", body = FactView)))]
pub(super) async fn cancel(
    extract::State(state): extract::State<State>,
    path: PathParams,
    keyed: Keyed,
    Json(body): Json<Cancel>,
) -> Result<Response, Problem> {
    let order: OrderId = path.id("order_id")?;
    answer::made(&state, state.engine()?.cancel(keyed.key(), &order, &body)).await
}

/// The customer was billed.
#[utoipa::path(post, path = "/v1/orders/{order_id}/invoices", tag = "orders",
    params(("order_id" = OrderId, Path, description = "The order's id, percent-encoded."),
        ("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters.")),
    request_body = Invoice,
    responses((status = 201, description = "It happened.", body = FactView)))]
pub(super) async fn invoice(
    extract::State(state): extract::State<State>,
    path: PathParams,
    keyed: Keyed,
    Json(body): Json<Invoice>,
) -> Result<Response, Problem> {
    let order: OrderId = path.id("order_id")?;
    answer::made(&state, state.engine()?.invoice(keyed.key(), &order, &body)).await
}

/// The payment provider has the customer's money.
#[utoipa::path(post, path = "/v1/orders/{order_id}/settlements", tag = "orders",
    params(("order_id" = OrderId, Path, description = "The order's id, percent-encoded."),
        ("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters.")),
    request_body = Settle,
    responses((status = 201, description = "It happened.", body = FactView)))]
pub(super) async fn settle(
    extract::State(state): extract::State<State>,
    path: PathParams,
    keyed: Keyed,
    Json(body): Json<Settle>,
) -> Result<Response, Problem> {
    let order: OrderId = path.id("order_id")?;
    answer::made(&state, state.engine()?.settle_order(keyed.key(), &order, &body)).await
}

/// The customer got money back.
#[utoipa::path(post, path = "/v1/orders/{order_id}/refunds", tag = "orders",
    params(("order_id" = OrderId, Path, description = "The order's id, percent-encoded."),
        ("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters.")),
    request_body = Refund,
    responses((status = 201, description = "It happened.", body = FactView)))]
pub(super) async fn refund(
    extract::State(state): extract::State<State>,
    path: PathParams,
    keyed: Keyed,
    Json(body): Json<Refund>,
) -> Result<Response, Problem> {
    let order: OrderId = path.id("order_id")?;
    answer::made(&state, state.engine()?.refund(keyed.key(), &order, &body)).await
}

/// A return is authorised.
#[utoipa::path(post, path = "/v1/orders/{order_id}/returns", tag = "orders",
    params(("order_id" = OrderId, Path, description = "The order's id, percent-encoded."),
        ("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters.")),
    request_body = AuthorizeReturn,
    responses((status = 201, description = "It happened.", body = FactView)))]
pub(super) async fn authorize_return(
    extract::State(state): extract::State<State>,
    path: PathParams,
    keyed: Keyed,
    Json(body): Json<AuthorizeReturn>,
) -> Result<Response, Problem> {
    let order: OrderId = path.id("order_id")?;
    answer::made(&state, state.engine()?.authorize_return(keyed.key(), &order, &body)).await
}

/// Something to know that changes neither stock nor money: a dispute, say.
#[utoipa::path(post, path = "/v1/orders/{order_id}/notes", tag = "orders",
    params(("order_id" = OrderId, Path, description = "The order's id, percent-encoded."),
        ("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters.")),
    request_body = Note,
    responses((status = 201, description = "It happened.", body = FactView)))]
pub(super) async fn note(
    extract::State(state): extract::State<State>,
    path: PathParams,
    keyed: Keyed,
    Json(body): Json<Note>,
) -> Result<Response, Problem> {
    let order: OrderId = path.id("order_id")?;
    answer::made(&state, state.engine()?.note(keyed.key(), &order, &body)).await
}

/// Goods of an authorised return came back.
#[utoipa::path(post, path = "/v1/orders/{order_id}/returns/{return_id}/receipts", tag = "orders",
    params(("order_id" = OrderId, Path, description = "The order's id, percent-encoded."),
        ("return_id" = Reference, Path, description = "The return's id, percent-encoded."),
        ("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters.")),
    request_body = ReceiveReturn,
    responses((status = 201, description = "It happened.", body = FactView)))]
pub(super) async fn receive_return(
    extract::State(state): extract::State<State>,
    path: PathParams,
    keyed: Keyed,
    Json(body): Json<ReceiveReturn>,
) -> Result<Response, Problem> {
    let order: OrderId = path.id("order_id")?;
    let return_id: Reference = path.id("return_id")?;
    let decision = state.engine()?.receive_return(keyed.key(), &order, &return_id, &body);
    answer::made(&state, decision).await
}
