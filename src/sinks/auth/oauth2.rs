//! OAuth 2.0 client credentials (RFC 6749, section 4.4).
//!
//! One token at a time is kept, until shortly before it expires; whoever needs one while it is fetched
//! waits for the same answer, which is bounded as any.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use reqwest::Url;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{basic, value};
use crate::{
    config::{Auth, ClientAuth},
    delivery::Effect,
    sinks::{
        fault::Fault,
        wire::{Answer, Wire},
    },
};

/// The most of a token's answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// How long a token is kept that does not say how long it is good.
const LIFE_DEFAULT: Duration = Duration::from_secs(300);
/// The longest that one is kept.
const LIFE_MAX: Duration = Duration::from_secs(86_400);
/// How long before its end a token is fetched anew; of a short life a tenth.
const MARGIN_MAX: Duration = Duration::from_secs(60);

/// See the module.
pub(in crate::sinks) struct Oauth2 {
    wire: Wire,
    url: String,
    form: String,
    authorization: Option<HeaderValue>,
    token: Mutex<Option<Token>>,
    last: parking_lot::Mutex<Option<String>>,
}

struct Token {
    bearer: HeaderValue,
    good_until: Instant,
}

impl Oauth2 {
    pub fn new(auth: &Auth, secret: String, wire: Wire) -> Result<Self, String> {
        let Auth::Oauth2 { token_url, client_id, scope, client_auth, .. } = auth else {
            return Err("connector.auth: is no OAuth 2.0".into());
        };
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(scope.as_deref().map(|scope| ("scope", scope)));
        let mut authorization = None;
        match client_auth {
            // Section 2.3.1: id and secret are form-encoded before they are joined.
            ClientAuth::Basic => {
                authorization = Some(basic(&encoded(client_id), &encoded(&secret))?);
            }
            ClientAuth::Body => {
                form.extend([("client_id", client_id.as_str()), ("client_secret", &secret)]);
            }
        }
        let form = encoded_form(&form);
        Ok(Self {
            wire,
            url: token_url.clone(),
            form,
            authorization,
            token: Mutex::new(None),
            last: parking_lot::Mutex::default(),
        })
    }

    /// The value of `Authorization`.
    pub async fn bearer(&self) -> Result<HeaderValue, Fault> {
        let mut kept = self.token.lock().await;
        if let Some(token) = kept.as_ref()
            && Instant::now() < token.good_until
        {
            return Ok(token.bearer.clone());
        }
        let token = self.fetch().await?;
        *self.last.lock() = token.bearer.to_str().ok().map(str::to_owned);
        let bearer = token.bearer.clone();
        *kept = Some(token);
        Ok(bearer)
    }

    /// The token that was fetched last, to be struck from what is said.
    pub fn last(&self) -> Option<String> {
        self.last
            .lock()
            .as_ref()
            .and_then(|bearer| bearer.strip_prefix("Bearer "))
            .map(str::to_owned)
    }

    /// A token was refused: it is not used again. One that was fetched meanwhile stays.
    pub async fn forget(&self, refused: Option<&HeaderValue>) -> bool {
        let mut kept = self.token.lock().await;
        if kept.as_ref().is_some_and(|token| Some(&token.bearer) == refused) {
            *kept = None;
        }
        true
    }

    async fn fetch(&self) -> Result<Token, Fault> {
        let mut request = Request::post(&self.url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request
            .body(Full::new(Bytes::from(self.form.clone())))
            .map_err(|_| Fault::none("no request for a token can be made"))?;
        // Whatever happens here, the partner has been sent nothing.
        let answer = match self.wire.exchange(request, ANSWER_BYTES_MAX).await {
            Ok(answer) => answer,
            Err(Fault::Failed { reason, .. }) => {
                return Err(Fault::none(format!("no token: {reason}")));
            }
            Err(other) => return Err(other),
        };
        token_of(&answer)
    }
}

/// The token in an answer. What the answer says otherwise is not repeated: it may hold a secret.
fn token_of(answer: &Answer) -> Result<Token, Fault> {
    let (status, retry_after) = (answer.status, answer.retry_after());
    match status {
        200..=299 => {}
        // Section 5.2: `invalid_client`, `invalid_scope` and their like.
        400 | 401 | 403 => return Err(Fault::Denied { status, retry_after }),
        _ => {
            let reason = format!("no token: its server answered {status}");
            return Err(Fault::Failed { reason, retry_after, effect: Effect::None });
        }
    }
    let none = || Fault::none("no token: its server's answer has none in it");
    let json = answer.json.as_ref().ok_or_else(none)?;
    let text = json.get("access_token").and_then(Value::as_str).ok_or_else(none)?;
    let seconds = json.get("expires_in").and_then(|life| {
        life.as_u64().or_else(|| life.as_str().and_then(|text| text.parse().ok()))
    });
    let life = seconds.map_or(LIFE_DEFAULT, Duration::from_secs).min(LIFE_MAX);
    let bearer = value(&format!("Bearer {text}")).map_err(|_| none())?;
    Ok(Token { bearer, good_until: Instant::now() + (life - MARGIN_MAX.min(life / 10)) })
}

/// A text as it stands in a form, and in a query.
pub(in crate::sinks) fn encoded(text: &str) -> String {
    encoded_form(&[("", text)]).split_off(1)
}

fn encoded_form(pairs: &[(&str, &str)]) -> String {
    // A URL's query is encoded as a form is.
    let url = Url::parse_with_params("form:", pairs);
    url.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}
