//! What handlers take from a request: the body, the idempotency key, ids in the path, parameters of
//! the query. Each refuses what is wrong with a problem that names it.

use std::{collections::HashSet, convert::Infallible, str::FromStr, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request},
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::{State, access::Caller, codes, front, json, priority, problem::Problem, stages};
use crate::{
    engine::Key,
    model::{IdempotencyKey, Invalid, Origin},
    telemetry::Stage,
};

/// How long, after a body was found too large, the rest of it is read away, so that a caller who is
/// still sending gets to read the answer.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(250);

/// A JSON body.
pub(super) struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<State> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        let bytes = read_json(request, state).await?;
        decode(&bytes).map(Self)
    }
}

/// Parses a body.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let parsed = json::parse(bytes);
    stages::lap(Stage::Decode);
    parsed
}

/// A JSON body that may be left out, and then says what an empty object says.
pub(super) struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<State> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        let bytes = read_json(request, state).await?;
        let is_absent = matches!(bytes.trim_ascii(), b"" | b"null");
        if is_absent { Ok(Self(T::default())) } else { decode(&bytes).map(Self) }
    }
}

/// A JSON body as it came, for who must check it before it is parsed.
pub(super) struct RawJson(pub Bytes);

impl FromRequest<State> for RawJson {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        read_json(request, state).await.map(Self)
    }
}

/// Reads a whole body that must be JSON unless it is empty.
async fn read_json(request: Request, state: &State) -> Result<Bytes, Problem> {
    let (parts, body) = request.into_parts();
    let typed = check_type(&parts.headers, "application/json")?;
    let caller = Caller::of(&parts.extensions);
    let (limit, wait) = body_limits(state, &caller);
    if let Err(problem) = check_length(&parts.headers, limit as u64) {
        drain(body, limit).await;
        return Err(problem);
    }
    let bytes = tokio::time::timeout(wait, read(body, limit))
        .await
        .map_err(|_| Problem::new(&codes::REQUEST_TIMEOUT))??;
    stages::lap(Stage::Receive);
    if !typed && !bytes.is_empty() {
        return Err(Problem::detailed(
            &codes::UNSUPPORTED_MEDIA_TYPE,
            "the body has no Content-Type; it must be application/json",
        ));
    }
    Ok(bytes)
}

/// How large the body may be, and how long it may take to come.
fn body_limits(state: &State, caller: &Caller) -> (usize, Duration) {
    let options = state.options();
    let bytes_max = caller.body_bytes_max(options.body_bytes_max as u64);
    (bytes_max as usize, caller.body_wait(options.request_timeout_ms))
}

/// Whether a Content-Type is given; if so it is the wanted one, and the body is not encoded.
pub(super) fn check_type(headers: &HeaderMap, wanted: &str) -> Result<bool, Problem> {
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|e| e != "identity");
    if encoded {
        let detail = "a Content-Encoding is not supported";
        return Err(Problem::detailed(&codes::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(false) };
    json::check_media_type(value.to_str().unwrap_or_default(), wanted)?;
    Ok(true)
}

/// Refuses a body that says it is too large before any of it is read.
pub(super) fn check_length(headers: &HeaderMap, limit: u64) -> Result<(), Problem> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok());
    match length.and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length > limit => Err(Problem::too_large(limit)),
        _ => Ok(()),
    }
}

/// Reads a body up to the limit. The common case, one frame, is not copied.
async fn read(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let Some(first) = next(&mut body).await? else { return Ok(Bytes::new()) };
    let Some(second) = within(&first, 0, limit, &mut body).await? else { return Ok(first) };
    let mut whole = BytesMut::with_capacity(first.len() + second.len());
    whole.extend_from_slice(&first);
    let mut chunk = second;
    loop {
        let more = within(&chunk, whole.len(), limit, &mut body).await?;
        whole.extend_from_slice(&chunk);
        match more {
            Some(next) => chunk = next,
            None => return Ok(whole.freeze()),
        }
    }
}

/// The next frame, if what was read up to and with `chunk` is within the limit.
async fn within(
    chunk: &Bytes,
    before: usize,
    limit: usize,
    body: &mut Body,
) -> Result<Option<Bytes>, Problem> {
    if before + chunk.len() > limit {
        drain(std::mem::take(body), limit).await;
        return Err(Problem::too_large(limit as u64));
    }
    next(body).await
}

/// The next data of a body; nothing at its end.
pub(super) async fn next(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::malformed("body", "broke off"))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Reads the rest of a refused body away, within limits.
async fn drain(mut body: Body, bytes_max: usize) {
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(data)) = next(&mut body).await {
            bytes += data.len();
            if bytes > bytes_max {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, read).await;
}

/// The names under which a request can be found again in what it causes.
pub(super) struct Names {
    request_id: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
    /// Whether the caller named the request, by either.
    named: bool,
    /// Whether the request says that it can wait.
    can_wait: bool,
}

impl Names {
    fn of(parts: &Parts, state: &State) -> Self {
        let request_id = front::request_id(&parts.headers);
        let traceparent = front::traceparent(&parts.headers);
        let made = request_id.as_ref().is_some_and(|id| state.made_request_id(id));
        let named = traceparent.is_some() || (request_id.is_some() && !made);
        let can_wait = priority::can_wait(&parts.headers);
        Self { request_id, traceparent, named, can_wait }
    }

    /// A key of the request, of which there may be many.
    pub(super) fn key_of_many<'k>(&'k self, partner: &'k str, key: &'k IdempotencyKey) -> Key<'k> {
        let (origin, can_wait) = (self.origin_of_many(), self.can_wait);
        Key { origin, can_wait, ..Key::new(partner, key) }
    }

    fn origin(&self) -> Option<Origin<'_>> {
        let trace = self.traceparent.as_ref().and_then(|trace| trace.to_str().ok());
        let id = self.request_id.as_ref().and_then(|id| id.to_str().ok());
        id.and_then(|id| Origin::new(id, trace))
    }

    /// The same for a reservation, of which there are many: its request is remembered only if the
    /// caller gave it a name to look for.
    pub(super) fn origin_of_many(&self) -> Option<Origin<'_>> {
        self.origin().filter(|_| self.named)
    }
}

impl FromRequestParts<State> for Names {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Infallible> {
        Ok(Self::of(parts, state))
    }
}

/// The `Idempotency-Key` of a request that has an effect, in the scope of its partner, and the names
/// of the request.
pub(super) struct Keyed {
    caller: Caller,
    key: IdempotencyKey,
    names: Names,
}

impl Keyed {
    /// As the engine takes it.
    pub(super) fn key(&self) -> Key<'_> {
        let (origin, can_wait) = (self.names.origin(), self.names.can_wait);
        Key { origin, can_wait, ..Key::new(self.caller.name(), &self.key) }
    }

    /// The same for a reservation; see [`Names::origin_of_many`].
    pub(super) fn key_of_many(&self) -> Key<'_> {
        self.names.key_of_many(self.caller.name(), &self.key)
    }
}

impl FromRequestParts<State> for Keyed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        const NAME: &str = "Idempotency-Key";
        let mut values = parts.headers.get_all(NAME).iter();
        let value = values.next().ok_or_else(|| Problem::new(&codes::IDEMPOTENCY_KEY_MISSING))?;
        if values.next().is_some() {
            return Err(Problem::malformed(NAME, "is given twice"));
        }
        let text = std::str::from_utf8(value.as_bytes()).unwrap_or("\u{fffd}");
        let key = text.parse().map_err(|e: Invalid| Problem::malformed(NAME, e.0))?;
        let caller = Caller::of(&parts.extensions);
        Ok(Self { caller, key, names: Names::of(parts, state) })
    }
}

/// The parameters of the path, percent-decoded.
pub(super) struct PathParams(RawPathParams);

impl PathParams {
    /// The id that the route calls `name`.
    pub(super) fn id<T: FromStr<Err = Invalid>>(&self, name: &str) -> Result<T, Problem> {
        self.text(name).parse().map_err(|e: Invalid| Problem::malformed(name, e.0))
    }

    /// The text that the route calls `name`; empty where it has none of that name.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }
}

impl FromRequestParts<State> for PathParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        params.map(Self).map_err(|_| Problem::malformed("path", "is not UTF-8"))
    }
}

/// The parameters of the query, decoded.
pub(super) struct QueryParams(Vec<(String, String)>);

impl QueryParams {
    /// Refuses parameters that the route doesn't know, and repeated ones.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let mut seen = HashSet::new();
        for (name, _) in &self.0 {
            if !known.contains(&name.as_str()) {
                return Err(Problem::malformed(name.clone(), "is not a parameter of this route"));
            }
            if !seen.insert(name) {
                return Err(Problem::malformed(name.clone(), "is given twice"));
            }
        }
        Ok(())
    }

    /// The text of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that may be left out.
    pub(super) fn get<T: FromStr<Err = Invalid>>(&self, name: &str) -> Result<Option<T>, Problem> {
        let parse = |text: &str| text.parse().map_err(|e: Invalid| Problem::malformed(name, e.0));
        self.text(name).map(parse).transpose()
    }

    /// A parameter that must be given.
    pub(super) fn required<T: FromStr<Err = Invalid>>(&self, name: &str) -> Result<T, Problem> {
        self.get(name)?.ok_or_else(|| Problem::malformed(name, "is missing"))
    }
}

impl FromRequestParts<State> for QueryParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        query.map(|q| Self(q.0)).map_err(|_| Problem::malformed("query", "can't be parsed"))
    }
}
