//! Records as they stand in a partition (message format 2, Kafka 0.11 and later): batches of ours are
//! written, and what stands there is read as far as it tells which of ours are committed.

use bytes::Bytes;

use super::{
    super::cloud_events::CloudEvent,
    trouble::Trouble,
    wire::{Reader, Writer},
};

/// The type of one CloudEvent in structured mode (CloudEvents 1.0, Kafka protocol binding, section 3.3).
const CLOUD_EVENT: &[u8] = b"application/cloudevents+json; charset=UTF-8";
/// The header that has the event's id, so that nobody has to read the event for it.
const ID_HEADER: &[u8] = b"ce_id";
/// The header that says which batch of Holdfast's brought a record.
const BATCH_HEADER: &[u8] = b"holdfast-batch";
/// Bits of a batch's attributes.
const COMPRESSION: i16 = 0x07;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
/// Bytes of a batch before its length ends and counting begins.
const BEFORE_LENGTH_ENDS: usize = 12;
/// What a batch has at least after that.
const HEAD_BYTES: usize = 49;

/// Who writes a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Author {
    pub producer_id: i64,
    pub epoch: i16,
    /// The number of the batch's first record among the author's of its partition.
    pub sequence: i32,
}

impl Author {
    /// Nobody in particular.
    pub const NOBODY: Self = Self { producer_id: -1, epoch: -1, sequence: -1 };
}

/// The partition of a key: murmur2, as Kafka's own producer has it.
pub(super) fn partition_of(key: &str, partitions: usize) -> usize {
    let hash = murmur2(key.as_bytes()) & 0x7fff_ffff;
    hash as usize % partitions.max(1)
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// A batch of events, brought by the part `id` at `now_ms`.
pub(super) fn batch(events: &[&CloudEvent], id: &str, author: Author, now_ms: i64) -> Bytes {
    let last = i32::try_from(events.len()).unwrap_or(i32::MAX) - 1;
    let transactional = if author == Author::NOBODY { 0 } else { TRANSACTIONAL };
    let mut counted = Writer::default();
    counted.i16(transactional).i32(last).i64(now_ms).i64(now_ms);
    counted.i64(author.producer_id).i16(author.epoch).i32(author.sequence).i32(last + 1);
    for (delta, event) in events.iter().enumerate() {
        counted.var_bytes(Some(&record(delta, event, id)));
    }
    let mut whole = Writer::default();
    // The place is the broker's to give, and so is the leader's epoch.
    whole.i64(0).len(counted.0.len() + 9).i32(-1).i8(2);
    whole.i32(crc32c::crc32c(&counted.0).cast_signed());
    whole.0.extend_from_slice(&counted.0);
    whole.0.freeze()
}

fn record(delta: usize, event: &CloudEvent, id: &str) -> Bytes {
    let key = (!event.subject.is_empty()).then_some(event.subject.as_bytes());
    let headers: [(&[u8], &[u8]); 3] = [
        (b"content-type", CLOUD_EVENT),
        (ID_HEADER, event.id.as_bytes()),
        (BATCH_HEADER, id.as_bytes()),
    ];
    let mut record = Writer::default();
    record.i8(0).varint(0).varint(i64::try_from(delta).unwrap_or(i64::MAX));
    record.var_bytes(key).var_bytes(Some(&event.bytes)).varint(3);
    for (name, value) in headers {
        record.var_bytes(Some(name)).var_bytes(Some(value));
    }
    record.0.freeze()
}

/// Reads a partition onwards, and finds out which events of a part are committed there.
#[derive(Debug)]
pub(super) struct Search<'a> {
    id: &'a str,
    /// The producer of events of the part that no marker has decided yet, and their ids.
    undecided: Option<(i64, Vec<Bytes>)>,
    /// The ids of those that are committed.
    pub found: Vec<Bytes>,
}

impl<'a> Search<'a> {
    /// For the part `id`.
    pub fn new(id: &'a str) -> Self {
        Self { id, undecided: None, found: Vec::new() }
    }

    /// Looks at what was fetched; the offset behind its last whole batch, if it has one.
    ///
    /// # Errors
    /// If what stands there can't be read.
    pub fn look_at(&mut self, mut fetched: Reader) -> Result<Option<i64>, Trouble> {
        let mut next = None;
        while fetched.0.len() >= BEFORE_LENGTH_ENDS {
            let base = fetched.i64()?;
            let len = usize::try_from(fetched.i32()?).unwrap_or(0);
            // A broker cuts where the most bytes are reached.
            let Ok(batch) = fetched.take(len) else { break };
            next = Some(base.saturating_add(self.look_at_batch(Reader(batch))?).saturating_add(1));
        }
        Ok(next)
    }

    /// Looks at a batch; the place of its last record in it.
    fn look_at_batch(&mut self, mut batch: Reader) -> Result<i64, Trouble> {
        if batch.0.len() < HEAD_BYTES {
            return Err(Trouble::Unreadable("a batch of records is too short"));
        }
        batch.i32()?;
        if batch.i8()? != 2 {
            return Err(Trouble::Unreadable("records are older than message format 2"));
        }
        let crc = batch.i32()?.cast_unsigned();
        if crc32c::crc32c(&batch.0) != crc {
            return Err(Trouble::Unreadable("the checksum of a batch of records is wrong"));
        }
        let attributes = batch.i16()?;
        let last = i64::from(batch.i32()?);
        batch.take(16)?;
        let producer_id = batch.i64()?;
        batch.take(6)?;
        let records = batch.i32()?;
        if attributes & CONTROL != 0 {
            self.look_at_marker(producer_id, &mut batch)?;
        } else if attributes & TRANSACTIONAL != 0 {
            if attributes & COMPRESSION != 0 {
                return Err(Trouble::Unreadable(
                    "records in the topic are compressed: set its `compression.type` to `producer`, \
                     and let Holdfast alone write to it (or say `dedupe = \"line\"`)",
                ));
            }
            for _ in 0..records {
                let record = batch.var_bytes()?;
                if let Some(event) = self.event_of(Reader(record))? {
                    match &mut self.undecided {
                        Some((author, ids)) if *author == producer_id => ids.push(event),
                        _ => self.undecided = Some((producer_id, vec![event])),
                    }
                }
            }
        }
        Ok(last)
    }

    /// A transaction of a producer ended here.
    fn look_at_marker(&mut self, producer_id: i64, batch: &mut Reader) -> Result<(), Trouble> {
        let mut record = Reader(batch.var_bytes()?);
        record.i8()?;
        record.varint()?;
        record.varint()?;
        let mut key = Reader(record.var_bytes()?);
        let (_version, kind) = (key.i16()?, key.i16()?);
        let ended = self.undecided.take_if(|(author, _)| *author == producer_id);
        if let Some((_, ids)) = ended.filter(|_| kind == 1) {
            self.found.extend(ids);
        }
        Ok(())
    }

    /// The id of a record's event, if the part brought it.
    fn event_of(&self, mut record: Reader) -> Result<Option<Bytes>, Trouble> {
        record.i8()?;
        record.varint()?;
        record.varint()?;
        record.var_bytes()?;
        record.var_bytes()?;
        let (mut ours, mut event) = (false, None);
        for _ in 0..record.varint()? {
            let (name, value) = (record.var_bytes()?, record.var_bytes()?);
            ours |= name == BATCH_HEADER && value == self.id.as_bytes();
            if name == ID_HEADER {
                event = Some(value);
            }
        }
        Ok(event.filter(|_| ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: u32) -> CloudEvent {
        CloudEvent {
            id: format!("e-{n}"),
            name: "order.placed".into(),
            subject: format!("O-{n}"),
            bytes: Bytes::from(format!("{{\"id\":\"e-{n}\"}}")),
        }
    }

    const AUTHOR: Author = Author { producer_id: 7, epoch: 1, sequence: 3 };

    fn marker(producer_id: i64, kind: i16) -> Bytes {
        let mut record = Writer::default();
        record.i8(0).varint(0).varint(0);
        record.var_bytes(Some(&[0, 0, 0, kind as u8])).var_bytes(Some(&[0; 6])).varint(0);
        let mut counted = Writer::default();
        counted.i16(TRANSACTIONAL | CONTROL).i32(0).i64(1).i64(1).i64(producer_id).i16(1).i32(-1);
        counted.i32(1).var_bytes(Some(&record.0));
        let mut whole = Writer::default();
        whole.i64(9).len(counted.0.len() + 9).i32(-1).i8(2);
        whole.i32(crc32c::crc32c(&counted.0).cast_signed());
        whole.0.extend_from_slice(&counted.0);
        whole.0.freeze()
    }

    fn found(batches: &[&[u8]], id: &str) -> bool {
        let mut search = Search::new(id);
        search.look_at(Reader(Bytes::from(batches.concat()))).unwrap();
        assert!(search.found.is_empty() || search.found == ["e-1", "e-2"], "{search:?}");
        !search.found.is_empty()
    }

    /// The values of Kafka's own tests (`UtilsTest.testMurmur2`).
    #[test]
    fn keys_go_where_kafkas_own_producer_puts_them() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!(partition_of("abc", 1_000), 107);
        assert_eq!(partition_of("21", 0), 0);
    }

    #[test]
    fn a_part_is_found_if_its_transaction_was_committed() {
        let (one, two) = (event(1), event(2));
        let ours = batch(&[&one, &two], "events-1", AUTHOR, 1_000);
        let (commit, abort, others) = (marker(7, 1), marker(7, 0), marker(8, 1));
        assert!(found(&[&ours, &commit], "events-1"));
        assert!(found(&[&ours, &others, &commit], "events-1"));
        assert!(found(&[&ours, &abort, &ours, &commit], "events-1"));
        assert!(!found(&[&ours, &abort, &commit], "events-1"));
        assert!(!found(&[&ours, &others], "events-1"));
        assert!(!found(&[&ours], "events-1"));
        assert!(!found(&[&ours, &commit], "events-10"));
        // What was not written in a transaction decides nothing.
        let plain = batch(&[&one], "events-1", Author::NOBODY, 1_000);
        assert!(!found(&[&plain, &commit], "events-1"));
    }

    #[test]
    fn what_was_cut_is_fetched_again_and_what_is_damaged_is_told() {
        let one = event(1);
        let ours = batch(&[&one], "events-1", AUTHOR, 1_000);
        let look =
            |bytes: &[u8]| Search::new("events-1").look_at(Reader(Bytes::copy_from_slice(bytes)));
        assert_eq!(look(&ours).unwrap(), Some(1));
        assert_eq!(look(&ours[..ours.len() - 1]).unwrap(), None);
        assert_eq!(look(&[&ours[..], &ours[..40]].concat()).unwrap(), Some(1));
        for at in 17..ours.len() {
            let mut damaged = ours.to_vec();
            damaged[at] ^= 0x40;
            assert!(look(&damaged).is_err(), "{at}");
        }
        for len in 0..60 {
            look(&[&[0; 11][..], &[len], &[2; 60]].concat()).ok();
        }
    }
}
