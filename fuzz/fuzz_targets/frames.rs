//! Any bytes as what comes in at either end of the binary protocol: frames are cut out of them, bodies
//! are read or said to be none, and nothing panics.
#![no_main]

use holdfast::{
    client::Answer,
    model::command,
    protocol::{
        ChangeLines, Commit, Extend, Frame, Hello, Inbox, Order, ReadReservation, ReadStock,
        Release, Reserve, kind,
    },
};
use libfuzzer_sys::fuzz_target;

fn read(frame: &Frame<'_>) {
    let mut reserve =
        command::Reserve { lines: vec![], customer: None, order_id: None, ttl_ms: None };
    match frame.header.kind {
        kind::HELLO => drop(frame.access::<Hello<'_>>().map(|hello| hello.api_key.len())),
        kind::RESERVE => drop(frame.access::<Reserve<'_>>().map(|body| body.read(&mut reserve))),
        kind::RELEASE => drop(frame.access::<Release<'_>>().map(|body| body.read())),
        kind::EXTEND => drop(frame.access::<Extend<'_>>().map(|body| body.read())),
        kind::COMMIT => drop(frame.access::<Commit<'_>>().map(|body| body.read())),
        kind::ORDER => drop(frame.access::<Order<'_>>().map(|body| body.read())),
        kind::CHANGE_LINES => drop(frame.access::<ChangeLines<'_>>().map(|body| body.read())),
        kind::READ_RESERVATION => {
            drop(frame.access::<ReadReservation>().map(|body| body.reservation.read()));
        }
        kind::READ_STOCK => drop(frame.access::<ReadStock<'_>>().map(|body| body.read())),
        _ => drop(Answer::of(frame).and_then(|answer| answer.to_reply())),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (mut inbox, mut bytes) = (Inbox::new(64 << 10), bytes);
    while inbox.fill(&mut bytes).is_ok_and(|read| read > 0) {
        loop {
            match inbox.next() {
                Ok(Some(frame)) => read(&frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
