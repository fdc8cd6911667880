//! Time travel: what the ledger said of a SKU's stock at an earlier position of the log, or at an
//! earlier time. The newest checkpoint before it is read as far as positions go (they come first), and
//! then the log up to it.
//!
//! It holds nothing of the ledger and does not keep the log from being recycled: what goes while it is
//! being read is answered as archived. A few million records a second; for operators, in a thread of
//! its own.

use std::{collections::BTreeMap, str::FromStr};

use crate::{
    model::{
        Invalid, Lsn, Sku, Timestamp,
        view::{PositionView, StockView},
    },
    wal::{self, Reader, Storage, checkpoint},
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

/// Why there is no answer.
enum Lost {
    /// Another start must be tried: this one lies behind the moment.
    TooNew,
    Refused(Refusal),
}

impl From<Refusal> for Lost {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<S: Storage> Engine<S> {
    /// The stock of a SKU over all its locations as it was at an earlier moment. Blocks the thread for
    /// as long as it takes to read the log from the checkpoint before it, seconds at most.
    ///
    /// # Errors
    /// `malformed` (names `at`) for a moment that is not over, `unknown_sku` if it had no stock then,
    /// `archived` for what is no longer kept.
    pub fn stock_at(&self, sku: &Sku, at: At) -> Result<StockView, Refusal> {
        self.core().stock_at(sku, at)
    }
}

/// A SKU's stock on its way through the log.
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
    fn stock_at(&self, sku: &Sku, at: At) -> Result<StockView, Refusal> {
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
        for start in self.starts(at)? {
            let past = Past {
                sku,
                sku_number: number,
                positions: positions.of_sku(number).map(|(at, _)| (at, None)).collect(),
                limit: None,
                lsn: Lsn(start.0.saturating_sub(1)),
            };
            match self.travel(past, start, at, durable) {
                Ok(past) => return self.past_view(&past).ok_or_else(unknown),
                Err(Lost::TooNew) => {}
                Err(Lost::Refused(refusal)) => return Err(refusal),
            }
        }
        Err(self.archived())
    }

    fn archived(&self) -> Refusal {
        Refusal::Archived { oldest: self.log.oldest() }
    }

    /// Where reading can begin: at the checkpoints, newest first, or at the log's own begin.
    fn starts(&self, at: At) -> Result<Vec<Lsn>, Refusal> {
        let mut starts = checkpoint::list(&self.storage).map_err(|e| self.unreadable(&e))?;
        starts.push(Lsn(0));
        let oldest = self.log.oldest();
        starts.retain(|start| {
            *start >= oldest && !matches!(at, At::Lsn(lsn) if start.0 > lsn.0.saturating_add(1))
        });
        Ok(starts)
    }

    /// The log or a checkpoint went while it was read, or can't be read.
    fn unreadable(&self, error: &wal::Error) -> Refusal {
        let is_gone = match error {
            wal::Error::Archived { .. } => true,
            wal::Error::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        };
        if !is_gone {
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
    ) -> Result<Past<'a>, Lost> {
        let mut reader = self.log.reader(start).map_err(|e| self.unreadable(&e))?;
        if start > Lsn(0) {
            if matches!(at, At::Time(_)) {
                self.check_start(&mut reader, at)?;
                reader = self.log.reader(start).map_err(|e| self.unreadable(&e))?;
            }
            self.load(&mut past, start)?;
        }
        self.replay(&mut past, &mut reader, at, durable)?;
        Ok(past)
    }

    /// Whether everything before the reader was known at a time: the first record that it reads was.
    fn check_start(&self, reader: &mut Reader<S>, at: At) -> Result<(), Lost> {
        match reader.next().map_err(|e| self.unreadable(&e))? {
            Some(record) if at.covers(record.lsn, record.time_ms) => Ok(()),
            _ => Err(Lost::TooNew),
        }
    }

    /// Reads the SKU's part of a checkpoint. What comes behind positions and limits is not read.
    fn load(&self, past: &mut Past<'_>, start: Lsn) -> Result<(), Lost> {
        let read = |e: wal::Error| Lost::Refused(self.unreadable(&e));
        let mut entries = checkpoint::at(&self.storage, start).map_err(read)?;
        while let Some((key, value)) = entries.next().map_err(read)? {
            match Thing::of_key(key) {
                Some(Thing::Secret) => {}
                Some(Thing::Position(number)) => {
                    let Some(position) = past.positions.get_mut(&number) else { continue };
                    let value = from_archived::<PositionValue>(value).map_err(|error| {
                        tracing::error!(%error, "the past can't be read");
                        self.archived()
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
        let table = &self.tables.positions;
        let effects = Effects {
            retention_ms: self.options.retention_ms,
            sku_of: &|number| table.get(number).map_or(u32::MAX, |p| p.sku_number()),
        };
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
            let read = effects.of(&record, |thing, effect| {
                waiting.extend(past.change(thing, &effect));
            });
            read.map_err(|error| {
                tracing::error!(%error, "the past can't be read");
                self.archived()
            })?;
            if is_known {
                waiting.drain(..).for_each(|change| past.apply(change));
                past.lsn = record.lsn;
            }
        }
        Ok(())
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
