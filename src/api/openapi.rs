//! The OpenAPI 3.1 document, made from the handlers and the types that they take and give.

use axum::{body::Bytes, http::StatusCode, response::Response};
use std::sync::OnceLock;
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        Content, Ref, RefOr, ResponseBuilder,
        path::{Operation, PathItem},
    },
};

use super::{answer, openapi_rules};

/// An error, RFC 9457.
#[derive(ToSchema)]
#[allow(dead_code)] // A schema: problems are written by hand.
pub(super) struct ProblemView {
    /// A page about it: `/problems/` and the code.
    r#type: String,
    /// One line for people.
    title: String,
    /// The HTTP status.
    status: u16,
    /// This very case in words.
    detail: String,
    /// What programs should look at.
    code: String,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Holdfast", description = "Reserves stock under a flash sale: durable, never oversold."),
    paths(
        super::stock::set,
        super::stock::adjust,
        super::stock::get,
        super::stock::list,
        super::import::import,
        super::reservations::reserve,
        super::batch::reserve,
        super::reservations::get,
        super::reservations::list,
        super::reservations::release,
        super::reservations::extend,
        super::reservations::commit,
        super::reservations::change_lines,
        super::orders::place,
        super::orders::get,
        super::orders::find,
        super::order_events::ship,
        super::order_events::cancel,
        super::order_events::invoice,
        super::order_events::settle,
        super::order_events::refund,
        super::order_events::authorize_return,
        super::order_events::note,
        super::order_events::receive_return,
        super::hooks::receive,
        super::trace::get,
        super::partner_operations::add,
        super::partner_operations::list,
        super::partner_operations::rotate,
        super::partner_operations::revoke,
        super::operations::status,
        super::latency::get,
        super::live::follow,
        super::backup::get,
        super::service_levels::get,
        super::operations::sinks,
        super::parked::list,
        super::parked::release,
        super::sink_operations::pause,
        super::sink_operations::resume,
        super::sink_operations::replay,
        super::sink_operations::skip,
        super::reconcile::run,
        super::reconcile::last,
        super::dead_letters::list,
        super::dead_letters::get,
        super::dead_letters::mend,
        super::dead_letters::retry,
        super::dead_letters::discard,
        super::parked_events::list,
        super::parked_events::get,
        super::parked_events::retry,
        super::parked_events::discard,
        super::configuration::get,
        super::configuration::apply,
        super::configuration::history,
        super::configuration::roll_back,
        super::operations::livez,
        super::operations::readyz,
        super::metrics::metrics,
        super::pages::files::index,
        super::pages::files::file,
        super::schemas::asyncapi,
        super::schemas::list,
        super::schemas::get,
        super::pages::problems,
        super::pages::problem,
        serve,
    ),
    components(schemas(ProblemView, super::latency::Format, crate::model::view::StockView)),
    modifiers(&Problems)
)]
struct Document;

/// Every operation can answer with a problem.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in operations(item) {
                operation.operation_id = Some(operation_id(method, path));
                let problem = ResponseBuilder::new()
                    .description("A problem; `code` says which.")
                    .content(
                        "application/problem+json",
                        Content::new(Some(RefOr::Ref(Ref::from_schema_name("ProblemView")))),
                    )
                    .build();
                operation.responses.responses.insert("default".to_owned(), problem.into());
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, .. } = item;
    let all = [("get", get), ("put", put), ("post", post), ("delete", delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// A name that no other operation has.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

/// The document as JSON.
pub fn document() -> &'static Bytes {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut json = Vec::new();
        // Made of types that can be written as JSON.
        let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
        openapi_rules::add(&mut document);
        answer::write(&mut json, &document);
        json.into()
    })
}

/// Reads this document.
#[utoipa::path(get, path = "/openapi.json", tag = "operations",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)))]
pub(super) async fn serve() -> Response {
    answer::json_bytes(StatusCode::OK, document().clone())
}
