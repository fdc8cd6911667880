//! Messages that partners send of their own accord: `POST /v1/hooks/{partner}`, signed, in whatever
//! form the partner's rules can read.
//!
//! - A message must be signed with the partner's secret and be of now, else it is 401 and nothing was
//!   changed. Its id is the idempotency key in the partner's scope: a repeat gets the first answer, and
//!   the same id with something else in it is 422.
//! - What the rules make of it goes through the same types and the same engine calls as the routes'
//!   bodies, and has their answers.
//! - Nothing is parked here: what can't be done yet (an order that is not known) is refused and not
//!   remembered, so that the partner's own schedule of retries brings it again.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    extract,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    State,
    answer::{self, Effect},
    codes, json,
    partners::Hook,
    problem::Problem,
    request::{PathParams, RawJson},
};
use crate::{
    engine::{Engine, Key},
    model::{
        IdempotencyKey, Invalid, OrderId, Reference,
        command::{AdjustStock, ImportStock},
        mapping::{Mapped, Operation},
        view::FactView,
    },
};

/// The answer to a message that is of no consequence.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ignored {
    /// `ignored`.
    state: &'static str,
    /// Why.
    reason: &'static str,
}

/// Takes a partner's signed message.
#[utoipa::path(post, path = "/v1/hooks/{partner}", tag = "hooks",
    params(("partner" = String, Path, description = "The partner's name."),
        ("webhook-id" = Option<String>, Header, description = "The message's id (Standard Webhooks)."),
        ("webhook-timestamp" = Option<String>, Header, description = "The second of the attempt."),
        ("webhook-signature" = Option<String>, Header, description = "`v1,` and the HMAC-SHA256 in base64."),
        ("stripe-signature" = Option<String>, Header, description = "For partners of the scheme `stripe`.")),
    request_body = Object,
    responses(
        (status = 201, description = "It happened. Changes of stock have a position's view.", body = FactView),
        (status = 200, description = "It was of no consequence, or had happened before.", body = Ignored)))]
pub(super) async fn receive(
    extract::State(state): extract::State<State>,
    path: PathParams,
    headers: HeaderMap,
    RawJson(body): RawJson,
) -> Result<Response, Problem> {
    let Some((partner, hook)) = state.partners().hook(path.text("partner")) else {
        let detail = "no partner of this name has a hook";
        return Err(Problem::detailed(&codes::NOT_FOUND, detail));
    };
    let id = verify(hook, &headers, &body)?;
    let answered = take(&state, partner, hook, id, &body).await;
    if let Err(problem) = &answered {
        // The partner's people see this at their end; whoever looks here should see it too.
        let (code, detail) = (problem.code().code, problem.detail());
        tracing::warn!(partner, code, detail, "a hook's message was refused");
    }
    answered
}

/// Checks that the message is the partner's, and of now; its id where a header has it.
fn verify<'h>(
    hook: &Hook,
    headers: &'h HeaderMap,
    body: &[u8],
) -> Result<Option<&'h str>, Problem> {
    let header = |name: &'static str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        value.to_str().ok()
    };
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    hook.verifier.verify(header, body, now_s).map_err(|why| {
        tracing::debug!(%why, "a hook's message is not the partner's");
        Problem::unauthenticated(why.to_string(), hook.verifier.scheme().signature_header())
    })
}

async fn take(
    state: &State,
    partner: &str,
    hook: &Hook,
    id: Option<&str>,
    body: &[u8],
) -> Result<Response, Problem> {
    let payload = json::any(body)?;
    let (name, id) = match id {
        Some(id) => ("webhook-id", id),
        None => ("id", payload.get("id").and_then(Value::as_str).unwrap_or_default()),
    };
    let key: IdempotencyKey = id.parse().map_err(|e: Invalid| Problem::malformed(name, e.0))?;
    let mapped = hook.mapping.map(&payload).map_err(|why| Problem::unmapped(&why))?;
    drop(payload);
    perform(state, Key::new(partner, &key), mapped).await
}

/// Does it as the route would.
async fn perform(state: &State, key: Key<'_>, mapped: Mapped) -> Result<Response, Problem> {
    let Mapped { operation, fields } = mapped;
    let engine: &Engine = state.engine()?;
    let decision = match operation {
        Operation::Ignore => return Ok(ignored("a rule says so")),
        Operation::StockSet => return set_stock(state, fields).await,
        Operation::StockAdjustment => {
            let adjust: AdjustStock = json::object(fields)?;
            return answer::made(state, engine.adjust_stock(key, &adjust)).await;
        }
        Operation::Shipment => with_order(fields, |order, body| engine.ship(key, &order, &body)),
        Operation::Cancellation => {
            with_order(fields, |order, body| engine.cancel(key, &order, &body))
        }
        Operation::Invoice => with_order(fields, |order, body| engine.invoice(key, &order, &body)),
        Operation::Settlement => {
            with_order(fields, |order, body| engine.settle_order(key, &order, &body))
        }
        Operation::Refund => with_order(fields, |order, body| engine.refund(key, &order, &body)),
        Operation::Return => {
            with_order(fields, |order, body| engine.authorize_return(key, &order, &body))
        }
        Operation::Receipt => {
            let mut fields = fields;
            let return_id: Reference = id(&mut fields, "return_id")?;
            let receive = |order, body| engine.receive_return(key, &order, &return_id, &body);
            with_order(fields, receive)
        }
        Operation::Note => with_order(fields, |order, body| engine.note(key, &order, &body)),
    };
    answer::made(state, decision?).await
}

/// Takes the order's id out of the fields, reads the rest as the route's body, and decides.
fn with_order<T: DeserializeOwned, D>(
    mut fields: Map<String, Value>,
    decide: impl FnOnce(OrderId, T) -> D,
) -> Result<D, Problem> {
    let order = id(&mut fields, "order_id")?;
    Ok(decide(order, json::object(fields)?))
}

/// A field that is in a route's path.
fn id<T: std::str::FromStr<Err = Invalid>>(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<T, Problem> {
    let value = fields.remove(name).ok_or_else(|| Problem::malformed(name, "is missing"))?;
    let text = value.as_str().ok_or_else(|| Problem::malformed(name, "must be a text"))?;
    text.parse().map_err(|e: Invalid| Problem::malformed(name, e.0))
}

/// A count has no key: its version says whether it is new. One that isn't is no failure of the sender,
/// who would only send it again.
async fn set_stock(state: &State, fields: Map<String, Value>) -> Result<Response, Problem> {
    let (sku, location, set) = json::object::<ImportStock>(fields)?.into_parts();
    if set.source_version.is_none() {
        let reason = "is missing; without it a count that comes twice can't be told from a new one";
        return Err(Problem::malformed("source_version", reason));
    }
    let decision = state.engine()?.set_stock(&sku, &location, &set);
    match answer::done(state, decision, Effect::Change).await {
        Err(problem) if *problem.code() == codes::STALE_VERSION => {
            Ok(ignored("its `source_version` is not above the last one"))
        }
        answered => answered,
    }
}

fn ignored(reason: &'static str) -> Response {
    answer::json(StatusCode::OK, &Ignored { state: "ignored", reason })
}
