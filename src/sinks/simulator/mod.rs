//! Receivers made from their makers' documentation, to test the presets against: one small server, and a
//! file of rules for each system.
//!
//! The server looks at who calls (a fixed header, or tokens that it gives out and can forget), can refuse
//! by number (429), and can have an effect and then lose the answer. A system checks the shape of what
//! comes, keeps sums and remembers what its documentation says that it remembers; whatever should not
//! have come is a violation.

mod business_central;
mod erpnext;
mod netsuite;
mod odoo;
mod sale;
mod sap;

use std::{collections::BTreeMap, net::SocketAddr, pin::Pin, sync::Arc, task};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// A request as a system sees it.
pub(super) struct Asked {
    pub method: String,
    /// The path, decoded.
    pub path: String,
    /// The query, decoded.
    pub query: BTreeMap<String, String>,
    pub headers: HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// What a system answers.
pub(super) struct Answered {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

pub(super) fn answered(status: u16, body: Value) -> Answered {
    let headers = vec![("content-type", "application/json".to_owned())];
    Answered { status, headers, body: body.to_string() }
}

/// What a system was told, each document once.
#[derive(Debug, Clone, Default)]
pub(super) struct Effects {
    /// Units by SKU and location.
    pub stock: BTreeMap<(String, String), i64>,
    /// Debit less credit in minor units, by account.
    pub accounts: BTreeMap<String, i64>,
    pub documents: u64,
    pub violations: Vec<String>,
}

impl Effects {
    pub fn check(&mut self, right: bool, what: impl Into<String>) {
        if !right {
            self.violations.push(what.into());
        }
    }

    pub fn move_stock(&mut self, sku: &str, location: &str, units: i64) {
        *self.stock.entry((sku.to_owned(), location.to_owned())).or_default() += units;
    }

    pub fn book(&mut self, account: &str, minor: i64) {
        *self.accounts.entry(account.to_owned()).or_default() += minor;
    }
}

/// A decimal number as minor units; `None` if it is none with two places.
pub(super) fn minor(value: &Value) -> Option<i64> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => format!("{:.2}", number.as_f64()?),
        _ => return None,
    };
    let (whole, places) = text.split_once('.')?;
    if places.len() != 2 {
        return None;
    }
    format!("{whole}{places}").parse().ok()
}

/// A system's rules.
pub(super) trait System: Send + 'static {
    /// Answers a request of somebody who may call.
    fn answer(&mut self, asked: &Asked, effects: &mut Effects) -> Answered;
    /// Whether a request may change something, so that losing its answer matters.
    fn changes(&self, asked: &Asked) -> bool {
        asked.method != "GET"
    }
}

/// Who may call.
#[derive(Clone)]
pub(super) enum Callers {
    /// Those with this header.
    Header(&'static str, String),
    /// Those with a token for this scope, which are given to this client.
    Tokens { id: &'static str, secret: &'static str, scope: &'static str },
}

/// What goes wrong.
#[derive(Default)]
pub(super) struct Faults {
    /// So many requests get 429.
    pub limited: u32,
    /// A bit a change, the next one's first: it has its effect, and the answer is lost.
    pub lost: u32,
    /// Changes that have come.
    pub changes: u32,
    /// Tokens given out, and the one that is good.
    pub tokens: u32,
    pub token: Option<String>,
}

struct Inside {
    system: Box<dyn System>,
    callers: Callers,
    effects: Effects,
    faults: Faults,
}

/// A running system. Dropping it stops it.
pub(super) struct Simulator {
    address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    server: JoinHandle<()>,
}

impl Simulator {
    pub async fn start(system: Box<dyn System>, callers: Callers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (effects, faults) = (Effects::default(), Faults::default());
        let inside = Arc::new(Mutex::new(Inside { system, callers, effects, faults }));
        let app = Router::new().fallback(receive).with_state(Arc::clone(&inside));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, inside, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn fault<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        change(&mut self.inside.lock().faults)
    }

    pub fn effects(&self) -> Effects {
        self.inside.lock().effects.clone()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(
    State(inside): State<Arc<Mutex<Inside>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let url = reqwest::Url::parse(&format!("http://sim{uri}")).unwrap();
    let asked = Asked {
        method: method.to_string(),
        path: decoded(uri.path()),
        query: url.query_pairs().into_owned().collect(),
        headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
        json: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let mut inside = inside.lock();
    if asked.path == "/token" {
        return inside.give_token(&asked).into_response();
    }
    if inside.faults.limited > 0 {
        inside.faults.limited -= 1;
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "{}").into_response();
    }
    if !inside.may_call(&asked) {
        return (StatusCode::UNAUTHORIZED, "{}").into_response();
    }
    let Inside { system, effects, faults, .. } = &mut *inside;
    let changes = system.changes(&asked);
    let answer = system.answer(&asked, effects);
    if changes {
        faults.changes += 1;
        let lost = faults.lost & 1 == 1;
        faults.lost >>= 1;
        if lost {
            let broken = std::io::Error::other("lost");
            return Body::new(Once(Some(broken))).into_response();
        }
    }
    answer.into_response()
}

/// A body that breaks off at once.
struct Once(Option<std::io::Error>);

impl hyper::body::Body for Once {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
        task::Poll::Ready(self.0.take().map(Err))
    }
}

impl Inside {
    fn give_token(&mut self, asked: &Asked) -> Answered {
        let form = reqwest::Url::parse(&format!("form:?{}", asked.text)).unwrap();
        let form: BTreeMap<String, String> = form.query_pairs().into_owned().collect();
        let Callers::Tokens { id, secret, scope } = self.callers else {
            return answered(404, json!({}));
        };
        let wanted = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", secret),
            ("scope", scope),
        ];
        if asked.method != "POST" || wanted.iter().any(|(k, v)| form.get(*k).is_none_or(|f| f != v))
        {
            return answered(401, json!({"error": "invalid_client"}));
        }
        self.faults.tokens += 1;
        let token = format!("token-{}", self.faults.tokens);
        self.faults.token = Some(token.clone());
        answered(200, json!({"token_type": "Bearer", "expires_in": 3599, "access_token": token}))
    }

    fn may_call(&self, asked: &Asked) -> bool {
        match &self.callers {
            Callers::Header(name, value) => asked.header(name) == value,
            Callers::Tokens { .. } => {
                let token = asked.header("authorization").strip_prefix("Bearer ");
                token.is_some() && token == self.faults.token.as_deref()
            }
        }
    }
}

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        for (name, value) in self.headers {
            response.headers_mut().append(name, value.parse().unwrap());
        }
        response
    }
}

/// Without percent-encoding.
fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut bytes = parts.next().unwrap_or("").as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}
