//! The declared connector: a [`Partner`] made from a sink's preset and what it lays over it. The generic
//! HTTP contract is one of the presets.
//!
//! It promises that an attempt ends within the configured time, whatever it has to fetch first; that of
//! an answer only so much is read as is declared, and none taken for a success that could not be read; that no redirect is followed and no proxy of the
//! environment used; that the same part is the same bytes each time; and that a part which may have had
//! its effect is sent again only where the receiver is declared to know it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Request,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use reqwest::Url;
use serde_json::Value;

use super::{
    auth::{Credentials, basic, user_info},
    fault::Fault,
    handshake::Handshake,
    lookup::{Found, Lookup},
    rendering::{Content, Rendering},
    request::Declared,
    rules::Rules,
    secrets::Secrets,
    wire::{Answer, Wire},
};
use crate::{
    config::{Auth, Connector, Context, Dedupe, Overlay, SinkConfig, written_rendering},
    delivery::{self, Effect, Outcome, Part, Partner, Sending},
    model::{Timestamp, signature::Signer},
};

/// The longest answer of a partner that is kept, in characters.
const ANSWER_CHARS_MAX: usize = 4_000;

/// A partner that takes batches by HTTP.
pub struct HttpPartner {
    connector: Connector,
    dedupe: Dedupe,
    timeout: Duration,
    base: Url,
    own: HeaderMap,
    wire: Wire,
    credentials: Credentials,
    signer: Option<Signer>,
    secrets: Secrets,
    rules: Rules,
    handshake: Option<Handshake>,
    lookup: Option<Lookup>,
    /// The present one first.
    renderings: Vec<Rendering>,
}

impl HttpPartner {
    /// A connector for a checked configuration; `earlier` has the settings under which batches were
    /// sealed that may go out again, by version, as the log has them.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn new(config: &SinkConfig, earlier: &[(u64, String)]) -> Result<Self, String> {
        let connector = config.connector()?;
        let mut base = Url::parse(&config.url).map_err(|e| format!("url: {e}"))?;
        let own = own_headers(config, &mut base)?;
        let token_url = match &connector.auth {
            Auth::Oauth2 { token_url, .. } => token_url.as_str(),
            _ => "",
        };
        let secure = base.scheme() == "https" || token_url.starts_with("https:");
        let timeout = Duration::from_millis(config.timeout_ms);
        let wire = Wire::new(secure, connector.ca_file.as_deref(), timeout)?;
        let signer = config.signing_secret.as_deref().map(Signer::new).transpose();
        let tail = Overlay::default().over("generic", config.domain)?.rules;
        let rules = |rules: &[_]| Rules {
            rules: rules.iter().chain(&tail).cloned().collect(),
            rejected: connector.rejected.clone(),
        };
        let lookup = connector.lookup.as_ref().map(Lookup::new).transpose()?;
        let asks = lookup.as_ref().is_some_and(|lookup| lookup.request.needs_lines());
        let version = config.render_version();
        let mut renderings = vec![Rendering::new(version, &connector, &rules, asks)?];
        let earlier = earlier.iter().rev().filter(|(known, _)| *known != version);
        let earlier = earlier.filter_map(|(known, text)| Some((known, written_rendering(text)?)));
        for (version, text) in earlier {
            let then = connector
                .as_rendered(text)
                .and_then(|then| Rendering::new(*version, &then, &rules, asks));
            match then {
                Ok(then) => renderings.push(then),
                Err(error) => tracing::warn!(
                    sink = config.name,
                    version,
                    error,
                    "an earlier configuration can't be read; what it sealed is rendered as now"
                ),
            }
        }
        Ok(Self {
            dedupe: connector.dedupe.unwrap_or(config.dedupe),
            timeout,
            credentials: Credentials::new(&connector.auth, &wire)?,
            signer: signer.map_err(|e| format!("signing_secret: {e}"))?,
            secrets: Secrets::of(config, &connector),
            handshake: connector.handshake.as_ref().map(Handshake::new).transpose()?,
            rules: rules(&connector.rules),
            base,
            own,
            wire,
            lookup,
            renderings,
            connector,
        })
    }

    /// One attempt, in the time that it may take.
    async fn attempt(&self, part: &Part) -> Outcome {
        let sent = AtomicBool::new(false);
        let timed = tokio::time::timeout(self.timeout, self.deliver(part, &sent)).await;
        let outcome = timed.unwrap_or_else(|_| {
            let reason = format!("no answer within {} ms", self.timeout.as_millis());
            let sent = sent.load(Ordering::Relaxed);
            let effect = if sent { Effect::Unknown } else { Effect::None };
            Err(Fault::Failed { reason, retry_after: None, effect })
        });
        let outcome = outcome.unwrap_or_else(Outcome::from);
        if let Some(lookup) = &self.lookup
            && !matches!(outcome, Outcome::Failed { effect: Effect::Unknown, .. })
        {
            lookup.settled(&part.id);
        }
        self.secrets.struck_from(outcome, self.credentials.token(), ANSWER_CHARS_MAX)
    }

    async fn deliver(&self, part: &Part, sent: &AtomicBool) -> Result<Outcome, Fault> {
        let known = self.renderings.iter().find(|known| known.version == part.config_version);
        let Some(rendering) = known.or(self.renderings.first()) else {
            return Err(Fault::none("nothing renders the batch"));
        };
        let Some(content) = rendering.read(part)? else {
            return Ok(Outcome::Done { status: 0, rejected: Vec::new() });
        };
        if part.uncertain
            && let Some(outcome) = self.known(part, &content).await?
        {
            return Ok(outcome);
        }
        let body = rendering.request.body(&content.context, rendering.bytes_max())?;
        let body = body.map_or_else(|| part.body.clone(), Bytes::from);
        if body.len() as u64 > rendering.bytes_max() {
            let (is, most) = (body.len(), rendering.bytes_max());
            return Err(Fault::Unfit(format!("the body is {is} bytes, the partner takes {most}")));
        }
        if let Some(lookup) = &self.lookup {
            lookup.attempted(&part.id);
        }
        let answer = self.ask(&rendering.request, &content.context, part, body, Some(sent)).await?;
        let outcome = self.rules.judge(&answer, || content.ids(part));
        match (&rendering.finish, &outcome) {
            (Some(finish), Outcome::Done { .. }) => {
                self.complete(finish, part, &content, &answer, outcome).await
            }
            _ => Ok(outcome),
        }
    }

    /// Posts what was entered. Whatever goes wrong here, the first request has had its effect.
    async fn complete(
        &self,
        (request, rules): &(Declared, Rules),
        part: &Part,
        content: &Content,
        answer: &Answer,
        entered: Outcome,
    ) -> Result<Outcome, Fault> {
        let context = content.context.with_answer(answer.json.as_ref().unwrap_or(&Value::Null));
        let failed =
            |reason: String| Fault::unknown(format!("entered, but not completed: {reason}"));
        let body = request.body(&context, self.connector.bytes_max);
        let body = body.map_err(|fault| failed(format!("{:?}", Outcome::from(fault))))?;
        let body = Bytes::from(body.unwrap_or_default());
        let completed = match self.ask(request, &context, part, body, None).await {
            Ok(answer) => rules.judge(&answer, || content.ids(part)),
            Err(fault) => fault.into(),
        };
        match completed {
            Outcome::Done { rejected, .. } if rejected.is_empty() => Ok(entered),
            Outcome::Done { status, .. } => {
                let reason = "entered, but not completed: the partner refuses lines of it".into();
                Ok(Outcome::Unclear { status, reason })
            }
            // Who can be asked is: it knows whether that was completed.
            Outcome::Unclear { reason, .. } if self.lookup.is_some() => Err(failed(reason)),
            Outcome::Unclear { status, reason } => {
                let reason = format!("entered, but not completed: {reason}");
                Ok(Outcome::Unclear { status, reason })
            }
            // No pause: only as a failure of unknown effect it is remembered that something was entered.
            Outcome::Withheld { reason } => Err(failed(reason)),
            Outcome::Denied { status, .. } => {
                Err(failed(format!("the partner refuses us ({status})")))
            }
            Outcome::Failed { reason, retry_after, .. } => {
                let reason = format!("entered, but not completed: {reason}");
                Err(Fault::Failed { reason, retry_after, effect: Effect::Unknown })
            }
            Outcome::Refused { status, answer, .. } => {
                let said: String = answer.chars().take(300).collect();
                Err(failed(format!("the partner answered {status}: {said}")))
            }
        }
    }

    /// Whether the partner has a part that it may have; `None`: it has not, or will know it.
    async fn known(&self, part: &Part, content: &Content) -> Result<Option<Outcome>, Fault> {
        if let Some(lookup) = &self.lookup {
            let body = lookup.request.body(&content.context, self.connector.bytes_max)?;
            let body = Bytes::from(body.unwrap_or_default());
            let answer = self.ask(&lookup.request, &content.context, part, body, None).await?;
            return Ok(match lookup.hear(&part.id, &answer, &self.rules)? {
                Found::Yes(status) => Some(Outcome::Done { status, rejected: Vec::new() }),
                Found::No => None,
            });
        }
        if self.dedupe == Dedupe::None {
            return Err(Fault::Withheld(
                "an earlier attempt may have had its effect, and the receiver does not recognise \
                 repeats: not sent again"
                    .into(),
            ));
        }
        match age_ms(&part.body) {
            Some(age) if self.connector.remembers(age) => Ok(None),
            None if self.connector.dedupe_horizon_ms.is_none() => Ok(None),
            _ => Err(Fault::Withheld(
                "an earlier attempt may have had its effect, and was longer ago than the receiver \
                 recognises repeats (`dedupe_horizon_ms`): not sent again"
                    .into(),
            )),
        }
    }

    /// Makes a request and hears the answer, with fresh credentials or a fresh handshake where the
    /// first ones are refused, each once.
    async fn ask(
        &self,
        declared: &Declared,
        context: &Context,
        part: &Part,
        body: Bytes,
        sent: Option<&AtomicBool>,
    ) -> Result<Answer, Fault> {
        let (mut renewed, mut shaken) = (false, false);
        loop {
            let mut url = declared.url(&self.base, context)?;
            let mut headers = declared.headers(&self.own, context)?;
            self.credentials.apply(&mut url, &mut headers).await?;
            if let Some(handshake) = &self.handshake {
                headers.extend(handshake.taken(self.shake(handshake, context)).await?);
            }
            if self.connector.webhooks {
                self.sign(part, &body, &mut headers)?;
            }
            if let Some(trace) = delivery::traceparent() {
                let value = HeaderValue::try_from(trace.to_string());
                headers.extend(value.map(|value| (HeaderName::from_static("traceparent"), value)));
            }
            let carried = headers.clone();
            let bytes_max = self.connector.answer_bytes_max(body.len());
            let request = built(declared.method.clone(), &url, headers, body.clone())?;
            if let Some(sent) = sent {
                sent.store(true, Ordering::Relaxed);
            }
            let answer = self.wire.exchange(request, bytes_max).await?;
            if answer.status == 401 && !renewed && self.credentials.renew(&carried).await {
                renewed = true;
                continue;
            }
            match &self.handshake {
                Some(handshake) if !shaken && handshake.is_stale(&answer).await => shaken = true,
                _ => return Ok(answer),
            }
        }
    }

    async fn shake(&self, handshake: &Handshake, context: &Context) -> Result<Answer, Fault> {
        let declared = &handshake.request;
        let mut renewed = false;
        loop {
            let mut url = declared.url(&self.base, context)?;
            let mut headers = declared.headers(&self.own, context)?;
            self.credentials.apply(&mut url, &mut headers).await?;
            let carried = headers.clone();
            let request = built(declared.method.clone(), &url, headers, Bytes::new())?;
            let bytes_max = self.connector.answer_bytes_max(0);
            let answer = match self.wire.exchange(request, bytes_max).await {
                Ok(answer) => answer,
                // Nothing of the part was sent.
                Err(Fault::Failed { reason, retry_after, .. }) => {
                    let reason = format!("no handshake: {reason}");
                    return Err(Fault::Failed { reason, retry_after, effect: Effect::None });
                }
                Err(other) => return Err(other),
            };
            if answer.status == 401 && !renewed && self.credentials.renew(&carried).await {
                renewed = true;
                continue;
            }
            return Ok(answer);
        }
    }

    /// The headers of Standard Webhooks, signed if there is a secret.
    fn sign(&self, part: &Part, body: &Bytes, headers: &mut HeaderMap) -> Result<(), Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut put = |name, text: &str| {
            let value = HeaderValue::from_str(text)
                .map_err(|_| Fault::none(format!("{name}: its value is not visible ASCII")))?;
            headers.insert(HeaderName::from_static(name), value);
            Ok::<(), Fault>(())
        };
        put("webhook-id", &part.id)?;
        put("webhook-timestamp", &now.to_string())?;
        match &self.signer {
            Some(signer) => put("webhook-signature", &signer.sign(&part.id, now, body)),
            None => Ok(()),
        }
    }
}

impl Partner for HttpPartner {
    fn send<'a>(&'a self, part: &'a Part) -> Sending<'a> {
        Box::pin(self.attempt(part))
    }
}

pub(super) fn built(
    method: hyper::Method,
    url: &Url,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Fault> {
    let mut request = Request::builder()
        .method(method)
        .uri(url.as_str())
        .body(Full::new(body))
        .map_err(|_| Fault::none("url: no request can be made of it"))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The headers that the sink itself declares, and a name and password that stand in its URL, which are
/// taken out of it.
pub(super) fn own_headers(config: &SinkConfig, base: &mut Url) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let wrong = || format!("headers.{name}: is no header");
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    if (!base.username().is_empty() || base.password().is_some())
        && !headers.contains_key(AUTHORIZATION)
    {
        let (user, password) = user_info(base);
        headers.insert(AUTHORIZATION, basic(&user, &password)?);
    }
    let cleared = base.set_username("").and_then(|()| base.set_password(None));
    cleared.map_err(|()| "url: can't be called".to_owned())?;
    base.set_fragment(None);
    Ok(headers)
}

/// How long ago a batch was sealed; `None` if it does not say.
fn age_ms(body: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Head {
        sealed_at: Timestamp,
    }
    let head: Head = serde_json::from_slice(body).ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis();
    Some(u64::try_from(now).ok()?.saturating_sub(head.sealed_at.millis()))
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
