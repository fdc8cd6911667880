//! Dead letters: what a partner refused for its content. Listed, looked at, mended, sent again,
//! dropped.

use axum::{extract, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    State,
    access::Caller,
    answer, codes,
    problem::Problem,
    request::{Json, PathParams, QueryParams},
    sink_operations::{by, grant},
};
use crate::model::{
    letter::Letter,
    sink::{LetterView, wish::Wish},
};

/// The most letters of one answer.
const PAGE_MAX: usize = 1_000;
/// Letters of an answer where the request does not say.
const PAGE_DEFAULT: usize = 100;

/// Letters, without their content.
#[derive(Serialize, ToSchema)]
pub(super) struct LetterList {
    /// Oldest first.
    dead_letters: Vec<LetterView>,
    /// How many there are in all.
    total: u64,
    /// What to ask for as `after` to get the next; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A letter.
#[derive(Serialize, ToSchema)]
pub(super) struct LetterBody {
    #[serde(flatten)]
    view: LetterView,
    /// The body that was refused: the head of its batch, with this content alone.
    content: Value,
}

/// A letter's content as it is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mended {
    /// As `content` of the letter, or its list of lines (`lines`, `entries`, `orders`) alone. The lines
    /// keep their ids; entries must balance.
    content: Value,
    /// For the log.
    reason: Option<String>,
}

/// Lists dead letters.
#[utoipa::path(get, path = "/v1/dead-letters", tag = "operations",
    params(("sink" = Option<String>, Query, description = "Of this sink alone."),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "At most so many, 1 to 1,000; 100 without it."),
        ("after" = Option<String>, Query, description = "Behind the letter of this id.")),
    responses((status = 200, description = "As they stand.", body = LetterList)))]
pub(super) async fn list(
    extract::State(state): extract::State<State>,
    query: QueryParams,
) -> Result<Response, Problem> {
    query.only(&["sink", "limit", "after"])?;
    state.engine()?;
    let sink = query.text("sink");
    if let Some(sink) = sink
        && state.sinks().iter().all(|known| known.name != sink)
    {
        return Err(Problem::detailed(&codes::NOT_FOUND, "there is no sink of this name"));
    }
    let limit = match query.text("limit") {
        None => PAGE_DEFAULT,
        Some(text) => {
            let limit = text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
            limit.ok_or_else(|| Problem::malformed("limit", "must be 1 to 1000"))?
        }
    };
    let mut all = state.letters(sink);
    let total = all.len() as u64;
    let begin = match query.text("after") {
        None => 0,
        Some(after) => {
            let at = all.iter().position(|letter| letter.id == after);
            at.ok_or_else(|| Problem::malformed("after", "is no dead letter any more"))? + 1
        }
    };
    let mut page = all.split_off(begin);
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|letter| letter.id.clone());
    Ok(answer::json(StatusCode::OK, &LetterList { dead_letters: page, total, next }))
}

/// Reads a dead letter with its content.
#[utoipa::path(get, path = "/v1/dead-letters/{id}", tag = "operations",
    params(("id" = String, Path, description = "The letter, percent-encoded.")),
    responses((status = 200, description = "As it stands.", body = LetterBody)))]
pub(super) async fn get(
    extract::State(state): extract::State<State>,
    path: PathParams,
) -> Result<Response, Problem> {
    let (view, letter) = found(&state, &path)?;
    Ok(answer::json(StatusCode::OK, &LetterBody { view, content: content(&letter) }))
}

/// Changes a letter's content. It is not sent by that: see retry.
#[utoipa::path(put, path = "/v1/dead-letters/{id}", tag = "operations",
    params(("id" = String, Path, description = "The letter, percent-encoded.")),
    request_body = Mended,
    responses((status = 200, description = "As it is now.", body = LetterBody)))]
pub(super) async fn mend(
    extract::State(state): extract::State<State>,
    caller: Caller,
    path: PathParams,
    Json(mended): Json<Mended>,
) -> Result<Response, Problem> {
    let (view, _) = found(&state, &path)?;
    let by = by(&caller, mended.reason, false)?;
    let wish = Wish::Mend { letter: view.id, content: mended.content };
    grant(&state, &view.sink, wish, by).await?;
    get(extract::State(state), path).await
}

/// Sends a letter again: while it is not mended as the part of a batch that it was, mended as a batch
/// of its own; its lines keep their ids. It is gone when the partner has taken it.
#[utoipa::path(post, path = "/v1/dead-letters/{id}/retry", tag = "operations",
    params(("id" = String, Path, description = "The letter, percent-encoded.")),
    responses((status = 200, description = "It is sealed and goes out.", body = super::sink_operations::Done)))]
pub(super) async fn retry(
    extract::State(state): extract::State<State>,
    caller: Caller,
    path: PathParams,
) -> Result<Response, Problem> {
    let (view, _) = found(&state, &path)?;
    let wish = Wish::Retry { letter: view.id };
    grant(&state, &view.sink, wish, by(&caller, None, false)?).await
}

/// Drops a letter: the partner will never have it. Who and why stand in the log.
#[utoipa::path(delete, path = "/v1/dead-letters/{id}", tag = "operations",
    params(("id" = String, Path, description = "The letter, percent-encoded."),
        ("reason" = String, Query, min_length = 1, max_length = 500, pattern = r"\S", description = "Why."),
        ("force" = Option<bool>, Query, description = "In a freeze window all the same.")),
    responses((status = 200, description = "It is written down.", body = super::sink_operations::Done)))]
pub(super) async fn discard(
    extract::State(state): extract::State<State>,
    caller: Caller,
    path: PathParams,
    query: QueryParams,
) -> Result<Response, Problem> {
    query.only(&["reason", "force"])?;
    let forced = match query.text("force") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::malformed("force", "must be true or false")),
    };
    let reason = query.text("reason").filter(|reason| !reason.trim().is_empty());
    let reason = reason.ok_or_else(|| Problem::malformed("reason", "must say why"))?;
    let (view, _) = found(&state, &path)?;
    let wish = Wish::Discard { letter: view.id };
    grant(&state, &view.sink, wish, by(&caller, Some(reason.to_owned()), forced)?).await
}

fn found(
    state: &State,
    path: &PathParams,
) -> Result<(LetterView, std::sync::Arc<Letter>), Problem> {
    state.engine()?;
    let none = || Problem::detailed(&codes::NOT_FOUND, "there is no dead letter of this id");
    state.letter(path.text("id")).ok_or_else(none)
}

/// The letter's body as JSON; what is none, as the text that it is.
fn content(letter: &Letter) -> Value {
    serde_json::from_slice(&letter.body)
        .unwrap_or_else(|_| String::from_utf8_lossy(&letter.body).into())
}
