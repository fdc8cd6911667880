//! What operators and their tools read: health, readiness, status, the sinks.

use axum::{
    extract,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{State, answer, codes, problem::Problem};
use crate::{
    engine::Status,
    model::{Lsn, sink::SinkView},
};

/// The server as it stands.
#[derive(Serialize, ToSchema)]
pub(super) struct StatusView {
    #[serde(flatten)]
    engine: Status,
    /// The sinks in short; `/v1/sinks` has the rest.
    sinks: Vec<SinkSummary>,
}

/// A sink in short.
#[derive(Serialize, ToSchema)]
pub(super) struct SinkSummary {
    /// Its name.
    name: String,
    /// `running`, `paused` or `broken`.
    state: String,
    /// Everything below here is with the partner.
    acknowledged_lsn: Lsn,
    /// Durable records that are not with the partner yet.
    lag_records: u64,
    /// Age of the oldest of them, in milliseconds.
    lag_ms: u64,
    /// Lines set aside for a person.
    dead_letters: u64,
}

impl From<SinkView> for SinkSummary {
    fn from(sink: SinkView) -> Self {
        Self {
            name: sink.name,
            state: sink.state,
            acknowledged_lsn: sink.acknowledged_lsn,
            lag_records: sink.lag_records,
            lag_ms: sink.lag_ms,
            dead_letters: sink.dead_letters,
        }
    }
}

/// All sinks.
#[derive(Serialize, ToSchema)]
pub(super) struct SinkList {
    /// In the order of the configuration.
    sinks: Vec<SinkView>,
}

/// A health check's answer.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
}

/// Reads how the server stands.
#[utoipa::path(get, path = "/v1/status", tag = "operations",
    responses((status = 200, description = "As it stands.", body = StatusView)))]
pub(super) async fn status(
    extract::State(state): extract::State<State>,
) -> Result<Response, Problem> {
    let engine = state.engine()?.status();
    let sinks = state.sinks().into_iter().map(SinkSummary::from).collect();
    Ok(answer::json(StatusCode::OK, &StatusView { engine, sinks }))
}

/// Reads how the sinks stand.
#[utoipa::path(get, path = "/v1/sinks", tag = "operations",
    responses((status = 200, description = "As they stand.", body = SinkList)))]
pub(super) async fn sinks(
    extract::State(state): extract::State<State>,
) -> Result<Response, Problem> {
    state.engine()?;
    Ok(answer::json(StatusCode::OK, &SinkList { sinks: state.sinks() }))
}

/// Whether the process runs.
#[utoipa::path(get, path = "/livez", tag = "operations",
    responses((status = 200, description = "It does.", body = Health)))]
pub(super) async fn livez() -> Response {
    answer::json(StatusCode::OK, &Health { status: "ok" })
}

/// Whether requests are served.
#[utoipa::path(get, path = "/readyz", tag = "operations",
    responses((status = 200, description = "They are.", body = Health)))]
pub(super) async fn readyz(extract::State(state): extract::State<State>) -> Response {
    match ready(&state) {
        Ok(()) => answer::json(StatusCode::OK, &Health { status: "ok" }),
        Err(problem) => problem.into_response(),
    }
}

/// Whether requests are served, or why not.
pub(super) fn ready(state: &State) -> Result<(), Problem> {
    if state.is_draining() {
        return Err(Problem::new(&codes::SHUTTING_DOWN));
    }
    if state.engine()?.log().poisoned().is_some() {
        let detail = "the log could not be written; the server stops to keep its promises";
        return Err(Problem::detailed(&codes::SHUTTING_DOWN, detail));
    }
    Ok(())
}
