//! The files of the operator's pages, in the binary: what there is, and how it is served.
//!
//! A browser may keep a file but asks each time whether it is still the one (ETag), so that a new binary
//! is never mixed with an old one's pages. What the pages may load and talk to is said in a policy that
//! every one of them carries: this server alone.

use std::sync::OnceLock;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;

use crate::api::{codes, problem::Problem, request::PathParams};

/// Everything a page loads or talks to is of this server; no page is shown in another's frame.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'; object-src 'none'";

/// Headers of every page and file.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-cache"),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &str = "image/svg+xml";

struct File {
    name: &'static str,
    media: &'static str,
    bytes: &'static [u8],
    tag: OnceLock<String>,
}

macro_rules! files {
    ($($media:ident $name:literal),+ $(,)?) => {
        [$(File {
            name: $name,
            media: $media,
            bytes: include_bytes!($name),
            tag: OnceLock::new(),
        }),+]
    };
}

static SHELL: [File; 1] = files![HTML "index.html"];

static FILES: [File; 25] = files![
    ICON "icon.svg",
    CSS "theme.css",
    CSS "shell.css",
    CSS "parts.css",
    CSS "views.css",
    SCRIPT "app.js",
    SCRIPT "api.js",
    SCRIPT "charts.js",
    SCRIPT "chart_lines.js",
    SCRIPT "chart_heat.js",
    SCRIPT "dialog.js",
    SCRIPT "dom.js",
    SCRIPT "format.js",
    SCRIPT "keys.js",
    SCRIPT "live.js",
    SCRIPT "sign_in.js",
    SCRIPT "view_configuration.js",
    SCRIPT "view_dead_letters.js",
    SCRIPT "view_flow.js",
    SCRIPT "view_latency.js",
    SCRIPT "view_orders.js",
    SCRIPT "view_parked.js",
    SCRIPT "view_reconciliation.js",
    SCRIPT "view_sale.js",
    SCRIPT "view_service_levels.js",
];

impl File {
    /// Of its bytes, so that it changes with them.
    fn tag(&self) -> &str {
        self.tag.get_or_init(|| format!("\"{}\"", &blake3::hash(self.bytes).to_hex()[..16]))
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let known = asked.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
        let is_known = known.is_some_and(|tags| tags.contains(self.tag()));
        let body = if is_known { Body::empty() } else { Bytes::from_static(self.bytes).into() };
        let mut response = secured(Response::new(body));
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media));
        if let Ok(tag) = HeaderValue::try_from(self.tag()) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

/// A page with the headers that every page has.
pub(super) fn secured(mut page: Response) -> Response {
    for (name, value) in HEADERS {
        page.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    page
}

/// The operator's pages: one page whose views are told apart behind the `#`.
#[utoipa::path(get, path = "/", tag = "pages",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html"),
        (status = 304, description = "It is still the one of the `If-None-Match`.")))]
pub(crate) async fn index(headers: HeaderMap) -> Response {
    SHELL[0].answer(&headers)
}

/// A script, style or picture of the operator's pages.
#[utoipa::path(get, path = "/pages/{file}", tag = "pages",
    params(("file" = String, Path, description = "Its name.")),
    responses((status = 200, description = "The file.", body = String, content_type = "text/javascript"),
        (status = 304, description = "It is still the one of the `If-None-Match`.")))]
pub(crate) async fn file(path: PathParams, headers: HeaderMap) -> Result<Response, Problem> {
    let file = FILES.iter().find(|file| file.name == path.text("file"));
    let none = || Problem::detailed(&codes::NOT_FOUND, "there is no file of this name");
    Ok(file.ok_or_else(none)?.answer(&headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(file: &File) -> &'static str {
        str::from_utf8(file.bytes).unwrap()
    }

    #[test]
    fn every_file_that_lies_there_is_served_and_named_by_another() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/pages");
        let all = || FILES.iter().chain(&SHELL);
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_source = name.ends_with(".rs");
            assert!(is_source || all().any(|file| file.name == name), "{name} is not served");
        }
        // The frame makes the name of a view's file of the view's.
        let view = |name: &str| -> Option<String> {
            let view = name.strip_prefix("view_")?.strip_suffix(".js")?;
            Some(format!("\"{}\"", view.replace('_', "-")))
        };
        for file in &FILES {
            let by = view(file.name).unwrap_or_else(|| format!("/{}", file.name));
            assert!(all().any(|other| text(other).contains(&by)), "{} is not used", file.name);
        }
    }

    #[test]
    fn nothing_is_asked_of_another_server_and_nothing_needs_a_weaker_policy() {
        for file in FILES.iter().chain(&SHELL) {
            let name = file.name;
            // The name of SVG's elements is no address that is asked.
            let text = text(file).replace("http://www.w3.org/2000/svg", "");
            for bad in ["http://", "https://", " style=\"", " onclick=", "innerHTML", "eval("] {
                assert!(!text.contains(bad), "{name} has `{bad}`");
            }
            assert!(text.lines().count() <= 400, "{name} has outgrown 400 lines");
        }
    }
}
