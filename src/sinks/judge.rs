//! What a partner's answer means: the rules of the HTTP contract ("What a sink receives").
//!
//! - 2xx: done; `{"rejected": [...]}` in the body names lines that were not taken.
//! - 409 with `{"code": "already_processed"}`: done.
//! - 408, 425, 429, 5xx: later, not before `Retry-After`.
//! - 401, 403: the partner refuses us. So does a 3xx: the address is another one, and a redirect is
//!   not followed with what is sent. Nothing is set aside for either.
//! - every other 4xx: the content is refused.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::{
    delivery::{Effect, Outcome},
    feed::Rejected,
};

/// What stands in a partner's answer, as far as it concerns us.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    rejected: Vec<Rejected>,
}

/// The outcome of an attempt that was answered. `body` may have been cut.
pub(super) fn judge(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Outcome {
    match status {
        200..=299 => Outcome::Done { status, rejected: answer(body).rejected },
        409 if answer(body).code.as_deref() == Some("already_processed") => {
            Outcome::Done { status, rejected: Vec::new() }
        }
        401 | 403 | 300..=399 => Outcome::Denied { status, retry_after },
        425 | 429 => failed(status, retry_after, Effect::None),
        408 => failed(status, retry_after, Effect::Unknown),
        400..=499 => {
            let rejected = if status == 422 { answer(body).rejected } else { Vec::new() };
            Outcome::Refused {
                status,
                rejected,
                answer: String::from_utf8_lossy(body).into_owned(),
            }
        }
        _ => failed(status, retry_after, Effect::Unknown),
    }
}

fn failed(status: u16, retry_after: Option<Duration>, effect: Effect) -> Outcome {
    Outcome::Failed { reason: format!("the partner answered {status}"), retry_after, effect }
}

/// A body that is no such answer says nothing.
fn answer(body: &[u8]) -> Answer {
    serde_json::from_slice(body).unwrap_or_default()
}

/// `Retry-After`: seconds, or an HTTP date in any of its three forms. Past is now; nonsense is
/// absent.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_means_what_the_contract_says() {
        let done = |status| Outcome::Done { status, rejected: Vec::new() };
        for status in [200, 201, 202, 204] {
            assert_eq!(judge(status, None, b""), done(status));
            assert_eq!(judge(status, None, b"\xff<html>"), done(status));
        }
        let known = br#"{"code": "already_processed", "more": 1}"#;
        assert_eq!(judge(409, None, known), done(409));
        for (status, body) in [(409, &b"{}"[..]), (409, b"already_processed"), (400, known)] {
            assert!(
                matches!(judge(status, None, body), Outcome::Refused { status: s, .. } if s == status)
            );
        }
        for status in [402, 404, 405, 410, 413, 422] {
            assert!(matches!(judge(status, None, b""), Outcome::Refused { .. }), "{status}");
        }
        for status in [301, 302, 307, 308, 401, 403] {
            assert!(matches!(judge(status, None, b""), Outcome::Denied { .. }), "{status}");
        }
        let second = Some(Duration::from_secs(1));
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            let outcome = judge(status, second, b"");
            assert!(
                matches!(outcome, Outcome::Failed { retry_after, .. } if retry_after == second),
                "{status}"
            );
        }
    }

    #[test]
    fn rejected_lines_are_named() {
        let body = br#"{"rejected": [{"line_id": "erp-1-000001.7", "reason": "unknown SKU"}]}"#;
        let line = Rejected { line_id: "erp-1-000001.7".into(), reason: "unknown SKU".into() };
        assert_eq!(judge(200, None, body), Outcome::Done { status: 200, rejected: vec![line] });
        let Outcome::Refused { answer, .. } = judge(422, None, body) else { panic!() };
        assert!(answer.contains("unknown SKU"));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 37);
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(retry_after("120", now), seconds(120));
        assert_eq!(retry_after(" 0 ", now), seconds(0));
        assert_eq!(retry_after("99999999999999999999999", now), seconds(u64::MAX));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), seconds(37));
        assert_eq!(retry_after("Sunday, 06-Nov-94 08:49:37 GMT", now), seconds(37));
        assert_eq!(retry_after("Sun Nov  6 08:49:37 1994", now), seconds(37));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", SystemTime::now()), seconds(0));
        for nonsense in ["", "-1", "1.5", "soon"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
        }
    }
}
