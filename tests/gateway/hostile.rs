//! Callers who send what is no request, too much, too slowly, or do not listen.

use std::{
    io::{Read, Write},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use holdfast::{
    client::{Address, Client, Error, Options as ClientOptions},
    gateway::{Call, Done, Error as GatewayError, House, Listeners, NoHouse, Options},
    protocol::{Code, Header, MAGIC, Request, VERSION, kind},
};
use proptest::prelude::*;

use super::{common::*, support::*};

fn with(options: Options) -> Served {
    serve_with(options, Arc::new(NoHouse))
}

fn frame(kind: u8, flags: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let length = (16 + body.len()) as u32;
    [&Header { length, kind, flags, id }.bytes()[..], body].concat()
}

#[test]
fn what_is_no_request_costs_itself_only() {
    let served = serve();
    let mut bare = served.greeted();
    let good = one("A", 1);
    for (number, bad) in [
        frame(kind::RESERVE, 0, 1, &[]),
        frame(kind::RESERVE, 0, 2, &[0xff; 40]),
        frame(kind::RESERVE, 0, 3, &[0; 8]),
        frame(kind::ORDER, 0, 4, &[0x7f; 512]),
        frame(77, 0, 5, &[0; 16]),
        frame(kind::RESERVATION, 0, 6, &[0; 64]),
        hello(""),
    ]
    .into_iter()
    .enumerate()
    {
        let sent = if number == 6 { MAGIC } else { number as u64 + 1 };
        bare.send(&bad);
        let (header, why) = bare.answer();
        assert_eq!((header.id, why.map(|why| why.0)), (sent, Some(Code::MALFORMED)), "{number}");
        bare.send(&bytes_of(100, &Request::Reserve(&key(&format!("ok-{number}")), &good)));
        assert_eq!(bare.answer().0.kind, kind::RESERVATION);
    }
}

#[test]
fn what_can_be_no_frame_ends_its_connection() {
    let served = with(Options { frame_bytes_max: 8192, ..Options::default() });
    for (bytes, code) in [
        (&[0_u8; 16][..], Code::MALFORMED),
        (&[17, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Code::MALFORMED),
        (&[16, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], Code::MALFORMED),
        (&[0xff; 16], Code::MALFORMED),
        (&[8, 32, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Code::TOO_LARGE),
        (&[0xf8, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Code::TOO_LARGE),
    ] {
        let mut bare = served.greeted();
        let (name, reserve) = (key("before"), one("A", 1));
        bare.send(&bytes_of(1, &Request::Reserve(&name, &reserve)));
        assert_eq!(bare.answer().0.kind, kind::RESERVATION);
        bare.send(bytes);
        bare.is_ended_with(code);
    }
    assert_eq!(served.counters.broken_frames.load(Ordering::Relaxed), 6);
}

#[test]
fn who_does_not_say_hello_properly_is_told_and_let_go() {
    let served = with(Options { frame_timeout_ms: 200, ..Options::default() });
    let name = key("x");
    let reserve = bytes_of(1, &Request::Reserve(&name, &one("A", 1)));
    let mut wrong_version = hello("");
    wrong_version[5] = VERSION + 1;
    let mut wrong_magic = hello("");
    wrong_magic[8] ^= 1;
    for (bytes, code) in [
        (reserve, Code::MALFORMED),
        (wrong_version, Code::MALFORMED),
        (wrong_magic, Code::MALFORMED),
        (frame(kind::HELLO, VERSION, MAGIC, &[0xff; 16]), Code::MALFORMED),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Code::MALFORMED),
        (frame(kind::HELLO, VERSION, MAGIC, &[0; 5000 / 8 * 8]), Code::TOO_LARGE),
        (hello("")[..20].to_vec(), Code::REQUEST_TIMEOUT),
        (Vec::new(), Code::REQUEST_TIMEOUT),
    ] {
        let mut bare = served.bare();
        bare.send(&bytes);
        bare.is_ended_with(code);
    }
    assert_eq!(served.counters.refused_hellos.load(Ordering::Relaxed), 4);
    assert_eq!(served.engine.stock(&id("A")).unwrap().held, 0);
}

struct Locked;
impl House for Locked {
    fn needs_keys(&self) -> bool {
        true
    }
    fn partner(&self, api_key: &str) -> Option<Arc<str>> {
        (api_key == "sesame").then(|| "shop".into())
    }
    fn call(&self, _: Call, _: Done) {}
}

#[test]
fn where_there_are_keys_a_connection_needs_one() {
    let served = serve_with(Options::default(), Arc::new(Locked));
    let with_key = |api_key: &str| {
        let options = ClientOptions { api_key: api_key.to_owned(), ..ClientOptions::default() };
        Client::connect(&Address::Unix(served.socket.clone()), &options)
    };
    for wrong in ["", "sesam", "open sesame"] {
        assert_eq!(code(with_key(wrong).map(|_| ())), "unauthenticated");
    }
    assert!(with_key("sesame").unwrap().reserve(&key("k"), &one("A", 1)).is_ok());
}

#[test]
fn without_keys_only_this_machine_is_served() {
    let listen = Some("0.0.0.0:0".parse().unwrap());
    let options = Options { listen, ..Options::default() };
    assert!(matches!(Listeners::bind(&options, false), Err(GatewayError::NotLoopback { .. })));
    assert!(Listeners::bind(&options, true).is_ok());
}

#[test]
fn a_socket_that_a_dead_server_left_is_replaced_and_that_of_a_living_one_is_not() {
    let served = serve();
    let options = Options { socket: Some(served.socket.clone()), ..Options::default() };
    assert!(matches!(Listeners::bind(&options, false), Err(GatewayError::Socket { .. })));
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    let options = Options { socket: Some(left.clone()), ..Options::default() };
    let listeners = Listeners::bind(&options, false).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&left.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    drop(listeners);
    let file = dir.path().join("file");
    std::fs::write(&file, "not a socket").unwrap();
    let options = Options { socket: Some(file.clone()), ..Options::default() };
    assert!(Listeners::bind(&options, false).is_err());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "not a socket");
}

#[test]
fn half_a_frame_is_waited_for_and_not_for_ever() {
    let served = with(Options { frame_timeout_ms: 600, ..Options::default() });
    let (name, reserve) = (key("slow"), one("A", 1));
    let bytes = bytes_of(1, &Request::Reserve(&name, &reserve));
    let mut bare = served.greeted();
    for byte in &bytes {
        bare.send(&[*byte]);
    }
    assert_eq!(bare.answer().0.kind, kind::RESERVATION);
    // One byte at a time keeps a frame from being complete, but not for longer than it may take.
    let mut ended = false;
    for byte in bytes.iter().cycle().take(bytes.len() - 1) {
        ended |= bare.stream.write_all(&[*byte]).is_err();
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = ended;
    bare.is_ended_with(Code::REQUEST_TIMEOUT);
    // A stream of frames of which one is always half there is not slow.
    let mut steady = served.greeted();
    steady.send(&bytes[..10]);
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(25));
        steady.send(&bytes[10..]);
        steady.send(&bytes[..10]);
        assert_eq!(steady.answer().0.kind, kind::RESERVATION);
    }
    // Who sends nothing is not in the middle of anything.
    let mut idle = served.greeted();
    std::thread::sleep(Duration::from_millis(900));
    idle.send(&bytes);
    assert_eq!(idle.answer().0.kind, kind::RESERVATION);
}

#[test]
fn a_frame_longer_than_the_server_takes_is_not_sent() {
    let served = with(Options { frame_bytes_max: 4096, ..Options::default() });
    let client = served.client();
    let lines: Vec<_> = (0..100).map(|n| line(&format!("SKU-NUMBER-{n:020}"), 1)).collect();
    let long = client.reserve(&key("long"), &cart(&lines));
    assert!(matches!(long, Err(Error::TooLong { max: 4096, .. })), "{long:?}");
    assert!(client.reserve(&key("short"), &one("A", 1)).is_ok());
}

#[test]
fn who_does_not_listen_is_not_read_from_until_he_does() {
    let served = with(Options { answer_bytes_max: 64 << 10, ..Options::default() });
    let mut bare = served.greeted();
    let (name, reserve) = (key("s"), one("GONE", 1));
    let one_request = bytes_of(1, &Request::Reserve(&name, &reserve));
    let mut sender = bare.stream.try_clone().unwrap();
    let total = 60_000;
    let writer = std::thread::spawn(move || {
        let many = one_request.repeat(100);
        (0..total / 100).for_each(|_| sender.write_all(&many).unwrap());
    });
    eventually("it pauses", || {
        served
            .metrics()
            .lines()
            .any(|l| l.strip_prefix("holdfast_gateway_pauses_total ").is_some_and(|n| n != "0"))
    });
    let done =
        |text: String| text.lines().any(|l| l.ends_with(&format!("status=\"409\"}} {total}")));
    assert!(!done(served.metrics()), "everything was taken in from one who does not listen");
    let answers = (0..total).filter(|_| bare.answer().1.is_some()).count();
    assert_eq!(answers, total);
    writer.join().unwrap();
    assert!(done(served.metrics()));
}

#[test]
fn no_more_is_under_way_than_may_be() {
    let served = with(Options { in_flight_max: 10, ..Options::default() });
    let mut bare = served.greeted();
    served.storage.set_sync_delay(Duration::from_millis(300));
    let names: Vec<_> = (0..35).map(|n| key(&format!("k{n}"))).collect();
    let reserve = one("A", 1);
    let requests = names.iter().enumerate();
    let bytes: Vec<u8> =
        requests.flat_map(|(n, k)| bytes_of(n as u64, &Request::Reserve(k, &reserve))).collect();
    bare.send(&bytes);
    eventually("ten are taken", || served.engine.stock(&id("A")).unwrap().held == 10);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(served.engine.stock(&id("A")).unwrap().held, 10);
    served.storage.set_sync_delay(Duration::ZERO);
    for n in 0..35 {
        assert_eq!(bare.answer().0.id, n);
    }
}

#[test]
fn no_more_connect_than_may_and_the_next_waits_at_the_door() {
    let served = with(Options { connections_max: 2, ..Options::default() });
    let (first, _second) = (served.greeted(), served.greeted());
    let mut third = served.bare();
    third.send(&hello(""));
    third.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(third.stream.read(&mut [0; 1]).is_err(), "it was let in");
    assert!(served.counters.connections_full.load(Ordering::Relaxed) > 0);
    drop(first);
    third.stream.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(third.answer().0.kind, kind::WELCOME);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any bytes behind any header, and real requests with bytes changed: an answer to each, and the
    /// server lives on.
    #[test]
    fn any_bytes_get_an_answer(
        frames in prop::collection::vec(
            (0_u8..14, any::<u8>(), prop::collection::vec(any::<u8>(), 0..30), any::<[(u16, u8); 3]>()),
            1..40,
        )
    ) {
        thread_local! {
            static SERVED: Served = serve_with(Options::default(), Arc::new(NoHouse));
        }
        SERVED.with(|served| {
            let mut bare = served.greeted();
            let mut sent = 0;
            for (id, (kind, flags, words, flips)) in frames.into_iter().enumerate() {
                let real = kind == 2 && words.len() % 2 == 0;
                let mut bytes = if real {
                    bytes_of(id as u64, &Request::Reserve(&key("k"), &one("A", 1)))
                } else {
                    frame(kind, flags, id as u64, &words.repeat(8))
                };
                for (at, bits) in flips.into_iter().filter(|_| real) {
                    let body = bytes.len() - 16;
                    bytes[16 + usize::from(at) % body] ^= bits;
                }
                bare.send(&bytes);
                sent += 1;
            }
            for _ in 0..sent {
                let (header, _) = bare.answer();
                prop_assert!(header.kind >= 128);
            }
            Ok(())
        })?;
    }
}
