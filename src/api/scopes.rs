//! Which scopes a route takes: one table, beside that of the routes. A caller needs one of those that are
//! named; a route of none is for anyone. What is not in the table takes `operate`, so that a route
//! that was forgotten here is closed and not open, and a test fails on it.

use axum::http::Method;

use crate::model::partner::Scope::{
    self, Availability, Fulfil, Observe, Operate, Order, Reserve, Settle,
};

/// Of whoever reads an order.
const ORDERS: &[Scope] = &[Order, Fulfil, Settle, Observe];
/// Of whoever reads stock.
const STOCK: &[Scope] = &[Availability, Reserve, Order, Fulfil, Observe];
/// Of whoever looks on.
const WATCH: &[Scope] = &[Observe, Operate];
/// Anyone: a page, or what is known by a signature.
const ANYONE: &[Scope] = &[];

const TABLE: &[(&str, &str, &[Scope])] = &[
    ("PUT", "/v1/stock/{sku}/{location}", &[Fulfil]),
    ("POST", "/v1/stock/adjustments", &[Fulfil]),
    ("POST", "/v1/stock/import", &[Fulfil]),
    ("GET", "/v1/stock/{sku}", STOCK),
    ("GET", "/v1/stock", STOCK),
    ("POST", "/v1/reservations", &[Reserve]),
    ("GET", "/v1/reservations", &[Reserve, Order, Observe]),
    ("POST", "/v1/reservations/batch", &[Reserve]),
    ("GET", "/v1/reservations/{id}", &[Reserve, Order, Observe]),
    ("POST", "/v1/reservations/{id}/release", &[Reserve]),
    ("POST", "/v1/reservations/{id}/extend", &[Reserve]),
    ("POST", "/v1/reservations/{id}/commit", &[Order]),
    ("PUT", "/v1/reservations/{id}/lines", &[Reserve]),
    ("POST", "/v1/orders", &[Order]),
    ("GET", "/v1/orders", ORDERS),
    ("GET", "/v1/orders/{order_id}", ORDERS),
    ("POST", "/v1/orders/{order_id}/shipments", &[Fulfil]),
    ("POST", "/v1/orders/{order_id}/cancellations", &[Order]),
    ("POST", "/v1/orders/{order_id}/invoices", &[Settle]),
    ("POST", "/v1/orders/{order_id}/settlements", &[Settle]),
    ("POST", "/v1/orders/{order_id}/refunds", &[Settle]),
    ("POST", "/v1/orders/{order_id}/returns", &[Order, Fulfil]),
    ("POST", "/v1/orders/{order_id}/notes", &[Order, Fulfil, Settle]),
    ("POST", "/v1/orders/{order_id}/returns/{return_id}/receipts", &[Fulfil]),
    ("POST", "/v1/hooks/{partner}", ANYONE),
    ("GET", "/v1/orders/{order_id}/trace", WATCH),
    ("GET", "/v1/sinks", WATCH),
    ("GET", "/v1/sinks/{name}/parked", WATCH),
    ("POST", "/v1/sinks/{name}/parked/{order_id}/release", &[Operate]),
    ("POST", "/v1/sinks/{name}/pause", &[Operate]),
    ("POST", "/v1/sinks/{name}/resume", &[Operate]),
    ("POST", "/v1/sinks/{name}/replay", &[Operate]),
    ("POST", "/v1/sinks/{name}/skip", &[Operate]),
    ("POST", "/v1/sinks/{name}/reconcile", &[Operate]),
    ("GET", "/v1/sinks/{name}/reconciliation", WATCH),
    ("GET", "/v1/dead-letters", WATCH),
    ("GET", "/v1/dead-letters/{id}", WATCH),
    ("PUT", "/v1/dead-letters/{id}", &[Operate]),
    ("DELETE", "/v1/dead-letters/{id}", &[Operate]),
    ("POST", "/v1/dead-letters/{id}/retry", &[Operate]),
    ("GET", "/v1/parked-events", WATCH),
    ("GET", "/v1/parked-events/{id}", WATCH),
    ("POST", "/v1/parked-events/{id}/retry", &[Operate]),
    ("DELETE", "/v1/parked-events/{id}", &[Operate]),
    ("POST", "/v1/partners", &[Operate]),
    ("GET", "/v1/partners", &[Operate]),
    ("POST", "/v1/partners/{name}/rotate", &[Operate]),
    ("DELETE", "/v1/partners/{name}", &[Operate]),
    ("GET", "/v1/configuration", &[Operate]),
    ("POST", "/v1/configuration", &[Operate]),
    ("GET", "/v1/configuration/history", WATCH),
    ("POST", "/v1/configuration/rollback", &[Operate]),
    ("GET", "/v1/status", WATCH),
    ("GET", "/v1/latency", WATCH),
    ("GET", "/v1/live", WATCH),
    ("GET", "/v1/backup", &[Operate]),
    ("GET", "/v1/service-levels", WATCH),
    ("GET", "/livez", ANYONE),
    ("GET", "/readyz", ANYONE),
    ("GET", "/metrics", WATCH),
    ("GET", "/openapi.json", ANYONE),
    ("GET", "/asyncapi.json", ANYONE),
    ("GET", "/schemas/v1", ANYONE),
    ("GET", "/schemas/v1/{name}", ANYONE),
    ("GET", "/problems", ANYONE),
    ("GET", "/problems/{code}", ANYONE),
    ("GET", "/pages/{file}", ANYONE),
    ("GET", "/", ANYONE),
];

/// The scopes of a route, if it is in the table.
pub fn scopes(method: &Method, path: &str) -> Option<&'static [Scope]> {
    let found = TABLE.iter().find(|row| row.0 == method.as_str() && row.1 == path);
    found.map(|row| row.2)
}

/// The scopes of a route, whether or not somebody thought of it.
pub(super) fn needed(method: &Method, path: &str) -> &'static [Scope] {
    scopes(method, path).unwrap_or(&[Operate])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::served;

    #[test]
    fn every_route_has_its_scopes_and_every_row_its_route() {
        let served = served();
        for (method, path) in &served {
            assert!(scopes(method, path).is_some(), "{method} {path} has no scopes");
        }
        assert_eq!(served.len(), TABLE.len(), "a row for what is not served, or twice");
    }

    #[test]
    fn what_is_not_in_the_table_is_closed() {
        assert_eq!(needed(&Method::GET, "/v1/forgotten"), &[Operate]);
        assert_eq!(needed(&Method::PUT, "/"), &[Operate]);
    }

    #[test]
    fn every_effect_takes_a_scope_and_pages_take_none() {
        for (method, path, scopes) in TABLE {
            let open = !path.starts_with("/v1/") && *path != "/metrics" || path.contains("/hooks/");
            assert_eq!(scopes.is_empty(), open, "{method} {path}");
            let reads_only = scopes.iter().all(|scope| matches!(scope, Availability | Observe));
            assert!(*method == "GET" || open || !reads_only, "{method} {path}");
        }
    }
}
