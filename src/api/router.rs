//! The table of routes.

use axum::{
    Router,
    handler::Handler,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::{MethodFilter, any, on},
};

use super::{
    State, backup, batch, codes, configuration, dead_letters,
    front::{Front, Gate},
    hooks, import, latency, live, metrics, openapi, operations, order_events, orders, pages,
    parked, parked_events, partner_operations,
    problem::Problem,
    reconcile, reservations, schemas, scopes, service_levels, sink_operations, stock, trace,
};

/// The routes of a server, for tests and for embedding. [`super::serve`] serves the same, and adds
/// the limits of connections.
pub fn router(state: State) -> Router {
    build(&state).router.with_state(state)
}

/// Method and path of every route.
pub fn served() -> Vec<(Method, &'static str)> {
    build(&State::new(Default::default())).served
}

fn build(state: &State) -> Routes<'_> {
    use Gate::{Counted, Open};
    Routes::new(state)
        .put("/v1/stock/{sku}/{location}", Counted, stock::set)
        .post("/v1/stock/adjustments", Counted, stock::adjust)
        .post("/v1/stock/import", Counted, import::import)
        .get("/v1/stock/{sku}", Counted, stock::get)
        .get("/v1/stock", Counted, stock::list)
        .post("/v1/reservations", Counted, reservations::reserve)
        .get("/v1/reservations", Counted, reservations::list)
        .post("/v1/reservations/batch", Counted, batch::reserve)
        .get("/v1/reservations/{id}", Counted, reservations::get)
        .post("/v1/reservations/{id}/release", Counted, reservations::release)
        .post("/v1/reservations/{id}/extend", Counted, reservations::extend)
        .post("/v1/reservations/{id}/commit", Counted, reservations::commit)
        .put("/v1/reservations/{id}/lines", Counted, reservations::change_lines)
        .post("/v1/orders", Counted, orders::place)
        .get("/v1/orders", Counted, orders::find)
        .get("/v1/orders/{order_id}", Counted, orders::get)
        .post("/v1/orders/{order_id}/shipments", Counted, order_events::ship)
        .post("/v1/orders/{order_id}/cancellations", Counted, order_events::cancel)
        .post("/v1/orders/{order_id}/invoices", Counted, order_events::invoice)
        .post("/v1/orders/{order_id}/settlements", Counted, order_events::settle)
        .post("/v1/orders/{order_id}/refunds", Counted, order_events::refund)
        .post("/v1/orders/{order_id}/returns", Counted, order_events::authorize_return)
        .post("/v1/orders/{order_id}/notes", Counted, order_events::note)
        .post(
            "/v1/orders/{order_id}/returns/{return_id}/receipts",
            Counted,
            order_events::receive_return,
        )
        .post("/v1/hooks/{partner}", Counted, hooks::receive)
        .get("/v1/orders/{order_id}/trace", Counted, trace::get)
        .get("/v1/sinks", Open, operations::sinks)
        .get("/v1/sinks/{name}/parked", Open, parked::list)
        .post("/v1/sinks/{name}/parked/{order_id}/release", Counted, parked::release)
        .post("/v1/sinks/{name}/pause", Open, sink_operations::pause)
        .post("/v1/sinks/{name}/resume", Open, sink_operations::resume)
        .post("/v1/sinks/{name}/replay", Open, sink_operations::replay)
        .post("/v1/sinks/{name}/skip", Open, sink_operations::skip)
        .post("/v1/sinks/{name}/reconcile", Open, reconcile::run)
        .get("/v1/sinks/{name}/reconciliation", Open, reconcile::last)
        .get("/v1/dead-letters", Open, dead_letters::list)
        .get("/v1/dead-letters/{id}", Open, dead_letters::get)
        .put("/v1/dead-letters/{id}", Open, dead_letters::mend)
        .delete("/v1/dead-letters/{id}", Open, dead_letters::discard)
        .post("/v1/dead-letters/{id}/retry", Open, dead_letters::retry)
        .get("/v1/parked-events", Counted, parked_events::list)
        .get("/v1/parked-events/{id}", Counted, parked_events::get)
        .post("/v1/parked-events/{id}/retry", Counted, parked_events::retry)
        .delete("/v1/parked-events/{id}", Counted, parked_events::discard)
        .post("/v1/partners", Open, partner_operations::add)
        .get("/v1/partners", Open, partner_operations::list)
        .post("/v1/partners/{name}/rotate", Open, partner_operations::rotate)
        .delete("/v1/partners/{name}", Open, partner_operations::revoke)
        .get("/v1/configuration", Open, configuration::get)
        .post("/v1/configuration", Open, configuration::apply)
        .get("/v1/configuration/history", Open, configuration::history)
        .post("/v1/configuration/rollback", Open, configuration::roll_back)
        .get("/v1/status", Open, operations::status)
        .get("/v1/latency", Open, latency::get)
        .get("/v1/live", Open, live::follow)
        .get("/v1/backup", Open, backup::get)
        .get("/v1/service-levels", Open, service_levels::get)
        .get("/livez", Open, operations::livez)
        .get("/readyz", Open, operations::readyz)
        .get("/metrics", Open, metrics::metrics)
        .get("/openapi.json", Open, openapi::serve)
        .get("/asyncapi.json", Open, schemas::asyncapi)
        .get("/schemas/v1", Open, schemas::list)
        .get("/schemas/v1/{name}", Open, schemas::get)
        .get("/problems", Open, pages::problems)
        .get("/problems/{code}", Open, pages::problem)
        .get("/pages/{file}", Open, pages::files::file)
        .get("/", Open, pages::files::index)
        .finish()
}

/// A router in the making, and the list of what is in it.
struct Routes<'a> {
    state: &'a State,
    router: Router<State>,
    served: Vec<(Method, &'static str)>,
}

impl<'a> Routes<'a> {
    fn new(state: &'a State) -> Self {
        Self { state, router: Router::new(), served: Vec::new() }
    }

    fn get<T: 'static>(self, path: &'static str, gate: Gate, h: impl Handler<T, State>) -> Self {
        self.add(MethodFilter::GET, Method::GET, path, gate, h)
    }

    fn put<T: 'static>(self, path: &'static str, gate: Gate, h: impl Handler<T, State>) -> Self {
        self.add(MethodFilter::PUT, Method::PUT, path, gate, h)
    }

    fn post<T: 'static>(self, path: &'static str, gate: Gate, h: impl Handler<T, State>) -> Self {
        self.add(MethodFilter::POST, Method::POST, path, gate, h)
    }

    fn delete<T: 'static>(self, path: &'static str, gate: Gate, h: impl Handler<T, State>) -> Self {
        self.add(MethodFilter::DELETE, Method::DELETE, path, gate, h)
    }

    fn add<T: 'static>(
        mut self,
        filter: MethodFilter,
        method: Method,
        path: &'static str,
        gate: Gate,
        handler: impl Handler<T, State>,
    ) -> Self {
        let endpoint = self.state.requests().endpoint(path, name(&method));
        let scopes = scopes::needed(&method, path);
        let handler = handler.layer(Front::new(self.state, endpoint, gate, scopes));
        self.router = self.router.route(path, on(filter, handler));
        self.served.push((method, path));
        self
    }

    /// Adds what answers for everything else.
    fn finish(mut self) -> Self {
        let endpoint = self.state.requests().endpoint("none", "any");
        let front = Front::new(self.state, endpoint, Gate::Open, &[]);
        self.router = self
            .router
            .method_not_allowed_fallback(method_not_allowed.layer(front.clone()))
            .fallback_service(any(not_found.layer(front)));
        self
    }
}

fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "POST",
    }
}

async fn not_found() -> Problem {
    Problem::new(&codes::UNKNOWN_ROUTE)
}

/// OPTIONS is answered with what is allowed; the router adds the Allow header to both.
async fn method_not_allowed(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    Problem::new(&codes::METHOD_NOT_ALLOWED).into_response()
}
