//! Seals and acknowledgements: written to the log, and read back after a restart.

use std::time::Duration;

use bytes::Bytes;

use super::{Batch, BatchId, Error, Progress};
use crate::{
    model::{
        Lsn, Timestamp,
        event::{self, Acknowledge, Event, Seal},
        sink::Lane,
    },
    wal::{Draft, Log, NoRoom, RoomClass, Storage},
};

/// How long a refused append waits before the next try.
const ROOM_WAIT: Duration = Duration::from_millis(20);

/// What a seal needs beside its body and the sink's name: the record's header, its fixed fields,
/// and padding.
const SEAL_BYTES: u64 = 256;

/// The most bytes that a body may have so that its seal fits into a record of this log.
pub(super) fn body_bytes_max<S: Storage>(log: &Log<S>, sink: &str) -> u64 {
    (log.record_bytes_max() as u64).saturating_sub(SEAL_BYTES + sink.len() as u64)
}

/// Appends a seal. `None` if the sink is stopping; it may wait for room until then.
pub(super) fn append_seal<S: Storage>(
    log: &Log<S>,
    seal: &Seal,
    progress: &Progress,
) -> Result<Option<Lsn>, Error> {
    let mut draft = Draft::new();
    event::encode(seal, draft.begin(Seal::KIND, Seal::VERSION, seal.sealed_at_ms));
    append(log, draft, progress)
}

/// Appends an acknowledgement; as [`append_seal`].
pub(super) fn append_acknowledge<S: Storage>(
    log: &Log<S>,
    acknowledge: &Acknowledge,
    time_ms: u64,
    progress: &Progress,
) -> Result<Option<Lsn>, Error> {
    let mut draft = Draft::new();
    event::encode(acknowledge, draft.begin(Acknowledge::KIND, Acknowledge::VERSION, time_ms));
    append(log, draft, progress)
}

fn append<S: Storage>(
    log: &Log<S>,
    mut draft: Draft,
    progress: &Progress,
) -> Result<Option<Lsn>, Error> {
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
            Err(NoRoom::Busy | NoRoom::Full) => progress.pause(ROOM_WAIT),
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

/// Reads a seal back, whole and as it was written.
pub(super) fn read_seal<S: Storage>(
    log: &Log<S>,
    sink: &str,
    number: u64,
    at: Lsn,
) -> Result<Batch, Error> {
    let pinned = log.read_at(at).map_err(|source| Error::Log { at, source })?;
    let record = pinned.record();
    let seal = event::decode::<Seal>(at, record.kind, record.version, record.body)?;
    let wrong = |what| Err(Error::WrongSeal { lsn: at, what });
    if seal.sink.as_str() != sink || seal.number.to_native() != number {
        return wrong("it names another batch");
    }
    let body = Bytes::copy_from_slice(&seal.body);
    if *blake3::hash(&body).as_bytes() != seal.digest {
        return wrong("its digest does not fit its content");
    }
    Ok(Batch {
        id: BatchId::new(sink, log.incarnation(), number),
        number,
        lane: Lane::default(),
        fresh: false,
        config_version: seal.config_version.to_native(),
        seal_lsn: at,
        first_lsn: Lsn(seal.first_lsn.to_native()),
        oldest: Timestamp::from_millis(seal.sealed_at_ms.to_native()),
        newest: Timestamp::from_millis(seal.sealed_at_ms.to_native()),
        events: seal.events.to_native(),
        body,
    })
}
