//! The pages for people: the operator's ([`files`]), and what each problem means.

pub(super) mod files;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

use super::{
    codes::{self, Code},
    problem::Problem,
    request::PathParams,
};

fn page(title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <link rel=\"icon\" href=\"/pages/icon.svg\"><link rel=\"stylesheet\" href=\"/pages/theme.css\">\
         <link rel=\"stylesheet\" href=\"/pages/shell.css\"></head>\
         <body class=\"paper\"><h1>{title}</h1>{body}</body></html>\n"
    );
    files::secured(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response())
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
