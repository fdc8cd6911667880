//! A segment's file: its name, its header, and what makes one generation of it differ from the last.
//!
//! Layout of the header, 4096 bytes, of which eleven little-endian words are used: magic, format
//! version, incarnation, index, nonce, payload bytes, the bytes of unsynced window that recovery has to
//! look through, the key of the log's marks, the index of the first segment of its life and of the one
//! before that (`lives`), and a CRC-32C of the ten before it. The payload follows. Version 1 had no lives:
//! its CRC stands in the place of the first of those two.
//!
//! A file has a segment's name only while its header is valid and on the disk: it is made or rewritten
//! under a spare name, its header synced, and then renamed. So a bad header under a segment's name is
//! damage, never an accident of timing.

use super::{
    error::Error,
    lives::Life,
    options::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN},
    ring::Segment,
    storage::{Mapping, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_WORDS, SegmentMemory, Storage},
};
use crate::model::{Incarnation, Lsn};

const MAGIC: u64 = u64::from_le_bytes(*b"HOLDFLOG");
const VERSION: u64 = 2;
const VERSION_WITHOUT_LIVES: u64 = 1;
const SUFFIX: &str = ".log";
const SPARE_SUFFIX: &str = ".spare";

/// The file name of a segment.
pub fn name(index: u64) -> String {
    format!("{index:016x}{SUFFIX}")
}

/// The index of the segment with this file name.
pub fn index_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 16)?;
    let index = u64::from_str_radix(digits, 16).ok()?;
    (self::name(index) == name).then_some(index)
}

/// The file name of a spare.
pub fn spare_name(number: u64) -> String {
    format!("{number:016x}{SPARE_SUFFIX}")
}

/// Whether a file is a spare.
pub fn is_spare_name(name: &str) -> bool {
    name.ends_with(SPARE_SUFFIX)
}

/// The bytes of a segment file.
pub const fn file_bytes(segment_bytes: u64) -> u64 {
    SEGMENT_HEADER_BYTES + segment_bytes
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The life of the data directory.
    pub life: Life,
    /// Which segment it is.
    pub index: u64,
    /// What seeds the checksums of this generation.
    pub nonce: u64,
    /// The payload.
    pub segment_bytes: u64,
    /// How far beyond the durable position records may have been written: all segments that the
    /// ring can hold at once.
    pub window_bytes: u64,
    /// What keys the log's marks; the same in every segment, and known to nobody else.
    pub mark_key: u64,
}

/// Where the header's CRC stands.
const CRC_AT: usize = SEGMENT_HEADER_WORDS - 1;
const CRC_AT_WITHOUT_LIVES: usize = 8;

fn crc(words: &[u64]) -> u64 {
    let fold = |crc, word: &u64| crc32c::crc32c_append(crc, &word.to_le_bytes());
    words.iter().fold(0, fold).into()
}

impl Header {
    /// The words of it.
    pub fn words(&self) -> [u64; SEGMENT_HEADER_WORDS] {
        let mut words = [
            MAGIC,
            VERSION,
            self.life.incarnation.0,
            self.index,
            self.nonce,
            self.segment_bytes,
            self.window_bytes,
            self.mark_key,
            self.life.first,
            self.life.after,
            0,
        ];
        words[CRC_AT] = crc(&words[..CRC_AT]);
        words
    }

    /// Reads it; says what is wrong if it is not one. Never panics.
    pub fn read(words: [u64; SEGMENT_HEADER_WORDS]) -> Result<Self, &'static str> {
        if words[0] != MAGIC {
            return Err("its header does not begin as a segment's does");
        }
        let with_lives = words[1] != VERSION_WITHOUT_LIVES;
        let crc_at = if with_lives { CRC_AT } else { CRC_AT_WITHOUT_LIVES };
        if words[crc_at] != crc(&words[..crc_at]) {
            return Err("its header's checksum is wrong");
        }
        if with_lives && words[1] != VERSION {
            return Err(WRONG_VERSION);
        }
        if !words[5].is_power_of_two()
            || !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&words[5])
        {
            return Err("its header names a size that no segment has");
        }
        if words[3].checked_add(1).and_then(|end| end.checked_mul(words[5])).is_none() {
            return Err("its header names a place that no segment has");
        }
        let mut life = Life::begin(Incarnation(words[2]));
        if with_lives {
            (life.first, life.after) = (words[8], words[9]);
        }
        let begins = life.first == 0 || life.after < life.first;
        if life.first > words[3] || !begins {
            return Err("its header begins its life behind it");
        }
        Ok(Self {
            life,
            index: words[3],
            nonce: words[4],
            segment_bytes: words[5],
            window_bytes: words[6],
            mark_key: words[7],
        })
    }
}

/// Where the segments begin that can't hold a record yet when the durable position is at or below
/// `end`: `window` further, and on to a segment's begin.
pub fn reach(end: u64, window: u64, segment_bytes: u64) -> u64 {
    let reach = end.checked_add(window).and_then(|to| to.checked_next_multiple_of(segment_bytes));
    reach.unwrap_or(u64::MAX)
}

const WRONG_VERSION: &str = "it was written by another version of the log";

/// Maps the segment with this index and checks its header.
pub fn open<S: Storage>(
    storage: &S,
    index: u64,
    segment_bytes: u64,
    mapping: Mapping,
) -> Result<(Header, Segment<S::Segment>), Error> {
    let name = name(index);
    let place = storage.place(&name);
    let base = index.saturating_mul(segment_bytes);
    let rotted = |why| Error::Rotted { segment: place.clone(), offset: 0, lsn: Lsn(base), why };
    let format = |what: String| Error::Format { file: place.clone(), what };
    let memory = match storage.map(&name, file_bytes(segment_bytes), mapping) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            let what = format!("{error}; segment_bytes may have changed since it was made");
            return Err(format(what));
        }
        other => other.map_err(Error::io(format!("mapping {place}")))?,
    };
    let header = Header::read(memory.header())
        .map_err(|why| if why == WRONG_VERSION { format(why.to_owned()) } else { rotted(why) })?;
    if header.segment_bytes != segment_bytes {
        let made = header.segment_bytes;
        return Err(format(format!("segment_bytes is {segment_bytes}, the log has {made}")));
    }
    if header.index != index {
        return Err(rotted("its header names another segment"));
    }
    Ok((header, Segment { index, base, nonce: header.nonce, memory }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            life: Life { incarnation: Incarnation(1), first: 2, after: 1 },
            index: 2,
            nonce: 3,
            segment_bytes: 65536,
            window_bytes: 5,
            mark_key: 6,
        }
    }

    #[test]
    fn names_and_headers_read_as_they_are_written() {
        assert_eq!(index_of_name(&name(0xAB)), Some(0xAB));
        for other in ["LOCK", "00000000000000ab.spare", "ab.log", "00000000000000AB.log"] {
            assert_eq!(index_of_name(other), None, "{other}");
        }
        assert!(is_spare_name(&spare_name(1)));
        assert_eq!(Header::read(header().words()), Ok(header()));
    }

    #[test]
    fn a_header_without_lives_is_of_the_first_one() {
        let mut words = header().words();
        words[1] = VERSION_WITHOUT_LIVES;
        words[8] = crc(&words[..8]);
        (words[9], words[10]) = (0, 0);
        let life = Life::begin(Incarnation(1));
        assert_eq!(Header::read(words), Ok(Header { life, ..header() }));
        words[2] ^= 1;
        assert!(Header::read(words).is_err());
    }

    /// Whoever computes with what a header says must not be led beyond what numbers can say.
    #[test]
    fn a_header_of_a_size_or_a_place_that_no_segment_has_is_refused() {
        let with = |index, segment_bytes| {
            let life = Life::begin(Incarnation(1));
            Header::read(Header { life, index, segment_bytes, ..header() }.words())
        };
        assert!(with(0, SEGMENT_BYTES_MIN).is_ok() && with(1 << 33, SEGMENT_BYTES_MAX).is_ok());
        for (index, segment_bytes) in [
            (0, 0),
            (0, SEGMENT_BYTES_MIN + 8),
            (0, SEGMENT_BYTES_MAX << 1),
            (0, u64::MAX),
            (u64::MAX, SEGMENT_BYTES_MIN),
            (u64::MAX / SEGMENT_BYTES_MIN, SEGMENT_BYTES_MIN),
        ] {
            assert!(with(index, segment_bytes).is_err(), "{index} of {segment_bytes}");
        }
    }

    #[test]
    fn a_header_whose_life_begins_behind_it_or_behind_itself_is_refused() {
        let with = |first, after| {
            let life = Life { incarnation: Incarnation(1), first, after };
            Header::read(Header { life, ..header() }.words())
        };
        assert!(with(2, 1).is_ok() && with(1, 0).is_ok() && with(0, 0).is_ok());
        for (first, after) in [(3, 1), (2, 2), (1, 1), (2, u64::MAX)] {
            assert!(with(first, after).is_err(), "{first} after {after}");
        }
    }

    #[test]
    fn the_reach_is_whole_segments() {
        assert_eq!(reach(10, 200, 100), 300);
        assert_eq!(reach(100, 200, 100), 300);
        assert_eq!(reach(u64::MAX - 5, 200, 64), u64::MAX);
    }

    proptest! {
        #[test]
        fn a_damaged_header_is_refused(word in 0usize..11, bit in 0u32..64) {
            let mut words = header().words();
            words[word] ^= 1 << bit;
            prop_assert!(Header::read(words).is_err());
        }
    }
}
