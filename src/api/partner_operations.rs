//! Partners that the log keeps: adding one, giving it another key, revoking it. The next request sees it.
//!
//! A key is made here, shown in the one answer that is about it, and kept nowhere: only its hash is. So
//! none of these routes takes an idempotency key, since a repeat could not show the key again: adding
//! twice is refused, and a key that was lost on the way is replaced by another one.

use axum::{
    extract,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    State,
    access::Caller,
    answer::{self, Effect, deadline, settle},
    codes,
    problem::Problem,
    request::{Json, OptionalJson, PathParams},
};
use crate::{
    engine::Decision,
    model::{
        partner::{AddPartner, PartnerEntry, PartnerView, RotateKey, Scope},
        signature::ApiKey,
    },
};

/// A partner and its new key.
#[derive(Serialize, ToSchema)]
pub(super) struct PartnerWithKey {
    #[serde(flatten)]
    partner: PartnerView,
    /// Its key, shown this once.
    api_key: String,
}

/// All partners.
#[derive(Serialize, ToSchema)]
pub(super) struct PartnerList {
    /// Those of the configuration that have a key, then those of the log.
    partners: Vec<PartnerView>,
}

/// Adds a partner. Its key is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/partners", tag = "partners", request_body = AddPartner,
    responses((status = 201, description = "It can call now, with this key.", body = PartnerWithKey)))]
pub(super) async fn add(
    extract::State(state): extract::State<State>,
    caller: Caller,
    Json(add): Json<AddPartner>,
) -> Result<Response, Problem> {
    if state.partners().has(&add.name) {
        let detail = "the configuration has a partner of this name";
        return Err(Problem::detailed(&codes::PARTNER_EXISTS, detail));
    }
    if !state.needs_keys() && !add.scopes.have_any(&[Scope::Operate]) {
        let wrong = "must name `operate`: this is the first partner, and from here on nobody without \
                     it can add another";
        return Err(Problem::malformed("scopes", wrong));
    }
    let key = new_key()?;
    let decision = state.engine()?.add_partner(&add, &key.hash(), caller.name());
    keyed(&state, StatusCode::CREATED, decision, &key).await
}

/// Lists partners: nothing of their keys.
#[utoipa::path(get, path = "/v1/partners", tag = "partners",
    responses((status = 200, description = "All of them.", body = PartnerList)))]
pub(super) async fn list(
    extract::State(state): extract::State<State>,
) -> Result<Response, Problem> {
    let decision = state.engine()?.listed_partners();
    let live = settle(&state, decision, Effect::Read, deadline(&state)).await?.value;
    let now_ms = state.now_ms();
    let live = live.iter().map(|partner| partner.view(now_ms));
    let partners = state.partners().views().chain(live).collect();
    Ok(answer::json(StatusCode::OK, &PartnerList { partners }))
}

/// Gives a partner another key, which is in this answer and nowhere else. The present one stays good for
/// `grace_ms`.
#[utoipa::path(post, path = "/v1/partners/{name}/rotate", tag = "partners",
    params(("name" = String, Path, description = "The partner.")), request_body = Option<RotateKey>,
    responses((status = 200, description = "The new key is good.", body = PartnerWithKey)))]
pub(super) async fn rotate(
    extract::State(state): extract::State<State>,
    caller: Caller,
    path: PathParams,
    OptionalJson(rotate): OptionalJson<RotateKey>,
) -> Result<Response, Problem> {
    let name = path.text("name");
    check_kept(&state, name)?;
    let key = new_key()?;
    let engine = state.engine()?;
    let decision = engine.rotate_partner(name, &key.hash(), rotate.grace_ms, caller.name());
    keyed(&state, StatusCode::OK, decision, &key).await
}

/// Revokes a partner: none of its keys is good any more, on connections that are open too. Asking again
/// changes nothing.
#[utoipa::path(delete, path = "/v1/partners/{name}", tag = "partners",
    params(("name" = String, Path, description = "The partner.")),
    responses((status = 200, description = "It is revoked.", body = PartnerView)))]
pub(super) async fn revoke(
    extract::State(state): extract::State<State>,
    caller: Caller,
    path: PathParams,
) -> Result<Response, Problem> {
    let name = path.text("name");
    check_kept(&state, name)?;
    let decision = state.engine()?.revoke_partner(name, caller.name());
    let revoked = settle(&state, decision, Effect::Change, deadline(&state)).await?.value;
    tracing::info!(partner = name, by = caller.name(), "a partner is revoked");
    Ok(answer::json(StatusCode::OK, &revoked.view(state.now_ms())))
}

fn new_key() -> Result<ApiKey, Problem> {
    ApiKey::random().map_err(|wrong| Problem::detailed(&codes::OVERLOADED, wrong.0))
}

/// What the configuration has is changed there.
fn check_kept(state: &State, name: &str) -> Result<(), Problem> {
    if state.partners().has(name) {
        let detail = "this partner is in the configuration, not in the log: change it there";
        return Err(Problem::detailed(&codes::NOT_FOUND, detail));
    }
    Ok(())
}

/// Settles, and shows the key.
async fn keyed(
    state: &State,
    status: StatusCode,
    decision: Decision<PartnerEntry>,
    key: &ApiKey,
) -> Result<Response, Problem> {
    let changed = settle(state, decision, Effect::Change, deadline(state)).await?.value;
    let by = &changed.changed_by;
    tracing::info!(partner = changed.name, by, "a partner has a new key");
    let partner = changed.view(state.now_ms());
    let shown = PartnerWithKey { partner, api_key: key.reveal().to_owned() };
    let mut response = answer::json(status, &shown);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
