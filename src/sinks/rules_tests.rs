//! The rules of the generic preset say what the HTTP contract says.

use hyper::header::{HeaderValue, RETRY_AFTER};

use super::*;
use crate::config::{Domain, Overlay};

fn judge(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Outcome {
    let connector = Overlay::default().over("generic", Domain::Inventory).unwrap();
    let rules = Rules { rules: connector.rules, rejected: connector.rejected };
    let mut headers = HeaderMap::new();
    headers.extend(retry_after.map(|wait| (RETRY_AFTER, HeaderValue::from(wait.as_secs()))));
    let ids = || vec!["erp-1-000001.6".to_owned(), "erp-1-000001.7".to_owned()];
    rules.judge(&Answer::new(status, headers, body.to_vec(), BYTES_MAX), ids)
}

/// So much of an answer is read.
const BYTES_MAX: u64 = 1_000;

fn unclear(outcome: Outcome) -> String {
    match outcome {
        Outcome::Unclear { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
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
        let reason = unclear(judge(200, None, body.as_bytes()));
        assert!(reason.contains("does not name"), "{reason}");
        let outcome = judge(422, None, body.as_bytes());
        assert!(matches!(outcome, Outcome::Refused { rejected, .. } if rejected.is_empty()));
    }
}

#[test]
fn an_answer_that_may_name_lines_and_can_not_be_read_is_not_taken_for_done() {
    let all: Vec<_> = (0..100).map(|n| serde_json::json!({"line_id": format!("x.{n}")})).collect();
    let long = serde_json::json!({"rejected": all}).to_string();
    let line = |id: &str| {
        format!(r#"{{"rejected": [{{"line_id": "erp-1-000001.7"}}, {{"line_id": "{id}"}}]}}"#)
    };
    let endless = "x".repeat(2_000);
    for (what, body) in [
        ("longer than 1000 bytes", long.as_bytes()),
        ("longer than 1000 bytes", endless.as_bytes()),
        ("broken JSON", br#" {"rejected": [{"line_id": "erp-1-"#),
        ("no list", br#"{"rejected": {"erp-1-000001.7": "unknown SKU"}}"#),
        ("no list", br#"{"rejected": 3}"#),
        ("no list", br#"{"rejected": false}"#),
        ("was not sent: erp-1-000001.8", line("erp-1-000001.8").as_bytes()),
        ("was not sent: ERP-1-000001.7", line("ERP-1-000001.7").as_bytes()),
    ] {
        let reason = unclear(judge(200, None, body));
        assert!(reason.contains(what) && reason.len() < 600, "{reason}");
        // Of what was refused as a whole nothing was taken, whatever is named.
        let outcome = judge(422, None, body);
        assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    }
    // Beside one that nobody knows, the others are taken out all the same.
    let Outcome::Refused { rejected, .. } = judge(422, None, line("x").as_bytes()) else {
        panic!()
    };
    assert!(rejected.iter().any(|line| line.line_id == "erp-1-000001.7"), "{rejected:?}");
    for body in
        [r#"{"rejected": null}"#, r#"{"rejected": []}"#, "{}", "null", "[]", "\u{feff}{}", "OK"]
    {
        let done = Outcome::Done { status: 200, rejected: Vec::new() };
        assert_eq!(judge(200, None, body.as_bytes()), done, "{body}");
    }
    // A letter of another alphabet in the reason is no reason to lose the line.
    let latin = b"{\"rejected\": [{\"line_id\": \"erp-1-000001.7\", \"reason\": \"gr\xfcn\"}]}";
    let Outcome::Done { rejected, .. } = judge(200, None, latin) else { panic!() };
    assert_eq!((&*rejected[0].line_id, &*rejected[0].reason), ("erp-1-000001.7", "gr\u{fffd}n"));
}

#[test]
fn what_is_compressed_is_not_read() {
    let connector = Overlay::default().over("generic", Domain::Inventory).unwrap();
    let rules = Rules { rules: connector.rules, rejected: connector.rejected };
    let headers: HeaderMap =
        [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))].into_iter().collect();
    let outcome = |body: &[u8]| {
        rules.judge(&Answer::new(200, headers.clone(), body.to_vec(), BYTES_MAX), Vec::new)
    };
    assert!(unclear(outcome(b"\x1f\x8b\x08\x00")).contains("compressed (gzip)"));
    assert_eq!(outcome(b""), Outcome::Done { status: 200, rejected: Vec::new() });
}

/// Where an earlier rule would have held, had the answer been read, what holds is no success.
#[test]
fn a_rule_that_could_not_look_leaves_no_success_to_the_next() {
    let judge = |rules: &str, body: &str| {
        let connector: crate::config::Connector = toml::from_str(rules).unwrap();
        let rules = Rules { rules: connector.rules, rejected: connector.rejected };
        rules.judge(&Answer::new(200, HeaderMap::new(), body.into(), BYTES_MAX), Vec::new)
    };
    let long = format!("{{\"code\": 7, \"more\": \"{}\"}}", "x".repeat(2_000));
    let done = Outcome::Done { status: 200, rejected: Vec::new() };
    let rule = |head: &str| format!("[[rules]]\n{head}\n");
    let plain = rule("status = [\"2xx\"]\nthen = \"done\"");
    assert_eq!(judge(&plain, &long), done);
    let refuses = rule("when = {\"/code\" = 7}\nthen = \"refused\"");
    assert!(matches!(
        judge(&(refuses.clone() + &plain), r#"{"code": 7}"#),
        Outcome::Refused { .. }
    ));
    unclear(judge(&(refuses.clone() + &plain), &long));
    assert_eq!(judge(&(refuses + &plain), "{}"), done);
    let of_others = rule("status = [409]\nwhen = {\"/code\" = 7}\nthen = \"refused\"");
    assert_eq!(judge(&(of_others + &plain), &long), done);
    // One that names lines would have, and now the next asks for a repeat, which would end as this did.
    let names = rule("when = {\"/id\" = {present = true}}\nthen = \"done\"\nlines = true");
    let retry = rule("status = [\"2xx\"]\nthen = \"retry\"");
    let rejected = "[rejected]\nat = \"/rejected\"\nline_id = \"/line_id\"\n";
    unclear(judge(&(names.clone() + &retry + rejected), &long));
    let outcome = judge(&(names + &retry), &long);
    assert!(matches!(outcome, Outcome::Failed { effect: Effect::Unknown, .. }), "{outcome:?}");
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
        let rejected = rules.rejected(Some(&json), || ids.to_vec()).ok()?.lines;
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
