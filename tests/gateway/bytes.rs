//! The format does not drift: the bytes of `docs/gateway.md`, and the numbers of codes.

use holdfast::{
    api::codes,
    model::{
        Lsn, ReservationId, Timestamp,
        view::{LineView, ReservationState, ReservationView},
    },
    protocol::{Code, Frame, Inbox, Request, Reservation, Reserve, kind, push_reservation},
    telemetry::TraceContext,
};

use super::{common::*, support::*};

fn hex(bytes: &[u8]) -> String {
    let word = |word: &[u8]| word.iter().map(|b| format!("{b:02x}")).collect::<String>();
    bytes.chunks(8).map(word).collect::<Vec<_>>().join("\n")
}

/// The block of the guide under a heading, without its comments.
fn documented(heading: &str) -> String {
    let guide = include_str!("../../docs/gateway.md");
    let (_, rest) = guide.split_once(heading).unwrap_or_else(|| panic!("no {heading}"));
    let block = rest.split("```").nth(1).unwrap();
    let lines = block.lines().skip(1).map(|line| line.split("  ").next().unwrap().replace(' ', ""));
    lines.collect::<Vec<_>>().join("\n")
}

/// The cart of the guide.
fn guides_cart() -> holdfast::model::command::Reserve {
    holdfast::model::command::Reserve {
        customer: Some(id("C-1")),
        ttl_ms: Some(600_000),
        ..one("TEE-M", 2)
    }
}

#[test]
fn a_hello_is_these_bytes() {
    assert_eq!(hex(&hello("a-key-of-more-than-20-characters")), documented("### A hello"));
}

#[test]
fn a_reserve_is_these_bytes_and_reads_as_it_was_written() {
    let reserve = guides_cart();
    let name = key("checkout-1");
    let request = Request::Reserve(&name, &reserve);
    let bytes = bytes_of(7, &request);
    assert_eq!(hex(&bytes), documented("### A reserve"));
    let mut inbox = Inbox::new(4096);
    inbox.fill(&mut &bytes[..]).unwrap();
    let frame: Frame<'_> = inbox.next().unwrap().unwrap();
    let mut read = one("Z", 1);
    let read_key = frame.access::<Reserve<'_>>().unwrap().read(&mut read).unwrap();
    assert_eq!((read_key, read), (name, reserve));
}

#[test]
fn a_trace_stands_in_front_of_a_body_that_reads_the_same_without_it() {
    let (name, reserve) = (key("checkout-1"), guides_cart());
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = TraceContext::parse(trace).unwrap();
    let request = Request::Reserve(&name, &reserve);
    let plain = bytes_of(7, &request);
    let twice = Request::Traced(&trace, &request);
    let bytes = bytes_of(7, &Request::Traced(&trace, &twice));
    assert_eq!(hex(&bytes[..48]), documented("### A trace"));
    assert_eq!(bytes[48..], plain[16..]);
    let mut inbox = Inbox::new(4096);
    inbox.fill(&mut &bytes[..]).unwrap();
    let frame = inbox.next().unwrap().unwrap();
    assert_eq!(frame.trace(), Some(trace));
    let mut read = one("Z", 1);
    let read_key = frame.access::<Reserve<'_>>().unwrap().read(&mut read).unwrap();
    assert_eq!((read_key, read), (name, reserve));
}

#[test]
fn a_reservation_is_these_bytes_and_reads_as_it_was_written() {
    let view = ReservationView {
        id: ReservationId { lsn: Lsn(4096), slot: 3 },
        state: ReservationState::Held,
        lines: vec![LineView { sku: id("TEE-M"), location: id("BER"), quantity: 2 }],
        expires_at: Some(Timestamp::from_millis(1_764_000_600_000)),
        order_id: None,
        lsn: Lsn(4096),
    };
    let mut bytes = Vec::new();
    push_reservation(&mut bytes, (2, 7), &view, None);
    assert_eq!(hex(&bytes), documented("### A reservation"));
    let mut inbox = Inbox::new(4096);
    inbox.fill(&mut &bytes[..]).unwrap();
    let frame = inbox.next().unwrap().unwrap();
    assert_eq!(frame.header.kind, kind::RESERVATION);
    assert_eq!(frame.access::<Reservation<'_>>().unwrap().view(), Some(view));
}

#[test]
fn every_code_of_the_http_api_has_a_number_and_no_number_moves() {
    let words: Vec<_> = codes::ALL.iter().map(|code| code.code).collect();
    assert_eq!(Code::ALL.len(), words.len());
    let guide = include_str!("../../docs/gateway.md");
    for (index, code) in Code::ALL.iter().enumerate() {
        assert_eq!(usize::from(code.0), index + 1);
        assert!(words.contains(&code.as_str()), "{code}");
        assert_eq!(Code::of_word(code.as_str()), Some(*code));
        let http = codes::ALL.iter().find(|http| http.code == code.as_str()).unwrap();
        assert_eq!(code.status(), http.status, "{code}");
        assert!(guide.contains(&format!("{} `{code}`", code.0)), "{} `{code}`", code.0);
    }
    assert_eq!(Code(999).as_str(), "unknown");
}
