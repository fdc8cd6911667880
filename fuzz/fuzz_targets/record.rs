//! Any bytes as the body of any kind of record: decoding says what is wrong and never panics.
#![no_main]

use holdfast::model::{
    Lsn,
    event::{
        Acknowledge, Adjust, Change, Checked, Define, Event, Expire, Extend, Genesis, Happened,
        Park, PartnerChange, Placed, Release, Reserve, Seal, Stock, Unpark, decode,
    },
};
use libfuzzer_sys::fuzz_target;

/// Bodies begin at a multiple of eight in the log, so they do here.
#[repr(C, align(8))]
struct Aligned([u8; 4096]);

fn read<E: Event>(body: &[u8])
where
    E::Archived: Checked,
{
    let _ = decode::<E>(Lsn(0), E::KIND, E::VERSION, body);
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, body)) = bytes.split_first() else { return };
    let mut aligned = Aligned([0; 4096]);
    let length = body.len().min(aligned.0.len());
    aligned.0[..length].copy_from_slice(&body[..length]);
    let body = &aligned.0[..length];
    match kind % 16 {
        0 => read::<Genesis>(body),
        1 => read::<Define>(body),
        2 => read::<Stock>(body),
        3 => read::<Adjust>(body),
        4 => read::<Reserve<'_>>(body),
        5 => read::<Release>(body),
        6 => read::<Extend>(body),
        7 => read::<Expire>(body),
        8 => read::<Change>(body),
        9 => read::<Placed>(body),
        10 => read::<Seal>(body),
        11 => read::<Happened>(body),
        12 => read::<Park>(body),
        13 => read::<Unpark>(body),
        14 => read::<PartnerChange>(body),
        _ => read::<Acknowledge>(body),
    }
});
