//! `GET /v1/latency`: where the time of requests goes, by route and by stage; the gateways' by route.

use axum::{
    extract,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    State,
    answer::{self, beside},
    problem::Problem,
    request::QueryParams,
};
use crate::telemetry::{LatencyReport, LogLatency};

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[schema(as = LatencyFormat, rename_all = "snake_case")]
pub(super) enum Format {
    Json,
    Hlog,
}

/// Reads the latencies since the server began to count.
#[utoipa::path(get, path = "/v1/latency", tag = "operations",
    params(("format" = Option<Format>, Query,
        description = "`json`, the default, or `hlog`: an HdrHistogram interval log, V2.")),
    responses((status = 200, description = "By route and stage.",
        content((LatencyReport = "application/json"), (String = "text/plain")))))]
pub(super) async fn get(
    extract::State(state): extract::State<State>,
    query: QueryParams,
) -> Result<Response, Problem> {
    query.only(&["format"])?;
    let format = format(query.text("format"))?;
    let timings = state.engine()?.log().timings();
    let log = LogLatency { append: (&timings.append).into(), sync: (&timings.sync).into() };
    let gateway = state.gateway().requests().routes();
    let report = LatencyReport { gateway, ..state.requests().latencies(log) };
    if format == Format::Json {
        return Ok(answer::json(StatusCode::OK, &report));
    }
    // To compress all of them takes milliseconds, which are not taken from requests.
    let log = beside(&state, move || report.interval_log()).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], log).into_response())
}

fn format(text: Option<&str>) -> Result<Format, Problem> {
    match text {
        None | Some("json") => Ok(Format::Json),
        Some("hlog") => Ok(Format::Hlog),
        Some(_) => Err(Problem::malformed("format", "must be `json` or `hlog`")),
    }
}
