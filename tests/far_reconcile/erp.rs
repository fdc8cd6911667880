//! An ERP that keeps stock by line, tells it page by page, and can be made to lie.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// How it lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lie {
    #[default]
    None,
    /// The state is another one with every page, so many times.
    Restless(u32),
    Garbage,
    Hangs,
    /// More bytes than anybody asked for.
    Large,
    /// The second page begins where the first did.
    Overlaps,
    /// A figure is half a unit.
    Halves,
    /// It says 500.
    Broken,
    /// Pages go on for ever.
    Round,
}

#[derive(Debug, Default)]
pub struct Inside {
    /// On hand and committed by SKU and location.
    pub stock: BTreeMap<(String, String), (i64, i64)>,
    lines: HashSet<String>,
    pub revision: u64,
    pub lie: Lie,
    /// Batches are applied and not answered for so long.
    pub latency: Duration,
    /// Nothing is taken.
    pub outage: bool,
    /// Lines of this SKU are refused.
    pub refused: Option<String>,
    pub pages: u64,
}

/// See the module; stopped when dropped.
pub struct Erp {
    pub port: u16,
    inside: Arc<Mutex<Inside>>,
    server: JoinHandle<()>,
}

impl Erp {
    pub async fn start() -> Self {
        let inside = Arc::new(Mutex::new(Inside::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = Router::new()
            .route("/batches", post(take))
            .route("/stock", get(tell))
            .with_state(inside.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { port, inside, server }
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut Inside) -> T) -> T {
        change(&mut self.inside.lock())
    }
}

impl Drop for Erp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(inside): State<Arc<Mutex<Inside>>>, Json(batch): Json<Value>) -> Response {
    let (rejected, latency) = {
        let mut inside = inside.lock();
        if inside.outage {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let mut rejected = Vec::new();
        for line in batch["lines"].as_array().unwrap() {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            if inside.refused == Some(text("sku")) {
                rejected.push(json!({"line_id": text("line_id"), "reason": "not ours"}));
                continue;
            }
            if !inside.lines.insert(text("line_id")) {
                continue;
            }
            inside.revision += 1;
            let units = line["quantity"].as_i64().unwrap();
            let stock = inside.stock.entry((text("sku"), text("location"))).or_default();
            match text("movement").as_str() {
                "sold" => stock.1 += units,
                "cancelled" => stock.1 -= units,
                "shipped" => *stock = (stock.0 - units, stock.1 - units),
                _ => stock.0 += units,
            }
        }
        (rejected, inside.latency)
    };
    tokio::time::sleep(latency).await;
    Json(json!({"rejected": rejected})).into_response()
}

#[derive(serde::Deserialize)]
struct Page {
    #[serde(default)]
    after: usize,
    limit: usize,
}

async fn tell(State(inside): State<Arc<Mutex<Inside>>>, Query(page): Query<Page>) -> Response {
    let lie = {
        let mut inside = inside.lock();
        inside.pages += 1;
        if let Lie::Restless(times) = inside.lie {
            inside.revision += 1;
            inside.lie = if times > 1 { Lie::Restless(times - 1) } else { Lie::None };
        }
        inside.lie
    };
    match lie {
        Lie::Garbage => return "<html>".into_response(),
        Lie::Broken => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Lie::Hangs => tokio::time::sleep(Duration::from_secs(30)).await,
        Lie::Large => return format!("[\"{}\"]", "x".repeat(4 << 20)).into_response(),
        _ => {}
    }
    let inside = inside.lock();
    let from = if lie == Lie::Overlaps { 0 } else { page.after };
    let rows = inside.stock.iter().skip(from).take(page.limit);
    let mut rows: Vec<Value> = rows
        .map(|((sku, location), (on_hand, committed))| {
            json!({"sku": sku, "location": location, "on_hand": on_hand, "committed": committed})
        })
        .collect();
    if lie == Lie::Halves {
        rows[0]["on_hand"] = json!(1.5);
    }
    let end = page.after + page.limit;
    let mut next = (end < inside.stock.len()).then(|| end.to_string());
    if lie == Lie::Round {
        (next, rows) = (Some("7".into()), Vec::new());
    }
    Json(json!({"revision": inside.revision.to_string(), "positions": rows, "next": next}))
        .into_response()
}
