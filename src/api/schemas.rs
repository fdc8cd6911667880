//! The schemas of what partners get and say, and the AsyncAPI document, as files of this source tree
//! (`schemas/v1/`): they are published byte for byte as they were reviewed. Tests hold them to the code.

use axum::{
    body::Bytes,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{answer, codes, problem::Problem, request::PathParams};

const SCHEMA: &str = "application/schema+json";
const ASYNC_API: &str = include_str!("../../schemas/v1/asyncapi.json");

macro_rules! files {
    ($($name:literal,)*) => {
        [$(($name, include_str!(concat!("../../schemas/v1/", $name, ".json"))),)*]
    };
}

/// Every schema of the first version, by name.
const V1: [(&str, &str); 33] = files![
    "alert",
    "batch.finance",
    "batch.fulfilment",
    "batch.inventory",
    "batch.stream",
    "cloudevent",
    "entity.cancellation",
    "entity.invoice",
    "entity.order",
    "entity.order_event",
    "entity.position",
    "entity.refund",
    "entity.reservation",
    "entity.return",
    "entity.settlement",
    "entity.shipment",
    "entity.stock",
    "event.order.cancelled",
    "event.order.invoiced",
    "event.order.noted",
    "event.order.placed",
    "event.order.refunded",
    "event.order.return_authorized",
    "event.order.return_received",
    "event.order.settled",
    "event.order.shipped",
    "event.reservation.changed",
    "event.reservation.expired",
    "event.reservation.extended",
    "event.reservation.held",
    "event.reservation.released",
    "event.stock.adjusted",
    "event.stock.set",
];

/// Every published schema: its name and its text.
pub fn published() -> &'static [(&'static str, &'static str)] {
    &V1
}

/// Schemas of one version.
#[derive(Serialize, ToSchema)]
pub(super) struct SchemaList {
    /// Each by name.
    schemas: Vec<SchemaName>,
}

/// A schema.
#[derive(Serialize, ToSchema)]
pub(super) struct SchemaName {
    /// Its name.
    name: &'static str,
    /// Where it is.
    href: String,
}

/// Lists the schemas of the first version: of entities, of events, of the bodies that sinks and
/// whoever is alerted receive.
#[utoipa::path(get, path = "/schemas/v1", tag = "contracts",
    responses((status = 200, description = "All of them.", body = SchemaList)))]
pub(super) async fn list() -> Response {
    let named = V1.iter().map(|(name, _)| SchemaName { name, href: format!("/schemas/v1/{name}") });
    answer::json(StatusCode::OK, &SchemaList { schemas: named.collect() })
}

/// Reads a schema (JSON Schema, draft 2020-12).
#[utoipa::path(get, path = "/schemas/v1/{name}", tag = "contracts",
    params(("name" = String, Path, description = "Its name, with or without `.json`.")),
    responses((status = 200, description = "The schema.", body = Object,
        content_type = "application/schema+json")))]
pub(super) async fn get(path: PathParams) -> Result<Response, Problem> {
    let name = path.text("name");
    let name = name.strip_suffix(".json").unwrap_or(name);
    let found = V1.iter().find(|(known, _)| *known == name);
    let (_, text) = found.ok_or_else(|| Problem::new(&codes::NOT_FOUND))?;
    Ok(([(header::CONTENT_TYPE, SCHEMA)], *text).into_response())
}

/// Reads the AsyncAPI document: what sinks receive, by channel.
#[utoipa::path(get, path = "/asyncapi.json", tag = "contracts",
    responses((status = 200, description = "AsyncAPI 3.0.", body = Object)))]
pub(super) async fn asyncapi() -> Response {
    answer::json_bytes(StatusCode::OK, Bytes::from_static(ASYNC_API.as_bytes()))
}
