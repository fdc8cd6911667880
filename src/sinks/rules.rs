//! What a partner's answer means: the connector's rules and then those of the generic preset, the first
//! that holds decides.

use std::time::{Duration, SystemTime};

use hyper::{HeaderMap, header};
use serde_json::Value;

use super::wire::Answer;
use crate::{
    config::{AnswerRule, RejectedLines, Then, Took},
    delivery::{Effect, Outcome},
    feed::Rejected,
};

/// The rules of one request.
pub(super) struct Rules {
    pub rules: Vec<AnswerRule>,
    pub rejected: Option<RejectedLines>,
}

impl Rules {
    /// What an answer comes to. `ids` are the lines that were sent, in their order.
    pub fn judge(&self, answer: &Answer, ids: &[String]) -> Outcome {
        let (status, retry_after) = (answer.status, answer.retry_after());
        let failed = |reason: String, effect| Outcome::Failed { reason, retry_after, effect };
        let Some(rule) = self.rules.iter().find(|rule| rule.holds(answer.heard())) else {
            return failed(format!("the partner answered {status}"), Effect::Unknown);
        };
        let rejected = match rule.lines {
            true => self.rejected(answer.json.as_ref(), ids),
            false => Some(Vec::new()),
        };
        // Of a part that is refused as a whole the bad lines can be found without their names.
        let rejected = rejected.or_else(|| (rule.then == Then::Refused).then(Vec::new));
        let Some(rejected) = rejected else {
            let what =
                format!("the partner answered {status} and refuses lines that it does not name");
            return failed(what, Effect::Unknown);
        };
        match rule.then {
            Then::Done => Outcome::Done { status, rejected },
            Then::Known => Outcome::Done { status, rejected: Vec::new() },
            Then::Refused => Outcome::Refused { status, rejected, answer: answer.text.clone() },
            Then::Denied => Outcome::Denied { status, retry_after },
            Then::Retry => {
                let effect = match rule.took {
                    Took::Nothing => Effect::None,
                    Took::Unknown => Effect::Unknown,
                };
                failed(format!("the partner answered {status}"), effect)
            }
        }
    }

    /// The lines that an answer refuses; `None` where it refuses some that can't be told.
    fn rejected(&self, json: Option<&Value>, ids: &[String]) -> Option<Vec<Rejected>> {
        let Some((wanted, json)) = self.rejected.as_ref().zip(json) else {
            return Some(Vec::new());
        };
        let Some(items) = wanted.at.find(json).and_then(Value::as_array) else {
            return Some(Vec::new());
        };
        let refused = items.iter().filter(|item| wanted.means(item));
        refused.map(|item| named(wanted, item, ids)).collect()
    }
}

fn named(wanted: &RejectedLines, item: &Value, ids: &[String]) -> Option<Rejected> {
    let line_id = match (&wanted.line_id, &wanted.index) {
        (Some(pointer), _) => pointer.find(item)?.as_str()?.to_owned(),
        (None, Some(pointer)) => {
            let found = pointer.find(item)?;
            let place = found.as_u64().or_else(|| found.as_str()?.parse().ok())?;
            ids.get(usize::try_from(place.checked_sub(wanted.index_first)?).ok()?)?.clone()
        }
        (None, None) => return None,
    };
    let reason = wanted.reason.as_ref().and_then(|pointer| pointer.find(item));
    let reason = match reason {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    Some(Rejected { line_id, reason })
}

/// The partner's own clock, as its answer tells it.
pub(super) fn date_of(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()
}

/// `Retry-After`: seconds, or an HTTP date in any of its three forms, which is by the partner's clock
/// where it tells its time, so that one that is an hour off does no harm. Past is now; nonsense is
/// absent.
pub(super) fn retry_after(
    value: &str,
    now: SystemTime,
    partners_now: Option<SystemTime>,
) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(partners_now.unwrap_or(now)).unwrap_or_default())
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
