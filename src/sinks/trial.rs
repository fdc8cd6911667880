//! A connector tried without its partner: what it would send for a batch, and what it would make of an
//! answer. Nothing is sent. It uses the very code that delivers.

use bytes::Bytes;
use hyper::{HeaderMap, header::HeaderName};
use reqwest::Url;
use serde_json::Value;

use super::{
    fault::Fault, http::own_headers, rendering::Rendering, rules::Rules, secrets::Secrets,
    wire::Answer,
};
use crate::{
    config::{Auth, Overlay, SinkConfig, address, sample_batch},
    delivery::{Effect, Outcome, Part},
    model::sink::body,
};

/// What stands for a secret.
const HIDDEN: &str = "(hidden)";
/// The most characters of an answer that are repeated.
const ANSWER_CHARS_MAX: usize = 500;

/// A request as it would be sent.
#[derive(Debug)]
pub struct Tried {
    /// Its method.
    pub method: String,
    /// Where it goes.
    pub url: String,
    /// Its headers, secrets hidden.
    pub headers: Vec<(String, String)>,
    /// Its body; `None` where nothing of the batch is for this receiver.
    pub body: Option<Vec<u8>>,
    /// What the given answer comes to.
    pub verdict: Option<String>,
}

/// Tries a sink's connector with a batch, or with the sample of its domain; `answer` is a status and a body.
///
/// # Errors
/// What is wrong, beginning with the field; or why the batch can't be rendered.
pub fn try_connector(
    config: &SinkConfig,
    batch: Option<Bytes>,
    answer: Option<(u16, Bytes)>,
) -> Result<Tried, String> {
    if config.speaks_nats() || config.speaks_kafka() {
        return Err(
            "url: a message broker takes events as they are; there is nothing to try".into()
        );
    }
    let connector = config.connector()?;
    let mut base = Url::parse(&config.url).map_err(|e| format!("url: {e}"))?;
    let own = own_headers(config, &mut base)?;
    let tail = Overlay::default().over("generic", config.domain)?.rules;
    let rules = |rules: &[_]| Rules {
        rules: rules.iter().chain(&tail).cloned().collect(),
        rejected: connector.rejected.clone(),
    };
    let rendering = Rendering::new(config.render_version(), &connector, &rules, true)?;
    let part = part_of(config, batch)?;
    let told = |fault: Fault| format!("{:?}", Outcome::from(fault));
    let mut tried = Tried {
        method: rendering.request.method.to_string(),
        url: address::shown(base.as_str()),
        headers: Vec::new(),
        body: None,
        verdict: None,
    };
    let Some(content) = rendering.read(&part).map_err(told)? else { return Ok(tried) };
    let shown_base = Url::parse(&tried.url).map_err(|e| format!("url: {e}"))?;
    let url = rendering.request.url(&shown_base, &content.context).map_err(told)?;
    let headers = rendering.request.headers(&own, &content.context).map_err(told)?;
    let body = rendering.request.body(&content.context, rendering.bytes_max()).map_err(told)?;
    tried.url = url.to_string();
    tried.headers = shown(&headers, &connector.auth);
    let body = body.map_or_else(|| part.body.to_vec(), String::into_bytes);
    let bytes_max = connector.answer_bytes_max(body.len());
    tried.body = Some(body);
    tried.verdict = answer.map(|(status, said)| {
        let answer = Answer::new(status, HeaderMap::new(), said.to_vec(), bytes_max);
        let outcome = rules(&connector.rules).judge(&answer, || content.ids(&part));
        let secrets = Secrets::of(config, &connector);
        verdict(secrets.struck_from(outcome, None, ANSWER_CHARS_MAX))
    });
    Ok(tried)
}

fn part_of(config: &SinkConfig, batch: Option<Bytes>) -> Result<Part, String> {
    let body = batch.unwrap_or_else(|| sample_batch(config.domain).to_string().into());
    let json: Value = serde_json::from_slice(&body).map_err(|e| format!("events: {e}"))?;
    if body::item_ids(&json).is_empty() {
        return Err("events: it has no line, entry, order or event; see schemas/v1/golden/".into());
    }
    let id =
        json.get("batch_id").and_then(Value::as_str).unwrap_or("sample-3f9c-000123").to_owned();
    Ok(Part { id, body, config_version: config.render_version(), uncertain: false })
}

/// Headers as they may be shown. What authenticates is added when it is sent.
fn shown(headers: &HeaderMap, auth: &Auth) -> Vec<(String, String)> {
    let text = |value: &hyper::header::HeaderValue| match value.is_sensitive() {
        true => HIDDEN.to_owned(),
        false => String::from_utf8_lossy(value.as_bytes()).into_owned(),
    };
    let row = |(name, value): (&HeaderName, _)| (name.to_string(), text(value));
    let mut rows: Vec<_> = headers.iter().map(row).collect();
    match auth {
        Auth::None | Auth::Query { .. } => {}
        _ => rows.push(("(credentials)".into(), HIDDEN.into())),
    }
    rows.sort();
    rows
}

fn verdict(outcome: Outcome) -> String {
    let lines = |rejected: &[crate::feed::Rejected]| {
        let named = rejected.iter().map(|line| format!(" {} ({})", line.line_id, line.reason));
        named.collect::<String>()
    };
    match outcome {
        Outcome::Done { rejected, .. } if rejected.is_empty() => "done".into(),
        Outcome::Done { rejected, .. } => format!("done, but for:{}", lines(&rejected)),
        Outcome::Refused { rejected, .. } => {
            format!("refused for its content; lines named:{}", lines(&rejected))
        }
        Outcome::Unclear { reason, .. } => {
            format!("not clear, so sent again in halves or set aside, by `dedupe`: {reason}")
        }
        Outcome::Denied { .. } => "denied: the sink pauses and asks again slowly".into(),
        Outcome::Withheld { reason } => format!("withheld: {reason}"),
        Outcome::Failed { reason, effect, .. } => {
            let effect = match effect {
                Effect::None => "it had no effect",
                Effect::Unknown => "it may have had its effect",
            };
            format!("failed and retried: {reason}; {effect}")
        }
    }
}
