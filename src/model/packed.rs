//! Bodies of batches as seals keep them. What of a sink merges with nothing (events of a stream, picks of a
//! warehouse) is several times as large as the records that it tells of; were it kept so, a log that is full
//! could never be drained into that sink, since each segment let go would take several of seals. It says the
//! same again and again, though, and is kept as LZ4 (the block format, lz4.org): a fifth or less of it.
//!
//! A packed body begins with a byte that no JSON does, so that both are told apart, and with its length.

use std::borrow::Cow;

use lz4_flex::block::{compress_prepend_size, decompress_size_prepended, uncompressed_size};

/// What a packed body begins with: no text in UTF-8 does.
const MARK: [u8; 4] = *b"\xffLZ4";
/// Shorter ones are kept as they are.
const BYTES_MIN: usize = 256;
/// No body is longer, whatever it says of itself.
const BYTES_MAX: usize = 64 << 20;

/// A body as it is kept: packed, if that is less.
pub fn pack(body: &[u8]) -> Vec<u8> {
    if body.len() < BYTES_MIN {
        return body.to_vec();
    }
    let block = compress_prepend_size(body);
    if MARK.len() + block.len() < body.len() { [&MARK, &*block].concat() } else { body.to_vec() }
}

/// A body as it was; nothing if what was kept of it is damaged.
pub fn unpack(kept: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(block) = kept.strip_prefix(&MARK) else { return Some(kept.into()) };
    let (bytes, _) = uncompressed_size(block).ok()?;
    // Before so much memory is taken: LZ4 makes at most 255 bytes of one.
    if bytes > BYTES_MAX || bytes / 255 > block.len() {
        return None;
    }
    decompress_size_prepended(block).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was() {
        let events = r#"{"specversion":"1.0","type":"holdfast.order.placed.v1"},"#.repeat(1_000);
        let random =
            (0..9_999_u32).map(|n| (n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 13) as u8);
        let random: Vec<u8> = random.collect();
        for body in [b"".as_slice(), b"[]", &[b'x'; 255], events.as_bytes(), &random, &MARK[..1]] {
            let kept = pack(body);
            assert!(kept.len() <= body.len());
            assert_eq!(unpack(&kept).as_deref(), Some(body));
        }
        assert!(pack(events.as_bytes()).len() * 50 < events.len());
    }

    #[test]
    fn damage_is_nothing_and_takes_no_memory() {
        let kept = pack(&[b'a'; 10_000]);
        for at in MARK.len()..kept.len() {
            for bit in 0..8 {
                let mut damaged = kept.clone();
                damaged[at] ^= 1 << bit;
                if let Some(body) = unpack(&damaged) {
                    assert!(body.len() <= 255 * kept.len());
                }
            }
        }
        assert_eq!(unpack(&MARK), None);
        assert_eq!(unpack(&kept[..kept.len() - 3]), None);
        let huge = [&MARK[..], &u32::MAX.to_le_bytes(), &[0; 40]].concat();
        assert_eq!(unpack(&huge), None);
    }
}
