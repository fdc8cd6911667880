//! Lineage: every record of an order, found by walking from its last record back along what each says
//! of the one before, and the batches that carried them: each with what became of its items that are of the
//! record, and with the batches that sent again what its partner did not take.
//!
//! It reads the log where the records stand, and the archive for what the log has let go, and holds no lock
//! of the ledger. What neither has any more, or what would take too much unpacking, is said to be archived,
//! never guessed.

mod batch;
mod content;
mod items;

use std::collections::HashMap;

use crate::{
    ledger::orders::Order,
    model::{
        Location, Lsn, OrderId, OriginView, ReservationId, Sku, Timestamp,
        event::{
            ArchivedOf, Change, Event, Expire, Extend, Happened, Placed, Release, Reserve, Seal,
            decode,
        },
        fact::FactKind,
        lineage::{BatchState, TraceBatch, TraceParked, TraceRecord, TraceView},
    },
    wal::{self, Pinned, Record, Storage, archive::LookBack},
};

use batch::{Batch, Carried, body_of};

use super::{
    Decision, Engine, Refusal,
    core::Core,
    say,
    seals::{Carrier, Sealed},
};

/// The most records that are shown of one order.
pub const TRACE_RECORDS_MAX: usize = 10_000;

/// The most batches that are looked at for letters of one batch that they may have sent again.
const AGAIN_MAX: usize = 10_000;

const ARCHIVE_BUSY: &str = "others read the archive; repeat the request";

/// A record of the order, kept from being recycled while it is looked at.
struct Found<S: Storage> {
    pinned: Pinned<S>,
    /// Its reservation, if it is a record of one.
    reservation: Option<ReservationId>,
}

/// What the walk has found.
struct Walk<S: Storage> {
    log: LookBack<S>,
    found: Vec<Found<S>>,
    archived: bool,
    truncated: bool,
}

/// Where the walk goes on from a record.
enum Next {
    /// At one earlier record.
    Back(Lsn),
    /// At the last records of reservations.
    Reservations(Vec<(Lsn, ReservationId)>),
    /// Nowhere.
    Begin,
}

impl<S: Storage> Engine<S> {
    /// Where an order comes from: all of its records, what caused them, what carried them to partners.
    /// Reads the log; a few microseconds a record, up to [`TRACE_RECORDS_MAX`] of them; for what is in the
    /// archive some tens of milliseconds a segment. Blocks until the order's last record is durable: before,
    /// the log does not hand it out.
    ///
    /// # Errors
    /// When settled: `unknown_order`; `archived` if neither log nor archive have any of its records;
    /// `overloaded` if others read the archive for too long.
    pub fn trace(&self, id: &OrderId) -> Decision<TraceView> {
        let Some(order) = self.core().tables.orders.get(id) else {
            return Refusal::UnknownOrder.into();
        };
        if let Err(stopped) = self.log().wait_blocking(order.last) {
            return Refusal::from(stopped).into();
        }
        match self.core().trace(&order) {
            Ok(view) => Decision::made(view, false, order.last),
            Err(refusal) => Decision::refused_behind(refusal, order.last),
        }
    }

    /// Says that a seal was written, and where it stands.
    pub fn sealed(&self, seal: &Seal, lsn: Lsn) {
        let Seal { number, covers_lsn: covers, lane, .. } = *seal;
        let released = seal.parking.released_of_before(seal.first_lsn);
        let oldest = self.core().log.archive_oldest();
        let mut seals = self.core().seals.lock();
        for (nth, number) in (number..=number + seal.more.len() as u64).enumerate() {
            let sealed = Sealed { number, covers, lsn: lsn.0, acknowledged: None, lane };
            seals.sealed(&seal.sink, sealed, if nth == 0 { released } else { &[] });
        }
        seals.forget_before(oldest);
    }

    /// The batches of a sink with a record at or after a position, up to a number, as far as the log
    /// has them: number and the position of the seal.
    pub fn batches_from(
        &self,
        sink: &str,
        from: Lsn,
        to_number: u64,
    ) -> std::collections::VecDeque<(u64, Lsn)> {
        self.core().seals.lock().batches_from(sink, from, to_number)
    }

    /// Where the record stands that says what became of a sink's batch last; `None` if that is not known
    /// here.
    pub fn fate_of(&self, sink: &str, number: u64) -> Option<Lsn> {
        self.core().seals.lock().fate_of(sink, number)
    }

    /// Says that the record at `lsn` tells what became of a sink's batch.
    pub fn acknowledged(&self, sink: &str, number: u64, lsn: Lsn) {
        self.core().seals.lock().acknowledged(sink, number, lsn);
    }
}

impl<S: Storage> say::Names for Core<S> {
    fn position(&self, number: u32) -> Option<(String, String)> {
        let (sku, location): (Sku, Location) = self.name_of(number)?;
        Some((sku.as_str().to_owned(), location.as_str().to_owned()))
    }

    fn sku(&self, number: u32) -> Option<String> {
        self.tables.positions.sku(number).map(|sku| sku.as_str().to_owned())
    }
}

impl<S: Storage> Core<S> {
    fn trace(&self, order: &Order) -> Result<TraceView, Refusal> {
        let log = self.log.look_back();
        let mut walk = Walk { log, found: Vec::new(), archived: false, truncated: false };
        self.walk(order.last, None, &mut walk)?;
        if walk.found.is_empty() {
            return Err(Refusal::Archived { oldest: self.log.archive_oldest() });
        }
        walk.found.sort_by_key(|found| found.pinned.record().lsn);
        let now_ms = self.now_ms();
        let mut records: Vec<TraceRecord> = Vec::with_capacity(walk.found.len());
        for found in &walk.found {
            let mut record = self.trace_record(order, found, now_ms);
            let before = records.last().map_or(record.at, |before| before.at);
            record.since_previous_ms = record.at.millis().saturating_sub(before.millis());
            records.push(record);
        }
        let all = self.add_batches(order, &mut walk.log, &walk.found, &mut records);
        let first_ms = records.first().map_or(now_ms, |record| record.at.millis());
        Ok(TraceView {
            order_id: order.id.clone(),
            state: order.state(),
            archived: walk.archived,
            truncated: walk.truncated || !all,
            age_ms: now_ms.saturating_sub(first_ms),
            records,
            lsn: order.last,
        })
    }

    /// Goes back from a record; `of` is the reservation that it is a record of.
    fn walk(
        &self,
        from: Lsn,
        of: Option<ReservationId>,
        walk: &mut Walk<S>,
    ) -> Result<(), Refusal> {
        let mut at = from;
        loop {
            if walk.found.len() >= TRACE_RECORDS_MAX {
                walk.truncated = true;
                return Ok(());
            }
            let (pinned, next) = match step(&mut walk.log, at, of) {
                Ok(step) => step,
                Err(wal::Error::ArchiveBusy) => {
                    return Err(Refusal::Overloaded { what: ARCHIVE_BUSY });
                }
                Err(error) => {
                    if !matches!(error, wal::Error::Archived { .. }) {
                        tracing::error!(%error, lsn = at.0, "a record of an order can't be read");
                    }
                    walk.archived = true;
                    return Ok(());
                }
            };
            walk.found.push(Found { pinned, reservation: of });
            match next {
                // A record is written after what it speaks of, so this ends.
                Next::Back(before) if before < at => at = before,
                Next::Reservations(all) => {
                    for (last, id) in all.into_iter().filter(|(last, _)| *last < at) {
                        self.walk(last, Some(id), walk)?;
                    }
                    return Ok(());
                }
                Next::Back(_) | Next::Begin => return Ok(()),
            }
        }
    }

    fn trace_record(&self, order: &Order, found: &Found<S>, now_ms: u64) -> TraceRecord {
        let record = found.pinned.record();
        let origin = OriginView::of(record.version, record.body);
        let fact = fact_of(&record);
        let id = match (&fact, found.reservation) {
            (Some((_, id)), _) => id.clone(),
            (None, Some(reservation)) => reservation.to_string(),
            (None, None) => order.id.to_string(),
        };
        let kind = fact.map_or_else(|| say::name(record.kind), |(kind, _)| kind.as_str());
        TraceRecord {
            lsn: record.lsn,
            at: Timestamp::from_millis(record.time_ms),
            kind: kind.to_owned(),
            id,
            since_previous_ms: 0,
            age_ms: now_ms.saturating_sub(record.time_ms),
            request_id: origin.as_ref().map(|origin| origin.request_id.clone()),
            traceparent: origin.and_then(|origin| origin.traceparent),
            says: say::json(&record, self).unwrap_or_default(),
            parked: Vec::new(),
            batches: Vec::new(),
        }
    }

    /// Adds the batches that carried the records; a batch that carried several is read once. Whether all
    /// that may have sent letters again were looked at.
    fn add_batches(
        &self,
        order: &Order,
        log: &mut LookBack<S>,
        found: &[Found<S>],
        records: &mut [TraceRecord],
    ) -> bool {
        let order = order.id.as_str();
        let mut read = Batches { core: self, log, order, read: HashMap::new(), all: true };
        for (found, record) in found.iter().zip(records) {
            let Some(carried) = Carried::of(&found.pinned.record()) else { continue };
            let carriers = self.seals.lock().of(record.lsn);
            for carrier in carriers {
                read.add(&carrier, (&found.pinned.record(), carried), record);
            }
        }
        read.all
    }

    /// A batch, as its seal and the record of its fate say it; nothing that is not durable is told.
    fn read_batch(&self, log: &mut LookBack<S>, sealed: &Sealed) -> Option<Batch> {
        let durable = self.log.durable().0;
        if sealed.lsn >= durable {
            return None;
        }
        let pinned = log.read_at(Lsn(sealed.lsn)).ok()?;
        let record = pinned.record();
        let seal = decode::<Seal>(record.lsn, record.kind, record.version, record.body).ok()?;
        let mut batch =
            Batch::of(record.lsn, seal, sealed.number, |lsn| self.log.incarnation_at(lsn))?;
        if let Some(lsn) = sealed.acknowledged.filter(|lsn| *lsn < durable) {
            let pinned = log.read_at(Lsn(lsn)).ok()?;
            batch.answered(&pinned.record(), &body_of(seal, sealed.number)?);
        }
        Some(batch)
    }
}

fn step<S: Storage>(
    log: &mut LookBack<S>,
    at: Lsn,
    of: Option<ReservationId>,
) -> Result<(Pinned<S>, Next), wal::Error> {
    let pinned = log.read_at(at)?;
    let next = next(&pinned.record(), of).ok_or(wal::Error::NoRecord { lsn: at })?;
    Ok((pinned, next))
}

/// Where the walk goes on from a record; nothing if it does not read as one that it may meet.
fn next(record: &Record<'_>, of: Option<ReservationId>) -> Option<Next> {
    let (lsn, kind, version, body) = (record.lsn, record.kind, record.version, record.body);
    macro_rules! back {
        ($event:ty) => {
            decode::<$event>(lsn, kind, version, body).ok().map(|e| back_along(&e.of))
        };
    }
    match (of, kind) {
        (None, Happened::KIND) => {
            let happened = decode::<Happened>(lsn, kind, version, body).ok()?;
            Some(Next::Back(Lsn(happened.previous.to_native())))
        }
        (None, Placed::KIND) => {
            let placed = decode::<Placed>(lsn, kind, version, body).ok()?;
            let all = placed.reservations.iter().map(|sold| {
                let id = ReservationId {
                    lsn: Lsn(sold.of.reservation.to_native()),
                    slot: sold.of.slot.to_native(),
                };
                (Lsn(sold.of.previous.to_native()), id)
            });
            Some(Next::Reservations(all.collect()))
        }
        (Some(_), Extend::KIND) => back!(Extend),
        (Some(_), Change::KIND) => back!(Change),
        (Some(_), Release::KIND) => back!(Release),
        (Some(_), Expire::KIND) => back!(Expire),
        (Some(_), Reserve::KIND) => Some(Next::Begin),
        _ => None,
    }
}

fn back_along(of: &ArchivedOf) -> Next {
    Next::Back(Lsn(of.previous.to_native()))
}

/// What happened to an order, and its own id, if the record says that.
fn fact_of(record: &Record<'_>) -> Option<(FactKind, String)> {
    if record.kind != Happened::KIND {
        return None;
    }
    let event = say::owned::<Happened>(record).ok()?;
    Some((event.fact.kind(), event.id.into()))
}

/// The batches that were read for one trace, by their seals' positions and their numbers.
struct Batches<'a, S: Storage> {
    core: &'a Core<S>,
    log: &'a mut LookBack<S>,
    order: &'a str,
    read: HashMap<(u64, u64), Option<Batch>>,
    /// Whether all that may have sent letters again were looked at.
    all: bool,
}

impl<S: Storage> Batches<'_, S> {
    fn of(&mut self, sealed: &Sealed) -> Option<&Batch> {
        let (core, log) = (self.core, &mut *self.log);
        let read = self.read.entry((sealed.lsn, sealed.number));
        read.or_insert_with(|| core.read_batch(log, sealed)).as_ref()
    }

    /// Adds to a record what a sink's seals did with it.
    fn add(
        &mut self,
        carrier: &Carrier,
        (found, carried): (&Record<'_>, Carried),
        record: &mut TraceRecord,
    ) {
        let order = self.order;
        let Some(first) = self.of(&carrier.first) else { return };
        if !first.parked.contains(&record.lsn.0) {
            if first.carried(found, carried, order) {
                self.add_batch(&carrier.first, (found, carried), record);
            }
            return;
        }
        let mut parked = TraceParked {
            sink: carrier.sink.clone(),
            window: carrier.first.number,
            seal_lsn: first.view.seal_lsn,
            parked_at: first.view.sealed_at,
            released_window: None,
            released_seal_lsn: None,
            released_at: None,
        };
        if let Some(released) = carrier.released
            && let Some(batch) = self.of(&released)
        {
            parked.released_window = Some(released.number);
            parked.released_seal_lsn = Some(batch.view.seal_lsn);
            parked.released_at = Some(batch.view.sealed_at);
            self.add_batch(&released, (found, carried), record);
        }
        record.parked.push(parked);
    }

    /// Adds a batch that carried a record, and those that sent again what the partner did not take of it.
    fn add_batch(
        &mut self,
        sealed: &Sealed,
        (found, carried): (&Record<'_>, Carried),
        record: &mut TraceRecord,
    ) {
        let (core, order) = (self.core, self.order);
        let Some(batch) = self.of(sealed) else { return };
        let mut view = batch.view_for(record);
        let mut left: Vec<String> = Vec::new();
        if let Some(aside) = &batch.aside {
            let (state, refused) = aside.of_record(&batch.wanted(found, carried, order, core));
            view.state = state;
            // What the partner said was said of others.
            view.answer.take_if(|_| state == BatchState::Delivered);
            left = refused.into_iter().map(str::to_owned).collect();
        }
        let sink = view.sink.clone();
        record.batches.push(view);
        if left.is_empty() {
            return;
        }
        let again = core.seals.lock().letters_after(&sink, sealed);
        self.all &= again.len() <= AGAIN_MAX;
        for seal in again.iter().take(AGAIN_MAX) {
            if left.is_empty() {
                return;
            }
            let Some(batch) = self.of(seal).filter(|batch| batch.origin == Some(sealed.lsn)) else {
                continue;
            };
            let ours: Vec<_> = left.iter().filter(|id| batch.ids.contains(*id)).cloned().collect();
            if ours.is_empty() {
                continue;
            }
            let aside = batch.aside.as_ref();
            let state = aside.map_or(batch.view.state, |aside| aside.of_ids(&ours));
            record.batches.push(TraceBatch { state, ..batch.view_for(record) });
            left.retain(|id| state != BatchState::Delivered || !ours.contains(id));
        }
    }
}
