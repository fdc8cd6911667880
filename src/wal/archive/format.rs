//! One archived segment's file: its name, its head, and how it is packed and unpacked.
//!
//! Layout, little-endian:
//!
//! ```text
//! 0     0x184D2A50 u32, 152 u32: a skippable frame of LZ4, which other tools pass over
//! 8     magic | version | life that archived it | records | time of the first | of the last | CRC-32C of
//!       the segment's file | the eleven words of the segment's header | CRC-32C of the words before
//! 160   one LZ4 frame with the segment's file, header and payload: independent blocks of a mebibyte, each
//!       with a checksum
//! ```
//!
//! Whatever the bytes, reading says what is wrong and never panics, and takes no more memory than a segment
//! and some blocks.

use std::{
    io::{self, Read, Write},
    path::Path,
};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use rkyv::util::AlignedVec;

use crate::{
    model::Incarnation,
    wal::{
        error::Error,
        image::{SegmentImage, Walked},
        segment::{Header, file_bytes},
        storage::SEGMENT_HEADER_WORDS,
    },
};

const SUFFIX: &str = ".log.lz4";
/// What is being written.
pub const ASIDE: &str = "segment.part";

const SKIPPABLE: u32 = 0x184D_2A50;
const MAGIC: u64 = u64::from_le_bytes(*b"HOLDFARC");
const VERSION: u64 = 1;
/// The words before the segment's header.
const OWN_WORDS: usize = 7;
const HEAD_WORDS: usize = OWN_WORDS + SEGMENT_HEADER_WORDS + 1;
/// Where the LZ4 frame begins.
pub const HEAD_BYTES: usize = 8 + HEAD_WORDS * 8;
/// Room that reading a segment needs beside it at most, and packing one whose bytes don't compress.
const BLOCK_BYTES: u64 = 1 << 20;

/// The file name of a segment that this life archived.
pub fn name(index: u64, by: Incarnation) -> String {
    format!("{index:016x}-{by}{SUFFIX}")
}

/// The index of the segment with this file name, and the life that archived it.
pub fn of_name(name: &str) -> Option<(u64, Incarnation)> {
    let (index, by) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let (index, by) = (number(index)?, Incarnation(number(by)?));
    (self::name(index, by) == name).then_some((index, by))
}

/// What the file of a segment can take at most.
pub const fn packed_bytes_max(segment_bytes: u64) -> u64 {
    // A block that does not compress is stored as it is, with a length and a checksum.
    let bytes = file_bytes(segment_bytes);
    HEAD_BYTES as u64 + 64 + bytes + 8 * bytes.div_ceil(BLOCK_BYTES)
}

/// What says that an archived file is not what it should be.
pub fn damaged(place: &str, why: &'static str) -> Error {
    Error::Archive { file: place.to_owned(), why: why.to_owned() }
}

/// What an archived file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The life that archived it.
    pub by: Incarnation,
    /// Records in it, the log's own apart.
    pub records: u64,
    /// The time of its earliest record, in milliseconds since 1970.
    pub first_ms: u64,
    /// That of its latest.
    pub last_ms: u64,
    /// Of the segment's file.
    pub crc: u32,
    /// The segment's.
    pub header: Header,
}

fn crc(words: &[u64]) -> u64 {
    let fold = |crc, word: &u64| crc32c::crc32c_append(crc, &word.to_le_bytes());
    words.iter().fold(0, fold).into()
}

impl Head {
    /// The bytes of it.
    pub fn bytes(&self) -> [u8; HEAD_BYTES] {
        let own = [MAGIC, VERSION, self.by.0, self.records, self.first_ms, self.last_ms];
        let mut words = own.to_vec();
        words.push(self.crc.into());
        words.extend(self.header.words());
        words.push(crc(&words));
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&SKIPPABLE.to_le_bytes());
        bytes[4..8].copy_from_slice(&((HEAD_WORDS * 8) as u32).to_le_bytes());
        for (place, word) in bytes[8..].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads it; says what is wrong if it is not one.
    pub fn read(bytes: &[u8; HEAD_BYTES]) -> Result<Self, &'static str> {
        let mut words = [0; HEAD_WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes[8..].as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        if bytes[..4] != SKIPPABLE.to_le_bytes() || words[0] != MAGIC {
            return Err("does not begin as an archived segment does");
        }
        if words[HEAD_WORDS - 1] != crc(&words[..HEAD_WORDS - 1]) {
            return Err("the checksum of its head is wrong");
        }
        if words[1] != VERSION {
            return Err("was written by another version");
        }
        let mut header = [0; SEGMENT_HEADER_WORDS];
        header.copy_from_slice(&words[OWN_WORDS..OWN_WORDS + SEGMENT_HEADER_WORDS]);
        let header = Header::read(header)?;
        Ok(Self {
            by: Incarnation(words[2]),
            records: words[3],
            first_ms: words[4],
            last_ms: words[5],
            crc: u32::try_from(words[6]).map_err(|_| "names a checksum that is none")?,
            header,
        })
    }

    /// Reads what a file begins with.
    ///
    /// # Errors
    /// It can't be read, or is not one.
    pub fn read_from(file: &mut impl Read, place: &str) -> Result<Self, Error> {
        let mut bytes = [0; HEAD_BYTES];
        match file.read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(damaged(place, "is too short for an archived segment"));
            }
            other => other.map_err(Error::io(format!("reading {place}")))?,
        }
        Self::read(&bytes).map_err(|why| damaged(place, why))
    }

    /// Reads what the file of this name begins with.
    ///
    /// # Errors
    /// As [`Head::read_from`]; it is another segment than the name says, or another life archived it.
    pub fn of_file(
        file: &mut impl Read,
        (index, by): (u64, u64),
        place: &str,
    ) -> Result<Self, Error> {
        let head = Self::read_from(file, place)?;
        match (head.header.index, head.by.0) == (index, by) {
            true => Ok(head),
            false => Err(damaged(place, "its name and its head are of two segments")),
        }
    }

    /// Unpacks the segment of what follows the head, and checks every byte of it.
    ///
    /// # Errors
    /// It can't be read, or is not what was archived.
    pub fn unpack(&self, file: impl Read, path: &Path) -> Result<SegmentImage, Error> {
        let place = path.display().to_string();
        let wrong = |why: &str| Error::Archive { file: place.clone(), why: why.to_owned() };
        let bytes = file_bytes(self.header.segment_bytes) as usize;
        let mut all = AlignedVec::with_capacity(bytes);
        all.resize(bytes, 0);
        let mut frames = FrameDecoder::new(file);
        let read = frames.read_exact(&mut all).and_then(|()| frames.read(&mut [0]));
        match read {
            Ok(0) => {}
            Ok(_) => return Err(wrong("has more than a segment")),
            Err(error) => return Err(wrong(&error.to_string())),
        }
        if crc32c::crc32c(&all) != self.crc {
            return Err(wrong("the checksum of its content is wrong"));
        }
        let image = SegmentImage::unpacked(path, all, self.header.index)?;
        if image.header != self.header {
            return Err(wrong("its head and its content are of two segments"));
        }
        Ok(image)
    }
}

/// Reads an archived file through, every checksum and every record.
///
/// # Errors
/// It can't be read, or is not what was archived.
pub fn read_through(mut file: impl Read, path: &Path) -> Result<Head, Error> {
    let place = path.display().to_string();
    let head = Head::read_from(&mut file, &place)?;
    let image = head.unpack(file, path)?;
    let (mut offset, mut walked) = (0, Walked::default());
    while let Some(record) = image.record(offset) {
        walked.take(&record);
        offset = record.end.0 - image.base();
    }
    let said = Walked { records: head.records, first_ms: head.first_ms, last_ms: head.last_ms };
    match offset == head.header.segment_bytes && walked == said {
        true => Ok(head),
        false => Err(damaged(&place, "has not the records that its head says")),
    }
}

/// Packs a segment's file: takes its bytes as they come, and writes the frame.
pub struct Packer<W: Write>(FrameEncoder<W>);

impl<W: Write> Packer<W> {
    /// Begins with the head.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn new(head: &Head, mut out: W) -> io::Result<Self> {
        out.write_all(&head.bytes())?;
        let mut info = FrameInfo::new()
            .content_size(Some(file_bytes(head.header.segment_bytes)))
            .block_checksums(true);
        info.block_mode = BlockMode::Independent;
        info.block_size = block_size(head.header.segment_bytes);
        Ok(Self(FrameEncoder::with_frame_info(info, out)))
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Ends the frame.
    ///
    /// # Errors
    /// The disk refuses; not as many bytes came as the head says.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish().map_err(io::Error::from)
    }
}

/// Who reads a frame first makes room for a whole block: for small segments that would be most of the work.
fn block_size(segment_bytes: u64) -> BlockSize {
    if segment_bytes < 1 << 20 { BlockSize::Max64KB } else { BlockSize::Max1MB }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::Lsn,
        wal::{lives::Life, record::Draft},
    };

    const BYTES: u64 = crate::wal::options::SEGMENT_BYTES_MIN;

    /// A segment's file with some records.
    fn segment() -> (Head, Vec<u8>) {
        let header = Header {
            life: Life::begin(Incarnation(1)),
            index: 3,
            nonce: 7,
            segment_bytes: BYTES,
            window_bytes: BYTES,
            mark_key: 9,
        };
        let mut file: Vec<u8> = header.words().iter().flat_map(|word| word.to_le_bytes()).collect();
        file.resize((file_bytes(BYTES) - BYTES) as usize, 0);
        let mut draft = Draft::new();
        for number in 0..8u8 {
            draft.begin(1, 1, 100 + u64::from(number)).extend([number; 48]);
            draft.seal();
            let lsn = 3 * BYTES + u64::from(number) * 64;
            file.extend(draft.word0_at(7, lsn).to_le_bytes());
            file.extend(draft.word1().to_le_bytes());
            file.extend(draft.body());
        }
        file.resize(file_bytes(BYTES) as usize, 0);
        let by = Incarnation(1);
        let crc = crc32c::crc32c(&file);
        (Head { by, records: 8, first_ms: 100, last_ms: 107, crc, header }, file)
    }

    /// Any archived file: for those who damage it.
    pub fn archived() -> Vec<u8> {
        let (head, file) = segment();
        let mut packer = Packer::new(&head, Vec::new()).unwrap();
        file.chunks(1000).for_each(|bytes| packer.take(bytes).unwrap());
        packer.finish().unwrap()
    }

    fn unpack(bytes: &[u8]) -> Result<SegmentImage, Error> {
        let mut rest = bytes;
        Head::read_from(&mut rest, "it")?.unpack(rest, Path::new("it"))
    }

    #[test]
    fn a_segment_is_unpacked_as_it_was_packed() {
        let (head, file) = segment();
        let packed = archived();
        assert!(packed.len() < file.len() / 2, "{} of {}", packed.len(), file.len());
        assert_eq!(Head::read_from(&mut &packed[..], "it").unwrap(), head);
        let image = unpack(&packed).unwrap();
        assert_eq!(image.bytes(), file);
        let record = image.record(64).unwrap();
        assert_eq!((record.lsn, record.body), (Lsn(3 * BYTES + 64), &[1; 48][..]));
        // A whole segment of it, and no other tool is needed: what follows the head is a plain frame.
        let mut plain = Vec::new();
        FrameDecoder::new(&packed[HEAD_BYTES..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, file);
    }

    #[test]
    fn bytes_that_do_not_compress_stay_within_the_bound() {
        let (mut head, mut file) = segment();
        let mut random = crate::wal::sim::Random(5);
        for word in file[4096..].chunks_exact_mut(8) {
            word.copy_from_slice(&random.next_u64().to_le_bytes());
        }
        head.crc = crc32c::crc32c(&file);
        let mut packer = Packer::new(&head, Vec::new()).unwrap();
        packer.take(&file).unwrap();
        let packed = packer.finish().unwrap();
        assert!(packed.len() as u64 <= packed_bytes_max(BYTES), "{}", packed.len());
        assert_eq!(unpack(&packed).unwrap().bytes(), file);
    }

    #[test]
    fn names_read_as_they_are_written() {
        let by = Incarnation(0xAB);
        assert_eq!(of_name(&name(5, by)), Some((5, by)));
        for other in ["0000000000000005.log", ASIDE, "5-ab.log.lz4", "LOCK", "-.log.lz4"] {
            assert_eq!(of_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let packed = archived();
        // The last four bytes say that no block follows; all of the segment is before them.
        let content = packed.len() - 4;
        for length in (0..content).step_by(7).chain(content - 12..content) {
            assert!(unpack(&packed[..length]).is_err(), "{length} of {}", packed.len());
        }
    }

    /// Numbers at which something may go wrong, and any.
    fn word() -> impl Strategy<Value = u64> {
        let edge = |bits: u32| (1u64.checked_shl(bits).unwrap_or(0)).wrapping_sub(1);
        let edges =
            (0u32..=64, 0u64..3).prop_map(move |(bits, more)| edge(bits).wrapping_add(more));
        prop_oneof![edges, any::<u64>(), (0u64..256).prop_map(|n| n * 8)]
    }

    /// Gives every record of a segment the checksum that it must have, as far as they go one after the other.
    fn seal_records(file: &mut [u8], header: [u64; SEGMENT_HEADER_WORDS]) {
        let (index, nonce, bytes) = (header[3], header[4], header[5]);
        let (base, mut offset) = (index.saturating_mul(bytes), 0);
        while let Some(rest) = file[4096..].get_mut(offset..).filter(|rest| rest.len() >= 16) {
            let length = u32::from_le_bytes(rest[..4].try_into().unwrap());
            let extent = (length as usize).next_multiple_of(8);
            if length < 16 || extent > rest.len() {
                return;
            }
            let crc = crc32c::crc32c(&rest[8..extent]);
            let lsn = base.wrapping_add(offset as u64);
            let crc = crate::wal::record::crc_placed(crc, nonce, lsn, length);
            rest[4..8].copy_from_slice(&crc.to_le_bytes());
            offset += extent;
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_seen(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut packed = archived();
            let at = at.index(packed.len());
            packed[at] ^= 1 << bit;
            // The length of the skippable frame is for other tools; ours is fixed.
            prop_assert!(unpack(&packed).is_err() || (4..8).contains(&at), "byte {}", at);
        }

        #[test]
        fn any_bytes_behind_a_head_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..4000),
            frame in any::<bool>(),
        ) {
            let packed = archived();
            // Behind the frame's own head too, so that the blocks are reached.
            let kept = if frame { HEAD_BYTES + 19 } else { HEAD_BYTES };
            let mut file = packed[..kept].to_vec();
            file.extend(bytes);
            let _ = unpack(&file);
        }

        /// What every checksum agrees with was made so: then too it is read as far as it makes sense.
        #[test]
        fn what_was_forged_with_its_checksums_never_panics(
            words in proptest::collection::vec((0usize..2048, word()), 1..8),
            header in proptest::collection::vec((1usize..10, word()), 0..3),
            own in proptest::collection::vec((0usize..3, word()), 0..2),
            records in any::<bool>(),
        ) {
            let (mut head, mut file) = segment();
            let mut words_of_header = head.header.words();
            for (at, word) in header {
                words_of_header[at] = word;
            }
            words_of_header[10] = crc(&words_of_header[..10]);
            let header = words_of_header.iter().flat_map(|word| word.to_le_bytes());
            file.splice(..88, header);
            for (at, word) in words {
                file[4096 + at * 8..][..8].copy_from_slice(&word.to_le_bytes());
            }
            if records {
                seal_records(&mut file, words_of_header);
            }
            head.crc = crc32c::crc32c(&file);
            for (at, word) in own {
                *[&mut head.records, &mut head.first_ms, &mut head.last_ms][at] = word;
            }
            // Once with the head that it had, once with its own, if no more memory goes with that.
            let own = Header::read(words_of_header).ok().filter(|own| own.segment_bytes <= 4 * BYTES);
            for header in [Some(head.header), own].into_iter().flatten() {
                head.header = header;
                let mut frame = FrameEncoder::new(head.bytes().to_vec());
                frame.write_all(&file).unwrap();
                let _ = read_through(&frame.finish().unwrap()[..], Path::new("it"));
            }
            let mut all = AlignedVec::new();
            all.extend_from_slice(&file);
            if let Ok(image) = SegmentImage::unpacked(Path::new("it"), all, words_of_header[3]) {
                for offset in (0..image.header.segment_bytes + 64).step_by(8) {
                    let _ = image.record(offset);
                }
                let _ = image.newest_mark(0, u64::MAX);
                let _ = (image.written_from(8), image.base());
            }
        }
    }
}
