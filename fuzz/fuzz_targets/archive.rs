//! Any bytes as an archived segment: reading says what is wrong and never panics. What follows a good head
//! is reached too, since half of the inputs get one.
#![no_main]

use std::path::Path;

use holdfast::wal::archive::read_through;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_through(bytes, Path::new("fuzzed"));
    let Some((at, rest)) = bytes.split_first_chunk::<2>() else { return };
    let mut file = include_bytes!("../archived-segment.log.lz4").to_vec();
    let at = usize::from(u16::from_le_bytes(*at)) % file.len();
    for (byte, other) in file[at..].iter_mut().zip(rest) {
        *byte ^= other;
    }
    let _ = read_through(&file[..], Path::new("changed"));
});
