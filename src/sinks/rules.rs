//! What a partner's answer means: the connector's rules and then those of the generic preset, the first
//! that holds decides.
//!
//! No answer is taken for a success that may say otherwise where it could not be read, or that refuses
//! lines so that nobody can tell which: that is [`Outcome::Unclear`].

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use hyper::{HeaderMap, header};
use serde_json::Value;

use super::wire::Answer;
use crate::{
    config::{AnswerRule, RejectedLines, Then, Took},
    delivery::{Effect, Outcome, never_sent},
    feed::Rejected,
};

/// So many characters of an answer are repeated where it is not clear.
const ANSWER_CHARS_MAX: usize = 300;

/// The lines that an answer refuses.
#[derive(Debug, Default)]
struct Named {
    lines: Vec<Rejected>,
    /// The first of them that was not sent.
    never_sent: Option<String>,
}

/// The rules of one request.
pub(super) struct Rules {
    pub rules: Vec<AnswerRule>,
    pub rejected: Option<RejectedLines>,
}

impl Rules {
    /// What an answer comes to. `ids` tells the lines that were sent, in their order, where one is named.
    pub fn judge(&self, answer: &Answer, ids: impl FnOnce() -> Vec<String>) -> Outcome {
        let (status, retry_after) = (answer.status, answer.retry_after());
        let failed = |reason: String, effect| Outcome::Failed { reason, retry_after, effect };
        let unclear = |why: &str| {
            let said: String = answer.text.chars().take(ANSWER_CHARS_MAX).collect();
            let reason = format!(
                "the partner answered {status}, and what it took can't be told: {why}; it says: {said}"
            );
            Outcome::Unclear { status, reason }
        };
        let place = self.rules.iter().position(|rule| rule.holds(answer.heard()));
        if let Some(why) = &answer.unread
            && self.may_mean_less(status, place)
        {
            return unclear(why);
        }
        let Some(rule) = place.and_then(|place| self.rules.get(place)) else {
            return failed(format!("the partner answered {status}"), Effect::Unknown);
        };
        let rejected = match rule.lines {
            true => self.rejected(answer.json.as_ref(), ids),
            false => Ok(Named::default()),
        };
        match rule.then {
            Then::Done => match rejected {
                Ok(Named { never_sent: Some(line_id), .. }) => unclear(&never_sent(&line_id)),
                Ok(Named { lines, .. }) => Outcome::Done { status, rejected: lines },
                Err(why) => unclear(&why),
            },
            Then::Known => Outcome::Done { status, rejected: Vec::new() },
            // Of a part that is refused as a whole the bad lines can be found without their names.
            Then::Refused => Outcome::Refused {
                status,
                rejected: rejected.unwrap_or_default().lines,
                answer: answer.text.clone(),
            },
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

    /// Whether an answer that could not be read, and is judged by the rule at this place, may be one that
    /// took less than the whole part: a rule that would have held, or the lines that it names, say so.
    fn may_mean_less(&self, status: u16, place: Option<usize>) -> bool {
        let (before, rule) = match place {
            Some(place) => (&self.rules[..place], self.rules.get(place)),
            None => (&self.rules[..], None),
        };
        let hang = || before.iter().filter(|rule| rule.hangs_on_body(status));
        let names =
            |rule: &AnswerRule| rule.lines && rule.then == Then::Done && self.rejected.is_some();
        let succeeds = rule.is_some_and(|rule| matches!(rule.then, Then::Done | Then::Known));
        rule.is_some_and(names) || hang().any(names) || (succeeds && hang().next().is_some())
    }

    /// The lines that an answer refuses, or why it can't be told which.
    fn rejected(
        &self,
        json: Option<&Value>,
        ids: impl FnOnce() -> Vec<String>,
    ) -> Result<Named, String> {
        let Some((wanted, json)) = self.rejected.as_ref().zip(json) else {
            return Ok(Named::default());
        };
        let items = match wanted.at.find(json) {
            None | Some(Value::Null) => return Ok(Named::default()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(format!("`{}` is no list", wanted.at)),
        };
        let mut refused = items.iter().filter(|item| wanted.means(item)).peekable();
        if refused.peek().is_none() {
            return Ok(Named::default());
        }
        let ids = ids();
        let lines = refused.map(|item| named(wanted, item, &ids)).collect::<Option<Vec<_>>>();
        let lines = lines.ok_or("it refuses lines that it does not name")?;
        let sent: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let stranger = lines.iter().find(|line| !sent.contains(&*line.line_id));
        let never_sent = stranger.map(|line| line.line_id.clone());
        Ok(Named { lines, never_sent })
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
