//! A partner's stock against the ledger's: compare now, or read what the last comparison came to.

use axum::{extract, http::StatusCode, response::Response};

use super::{State, answer, codes, problem::Problem, request::PathParams};
use crate::model::sink::reconciliation::{Reconciliation, Unreconciled};

/// Reads a sink's partner's stock back and compares it with the ledger's, position by position. Nothing is
/// changed. It takes as long as the partner does, at most the sink's `reconcile.run_ms_max`, and goes on
/// if the caller goes away.
#[utoipa::path(post, path = "/v1/sinks/{name}/reconcile", tag = "operations",
    params(("name" = String, Path, description = "The sink.")),
    responses((status = 200, description = "The report; also of a comparison that failed.", body = Reconciliation)))]
pub(super) async fn run(
    extract::State(state): extract::State<State>,
    path: PathParams,
) -> Result<Response, Problem> {
    state.engine()?;
    let report = state.reconcile(path.text("name")).await.map_err(no_report)?;
    Ok(answer::json(StatusCode::OK, &*report))
}

/// Reads what the last comparison of a sink came to, since the start of the server.
#[utoipa::path(get, path = "/v1/sinks/{name}/reconciliation", tag = "operations",
    params(("name" = String, Path, description = "The sink.")),
    responses((status = 200, description = "The report.", body = Reconciliation)))]
pub(super) async fn last(
    extract::State(state): extract::State<State>,
    path: PathParams,
) -> Result<Response, Problem> {
    state.engine()?;
    let report = state.reconciliation(path.text("name")).map_err(no_report)?;
    Ok(answer::json(StatusCode::OK, &*report))
}

fn no_report(why: Unreconciled) -> Problem {
    let code = match why {
        Unreconciled::NoSink | Unreconciled::NotConfigured | Unreconciled::None => {
            &codes::NOT_FOUND
        }
        Unreconciled::UnderWay => &codes::OVERLOADED,
        Unreconciled::Stopping => &codes::SHUTTING_DOWN,
    };
    Problem::detailed(code, why.to_string())
}
