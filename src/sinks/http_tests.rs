//! The HTTP connector against partners that answer in every way.

use std::time::Instant;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    config::Domain,
    feed::BatchId,
    model::Incarnation,
    sinks::receiver::{Behaviour, Receiver},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn part(number: u64) -> Part {
    let id = BatchId::new("erp", Incarnation(1), number).to_string();
    let body = format!(
        r#"{{"batch_id":"{id}","events":1,"lines":[{{"line_id":"{id}.1","sku":"A","location":"B","movement":"sold","quantity":3}}]}}"#
    );
    Part { id, body: body.into(), config_version: 0, uncertain: false }
}

fn partner(url: String, change: impl FnOnce(&mut SinkConfig)) -> HttpPartner {
    let mut config = SinkConfig::new("erp", Domain::Inventory, url);
    change(&mut config);
    HttpPartner::new(&config, &[]).unwrap()
}

fn failed(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_batch_is_taken_once_however_often_it_is_sent() {
    let receiver = Receiver::start(Behaviour::default()).await.unwrap();
    let partner = partner(receiver.url(), |_| {});
    assert_eq!(partner.send(&part(1)).await, Outcome::Done { status: 200, rejected: vec![] });
    assert_eq!(partner.send(&part(1)).await, Outcome::Done { status: 409, rejected: vec![] });
    receiver.behave(|b| b.lose_answers = true);
    failed(&partner.send(&part(2)).await);
    receiver.behave(|b| b.lose_answers = false);
    assert_eq!(partner.send(&part(2)).await, Outcome::Done { status: 409, rejected: vec![] });
    let totals = receiver.totals();
    assert_eq!((totals.batches, totals.repeats, totals.moved("sold")), (2, 2, 6));
    assert_eq!(totals.violations, Vec::<String>::new());
}

#[tokio::test]
async fn signatures_are_what_the_receiver_expects() {
    let behaviour = Behaviour { signing_secret: Some(SECRET.into()), ..Behaviour::default() };
    let receiver = Receiver::start(behaviour).await.unwrap();
    let signed = partner(receiver.url(), |c| c.signing_secret = Some(SECRET.into()));
    assert!(matches!(signed.send(&part(1)).await, Outcome::Done { .. }));
    let unsigned = partner(receiver.url(), |_| {});
    let denied = Outcome::Denied { status: 401, retry_after: None };
    assert_eq!(unsigned.send(&part(2)).await, denied);
    assert_eq!(receiver.totals().batches, 1);
}

#[tokio::test]
async fn limits_outages_slowness_and_a_closed_port_are_failures_to_repeat() {
    let receiver = Receiver::start(Behaviour::default()).await.unwrap();
    let partner = partner(receiver.url(), |c| c.timeout_ms = 200);
    receiver.behave(|b| b.outage = true);
    assert!(failed(&partner.send(&part(1)).await).contains("503"));
    receiver.behave(|b| (b.outage, b.rate_per_s) = (false, Some(0)));
    let second = Some(Duration::from_secs(1));
    let limited = Outcome::Failed {
        reason: "the partner answered 429".into(),
        retry_after: second,
        effect: Effect::None,
    };
    assert_eq!(partner.send(&part(1)).await, limited);
    receiver.behave(|b| (b.rate_per_s, b.latency) = (None, Duration::from_secs(60)));
    let before = Instant::now();
    failed(&partner.send(&part(1)).await);
    assert!(before.elapsed() < Duration::from_secs(30));
    drop(receiver);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let reason = failed(&partner.send(&part(1)).await).to_owned();
    assert!(!reason.contains("http://"), "{reason}");
}

/// Answers every connection with the same bytes, and closes it.
async fn parrot(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://me:swordfish@{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
            // Closed before all of a request is read, the answer would be lost.
            while matches!(stream.read(&mut request).await, Ok(1..)) {}
        }
    });
    url
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_makes_no_sense_is_no_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"rejected\"",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffff\r\nxx",
        "SSH-2.0-OpenSSH_9.9\r\n",
        "",
    ] {
        let partner = partner(parrot(answer.into()).await, |c| c.timeout_ms = 2_000);
        let outcome = partner.send(&part(1)).await;
        assert!(!failed(&outcome).contains("swordfish"), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_and_a_redirect_not_followed() {
    let size = 1 << 30;
    let mut endless = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").into_bytes();
    endless.resize(1 << 20, b'x');
    let partner_of = |url| partner(url, |c| c.timeout_ms = 5_000);
    let outcome = partner_of(parrot(endless).await).send(&part(1)).await;
    // What follows may name lines that are refused.
    let Outcome::Unclear { status: 200, reason } = outcome else { panic!("{outcome:?}") };
    let most = 65_536 + part(1).body.len();
    assert!(reason.contains(&format!("longer than {most} bytes")), "{reason}");

    let receiver = Receiver::start(Behaviour::default()).await.unwrap();
    let elsewhere =
        format!("HTTP/1.1 307 Go\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", receiver.url());
    let outcome = partner_of(parrot(elsewhere.into()).await).send(&part(1)).await;
    assert_eq!(outcome, Outcome::Denied { status: 307, retry_after: None });
    assert_eq!(receiver.totals().batches, 0);
}

/// A partner that answers so to everything.
async fn answering(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    parrot(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into())
        .await
}

/// The more lines, the longer an answer that names them may be.
#[tokio::test]
async fn of_many_lines_each_second_may_be_named_and_an_answer_is_read_as_a_try_reads_it() {
    let line = |n| {
        format!(
            r#"{{"line_id":"erp-1.{n}","sku":"SKU-{n}","location":"BER","movement":"sold","quantity":1}}"#
        )
    };
    let lines = (0..1_600).map(line).collect::<Vec<_>>().join(",");
    let body = Bytes::from(format!(r#"{{"batch_id":"erp-1","events":1,"lines":[{lines}]}}"#));
    let answer = |words: usize| {
        let reason = "unknown SKU ".repeat(words);
        let named = |n| serde_json::json!({"line_id": format!("erp-1.{n}"), "reason": reason});
        let named: Vec<_> = (0..1_600).step_by(2).map(named).collect();
        serde_json::json!({"rejected": named}).to_string()
    };
    for words in [6, 60] {
        let said = answer(words);
        let url = answering("200 OK", "", &said).await;
        let mut sends = Part { body: body.clone(), ..part(1) };
        sends.id = "erp-1".to_owned();
        let outcome = partner(url.clone(), |_| {}).send(&sends).await;
        let config = SinkConfig::new("erp", Domain::Inventory, url);
        let given = Some((200, Bytes::from(said.clone())));
        let tried = crate::sinks::trial::try_connector(&config, Some(body.clone()), given).unwrap();
        let verdict = tried.verdict.unwrap();
        match outcome {
            Outcome::Done { rejected, .. } if words == 6 => {
                assert!(said.len() > 65_536 && rejected.len() == 800);
                assert!(verdict.starts_with("done, but for:"), "{verdict}");
                assert_eq!(verdict.matches("erp-1.").count(), 800);
            }
            Outcome::Unclear { reason, .. } if words == 60 => {
                assert!(
                    verdict.starts_with("not clear") && verdict.ends_with(&reason),
                    "{verdict}"
                );
            }
            other => panic!("{words}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn half_the_lines_refused_are_named_and_secrets_struck_from_what_is_said() {
    let body = r#"{"rejected": [{"line_id": "erp-0000-000001.1", "reason": "you said hunter2, swordfish"}]}"#;
    for (status, whole) in [("200 OK", true), ("422 No", false)] {
        let partner = partner(answering(status, "", body).await, |c| {
            c.headers.insert("x-key".into(), "Bearer hunter2".into());
        });
        let (rejected, said) = match partner.send(&part(1)).await {
            Outcome::Done { rejected, .. } if whole => (rejected, String::new()),
            Outcome::Refused { rejected, answer, .. } if !whole => (rejected, answer),
            other => panic!("{other:?}"),
        };
        assert_eq!(rejected[0].line_id, "erp-0000-000001.1");
        assert_eq!(rejected[0].reason, "you said (hidden), (hidden)");
        assert!(!said.contains("hunter2") && !said.contains("swordfish"), "{said}");
    }
}

#[tokio::test]
async fn a_partner_whose_clock_is_an_hour_off_is_asked_again_when_it_wants() {
    let off = SystemTime::now() + Duration::from_secs(3_600);
    let date = |at| httpdate::fmt_http_date(at);
    let headers =
        format!("date: {}\r\nretry-after: {}\r\n", date(off), date(off + Duration::from_secs(7)));
    let outcome = partner(answering("503 No", &headers, "").await, |_| {}).send(&part(1)).await;
    let wait = Some(Duration::from_secs(7));
    assert!(
        matches!(outcome, Outcome::Failed { retry_after, .. } if retry_after == wait),
        "{outcome:?}"
    );
}

/// What can stand in a URL only percent-encoded reaches the partner as it is meant.
#[tokio::test]
async fn the_user_and_the_password_of_a_url_are_decoded() {
    let (url, kept) = keeping().await;
    let partner = partner(url.replace("http://", "http://a:b%3Ac@"), |_| {});
    assert!(matches!(partner.send(&part(1)).await, Outcome::Done { .. }));
    let request = kept.lock().concat();
    assert!(request.contains("authorization: Basic YTpiOmM=\r\n"), "{request}");
}

/// A partner that keeps every request whole, and answers 200.
async fn keeping() -> (String, std::sync::Arc<parking_lot::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let kept = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let keeper = std::sync::Arc::clone(&kept);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 << 10];
            let n = stream.read(&mut request).await.unwrap_or(0);
            keeper.lock().push(String::from_utf8_lossy(&request[..n]).into_owned());
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n[]";
            let _ = stream.write_all(answer).await;
        }
    });
    (url, kept)
}

#[tokio::test]
async fn every_kind_of_credentials_is_where_it_belongs() {
    for (auth, expected) in [
        ("{ kind = \"bearer\", token = \"t0k3n\" }", "authorization: Bearer t0k3n\r\n"),
        (
            "{ kind = \"basic\", user = \"a\", password = \"b:c\" }",
            "authorization: Basic YTpiOmM=\r\n",
        ),
        ("{ kind = \"header\", header = \"x-api-key\", api_key = \"k\" }", "x-api-key: k\r\n"),
        (
            "{ kind = \"query\", parameter = \"key\", api_key = \"a&b\" }",
            "POST /in?key=a%26b HTTP/1.1\r\n",
        ),
    ] {
        let (url, kept) = keeping().await;
        let text = format!("auth = {auth}");
        let partner = partner(url, |c| c.connector = Overlay::parse(&text).unwrap());
        assert!(matches!(partner.send(&part(1)).await, Outcome::Done { .. }));
        let request = kept.lock().concat();
        assert!(
            request.contains(expected) && request.contains("idempotency-key: erp-0000-000001"),
            "{request}"
        );
    }
}

#[tokio::test]
async fn what_may_have_had_its_effect_is_not_repeated_where_nobody_would_know() {
    let mut again = part(1);
    let old = r#"{"sealed_at": "2020-01-01T00:00:00Z", "lines": []}"#;
    for (text, body, sent) in [
        ("dedupe = \"none\"", old, false),
        ("dedupe_horizon_ms = 60000", old, false),
        ("dedupe_horizon_ms = 60000", "{}", false),
        ("dedupe_horizon_ms = 100000000000000", old, true),
        ("", "{}", true),
    ] {
        let (url, kept) = keeping().await;
        let partner = partner(url, |c| c.connector = Overlay::parse(text).unwrap());
        (again.uncertain, again.body) = (true, body.into());
        let outcome = partner.send(&again).await;
        assert_eq!(matches!(outcome, Outcome::Done { .. }), sent, "{text}: {outcome:?}");
        if !sent {
            let Outcome::Withheld { reason } = &outcome else { panic!("{outcome:?}") };
            assert!(reason.contains("not sent again"));
        }
        again.uncertain = false;
        assert!(matches!(partner.send(&again).await, Outcome::Done { .. }));
        assert_eq!(kept.lock().len(), 1 + usize::from(sent));
    }
}

#[tokio::test]
async fn what_is_not_kept_is_not_sent_and_what_is_too_large_is_halved() {
    let (url, kept) = keeping().await;
    let partner_of =
        |text: &str| partner(url.clone(), |c| c.connector = Overlay::parse(text).unwrap());
    let outcome = partner_of("keep = { \"/movement\" = \"shipped\" }").send(&part(1)).await;
    assert_eq!(outcome, Outcome::Done { status: 0, rejected: vec![] });
    let outcome = partner_of("bytes_max = 1024")
        .send(&Part { body: vec![b' '; 2_000].into(), ..part(1) })
        .await;
    assert!(matches!(outcome, Outcome::Refused { status: 0, .. }), "{outcome:?}");
    // A template that does not fit this batch is the configuration's fault: nothing is set aside.
    let outcome = partner_of("body = \"{{ sealed_at }}\"").send(&part(1)).await;
    assert!(failed(&outcome).contains("undefined value"), "{outcome:?}");
    assert!(matches!(outcome, Outcome::Failed { effect: Effect::None, .. }));
    assert_eq!(kept.lock().len(), 0);
}

/// A wave that only calls something off, and a list of events, once were taken for batches without any line:
/// done, and never sent.
#[tokio::test]
async fn what_is_kept_is_sent_whatever_list_it_stands_in() {
    let (url, kept) = keeping().await;
    let wave = r#"{"orders": [], "cancellations": [{"line_id": "w.1", "reason": "cancelled"}]}"#;
    let events = r#"[{"id": "1", "reason": "cancelled"}, {"id": "2"}]"#;
    for (domain, body) in [(Domain::Fulfilment, wave), (Domain::Stream, events)] {
        let text = "keep = { \"/reason\" = \"cancelled\" }";
        let mut config = SinkConfig::new("wms", domain, url.clone());
        config.connector = Overlay::parse(text).unwrap();
        let partner = HttpPartner::new(&config, &[]).unwrap();
        let outcome = partner.send(&Part { body: body.into(), ..part(1) }).await;
        assert_eq!(outcome, Outcome::Done { status: 200, rejected: vec![] });
    }
    assert_eq!(kept.lock().len(), 2);
}

#[tokio::test]
async fn an_absent_part_is_not_believed_while_the_partner_may_be_at_work() {
    let (url, kept) = keeping().await;
    let text = "dedupe = \"lookup\"\nlookup = { path = \"/seen?id={{ part_id }}\", settle_ms = 300, \
                found = { status = [404] }, absent = { contains = [\"[]\"] } }";
    let partner = partner(url, |c| c.connector = Overlay::parse(text).unwrap());
    let again = Part { uncertain: true, ..part(1) };
    let Outcome::Failed { retry_after: Some(left), effect: Effect::Unknown, .. } =
        partner.send(&again).await
    else {
        panic!("it was believed");
    };
    assert!(left <= Duration::from_millis(300));
    tokio::time::sleep(left).await;
    assert!(matches!(partner.send(&again).await, Outcome::Done { .. }));
    let kept = kept.lock();
    assert_eq!(
        kept.iter().filter(|r| r.starts_with("GET /in/seen?id=erp-0000-000001 ")).count(),
        2
    );
    assert_eq!(kept.iter().filter(|r| r.starts_with("POST /in ")).count(), 1);
}

/// After a change of the configuration a batch that was sealed before it is rendered as it was then, by
/// what the log says of that.
#[tokio::test]
async fn a_batch_is_rendered_by_the_configuration_that_sealed_it() {
    let (url, kept) = keeping().await;
    let config = |body: &str| {
        let mut config = SinkConfig::new("erp", Domain::Inventory, url.clone());
        config.connector = Overlay::parse(&format!(
            "body = '{body}'\nauth = {{ kind = \"bearer\", token = \"swordfish\" }}"
        ))
        .unwrap();
        config
    };
    let (then, now) = (config("{\"then\": {{ events }}}"), config("{\"now\": {{ events }}}"));
    let rendering = then.connector().unwrap().rendering().unwrap();
    assert!(!rendering.contains("swordfish"));
    let earlier = [(7, "not = \"known\"".to_owned()), (then.render_version(), rendering)];
    let partner = HttpPartner::new(&now, &earlier).unwrap();
    for (version, word) in
        [(then.render_version(), "then"), (now.render_version(), "now"), (7, "now"), (8, "now")]
    {
        let part = Part { config_version: version, ..part(1) };
        assert!(matches!(partner.send(&part).await, Outcome::Done { .. }));
        let sent = kept.lock().pop().unwrap();
        assert!(sent.ends_with(&format!("{{\"{word}\": 1}}")), "{word}: {sent}");
    }
    assert_eq!(
        SinkConfig::new("erp", Domain::Inventory, url).connector().unwrap().rendering(),
        None
    );
}
