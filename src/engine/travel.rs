//! Time travel: what the ledger said of a SKU's stock at an earlier position of the log, or at an
//! earlier time. The newest checkpoint before it is read as far as positions go (they come first), and
//! then the log up to it. Where no checkpoint is as old, the oldest one is read, and what was written
//! between the moment and it is taken back ([`back`]): in the archive where the log has let it go.
//!
//! It holds nothing of the ledger and does not keep the log from being recycled: what goes while it is
//! being read is read in the archive, and without one answered as archived. A few million records a
//! second, and so many archived segments as the caller allows ([`Reach`]); for operators, in a thread of
//! its own.

mod back;

use std::{collections::BTreeMap, io, str::FromStr};

use crate::{
    model::{
        Invalid, Lsn, Sku, Timestamp,
        view::{PositionView, StockView},
    },
    wal::{self, Reader, Record, Storage, archive::LOOK_BACK_SEGMENTS_MAX, checkpoint},
};

use super::{
    Engine, Refusal,
    core::Core,
    effect::Effects,
    fold::{PositionValue, from_archived, limit_of},
    thing::{Effect, Shift, Thing},
};

/// An earlier moment: a position in the log, or a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// After the record at, or the last one before, this position.
    Lsn(Lsn),
    /// After the last record written at or before this time.
    Time(Timestamp),
}

impl FromStr for At {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let lsn = text.parse().map_err(|_| Invalid("is too large for a log position"))?;
            return Ok(Self::Lsn(Lsn(lsn)));
        }
        let wrong = Invalid("must be a time as in RFC 3339 or a position in the log");
        text.parse().map(Self::Time).map_err(|_| wrong)
    }
}

/// How far into the archive one may read for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// [`LOOK_BACK_SEGMENTS_MAX`] segments: seconds. For what a server answers.
    Bounded,
    /// As far as it goes, however long it takes.
    Whole,
}

impl Reach {
    fn segments_max(self) -> u32 {
        match self {
            Self::Bounded => LOOK_BACK_SEGMENTS_MAX,
            Self::Whole => u32::MAX,
        }
    }
}

impl At {
    /// Whether a record is part of what was known then.
    fn covers(self, lsn: Lsn, time_ms: u64) -> bool {
        match self {
            Self::Lsn(at) => lsn <= at,
            Self::Time(at) => time_ms <= at.millis(),
        }
    }
}

/// Records stand in the log nearly in the order of their times; a decision may take that much longer
/// than another that began later.
const DISORDER_MS: u64 = 1_000;
/// Records read between two looks at whether the engine stops.
const STEP_RECORDS: usize = 4_096;

const ARCHIVE_BUSY: &str = "others read the archive; repeat the request";

fn is_not_there(error: &wal::Error) -> bool {
    matches!(error, wal::Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// Why there is no answer.
enum Lost {
    /// Another start must be tried: this one lies behind the moment, or went.
    Start,
    Refused(Refusal),
}

impl From<Refusal> for Lost {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<S: Storage> Engine<S> {
    /// The stock of a SKU over all its locations as it was at an earlier moment. Blocks the thread for
    /// as long as it takes to read the log from the checkpoint before it, or log and archive up to the one
    /// after it: seconds at most, unless the whole archive may be read.
    ///
    /// # Errors
    /// `malformed` (names `at`) for a moment that is not over, `unknown_sku` if it had no stock then,
    /// `archived` for what neither log nor archive have, or what lies further back than the reach;
    /// `overloaded` if others read the archive for too long.
    pub fn stock_at(&self, sku: &Sku, at: At, reach: Reach) -> Result<StockView, Refusal> {
        self.core().stock_at(sku, at, reach)
    }
}

/// A SKU's stock on its way through the log.
#[derive(Clone)]
struct Past<'a> {
    sku: &'a Sku,
    sku_number: u32,
    /// By the position's number, the positions that the SKU has today.
    positions: BTreeMap<u32, Option<PositionValue>>,
    limit: Option<u32>,
    /// The last record that is in it.
    lsn: Lsn,
}

/// What a record does to a SKU.
enum Change {
    Define(u32, PositionValue),
    Shift(u32, Shift),
    Limit(Option<u32>),
}

impl<S: Storage> Core<S> {
    fn stock_at(&self, sku: &Sku, at: At, reach: Reach) -> Result<StockView, Refusal> {
        let positions = &self.tables.positions;
        let unknown = || Refusal::UnknownSku { sku: sku.clone(), location: None };
        let number = positions.sku_number(sku).ok_or_else(unknown)?;
        let durable = self.log.durable();
        let is_over = match at {
            At::Lsn(lsn) => lsn < durable,
            At::Time(time) => time.millis() <= self.now_ms(),
        };
        if !is_over {
            return Err(Refusal::malformed("at", "lies in the future"));
        }
        let past = Past {
            sku,
            sku_number: number,
            positions: positions.of_sku(number).map(|(at, _)| (at, None)).collect(),
            limit: None,
            lsn: Lsn(0),
        };
        let past = match (self.go_forward(&past, at, durable, reach)?, at) {
            (Some(there), _) => there,
            (None, At::Lsn(lsn)) => self.go_back(past, lsn, durable, reach)?,
            // No checkpoint is known to be as old, until it is known at which position that was.
            (None, At::Time(time)) => {
                let Some(lsn) = self.last_at(time, durable, reach)? else { return Err(unknown()) };
                match self.go_forward(&past, At::Lsn(lsn), durable, reach)? {
                    Some(there) => there,
                    None => self.go_back(past, lsn, durable, reach)?,
                }
            }
        };
        self.past_view(&past).ok_or_else(unknown)
    }

    /// From the newest checkpoint before the moment; nothing if none is as old.
    fn go_forward<'a>(
        &self,
        past: &Past<'a>,
        at: At,
        durable: Lsn,
        reach: Reach,
    ) -> Result<Option<Past<'a>>, Refusal> {
        for start in self.starts(at)? {
            let lsn = Lsn(start.0.saturating_sub(1));
            match self.travel(Past { lsn, ..past.clone() }, start, at, durable, reach) {
                Ok(past) => return Ok(Some(past)),
                Err(Lost::Start) => {}
                Err(Lost::Refused(refusal)) => return Err(refusal),
            }
        }
        Ok(None)
    }

    fn archived(&self) -> Refusal {
        Refusal::Archived { oldest: self.log.archive_oldest() }
    }

    /// A reader through the archive into the log.
    fn reader_back(&self, from: Lsn, reach: Reach) -> Result<Reader<S>, Refusal> {
        let back = self.log.look_back_over(reach.segments_max());
        back.reader(from).map_err(|e| self.unreadable(&e))
    }

    /// Where reading forward can begin: at the checkpoints, newest first, or at the log's own begin.
    fn starts(&self, at: At) -> Result<Vec<Lsn>, Refusal> {
        let mut starts = checkpoint::list(&self.storage).map_err(|e| self.unreadable(&e))?;
        starts.push(Lsn(0));
        let oldest = self.log.oldest();
        starts.retain(|start| {
            *start >= oldest && !matches!(at, At::Lsn(lsn) if start.0 > lsn.0.saturating_add(1))
        });
        Ok(starts)
    }

    /// The log, its archive or a checkpoint went while it was read, or can't be read.
    fn unreadable(&self, error: &wal::Error) -> Refusal {
        if matches!(error, wal::Error::ArchiveBusy) {
            return Refusal::Overloaded { what: ARCHIVE_BUSY };
        }
        if !matches!(error, wal::Error::Archived { .. }) {
            tracing::error!(%error, "the past can't be read");
        }
        self.archived()
    }

    fn travel<'a>(
        &self,
        mut past: Past<'a>,
        start: Lsn,
        at: At,
        durable: Lsn,
        reach: Reach,
    ) -> Result<Past<'a>, Lost> {
        let mut reader = self.reader_back(start, reach)?;
        if start > Lsn(0) {
            if matches!(at, At::Time(_)) {
                self.check_start(&mut reader, at)?;
                reader = self.reader_back(start, reach)?;
            }
            self.load(&mut past, start).map_err(|error| match is_not_there(&error) {
                true => Lost::Start,
                false => self.unreadable(&error).into(),
            })?;
        }
        self.replay(&mut past, &mut reader, at, durable)?;
        Ok(past)
    }

    /// Whether everything before the reader was known at a time: the first record that it reads was.
    fn check_start(&self, reader: &mut Reader<S>, at: At) -> Result<(), Lost> {
        match reader.next().map_err(|e| self.unreadable(&e))? {
            Some(record) if at.covers(record.lsn, record.time_ms) => Ok(()),
            _ => Err(Lost::Start),
        }
    }

    /// Reads the SKU's part of a checkpoint. What comes behind positions and limits is not read.
    fn load(&self, past: &mut Past<'_>, start: Lsn) -> Result<(), wal::Error> {
        let mut entries = checkpoint::at(&self.storage, start)?;
        while let Some((key, value)) = entries.next()? {
            match Thing::of_key(key) {
                Some(Thing::Secret) => {}
                Some(Thing::Position(number)) => {
                    let Some(position) = past.positions.get_mut(&number) else { continue };
                    let value = from_archived::<PositionValue>(value).map_err(|_| {
                        let file = format!("of log position {start}");
                        wal::Error::Checkpoint { file, why: "a position in it can't be read" }
                    })?;
                    *position = Some(value);
                }
                Some(Thing::SkuLimit(number)) => {
                    if number == past.sku_number {
                        past.limit = limit_of(value).flatten();
                    }
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Applies the log up to the moment: what is behind its last record of then is left out, whatever
    /// time it has.
    fn replay(
        &self,
        past: &mut Past<'_>,
        reader: &mut Reader<S>,
        at: At,
        durable: Lsn,
    ) -> Result<(), Lost> {
        // What comes after the last record that was known; known too if another one follows.
        let mut waiting: Vec<Change> = Vec::new();
        for count in 1_usize.. {
            if count.is_multiple_of(STEP_RECORDS) && self.is_stopping() {
                return Err(Refusal::ShuttingDown.into());
            }
            let record = reader.next().map_err(|e| self.unreadable(&e))?;
            let Some(record) = record.filter(|record| record.lsn < durable) else { break };
            let is_known = at.covers(record.lsn, record.time_ms);
            let is_over = match at {
                At::Lsn(_) => !is_known,
                At::Time(time) => record.time_ms > time.millis() + DISORDER_MS,
            };
            if is_over {
                break;
            }
            self.changes(past, &record, &mut |change| waiting.push(change))?;
            if is_known {
                waiting.drain(..).for_each(|change| past.apply(change));
                past.lsn = record.lsn;
            }
        }
        Ok(())
    }

    /// What a record does to the SKU.
    fn changes(
        &self,
        past: &Past<'_>,
        record: &Record<'_>,
        each: &mut dyn FnMut(Change),
    ) -> Result<(), Refusal> {
        let table = &self.tables.positions;
        let effects = Effects {
            retention_ms: self.options.retention_ms,
            sku_of: &|number| table.get(number).map_or(u32::MAX, |p| p.sku_number()),
        };
        let read = effects.of(record, |thing, effect| {
            past.change(thing, &effect).into_iter().for_each(&mut *each);
        });
        read.map_err(|error| {
            tracing::error!(%error, "the past can't be read");
            self.archived()
        })
    }

    fn past_view(&self, past: &Past<'_>) -> Option<StockView> {
        let table = &self.tables.positions;
        let in_order = table.of_sku(past.sku_number);
        let known = in_order.filter_map(|(number, _)| past.positions.get(&number)?.as_ref());
        let views: Vec<PositionView> =
            known.filter_map(|value| past.position_view(value)).collect();
        if views.is_empty() {
            return None;
        }
        let sum = |of: fn(&PositionView) -> i64| views.iter().map(of).sum();
        Some(StockView {
            sku: past.sku.clone(),
            available: sum(|p| p.available),
            on_hand: sum(|p| p.on_hand),
            held: sum(|p| p.held),
            committed: sum(|p| p.committed),
            safety_stock: sum(|p| p.safety_stock),
            backorder_limit: sum(|p| p.backorder_limit),
            per_customer_limit: past.limit,
            lsn: past.lsn,
            positions: views,
        })
    }
}

impl Past<'_> {
    fn change(&self, thing: Thing<'_>, effect: &Effect<'_>) -> Option<Change> {
        match (thing, effect) {
            (Thing::SkuLimit(number), Effect::SkuLimit(limit)) => {
                (number == self.sku_number).then_some(Change::Limit(*limit))
            }
            (Thing::Position(number), effect) if self.positions.contains_key(&number) => {
                match effect {
                    Effect::Shifted(shift) => Some(Change::Shift(number, *shift)),
                    Effect::Defined { sku, location, sku_number } => {
                        let (sku, location) = ((*sku).to_owned(), (*location).to_owned());
                        let sku_number = *sku_number;
                        let new = PositionValue { sku, location, sku_number, ..Default::default() };
                        Some(Change::Define(number, new))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Define(number, value) => drop(self.positions.insert(number, Some(value))),
            Change::Shift(number, shift) => {
                if let Some(Some(position)) = self.positions.get_mut(&number) {
                    position.shift(&shift);
                }
            }
            Change::Limit(limit) => self.limit = limit,
        }
    }

    fn position_view(&self, value: &PositionValue) -> Option<PositionView> {
        let PositionValue { available, on_hand, committed, safety_stock, backorder_limit, .. } =
            *value;
        Some(PositionView {
            sku: self.sku.clone(),
            location: value.location.parse().ok()?,
            available,
            on_hand,
            held: on_hand - committed - safety_stock + backorder_limit - available,
            committed,
            safety_stock,
            backorder_limit,
            per_customer_limit: self.limit,
            lsn: self.lsn,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_a_position() {
        assert_eq!("123".parse(), Ok(At::Lsn(Lsn(123))));
        let time = "2025-11-24T16:00:00.120Z";
        assert_eq!(time.parse(), Ok(At::Time(time.parse().unwrap())));
        for wrong in ["", "-1", "yesterday", "99999999999999999999", "2025-11-24"] {
            assert!(wrong.parse::<At>().is_err(), "{wrong}");
        }
    }
}
