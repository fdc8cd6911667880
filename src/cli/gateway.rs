//! The gateway as part of the server: its options, and the house around it, which knows partners by
//! their keys and answers calls with the routes of the HTTP API.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderValue, Method, Request, Uri, header},
    response::Response,
};
use holdfast::{
    api, config,
    engine::Engine,
    gateway::{Call, Done, Guest, Handle, House, Listeners, Options, Reply, start},
    model::partner::{Barred, Scope},
    telemetry::Spans,
};
use tower::Service;

use super::Error;

/// An answer of a route is no longer than this; they have limits of their own far below.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// The gateway's options.
pub fn options(gateway: &config::Gateway) -> Options {
    let bytes = |size: config::ByteSize| usize::try_from(size.bytes()).unwrap_or(usize::MAX);
    Options {
        listen: gateway.listen.0,
        socket: Some(gateway.socket.clone()).filter(|path| !path.as_os_str().is_empty()),
        connections_max: gateway.connections_max as usize,
        frame_bytes_max: bytes(gateway.frame_bytes_max),
        in_flight_max: gateway.in_flight_max as usize,
        answer_bytes_max: bytes(gateway.answer_bytes_max),
        frame_timeout_ms: gateway.frame_timeout_ms,
        answer_timeout_ms: gateway.answer_timeout_ms,
    }
}

/// Listens where the configuration says.
pub fn bind(options: &Options, state: &api::State) -> Result<Listeners, Error> {
    Listeners::bind(options, state.needs_keys()).map_err(failed)
}

/// Serves gateways, if there is anything to listen on.
pub fn serve(
    listeners: Listeners,
    options: Options,
    engine: &Engine,
    state: &api::State,
) -> Result<Option<Handle>, Error> {
    if listeners.is_empty() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Handle::current();
    let house = Routes { router: api::router(state.clone()), state: state.clone(), runtime };
    let counters = state.gateway().clone();
    start(listeners, engine.clone(), Arc::new(house), options, counters).map(Some).map_err(failed)
}

fn failed(error: holdfast::gateway::Error) -> Error {
    Error::Part { what: "the gateway", reason: error.to_string() }
}

/// The house around the gateway.
struct Routes {
    router: Router,
    state: api::State,
    runtime: tokio::runtime::Handle,
}

/// A caller of the gateway as the API knows it.
struct Visitor(api::Pass);

impl Guest for Visitor {
    fn enter(&mut self, scopes: &'static [Scope]) -> Result<(), Barred> {
        self.0.enter(scopes)
    }

    fn answered(&self, status: u16, count: u64) {
        self.0.answered(status, count);
    }
}

impl House for Routes {
    fn needs_keys(&self) -> bool {
        self.state.needs_keys()
    }

    fn partner(&self, api_key: &str) -> Option<Arc<str>> {
        self.state.pass(api_key).map(|pass| pass.name())
    }

    fn guest(&self, api_key: &str) -> Option<Box<dyn Guest>> {
        let pass = self.state.pass(api_key)?;
        Some(Box::new(Visitor(pass)))
    }

    fn spans(&self) -> Option<Arc<Spans>> {
        self.state.spans().cloned()
    }

    fn call(&self, call: Call, done: Done) {
        let Some(request) = request(call) else {
            let body = br#"{"type":"/problems/malformed","title":"The request is malformed","status":400,"detail":"method, path or key is none","code":"malformed"}"#;
            return done(Reply { status: 400, replayed: false, body: body.to_vec() });
        };
        let mut router = self.router.clone();
        self.runtime.spawn(async move {
            let Ok(response) = router.call(request).await;
            done(reply(response).await);
        });
    }
}

/// A call as a request of HTTP; nothing if a part of it can't be one.
fn request(call: Call) -> Option<Request<Body>> {
    let method = Method::from_bytes(call.method.as_bytes()).ok()?;
    let uri = Uri::try_from(call.path).ok().filter(|uri| uri.path().starts_with('/'))?;
    let mut request = Request::new(Body::from(call.body.clone()));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    let value = |text: &str| HeaderValue::from_str(text).ok();
    if !call.api_key.is_empty() {
        headers.insert(header::AUTHORIZATION, value(&format!("Bearer {}", call.api_key))?);
    }
    if !call.key.is_empty() {
        headers.insert("idempotency-key", value(&call.key)?);
    }
    if let Some(traceparent) = &call.traceparent {
        headers.insert("traceparent", value(traceparent)?);
    }
    if call.can_wait {
        headers.insert("priority", HeaderValue::from_static("u=7"));
    }
    if !call.body.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Some(request)
}

async fn reply(response: Response) -> Reply {
    let (parts, body) = response.into_parts();
    let replayed = parts.headers.contains_key("idempotent-replayed");
    match to_bytes(body, REPLY_BYTES_MAX).await {
        Ok(body) => Reply { status: parts.status.as_u16(), replayed, body: body.into() },
        Err(_) => Reply { status: 500, replayed: false, body: b"{\"code\":\"internal\"}".to_vec() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_defaults_are_the_defaults_of_the_gateway() {
        assert_eq!(options(&config::Gateway::default()), Options::default());
    }
}
