//! The rules of the generic preset say what the HTTP contract says.

use hyper::header::{HeaderValue, RETRY_AFTER};

use super::*;
use crate::config::{Domain, Overlay};

fn judge(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Outcome {
    let connector = Overlay::default().over("generic", Domain::Inventory).unwrap();
    let rules = Rules { rules: connector.rules, rejected: connector.rejected };
    let mut headers = HeaderMap::new();
    headers.extend(retry_after.map(|wait| (RETRY_AFTER, HeaderValue::from(wait.as_secs()))));
    let json = serde_json::from_slice(body).ok();
    let text = String::from_utf8_lossy(body).into_owned();
    rules.judge(&Answer { status, headers, text, json }, &[])
}

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
    let retry_after = |value, now| super::retry_after(value, now, None);
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

#[test]
fn a_date_is_by_the_clock_of_who_says_it() {
    let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
    // Their clock is an hour ahead, and they want to be asked again in 37 s.
    let wait = |value| super::retry_after(value, at(784_111_740 - 3_600), Some(at(784_111_740)));
    assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(37)));
    assert_eq!(wait("5"), Some(Duration::from_secs(5)));
}

#[test]
fn lines_that_are_refused_without_a_name_are_not_taken_for_done() {
    for body in [r#"{"rejected": [7]}"#, r#"{"rejected": [{"reason": "x"}]}"#] {
        let outcome = judge(200, None, body.as_bytes());
        assert!(matches!(outcome, Outcome::Failed { effect: Effect::Unknown, .. }), "{outcome:?}");
        let outcome = judge(422, None, body.as_bytes());
        assert!(matches!(outcome, Outcome::Refused { rejected, .. } if rejected.is_empty()));
    }
}

#[test]
fn lines_may_be_named_by_their_place() {
    let rejected: RejectedLines = toml::from_str(
        "at = \"/r\"\nindex = \"/id\"\nindex_first = 1\nreason = \"/e/m\"\nwhen = { \"/e\" = { present = true } }",
    )
    .unwrap();
    let rules = Rules { rules: Vec::new(), rejected: Some(rejected) };
    let ids = ["a".to_owned(), "b".to_owned()];
    let named = |text: &str| {
        let json = serde_json::from_str(text).unwrap();
        let rejected = rules.rejected(Some(&json), &ids)?;
        Some(rejected.into_iter().map(|r| (r.line_id, r.reason)).collect::<Vec<_>>())
    };
    let one = |id: &str, reason: &str| Some(vec![(id.to_owned(), reason.to_owned())]);
    assert_eq!(named(r#"{"r": [{"id": "1"}, {"id": "2", "e": {"m": "no"}}]}"#), one("b", "no"));
    assert_eq!(named(r#"{"r": [{"id": 1, "e": {"m": 5}}]}"#), one("a", "5"));
    for beyond in ["0", "3", "\"x\"", "null"] {
        assert_eq!(
            named(&format!(r#"{{"r": [{{"id": {beyond}, "e": {{}}}}]}}"#)),
            None,
            "{beyond}"
        );
    }
}
