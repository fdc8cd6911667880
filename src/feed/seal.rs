//! A sink's records: written to the log, and read back after a restart.

use std::time::Duration;

use super::{Batch, BatchId, Carried, Error, Progress};
use crate::{
    model::{
        Lsn, Timestamp,
        event::{self, Encode, Event, Seal},
        sink::Lane,
    },
    wal::{Draft, Log, NoRoom, RoomClass, Storage, archive::LookBack},
};

/// How long a refused append waits before the next try.
const ROOM_WAIT: Duration = Duration::from_millis(20);

/// What a record that carries a body needs beside it and the sink's name. A seal needs a few hundred
/// bytes; the acknowledgement of a batch that was refused as a whole has names, and what the partner said
/// twice, a thousand characters of up to four bytes.
const OTHER_BYTES: u64 = 12 << 10;

/// The most bytes that a body may have so that its seal, and what may have to be written of its fate, fit
/// into a record of this log.
pub(super) fn body_bytes_max<S: Storage>(log: &Log<S>, sink: &str) -> u64 {
    (log.record_bytes_max() as u64).saturating_sub(OTHER_BYTES + sink.len() as u64)
}

/// Appends a record of a sink. `None` if the sink is stopping; it may wait for room until then.
pub(super) fn append<S: Storage, E: Event + Encode>(
    log: &Log<S>,
    event: &E,
    time_ms: u64,
    progress: &Progress,
) -> Result<Option<Lsn>, Error> {
    let mut draft = Draft::new();
    event::encode(event, draft.begin(E::KIND, E::VERSION, time_ms));
    draft.seal();
    let (bytes, bytes_max) = (draft.bytes(), log.record_bytes_max());
    if bytes > bytes_max {
        return Err(Error::TooLarge { bytes, bytes_max });
    }
    loop {
        match log.ticket(RoomClass::Delivery, bytes, 0) {
            Ok(ticket) => return Ok(Some(ticket.append(&draft))),
            Err(NoRoom::Poisoned) => return Err(stopped(log)),
            // Room comes back when a segment is made or recycled; deliveries that are under way go
            // on meanwhile, and what is not written down is told again after a restart.
            Err(NoRoom::Busy | NoRoom::Full) if progress.is_stopping() => return Ok(None),
            Err(NoRoom::Busy | NoRoom::Full) => progress.pause_unless_stopping(ROOM_WAIT),
        }
    }
}

/// The log's own word on why it stopped.
fn stopped<S: Storage>(log: &Log<S>) -> Error {
    match log.poisoned() {
        Some(poisoned) => Error::Poisoned(poisoned),
        None => Error::Closed,
    }
}

/// Reads a batch of a seal back, whole and as it was written, from the archive too.
pub(super) fn read_seal<S: Storage>(
    log: &mut LookBack<S>,
    sink: &str,
    number: u64,
    at: Lsn,
) -> Result<Batch, Error> {
    let pinned = log.read_at(at).map_err(|source| Error::Log { at, source })?;
    let record = pinned.record();
    let seal = event::decode::<Seal>(at, record.kind, record.version, record.body)?;
    let wrong = |what| Err(Error::WrongSeal { lsn: at, what });
    let of_first = number.checked_sub(seal.number.to_native());
    let nth = of_first.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= seal.more.len());
    let Some(nth) = nth.filter(|_| seal.sink.as_str() == sink) else {
        return wrong("it names another batch");
    };
    if !seal.is_whole() {
        return wrong("its digest does not fit its content");
    }
    let body = seal.body_of(nth).unwrap_or_default();
    let id = match seal.part_id.as_str() {
        "" => BatchId::new(sink, log.incarnation_at(at), number),
        part => BatchId::named(part),
    };
    let sealed_at = Timestamp::from_millis(seal.sealed_at_ms.to_native());
    Ok(Batch {
        id,
        number,
        lane: Lane::of_seal(seal.lane),
        fresh: false,
        config_version: seal.config_version.to_native(),
        seal_lsn: at,
        first_lsn: Lsn(seal.first_lsn.to_native()),
        oldest: sealed_at,
        newest: sealed_at,
        events: if nth == 0 { seal.events.to_native() } else { 0 },
        body: body.into_owned().into(),
        split: None,
        held_back: Vec::new(),
        carried: Carried::default(),
    })
}
