//! Nothing is told before it is durable; nothing accepted is lost, whatever becomes of the caller, the
//! disk or the server.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use holdfast::{
    Key,
    client::Error,
    protocol::{Code, Request, kind},
};

use super::{common::*, support::*};

#[test]
fn no_grant_is_told_before_it_is_durable_and_a_refusal_does_not_wait() {
    let served = serve();
    let mut bare = served.greeted();
    let delay = Duration::from_millis(400);
    served.storage.set_sync_delay(delay);
    let (granted, refused, read) = (one("A", 1), one("GONE", 1), id("A"));
    let (first, second) = (key("g"), key("s"));
    let mut bytes = bytes_of(1, &Request::Reserve(&first, &granted));
    bytes.extend(bytes_of(2, &Request::Reserve(&second, &refused)));
    bytes.extend(bytes_of(3, &Request::ReadStock(&read)));
    // The repeat speaks of a record that is not durable, so it waits too.
    bytes.extend(bytes_of(4, &Request::Reserve(&first, &granted)));
    let began = Instant::now();
    bare.send(&bytes);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (header, _) = bare.answer();
        let tail = served.engine.log().durable();
        if header.kind == kind::RESERVATION {
            assert!(served.engine.log().appended() <= tail || began.elapsed() >= delay);
        }
        seen.push((header.id, began.elapsed() >= delay));
    }
    assert_eq!(seen, [(2, false), (3, false), (1, true), (4, true)]);
}

#[test]
fn when_the_disk_fails_the_outcome_is_not_known() {
    let served = serve();
    let mut bare = served.greeted();
    // The next sync is to be that of the request, not that of an idle log's mark.
    std::thread::sleep(Duration::from_millis(300));
    served.storage.fail_sync(0);
    let (name, reserve) = (key("g"), one("A", 1));
    bare.send(&bytes_of(1, &Request::Reserve(&name, &reserve)));
    let (header, why) = bare.answer();
    assert_eq!((header.id, why.map(|why| why.0)), (1, Some(Code::OUTCOME_UNKNOWN)));
    bare.send(&bytes_of(2, &Request::Reserve(&key("h"), &reserve)));
    assert_eq!(bare.answer().1.map(|why| why.0), Some(Code::SHUTTING_DOWN));
}

#[test]
fn an_answer_that_the_log_keeps_waiting_too_long_is_not_known() {
    let options = holdfast::gateway::Options { answer_timeout_ms: 100, ..Default::default() };
    let served = serve_with(options, std::sync::Arc::new(holdfast::gateway::NoHouse));
    let mut bare = served.greeted();
    served.storage.set_sync_delay(Duration::from_secs(2));
    let (name, reserve) = (key("g"), one("A", 1));
    bare.send(&bytes_of(1, &Request::Reserve(&name, &reserve)));
    assert_eq!(bare.answer().1.map(|why| why.0), Some(Code::OUTCOME_UNKNOWN));
    served.storage.set_sync_delay(Duration::ZERO);
    eventually("it is done all the same", || {
        served.engine.log().durable() >= served.engine.log().appended()
    });
    bare.send(&bytes_of(2, &Request::Reserve(&name, &reserve)));
    let (header, _) = bare.answer();
    assert_eq!((header.kind, header.flags), (kind::RESERVATION, 3), "replayed and created");
}

#[test]
fn who_goes_away_leaves_a_whole_decision_behind() {
    let served = serve();
    let mut bare = served.greeted();
    served.storage.set_sync_delay(Duration::from_millis(100));
    let (name, reserve) = (key("gone"), one("A", 4));
    bare.send(&bytes_of(1, &Request::Reserve(&name, &reserve)));
    eventually("it is decided", || served.engine.stock(&id("A")).unwrap().held == 4);
    drop(bare);
    eventually("it has left", || served.counters.connections.load(Ordering::Relaxed) == 0);
    served.storage.set_sync_delay(Duration::ZERO);
    let again = served.client().reserve(&name, &reserve).unwrap();
    assert!(again.replayed);
    assert_eq!(served.engine.stock(&id("A")).unwrap().held, 4);
}

#[test]
fn a_client_whose_connection_breaks_says_so_to_everybody() {
    let mut served = serve();
    let client = served.client();
    served.storage.set_sync_delay(Duration::from_secs(1));
    let (name, reserve) = (key("b"), one("A", 1));
    let pending = client.submit(&Request::Reserve(&name, &reserve)).unwrap();
    client.flush().unwrap();
    eventually("it is decided", || served.engine.stock(&id("A")).unwrap().held == 1);
    served.stop(Duration::ZERO);
    assert!(matches!(pending.wait(), Err(Error::Broken(_))));
    assert!(matches!(client.stock(&id("A")), Err(Error::Broken(_))));
}

#[test]
fn a_server_that_stops_answers_what_it_has_accepted_and_nothing_else() {
    let mut served = serve();
    let mut bare = served.greeted();
    served.storage.set_sync_delay(Duration::from_millis(300));
    let (name, reserve) = (key("in"), one("A", 1));
    bare.send(&bytes_of(1, &Request::Reserve(&name, &reserve)));
    eventually("it is decided", || served.engine.stock(&id("A")).unwrap().held == 1);
    let socket = served.socket.clone();
    let (engine, late) = (served.engine.clone(), key("late"));
    let stopper = std::thread::spawn(move || {
        served.stop(LONG);
        served
    });
    std::thread::sleep(Duration::from_millis(10));
    bare.send(&bytes_of(2, &Request::Reserve(&late, &reserve)));
    let mut answers: Vec<_> = std::iter::from_fn(|| bare.next()).collect();
    answers.sort_by_key(|(header, _)| header.id);
    let [(granted, None), (refused, Some(why))] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((granted.id, granted.kind), (1, kind::RESERVATION));
    assert_eq!((refused.id, why.0), (2, Code::SHUTTING_DOWN));
    let served = stopper.join().unwrap();
    assert_eq!(served.counters.connections.load(Ordering::Relaxed), 0);
    assert!(!socket.exists());
    let done = engine.settle_blocking(engine.reserve(Key::new("", &name), &reserve)).unwrap();
    assert!(done.replayed);
}
