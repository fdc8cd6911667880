//! Lineage: every record of an order, found by walking from its last record back along what each says
//! of the one before, and the batches that carried them.
//!
//! It reads the log where the records stand, and the archive for what the log has let go, and holds no lock
//! of the ledger. What neither has any more, or what would take too much unpacking, is said to be archived,
//! never guessed.

mod content;

use std::collections::HashMap;

use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::{
    ledger::orders::Order,
    model::{
        Incarnation, Location, Lsn, OrderId, OriginView, ReservationId, Sku, Timestamp,
        event::{
            Acknowledge, ArchivedOf, ArchivedSeal, Change, Event, Expire, Extend, Happened, Placed,
            Release, Reserve, Seal, decode,
        },
        fact::{Fact, FactKind},
        lineage::{BatchState, TraceBatch, TraceParked, TraceRecord, TraceView},
        posting::{self, Recognition},
        sink::batch_name,
    },
    wal::{self, Pinned, Record, Storage, archive::LookBack},
};

use content::Names;

use super::{
    Decision, Engine, Refusal,
    core::Core,
    say,
    seals::{Carrier, Sealed},
};

/// The most records that are shown of one order.
pub const TRACE_RECORDS_MAX: usize = 10_000;

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
        self.add_batches(order, &mut walk.log, &walk.found, &mut records);
        let first_ms = records.first().map_or(now_ms, |record| record.at.millis());
        Ok(TraceView {
            order_id: order.id.clone(),
            state: order.state(),
            archived: walk.archived,
            truncated: walk.truncated,
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

    /// Adds the batches that carried the records; a batch that carried several is read once.
    fn add_batches(
        &self,
        order: &Order,
        log: &mut LookBack<S>,
        found: &[Found<S>],
        records: &mut [TraceRecord],
    ) {
        let order = order.id.as_str();
        let mut read = Batches { core: self, log, order, read: HashMap::new() };
        for (found, record) in found.iter().zip(records) {
            let Some(carried) = Carried::of(&found.pinned.record()) else { continue };
            let carriers = self.seals.lock().of(record.lsn);
            for carrier in carriers {
                read.add(&carrier, (&found.pinned.record(), carried), record);
            }
        }
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
            batch.answered(&pinned.record());
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
                record.batches.push(first.view_for(record));
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
            record.batches.push(batch.view_for(record));
        }
        record.parked.push(parked);
    }
}

/// What a record can be carried as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Carried {
    /// Whether it moves stock that an ERP hears of.
    stock: bool,
    /// Whether it says that an order is to be picked.
    picks: bool,
}

impl Carried {
    /// Nothing for records that concern no partner: what is held, and notes.
    fn of(record: &Record<'_>) -> Option<Self> {
        match record.kind {
            Placed::KIND => Some(Self { stock: true, picks: true }),
            Happened::KIND => match say::owned::<Happened>(record).ok()?.fact {
                Fact::Note { .. } => None,
                Fact::Shipment { .. }
                | Fact::Cancellation { .. }
                | Fact::Receipt { restock: true, .. } => Some(Self { stock: true, picks: false }),
                _ => Some(Self { stock: false, picks: false }),
            },
            _ => None,
        }
    }
}

/// A sealed batch, and which records it sums up.
struct Batch {
    view: TraceBatch,
    head: Head,
    /// First and last record of the window; nothing if it summed up none.
    span: Option<(u64, u64)>,
    recognition: Recognition,
    /// Records that it left for a later one.
    parked: Vec<u64>,
    /// What it names.
    names: Names,
}

impl Batch {
    /// The batch of a number; nothing if the seal has none of it.
    fn of(
        lsn: Lsn,
        seal: &ArchivedSeal,
        number: u64,
        life_at: impl Fn(Lsn) -> Incarnation,
    ) -> Option<Self> {
        let nth = usize::try_from(number.checked_sub(seal.number.to_native())?).ok()?;
        let body = seal.body_of(nth)?;
        let names = Names::of(seal.lane, &body, &life_at);
        let mut head = Head::of(&body);
        if matches!(names, Names::Events(_)) {
            head.batch_id = Some(batch_name(seal.sink.as_str(), life_at(lsn), number));
        }
        let span = (seal.first_lsn.to_native(), seal.last_lsn.to_native());
        let span = (seal.events.to_native() > 0).then_some(span);
        let recognition = Recognition::of_number(seal.recognition).unwrap_or_default();
        let view = TraceBatch {
            sink: seal.sink.as_str().to_owned(),
            batch_id: head.batch_id.clone(),
            seal_lsn: lsn,
            sealed_at: Timestamp::from_millis(seal.sealed_at_ms.to_native()),
            waited_ms: 0,
            state: BatchState::Sealed,
            attempts: None,
            answered_at: None,
            delivery_ms: None,
            status: None,
            answer: None,
        };
        let parked = seal.parking.parked.iter().map(|parked| parked.lsn.to_native()).collect();
        Some(Self { view, head, span, recognition, parked, names })
    }

    fn answered(&mut self, record: &Record<'_>) {
        let (lsn, kind, version) = (record.lsn, record.kind, record.version);
        let Ok(fate) = decode::<Acknowledge>(lsn, kind, version, record.body) else { return };
        let at = Timestamp::from_millis(record.time_ms);
        let status = fate.status.to_native();
        let view = &mut self.view;
        view.state = if fate.refused { BatchState::Refused } else { BatchState::Delivered };
        view.attempts = Some(fate.attempts.to_native());
        view.answered_at = Some(at);
        view.delivery_ms = Some(at.millis().saturating_sub(view.sealed_at.millis()));
        view.status = (status != 0).then_some(status);
        view.answer = (!fate.answer.is_empty()).then(|| fate.answer.as_str().to_owned());
    }

    /// The batch as one that carried this record.
    fn view_for(&self, record: &TraceRecord) -> TraceBatch {
        let waited_ms = self.view.sealed_at.millis().saturating_sub(record.at.millis());
        TraceBatch { waited_ms, ..self.view.clone() }
    }

    /// Whether the window summed a record of an order up that it read and did not park; of a batch that
    /// names what it brings, whether it names that.
    fn carried(&self, record: &Record<'_>, carried: Carried, order: &str) -> bool {
        let concerns = || match self.head.domain.as_deref() {
            _ if self.names != Names::Nothing => self.names.tells(record.lsn, order, carried.picks),
            Some("inventory") => carried.stock,
            Some("finance") => {
                let kind = (record.kind, record.version);
                posting::of(record.lsn, kind, record.body, self.recognition)
                    .is_ok_and(|booking| booking.is_some())
            }
            _ => true,
        };
        self.span.is_some_and(|(first, last)| (first..=last).contains(&record.lsn.0)) && concerns()
    }
}

/// What a batch's body begins with. The rest, which may be large, is not read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Head {
    batch_id: Option<String>,
    domain: Option<String>,
}

impl Head {
    fn of(body: &[u8]) -> Self {
        let mut head = Self::default();
        // It ends with an error as soon as both are there: the object goes on.
        let _ = serde_json::Deserializer::from_slice(body).deserialize_map(Heading(&mut head));
        head
    }
}

struct Heading<'a>(&'a mut Head);

impl<'de> Visitor<'de> for Heading<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a batch")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while self.0.batch_id.is_none() || self.0.domain.is_none() {
            match map.next_key::<String>()?.as_deref() {
                Some("batch_id") => self.0.batch_id = Some(map.next_value()?),
                Some("domain") => self.0.domain = Some(map.next_value()?),
                Some(_) => drop(map.next_value::<IgnoredAny>()?),
                None => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_batch_is_read_without_the_rest() {
        let head = Head::of(br#"{"batch_id":"erp-3f9c-000001","sink":"erp","domain":"inventory","#);
        assert_eq!(head.batch_id.as_deref(), Some("erp-3f9c-000001"));
        assert_eq!(head.domain.as_deref(), Some("inventory"));
        assert_eq!(Head::of(b""), Head::default());
        assert_eq!(Head::of(b"[1]"), Head::default());
    }
}
