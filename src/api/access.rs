//! Who a request is from, and whether it may do what it asks for: its key, its scopes, its rate.
//!
//! A key comes as `Authorization: Bearer <key>`. A request without a good one costs a hash and one pass
//! over the known ones, changes nothing and touches nothing that others wait for. The partner's name is
//! the scope of its idempotency keys.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{FromRequestParts, Request},
    http::{Extensions, HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
};

use super::{
    State, codes,
    directory::{Account, Refused},
    meter::{Left, What},
    problem::Problem,
};
use crate::model::{
    partner::{Limits, Scope},
    signature::KeyHash,
};

/// A request that was let in.
#[derive(Default)]
pub(super) struct Entered {
    account: Option<Arc<Account>>,
    left: Left,
}

impl Entered {
    /// Says in the answer what the partner has left.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if let Some(account) = &self.account {
            account.meter.tell(self.left, headers);
        }
    }

    /// The longest that the request may take in all, where its partner has a limit of its own: once for
    /// the body to come, and as long again for the answer.
    pub(super) fn time_max(&self) -> Option<Duration> {
        let timeout_ms = self.account.as_ref()?.terms.limits.timeout_ms?;
        Some(Duration::from_millis(timeout_ms.saturating_mul(2)))
    }
}

/// Who a request is from that needs one of `scopes`; nobody where it needs none, or there are no keys. What has
/// no good key ends here, before it counts as under way.
pub(super) fn identify(
    state: &State,
    scopes: &'static [Scope],
    request: &Request,
) -> Result<Option<Arc<Account>>, Problem> {
    if scopes.is_empty() || !state.needs_keys() {
        return Ok(None);
    }
    known(state, request.headers()).map(Some)
}

/// Lets a request in that needs one of `scopes`, and writes down for [`Caller`] who it is from; or answers it.
pub(super) fn enter(
    state: &State,
    account: Option<Arc<Account>>,
    scopes: &'static [Scope],
    request: &mut Request,
) -> Result<Entered, Box<Response>> {
    let Some(account) = account else { return Ok(Entered::default()) };
    match account.enter(scopes, || state.now_ms()) {
        Ok(left) => {
            request.extensions_mut().insert(Caller(Some(account.clone())));
            Ok(Entered { account: Some(account), left })
        }
        Err((refused, left)) => {
            let mut response = problem(&account, refused).into_response();
            account.meter.tell(left, response.headers_mut());
            Err(Box::new(response))
        }
    }
}

fn known(state: &State, headers: &HeaderMap) -> Result<Arc<Account>, Problem> {
    let unknown = |problem| {
        state.count_unauthenticated();
        problem
    };
    let key = KeyHash::of(bearer(headers).map_err(unknown)?);
    match state.known(&key) {
        Some(known) => Ok(known.account),
        // The log may know it.
        None if !state.is_ready() => Err(Problem::new(&codes::STARTING)),
        None => Err(unknown(unauthenticated("no partner has this API key"))),
    }
}

fn problem(account: &Account, refused: Refused) -> Problem {
    let name = &account.name;
    match refused {
        Refused::Scope(scopes) => Problem::forbidden(name, scopes),
        Refused::UsedUp(used_up) => {
            let what = match used_up.what {
                What::Rate => "requests a second",
                What::Quota => "requests a day",
            };
            let detail = format!("`{name}` has sent as many {what} as it may; nothing was changed");
            Problem::rate_limited(detail, used_up.retry_after_s)
        }
    }
}

fn unauthenticated(detail: &'static str) -> Problem {
    Problem::unauthenticated(detail, "Bearer")
}

/// The key in the one Authorization header.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => {
            let text = value.to_str().unwrap_or_default();
            let (scheme, key) = text.split_once(' ').unwrap_or((text, ""));
            match scheme.eq_ignore_ascii_case("bearer") {
                true => Ok(key.trim()),
                false => Err(unauthenticated("an API key comes as `Authorization: Bearer <key>`")),
            }
        }
        (Some(_), Some(_)) => Err(unauthenticated("the header `Authorization` is given twice")),
        (None, _) => Err(unauthenticated(
            "no API key came with the request; send it as `Authorization: Bearer <key>`",
        )),
    }
}

/// Who a request is from; where there are no API keys, one caller without a name.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller(Option<Arc<Account>>);

impl Caller {
    /// As it was written down.
    pub(super) fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// The partner's name; empty for the one without.
    pub(super) fn name(&self) -> &str {
        self.0.as_ref().map_or("", |account| &account.name)
    }

    /// Counts a request by its status.
    pub(super) fn count(&self, status: u16) {
        if let Some(account) = &self.0 {
            account.counts.outcomes.count(status, 1);
        }
    }

    /// The largest body that it may send, where the server takes `bytes_max`.
    pub(super) fn body_bytes_max(&self, bytes_max: u64) -> u64 {
        self.limits()
            .and_then(|limits| limits.body_bytes_max)
            .map_or(bytes_max, |own| own.min(bytes_max))
    }

    /// How long its body may take to come, where the server waits for `wait_ms`.
    pub(super) fn body_wait(&self, wait_ms: u64) -> Duration {
        let own = self.limits().and_then(|limits| limits.timeout_ms);
        Duration::from_millis(own.map_or(wait_ms, |own| own.min(wait_ms)))
    }

    fn limits(&self) -> Option<&Limits> {
        self.0.as_ref().map(|account| &account.terms.limits)
    }
}

impl FromRequestParts<State> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}
