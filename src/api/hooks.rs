//! Messages that partners send of their own accord: `POST /v1/hooks/{partner}`, signed, in whatever
//! form the partner's rules can read.
//!
//! - A message must be signed with the partner's secret and be of now, else it is 401 and nothing was
//!   changed. Its id is the idempotency key in the partner's scope: a repeat gets the first answer, and
//!   the same id with something else in it is 422.
//! - More than a hook takes in a second are answered with 429, like a partner's requests. What is not the
//!   partner's is counted by itself.
//! - What the rules make of it goes through the same types and the same engine calls as the routes'
//!   bodies, and has their answers.
//! - What is about an order that is not there yet is parked and answered with 202: it happens once the
//!   order is there (see [`crate::engine`]'s parked events). Where the hook does not park, it is refused
//!   and not remembered, so that the partner's own schedule of retries brings it again.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    extract,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    State,
    answer::{self, Effect, deadline, settle},
    codes, front,
    hook_message::{Told, read},
    json,
    meter::UsedUp,
    partners::{Hook, Hooked},
    problem::Problem,
    request::{PathParams, RawJson},
    stages,
};
use crate::{
    engine::{Engine, Key},
    model::{
        IdempotencyKey, Invalid, Origin,
        command::ImportStock,
        inbound::{ParkedEventView, Taken},
        mapping::Mapped,
        view::FactView,
    },
    telemetry::Stage,
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
        (status = 202, description = "Its order is not there yet: it is parked, and happens once it is.",
            body = ParkedEventView),
        (status = 200, description = "It was of no consequence, or had happened before.", body = Ignored)))]
pub(super) async fn receive(
    extract::State(state): extract::State<State>,
    path: PathParams,
    headers: HeaderMap,
    RawJson(body): RawJson,
) -> Result<Response, Problem> {
    let partners = state.partners();
    let Some(hooked) = partners.hook(path.text("partner")) else {
        let detail = "no partner of this name has a hook";
        return Err(Problem::detailed(&codes::NOT_FOUND, detail));
    };
    let verified = verify(hooked.hook, &headers, &body);
    let meter = if verified.is_ok() { &hooked.door.signed } else { &hooked.door.unsigned };
    let (answered, left) = match meter.count(|| state.now_ms()) {
        Ok(left) => {
            let answered = match verified {
                Ok(id) => receive_signed(&state, hooked, id, &headers, &body).await,
                Err(problem) => Err(problem),
            };
            (answered, left)
        }
        Err(used_up) => (Err(too_many(hooked, verified.is_ok(), used_up)), used_up.left),
    };
    let mut response = answered.into_response();
    meter.tell(left, response.headers_mut());
    Ok(response)
}

/// The answer to a message that is one too many.
fn too_many(hooked: Hooked<'_>, is_signed: bool, used_up: UsedUp) -> Problem {
    hooked.door.refused[usize::from(!is_signed)].fetch_add(1, Relaxed);
    let whose = if is_signed { "messages" } else { "messages that are not its own" };
    let name = hooked.name;
    let detail = format!("the hook of `{name}` takes no more {whose} now; nothing was changed");
    Problem::rate_limited(detail, used_up.retry_after_s)
}

/// Takes a message that is the partner's.
async fn receive_signed(
    state: &State,
    Hooked { name: partner, hook, .. }: Hooked<'_>,
    id: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Problem> {
    let (request_id, trace) = (front::request_id(headers), front::traceparent(headers));
    let trace = trace.as_ref().and_then(|trace| trace.to_str().ok());
    let request_id = request_id.as_ref().and_then(|id| id.to_str().ok());
    let origin = request_id.and_then(|id| Origin::new(id, trace));
    let message = Message { partner, hook, id, origin, body };
    let answered = take(state, message).await;
    let status = match &answered {
        Ok(response) => response.status().as_u16(),
        Err(problem) => problem.code().status,
    };
    state.partners().count_message(partner, status);
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

/// A message that is a partner's.
struct Message<'a> {
    partner: &'a str,
    hook: &'a Hook,
    /// Its id, where a header has it.
    id: Option<&'a str>,
    origin: Option<Origin<'a>>,
    body: &'a [u8],
}

async fn take(state: &State, message: Message<'_>) -> Result<Response, Problem> {
    let Message { partner, hook, id, origin, body } = message;
    let payload = json::any(body)?;
    let (name, id) = match id {
        Some(id) => ("webhook-id", id),
        None => ("id", payload.get("id").and_then(Value::as_str).unwrap_or_default()),
    };
    let key: IdempotencyKey = id.parse().map_err(|e: Invalid| Problem::malformed(name, e.0))?;
    let mapped = hook.mapping.map(&payload).map_err(|why| Problem::unmapped(&why))?;
    drop(payload);
    stages::lap(Stage::Decode);
    perform(state, hook, Key { origin, ..Key::new(partner, &key) }, mapped).await
}

/// Does it as the route would; what is about an order that is not there yet may be parked.
async fn perform(
    state: &State,
    hook: &Hook,
    key: Key<'_>,
    mapped: Mapped,
) -> Result<Response, Problem> {
    let engine: &Engine = state.engine()?;
    let (order, event) = match read(mapped)? {
        Told::Nothing => return Ok(ignored("a rule says so")),
        Told::Count(count) => return set_stock(state, count).await,
        Told::Adjustment(adjust) => {
            return answer::made(state, engine.adjust_stock(key, &adjust)).await;
        }
        Told::OfOrder(order, event) => (order, event),
    };
    if !hook.parks {
        return answer::made(state, engine.happens(key, &order, &event)).await;
    }
    let decision = engine.happens_or_parks(key, &order, &event);
    let answer = settle(state, decision, Effect::Change, deadline(state)).await?;
    let status = match (&answer.value, answer.created) {
        (Taken::Parked(_), _) => StatusCode::ACCEPTED,
        (Taken::Happened(_), true) => StatusCode::CREATED,
        (Taken::Happened(_), false) => StatusCode::OK,
    };
    Ok(answer::respond(status, &answer))
}

/// A count has no key: its version says whether it is new. One that isn't is no failure of the sender,
/// who would only send it again.
async fn set_stock(state: &State, count: ImportStock) -> Result<Response, Problem> {
    let (sku, location, set) = count.into_parts();
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
