//! Reservations: made, read, changed, released, extended, committed.

use axum::{extract, http::StatusCode, response::Response};
use serde::Serialize;
use tokio::time::timeout_at;
use utoipa::ToSchema;

use super::{
    State,
    answer::{self, Effect},
    codes,
    problem::Problem,
    request::{Json, Keyed, Names, OptionalJson, PathParams, QueryParams},
};
use crate::{
    engine::Filter,
    model::{
        CustomerId, OrderId, ReservationId,
        command::{ChangeLines, Commit, Extend, Release, Reserve},
        view::ReservationView,
    },
};

/// Reservations on a page unless `limit` says otherwise.
const PAGE_DEFAULT: usize = 100;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReservationPage {
    /// Those on this page.
    pub reservations: Vec<ReservationView>,
    /// What to send as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What a question for reservations is answered with.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code)] // A schema: either is written by itself.
pub(super) enum ReservationAnswer {
    /// Those of an order or a customer.
    Page(ReservationPage),
    /// The one of an `id`.
    One(ReservationView),
}

/// Takes stock for a while: all lines or none.
#[utoipa::path(post, path = "/v1/reservations", tag = "reservations",
    params(("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters.")),
    request_body = Reserve,
    responses((status = 201, description = "Held.", body = ReservationView)))]
pub(super) async fn reserve(
    extract::State(state): extract::State<State>,
    keyed: Keyed,
    Json(reserve): Json<Reserve>,
) -> Result<Response, Problem> {
    let decision = state.engine()?.reserve(keyed.key_of_many(), &reserve);
    answer::made(&state, decision).await
}

/// Reads a reservation.
#[utoipa::path(get, path = "/v1/reservations/{id}", tag = "reservations",
    params(("id" = ReservationId, Path, description = "The reservation's id.")),
    responses((status = 200, description = "As it stands.", body = ReservationView)))]
pub(super) async fn get(
    extract::State(state): extract::State<State>,
    path: PathParams,
) -> Result<Response, Problem> {
    read(&state, path.id("id")?).await
}

async fn read(state: &State, id: ReservationId) -> Result<Response, Problem> {
    let decision = state.engine()?.reservation(id);
    answer::done(state, decision, Effect::Read).await
}

/// Lists the reservations of an order or a customer. For operators: it scans the table.
#[utoipa::path(get, path = "/v1/reservations", tag = "reservations",
    params(
        ("id" = Option<ReservationId>, Query, description = "One id; answers as `/v1/reservations/{id}`."),
        ("order_id" = Option<OrderId>, Query, description = "Those made for this order."),
        ("customer" = Option<CustomerId>, Query, description = "Those of this customer."),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The most on a page; default 100."),
        ("cursor" = Option<String>, Query, pattern = "^c[0-9a-fA-F]{8}$", description = "The `next_cursor` of the page before."),
    ),
    responses((status = 200, description = "A `ReservationView` for `id`.", body = ReservationAnswer)))]
pub(super) async fn list(
    extract::State(state): extract::State<State>,
    query: QueryParams,
) -> Result<Response, Problem> {
    query.only(&["id", "order_id", "customer", "limit", "cursor"])?;
    let by: (Option<ReservationId>, Option<OrderId>, Option<CustomerId>) =
        (query.get("id")?, query.get("order_id")?, query.get("customer")?);
    match by {
        (Some(id), None, None) => read(&state, id).await,
        (None, Some(order), None) => scan(state, Whose::Order(order), &query).await,
        (None, None, Some(customer)) => scan(state, Whose::Customer(customer), &query).await,
        _ => {
            Err(Problem::malformed("id", "or `order_id` or `customer` must be given, one of them"))
        }
    }
}

/// Whose reservations are looked for.
enum Whose {
    Order(OrderId),
    Customer(CustomerId),
}

/// Looks through the table beside the threads that serve requests, one caller at a time.
async fn scan(state: State, whose: Whose, query: &QueryParams) -> Result<Response, Problem> {
    let after = query.text("cursor").map(cursor).transpose()?;
    let limit = page_limit(query.text("limit"), state.options().page_max)?;
    let engine = state.engine()?.clone();
    let deadline = answer::deadline(&state);
    let permit = timeout_at(deadline, state.scans().acquire_owned()).await;
    let Ok(Ok(permit)) = permit else { return Err(Problem::new(&codes::OVERLOADED)) };
    let scanned = tokio::task::spawn_blocking(move || {
        // Held by the scan itself: a caller who goes away does not let a second one in.
        let _permit = permit;
        let filter = match &whose {
            Whose::Order(order) => Filter::Order(order),
            Whose::Customer(customer) => Filter::Customer(customer),
        };
        engine.reservations(filter, after, limit)
    });
    let decision = scanned.await.map_err(|_| Problem::new(&codes::INTERNAL))?;
    let page = answer::settle(&state, decision, Effect::Read, deadline).await?.value;
    let page = ReservationPage {
        reservations: page.reservations,
        next_cursor: page.next.map(|slot| format!("c{slot:08x}")),
    };
    Ok(answer::json(StatusCode::OK, &page))
}

fn cursor(text: &str) -> Result<u32, Problem> {
    let digits = text.strip_prefix('c').filter(|d| d.len() == 8 && !d.starts_with('+'));
    digits
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| Problem::malformed("cursor", "is none that was given out"))
}

pub(super) fn page_limit(text: Option<&str>, max: usize) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(PAGE_DEFAULT.min(max)) };
    match text.parse::<usize>() {
        Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
        _ => Err(Problem::malformed("limit", &format!("must be 1 to {max}"))),
    }
}

/// Gives a held reservation back, in part where lines are named.
#[utoipa::path(post, path = "/v1/reservations/{id}/release", tag = "reservations",
    params(
        ("id" = ReservationId, Path, description = "The reservation's id."),
        ("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters."),
    ),
    request_body(content = Option<Release>, description = "Absent: all of it."),
    responses((status = 200, description = "As it stands.", body = ReservationView)))]
pub(super) async fn release(
    extract::State(state): extract::State<State>,
    path: PathParams,
    keyed: Keyed,
    OptionalJson(release): OptionalJson<Release>,
) -> Result<Response, Problem> {
    let decision = state.engine()?.release(keyed.key_of_many(), path.id("id")?, &release);
    answer::done(&state, decision, Effect::Change).await
}

/// Holds a reservation for longer.
#[utoipa::path(post, path = "/v1/reservations/{id}/extend", tag = "reservations",
    params(
        ("id" = ReservationId, Path, description = "The reservation's id."),
        ("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters."),
    ),
    request_body = Extend,
    responses((status = 200, description = "As it stands.", body = ReservationView)))]
pub(super) async fn extend(
    extract::State(state): extract::State<State>,
    path: PathParams,
    keyed: Keyed,
    Json(extend): Json<Extend>,
) -> Result<Response, Problem> {
    let decision = state.engine()?.extend(keyed.key_of_many(), path.id("id")?, &extend);
    answer::done(&state, decision, Effect::Change).await
}

/// Makes a held reservation an order.
#[utoipa::path(post, path = "/v1/reservations/{id}/commit", tag = "reservations",
    params(
        ("id" = ReservationId, Path, description = "The reservation's id."),
        ("Idempotency-Key" = crate::model::IdempotencyKey, Header, description = "1 to 255 visible ASCII characters."),
    ),
    request_body = Commit,
    responses((status = 200, description = "As it stands.", body = ReservationView)))]
pub(super) async fn commit(
    extract::State(state): extract::State<State>,
    path: PathParams,
    keyed: Keyed,
    Json(commit): Json<Commit>,
) -> Result<Response, Problem> {
    let decision = state.engine()?.commit(keyed.key(), path.id("id")?, &commit);
    answer::done(&state, decision, Effect::Change).await
}

/// Changes what a held cart holds, as one decision.
#[utoipa::path(put, path = "/v1/reservations/{id}/lines", tag = "reservations",
    params(("id" = ReservationId, Path, description = "The reservation's id.")),
    request_body = ChangeLines,
    responses((status = 200, description = "As it stands.", body = ReservationView)))]
pub(super) async fn change_lines(
    extract::State(state): extract::State<State>,
    path: PathParams,
    names: Names,
    Json(change): Json<ChangeLines>,
) -> Result<Response, Problem> {
    let origin = names.origin_of_many();
    let decision = state.engine()?.change_lines(path.id("id")?, &change, origin);
    answer::done(&state, decision, Effect::Change).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_what_was_given_out() {
        assert_eq!(cursor("c000000ff").ok(), Some(255));
        for bad in ["", "c", "255", "c+00000ff", "c000000ff0", "cäääääääää"] {
            assert!(cursor(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_has_limits() {
        assert_eq!(page_limit(None, 1_000).ok(), Some(100));
        assert_eq!(page_limit(Some("1000"), 1_000).ok(), Some(1_000));
        for bad in ["0", "1001", "-1", "x", ""] {
            assert!(page_limit(Some(bad), 1_000).is_err(), "{bad}");
        }
    }
}
