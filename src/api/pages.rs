//! The few pages for people: the way in, and what each problem means.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

use super::{
    codes::{self, Code},
    problem::Problem,
    request::PathParams,
};

const STYLE: &str = "<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:2rem \
                     auto;padding:0 1rem}code{font-family:ui-monospace,monospace}</style>";

fn page(title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\">{STYLE}</head>\
         <body><h1>{title}</h1>{body}</body></html>\n"
    );
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

/// The way in.
#[utoipa::path(get, path = "/", tag = "pages",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html")))]
pub(super) async fn index() -> Response {
    page(
        "Holdfast",
        "<p>Reserves stock under a flash sale.</p><ul>\
         <li><a href=\"/v1/status\">Status</a></li>\
         <li><a href=\"/v1/sinks\">Sinks</a></li>\
         <li><a href=\"/metrics\">Metrics</a></li>\
         <li><a href=\"/openapi.json\">OpenAPI document</a></li>\
         <li><a href=\"/problems\">Problems and what to do about them</a></li></ul>",
    )
}

/// All problems.
#[utoipa::path(get, path = "/problems", tag = "pages",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html")))]
pub(super) async fn problems() -> Response {
    let item = |code: &&Code| {
        let Code { code, status, title, .. } = code;
        format!("<li>{status} <a href=\"/problems/{code}\"><code>{code}</code></a>: {title}</li>")
    };
    page("Problems", &format!("<ul>{}</ul>", codes::ALL.iter().map(item).collect::<String>()))
}

/// What a problem means and what to do about it.
#[utoipa::path(get, path = "/problems/{code}", tag = "pages",
    params(("code" = String, Path, description = "The problem's code.")),
    responses((status = 200, description = "A page.", body = String, content_type = "text/html")))]
pub(super) async fn problem(path: PathParams) -> Result<Response, Problem> {
    let code = codes::find(path.text("code")).ok_or_else(|| Problem::new(&codes::NOT_FOUND))?;
    let Code { code, status, title, meaning, action } = code;
    let body = format!(
        "<p><code>{code}</code>, status {status}</p><h2>What it means</h2><p>{meaning}</p>\
         <h2>What to do</h2><p>{action}</p><p><a href=\"/problems\">All problems</a></p>"
    );
    Ok(page(title, &body))
}
