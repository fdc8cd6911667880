//! Stock: positions set, adjusted and read.

use axum::{
    extract,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    State,
    answer::{self, Effect, beside},
    problem::Problem,
    request::{Json, Keyed, PathParams, QueryParams},
};
use crate::{
    engine::{At, Reach, Refusal},
    model::{
        Invalid, Sku,
        command::{AdjustStock, SetStock},
        view::{PositionView, StockView},
    },
};

/// The stock of many SKUs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StockList {
    /// Those known, in the order asked for.
    pub stock: Vec<StockView>,
    /// SKUs asked for that have no stock.
    #[schema(value_type = Vec<String>)]
    pub unknown_skus: Vec<Sku>,
}

/// What a question for stock is answered with.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code)] // A schema: either is written by itself.
pub(super) enum StockAnswer {
    /// That of `skus`.
    Many(StockList),
    /// That of one `sku`.
    One(StockView),
}

/// Sets a position.
#[utoipa::path(put, path = "/v1/stock/{sku}/{location}", tag = "stock",
    params(
        ("sku" = Sku, Path, description = "The SKU, percent-encoded."),
        ("location" = crate::model::Location, Path, description = "The location, percent-encoded."),
    ),
    request_body = SetStock,
    responses((status = 200, description = "The position as it stands.", body = PositionView)))]
pub(super) async fn set(
    extract::State(state): extract::State<State>,
    path: PathParams,
    Json(set): Json<SetStock>,
) -> Result<Response, Problem> {
    let decision = state.engine()?.set_stock(&path.id("sku")?, &path.id("location")?, &set);
    answer::done(&state, decision, Effect::Change).await
}

/// Moves a position's stock.
#[utoipa::path(post, path = "/v1/stock/adjustments", tag = "stock",
    params(("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters.")),
    request_body = AdjustStock,
    responses((status = 201, description = "The position as it stands.", body = PositionView)))]
pub(super) async fn adjust(
    extract::State(state): extract::State<State>,
    keyed: Keyed,
    Json(adjust): Json<AdjustStock>,
) -> Result<Response, Problem> {
    let decision = state.engine()?.adjust_stock(keyed.key(), &adjust);
    answer::made(&state, decision).await
}

/// Reads the stock of a SKU.
#[utoipa::path(get, path = "/v1/stock/{sku}", tag = "stock",
    params(
        ("sku" = Sku, Path, description = "The SKU, percent-encoded."),
        ("at" = Option<String>, Query, pattern = r"^([0-9]{1,18}|(19[789][0-9]|[2-8][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3])(:[0-5][0-9]){2}(\.[0-9]{1,9})?Z)$", description = "As it was then: an RFC 3339 time or a position in the log."),
    ),
    responses((status = 200, description = "The stock over all locations.", body = StockView)))]
pub(super) async fn get(
    extract::State(state): extract::State<State>,
    path: PathParams,
    query: QueryParams,
) -> Result<Response, Problem> {
    query.only(&["at"])?;
    one(&state, path.id("sku")?, &query).await
}

/// The stock of a SKU, now or as it was.
async fn one(state: &State, sku: Sku, query: &QueryParams) -> Result<Response, Problem> {
    let engine = state.engine()?.clone();
    let Some(at) = query.get::<At>("at")? else { return Ok(fresh(&engine.stock(&sku)?)) };
    let stock = beside(state, move || engine.stock_at(&sku, at, Reach::Bounded)).await??;
    Ok(fresh(&stock))
}

/// Reads the stock of one SKU or of many.
#[utoipa::path(get, path = "/v1/stock", tag = "stock",
    params(
        ("sku" = Option<Sku>, Query, description = "One SKU; answers as `/v1/stock/{sku}` does."),
        ("at" = Option<String>, Query, pattern = r"^([0-9]{1,18}|(19[789][0-9]|[2-8][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3])(:[0-5][0-9]){2}(\.[0-9]{1,9})?Z)$", description = "With `sku`: as it was then."),
        ("skus" = Option<String>, Query, pattern = r"^(?!\.{1,2}(,|$))[!-+\--~]([ -+\--~]{0,62}[!-+\--~])?(,(?!\.{1,2}(,|$))[!-+\--~]([ -+\--~]{0,62}[!-+\--~])?){0,999}$", description = "SKUs with commas between them; answers a list."),
    ),
    responses((status = 200, description = "The stock: a `StockView` for `sku`.", body = StockAnswer)))]
pub(super) async fn list(
    extract::State(state): extract::State<State>,
    query: QueryParams,
) -> Result<Response, Problem> {
    query.only(&["sku", "skus", "at"])?;
    match (query.get::<Sku>("sku")?, query.text("skus")) {
        (Some(sku), None) => one(&state, sku, &query).await,
        (None, Some(_)) if query.text("at").is_some() => {
            Err(Problem::malformed("at", "goes with `sku`, not with `skus`"))
        }
        (None, Some(skus)) => many(&state, skus),
        (None, None) => Err(Problem::malformed("sku", "or `skus` must be given")),
        (Some(_), Some(_)) => Err(Problem::malformed("sku", "and `skus` exclude each other")),
    }
}

fn many(state: &State, skus: &str) -> Result<Response, Problem> {
    let limit = state.options().skus_max;
    if skus.split(',').nth(limit).is_some() {
        return Err(Problem::malformed("skus", &format!("must be at most {limit}")));
    }
    let engine = state.engine()?;
    let mut list = StockList { stock: Vec::new(), unknown_skus: Vec::new() };
    for text in skus.split(',') {
        let sku: Sku = text.parse().map_err(|e: Invalid| Problem::malformed("skus", e.0))?;
        match engine.stock(&sku) {
            Ok(stock) => list.stock.push(stock),
            Err(Refusal::UnknownSku { .. }) => list.unknown_skus.push(sku),
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(fresh(&list))
}

/// An answer that nobody between may keep: availability is true for a moment.
fn fresh(value: &impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], answer::json(StatusCode::OK, value)).into_response()
}
