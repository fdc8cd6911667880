//! The configuration of the running server: what it is, what it was, and another one. All of a new one is
//! applied or nothing.

use axum::{extract, http::StatusCode, response::Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    State,
    access::Caller,
    answer, codes,
    problem::Problem,
    request::{Json, OptionalJson},
    sink_operations::by,
};
use crate::model::{
    configuration::{ConfigurationView, HistoryView, NotApplied, Proposal, VersionView},
    sink::wish::By,
};

/// A configuration that is to be in force.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewConfiguration {
    /// All of it, as a file has it; absent: the server's own file is read again. What the configuration in
    /// force is shown with hidden, and comes back like this, stays as it is.
    toml: Option<String>,
    /// Why, for the log.
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// Do it in a freeze window all the same; then a reason must be given.
    #[serde(default)]
    force: bool,
}

/// An earlier configuration that is to be in force again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// Its version.
    version: u64,
    /// Why, for the log.
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// Do it in a freeze window all the same; then a reason must be given.
    #[serde(default)]
    force: bool,
}

/// Reads the configuration in force.
#[utoipa::path(get, path = "/v1/configuration", tag = "operations",
    responses((status = 200, description = "Every key, without secrets.", body = ConfigurationView)))]
pub(super) async fn get(extract::State(state): extract::State<State>) -> Result<Response, Problem> {
    let view = state.configuration().ok_or_else(|| Problem::new(&codes::STARTING))?;
    Ok(answer::json(StatusCode::OK, &view))
}

/// Reads which configurations were in force, since when, by whom and why.
#[utoipa::path(get, path = "/v1/configuration/history", tag = "operations",
    responses((status = 200, description = "The newest last.", body = HistoryView)))]
pub(super) async fn history(
    extract::State(state): extract::State<State>,
) -> Result<Response, Problem> {
    let view = state.configurations().ok_or_else(|| Problem::new(&codes::STARTING))?;
    Ok(answer::json(StatusCode::OK, &view))
}

/// Applies another configuration without a restart: all of it or nothing.
#[utoipa::path(post, path = "/v1/configuration", tag = "operations", request_body = Option<NewConfiguration>,
    responses((status = 200, description = "It is written down and in force.", body = VersionView)))]
pub(super) async fn apply(
    extract::State(state): extract::State<State>,
    caller: Caller,
    OptionalJson(new): OptionalJson<NewConfiguration>,
) -> Result<Response, Problem> {
    let proposal = new.toml.map_or(Proposal::File, Proposal::Toml);
    propose(&state, proposal, by(&caller, new.reason, new.force)?).await
}

/// Applies an earlier configuration again.
#[utoipa::path(post, path = "/v1/configuration/rollback", tag = "operations", request_body = Rollback,
    responses((status = 200, description = "It is written down and in force.", body = VersionView)))]
pub(super) async fn roll_back(
    extract::State(state): extract::State<State>,
    caller: Caller,
    Json(back): Json<Rollback>,
) -> Result<Response, Problem> {
    let by = by(&caller, back.reason, back.force)?;
    propose(&state, Proposal::Version(back.version), by).await
}

async fn propose(state: &State, proposal: Proposal, by: By) -> Result<Response, Problem> {
    state.engine()?;
    let applied = state.configure(proposal, by).await.map_err(|why| refused(&why))?;
    Ok(answer::json(StatusCode::OK, &applied))
}

fn refused(why: &NotApplied) -> Problem {
    let detail = why.to_string();
    match why {
        NotApplied::Invalid(what) => Problem::malformed("toml", what),
        NotApplied::NeedsRestart(_) => Problem::detailed(&codes::NEEDS_RESTART, detail),
        NotApplied::Frozen { .. } => Problem::detailed(&codes::FROZEN, detail),
        NotApplied::NoVersion(_) => Problem::detailed(&codes::NOT_FOUND, detail),
        NotApplied::Hidden(_) | NotApplied::Same | NotApplied::Unstartable(_) => {
            Problem::detailed(&codes::WRONG_STATE, detail)
        }
        NotApplied::Unwritable(_) => Problem::detailed(&codes::LOG_FULL, detail),
        NotApplied::Stopping => Problem::detailed(&codes::SHUTTING_DOWN, detail),
    }
}
