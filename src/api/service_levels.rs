//! `GET /v1/service-levels`: what is promised, and how far it is kept.

use axum::{extract, http::StatusCode, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{State, answer};
use crate::telemetry::{Observed, ServiceLevelView};

/// All service levels.
#[derive(Serialize, ToSchema)]
pub(super) struct ServiceLevelList {
    /// In the order of the configuration.
    service_levels: Vec<ServiceLevelView>,
}

/// Reads how the service levels stand.
#[utoipa::path(get, path = "/v1/service-levels", tag = "operations",
    responses((status = 200, description = "As they stand.", body = ServiceLevelList)))]
pub(super) async fn get(extract::State(state): extract::State<State>) -> Response {
    let service_levels = state.observed().map(Observed::level_views).unwrap_or_default();
    answer::json(StatusCode::OK, &ServiceLevelList { service_levels })
}
