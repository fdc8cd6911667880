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
    HttpPartner::new(&config).unwrap()
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
    let size = 64 << 20;
    let mut endless = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").into_bytes();
    endless.resize(1 << 20, b'x');
    let partner_of = |url| partner(url, |c| c.timeout_ms = 5_000);
    let outcome = partner_of(parrot(endless).await).send(&part(1)).await;
    assert_eq!(outcome, Outcome::Done { status: 200, rejected: vec![] });

    let receiver = Receiver::start(Behaviour::default()).await.unwrap();
    let elsewhere =
        format!("HTTP/1.1 307 Go\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", receiver.url());
    let outcome = partner_of(parrot(elsewhere.into()).await).send(&part(1)).await;
    assert_eq!(outcome, Outcome::Denied { status: 307, retry_after: None });
    assert_eq!(receiver.totals().batches, 0);
}
