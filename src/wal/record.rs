//! One record: its header, its checksum, and the draft in which it is built before it has a place.
//!
//! Constraints: a header is two words; the first is stored last, by one release store, and is what
//! makes the record exist, so zero must never be a valid first word. A record of an earlier life of a
//! recycled segment, or one that a client spelled out in its bytes, must not pass for one of ours.
//!
//! Layout, little-endian, at a multiple of eight:
//!
//! ```text
//! word 0   length u32 (header and body, without padding) | CRC-32C u32
//! word 1   time in ms, 48 bits | kind u8 | version u8
//! body     length - 16 bytes, then zeros up to a multiple of eight
//! ```
//!
//! The CRC is over word 1, the body and its padding (known when the draft is sealed), then the
//! segment's nonce, the position and the length (known when the place is claimed). What pads the end
//! of a segment has the rest of the segment as its length and no checked body; if the rest is eight
//! bytes, it is word 0 alone.

use crate::model::Lsn;

/// The bytes of a record's header.
pub const HEADER_BYTES: usize = 16;
/// Kinds from here on are the log's own.
pub const KIND_OWN_MIN: u8 = 0xF0;
/// A mark: see `mark`.
pub const KIND_MARK: u8 = 0xF0;
/// What fills the end of a segment.
pub const KIND_PADDING: u8 = 0xF1;

const TIME_BITS: u32 = 48;

/// `bytes` rounded up to the next multiple of eight.
pub const fn padded(bytes: u64) -> u64 {
    (bytes + 7) & !7
}

/// The second word of a header.
pub const fn word1(kind: u8, version: u8, time_ms: u64) -> u64 {
    (time_ms & ((1 << TIME_BITS) - 1)) | (kind as u64) << TIME_BITS | (version as u64) << 56
}

/// The first word of a header.
pub const fn word0(length: u32, crc: u32) -> u64 {
    length as u64 | (crc as u64) << 32
}

/// The kind that a second word names.
pub const fn kind_of(word1: u64) -> u8 {
    (word1 >> TIME_BITS) as u8
}

/// The length that a first word names: header and body, without padding.
pub const fn length_of(word0: u64) -> u32 {
    word0 as u32
}

/// Where the record with this first word ends, counted from its begin.
pub const fn extent_of(word0: u64) -> u64 {
    padded(length_of(word0) as u64)
}

/// Extends the CRC of what a record says by where it stands.
pub fn crc_placed(crc: u32, nonce: u64, lsn: u64, length: u32) -> u32 {
    let mut place = [0u8; 20];
    place[..8].copy_from_slice(&nonce.to_le_bytes());
    place[8..16].copy_from_slice(&lsn.to_le_bytes());
    place[16..].copy_from_slice(&length.to_le_bytes());
    crc32c::crc32c_append(crc, &place)
}

/// The header of the padding that fills `rest` bytes at `lsn`; the second word is absent if there is
/// no room for it.
pub fn padding(nonce: u64, lsn: u64, rest: u32) -> (u64, Option<u64>) {
    let word1 = (rest as usize >= HEADER_BYTES).then(|| word1(KIND_PADDING, 0, 0));
    let crc = word1.map_or(0, |word| crc32c::crc32c(&word.to_le_bytes()));
    (word0(rest, crc_placed(crc, nonce, lsn, rest)), word1)
}

/// A record that is being built, in a buffer that is kept for the next one.
#[derive(Debug, Default)]
pub struct Draft {
    body: Vec<u8>,
    word1: u64,
    length: u32,
    crc: u32,
    sealed: bool,
}

impl Draft {
    /// An empty draft.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a record and returns the buffer for its body, empty; what is at a multiple of eight in
    /// the buffer will be at a multiple of eight in memory when it is read.
    pub fn begin(&mut self, kind: u8, version: u8, time_ms: u64) -> &mut Vec<u8> {
        self.word1 = word1(kind, version, time_ms);
        self.sealed = false;
        self.body.clear();
        &mut self.body
    }

    /// Ends the record: pads it and computes the part of its CRC that does not depend on its place.
    pub fn seal(&mut self) {
        assert!(!self.sealed, "a draft is sealed once");
        let length = HEADER_BYTES + self.body.len();
        self.length = u32::try_from(length).expect("a record is smaller than 4 GiB");
        self.body.resize(padded(length as u64) as usize - HEADER_BYTES, 0);
        self.crc = crc32c::crc32c_append(crc32c::crc32c(&self.word1.to_le_bytes()), &self.body);
        self.sealed = true;
    }

    /// The bytes that the record takes in the log, header and padding included. Of a draft that is
    /// not sealed yet: as if it were sealed now.
    pub fn bytes(&self) -> usize {
        Self::bytes_for(self.body.len())
    }

    /// The bytes that a record with such a body takes in the log.
    pub const fn bytes_for(body_bytes: usize) -> usize {
        padded((HEADER_BYTES + body_bytes) as u64) as usize
    }

    /// The body, padded once the draft is sealed.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.sealed
    }

    pub(super) fn word1(&self) -> u64 {
        self.word1
    }

    /// The first word of the record, once its place is known.
    pub(super) fn word0_at(&self, nonce: u64, lsn: u64) -> u64 {
        word0(self.length, crc_placed(self.crc, nonce, lsn, self.length))
    }
}

/// A record as it is read: a view into the mapped segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins.
    pub lsn: Lsn,
    /// Where the next one begins.
    pub end: Lsn,
    /// What it is.
    pub kind: u8,
    /// The version of that kind's body.
    pub version: u8,
    /// When it was built, in milliseconds since 1970.
    pub time_ms: u64,
    /// Its body, at a multiple of eight in memory.
    pub body: &'a [u8],
}

/// Decodes the record that `bytes` begin with; `rest` is how far the segment goes on from there, and
/// `bytes` has that much or as much as the record needs. `None` if there is no whole and valid one.
/// Never panics, whatever the bytes.
pub fn decode(bytes: &[u8], rest: u64, lsn: u64, nonce: u64) -> Option<Record<'_>> {
    let first = u64::from_le_bytes(*bytes.first_chunk()?);
    let length = length_of(first);
    let crc = (first >> 32) as u32;
    if length == 8 {
        let valid = rest == 8 && crc == crc_placed(0, nonce, lsn, 8);
        return valid.then(|| record(lsn, word1(KIND_PADDING, 0, 0), 8, &[]));
    }
    let extent = extent_of(first);
    if (length as usize) < HEADER_BYTES || extent > rest {
        return None;
    }
    let second = u64::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
    let is_padding = kind_of(second) == KIND_PADDING;
    if is_padding && extent != rest {
        return None;
    }
    let checked = bytes.get(8..if is_padding { HEADER_BYTES } else { extent as usize })?;
    if crc != crc_placed(crc32c::crc32c(checked), nonce, lsn, length) {
        return None;
    }
    let body = if is_padding { &[][..] } else { &bytes[HEADER_BYTES..length as usize] };
    Some(record(lsn, second, extent, body))
}

fn record(lsn: u64, word1: u64, extent: u64, body: &[u8]) -> Record<'_> {
    Record {
        lsn: Lsn(lsn),
        end: Lsn(lsn + extent),
        kind: kind_of(word1),
        version: (word1 >> 56) as u8,
        time_ms: word1 & ((1 << TIME_BITS) - 1),
        body,
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(draft: &Draft, nonce: u64, lsn: u64) -> Vec<u8> {
        let mut bytes = draft.word0_at(nonce, lsn).to_le_bytes().to_vec();
        bytes.extend(draft.word1().to_le_bytes());
        bytes.extend(draft.body());
        bytes
    }

    #[test]
    fn a_record_reads_as_it_was_written_and_only_at_its_place() {
        let mut draft = Draft::new();
        draft.begin(7, 3, 1_700_000_000_123).extend(b"hello");
        draft.seal();
        assert_eq!(draft.bytes(), 24);
        let bytes = written(&draft, 99, 4096);
        let read = decode(&bytes, 24, 4096, 99).unwrap();
        assert_eq!((read.kind, read.version, read.time_ms), (7, 3, 1_700_000_000_123));
        assert_eq!((read.body, read.end), (&b"hello"[..], Lsn(4096 + 24)));
        assert!(decode(&bytes, 24, 4096, 98).is_none(), "another generation of the segment");
        assert!(decode(&bytes, 24, 8192, 99).is_none(), "another place");
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut draft = Draft::new();
        draft.begin(1, 1, 5).extend(b"0123456789");
        draft.seal();
        let good = written(&draft, 1, 0);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad, bad.len() as u64, 0, 1).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn padding_fills_any_rest() {
        for rest in [8u32, 16, 24, 4096] {
            let (first, second) = padding(5, 800, rest);
            let mut bytes = vec![0xAAu8; rest as usize];
            bytes[..8].copy_from_slice(&first.to_le_bytes());
            if let Some(second) = second {
                bytes[8..16].copy_from_slice(&second.to_le_bytes());
            }
            let read = decode(&bytes, rest as u64, 800, 5).unwrap();
            assert_eq!((read.kind, read.end), (KIND_PADDING, Lsn(800 + rest as u64)));
            let more = decode(&bytes, rest as u64 + 8, 800, 5);
            assert!(more.is_none(), "padding ends where the segment ends");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            length in 0u32..256, rest in 0u64..256,
        ) {
            if let Some(first) = bytes.first_chunk_mut::<4>() {
                *first = length.to_le_bytes();
            }
            let _ = decode(&bytes, bytes.len() as u64, 0, 1);
            let _ = decode(&bytes, rest, u64::MAX - 4096, 1);
        }
    }
}
