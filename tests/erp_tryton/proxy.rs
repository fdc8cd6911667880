//! What stands between Holdfast and the ERP in this test: passes calls on, makes trouble when told to.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Nothing is passed on, everything is answered 503.
    pub unavailable: bool,
    /// Every other call is passed on, and its answer is lost.
    pub lose_answers: bool,
    /// How long a call waits before it is passed on.
    pub delay: Duration,
}

/// What was seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    pub calls: u64,
    pub faults: u64,
    /// Calls that are passed on and not answered yet.
    under_way: u64,
}

#[derive(Debug)]
struct Inside {
    faults: Mutex<Faults>,
    seen: Mutex<Seen>,
    client: reqwest::Client,
    port: u16,
}

/// See the module.
pub struct Proxy {
    url: String,
    inside: Arc<Inside>,
}

impl Proxy {
    pub async fn start(port: u16) -> Self {
        let inside = Arc::new(Inside {
            faults: Mutex::default(),
            seen: Mutex::default(),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            port,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(pass).with_state(inside.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, inside }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn behave(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.inside.faults.lock());
    }

    pub fn seen(&self) -> Seen {
        *self.inside.seen.lock()
    }

    /// Waits until the ERP is busy with a call.
    pub async fn until_under_way(&self) {
        while self.seen().under_way == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn pass(
    State(inside): State<Arc<Inside>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let faults = inside.faults.lock().clone();
    let calls = {
        let mut seen = inside.seen.lock();
        seen.calls += 1;
        seen.calls
    };
    tokio::time::sleep(faults.delay).await;
    let trouble = || {
        inside.seen.lock().faults += 1;
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    };
    if faults.unavailable {
        return trouble();
    }
    let url = format!("http://127.0.0.1:{}{uri}", inside.port);
    let mut request = inside.client.request(method, url).body(body);
    for name in ["authorization", "content-type", "idempotency-key"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    inside.seen.lock().under_way += 1;
    let answer = request.send().await;
    inside.seen.lock().under_way -= 1;
    match answer {
        Ok(answer) if !(faults.lose_answers && calls.is_multiple_of(2)) => {
            let status = answer.status();
            match answer.bytes().await {
                Ok(body) => (status, body).into_response(),
                Err(_) => trouble(),
            }
        }
        _ => trouble(),
    }
}
