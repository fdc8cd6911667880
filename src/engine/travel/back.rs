//! A moment before the oldest checkpoint: that one's positions, less what was written between the two.
//!
//! Records carry deltas, so what they did can be taken back in one sum for each position, whatever lies
//! between. Only a customer's limit is set as a whole: if it was set in between, the record that set it before
//! is looked for, segment by segment, back to where the SKU begins.
//!
//! Memory: one unpacked segment, and some words for each position of the SKU.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, DISORDER_MS, Past, Reach, STEP_RECORDS, is_not_there};
use crate::{
    engine::{Refusal, core::Core, thing::Shift},
    model::{Lsn, Timestamp},
    wal::{Reader, Record, Storage, checkpoint},
};

/// What was done to a SKU behind a moment.
#[derive(Default)]
struct Since {
    shifts: BTreeMap<u32, Shift>,
    defined: BTreeSet<u32>,
    limited: bool,
}

impl Since {
    fn take(&mut self, change: Change) {
        match change {
            Change::Define(number, _) => drop(self.defined.insert(number)),
            Change::Shift(number, shift) => {
                let sum = self.shifts.entry(number).or_default();
                sum.available -= shift.available;
                sum.on_hand -= shift.on_hand;
                sum.committed -= shift.committed;
                sum.safety_stock -= shift.safety_stock;
                sum.backorder_limit -= shift.backorder_limit;
            }
            Change::Limit(_) => self.limited = true,
        }
    }

    /// Takes it back.
    fn undo(self, past: &mut Past<'_>) {
        for (number, sum) in self.shifts {
            past.apply(Change::Shift(number, sum));
        }
        for number in self.defined {
            past.positions.insert(number, None);
        }
    }
}

/// What the records of a segment say of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Unsaid,
    Set(Option<u32>),
}

impl<S: Storage> Core<S> {
    /// From the oldest checkpoint behind a position back to it.
    pub(super) fn go_back<'a>(
        &self,
        past: Past<'a>,
        lsn: Lsn,
        durable: Lsn,
        reach: Reach,
    ) -> Result<Past<'a>, Refusal> {
        let from = self.log.segment_begin(lsn);
        self.check_reach(lsn.min(from), reach)?;
        let (mut past, end) = self.oldest_checkpoint(past, lsn)?;
        past.lsn = Lsn(from.0.saturating_sub(1));
        let mut reader = self.reader_back(from, reach)?;
        let (mut since, mut limit) = (Since::default(), Limit::Unsaid);
        self.each_until(&mut reader, end.min(durable), &mut |record| {
            if record.lsn > lsn {
                return self.changes(&past, record, &mut |change| since.take(change));
            }
            past.lsn = record.lsn;
            self.changes(&past, record, &mut |change| limit = limit.after(&past, &change))
        })?;
        drop(reader);
        if since.limited {
            past.limit = self.limit_before(&past, limit, from, reach)?;
        }
        since.undo(&mut past);
        Ok(past)
    }

    /// The last record that was written at or before a time; nothing if the log's first is later.
    pub(super) fn last_at(
        &self,
        time: Timestamp,
        durable: Lsn,
        reach: Reach,
    ) -> Result<Option<Lsn>, Refusal> {
        let from = self.log.segment_begin_at(time.millis());
        self.check_reach(from, reach)?;
        let mut reader = self.reader_back(from, reach)?;
        // Everything before the segment was written by then, unless that is all that there is.
        let mut last = (from > self.log.archive_oldest()).then(|| Lsn(from.0.saturating_sub(1)));
        let mut count = 0_usize;
        while let Some(record) = reader.next().map_err(|e| self.unreadable(&e))? {
            self.go_on(&mut count)?;
            if record.lsn >= durable || record.time_ms > time.millis() + DISORDER_MS {
                break;
            }
            if record.time_ms <= time.millis() {
                last = Some(record.lsn);
            }
        }
        match last {
            None if self.log.archive_oldest() > Lsn(0) => Err(self.archived()),
            last => Ok(last),
        }
    }

    /// Whether what is to be read is there, and within reach.
    fn check_reach(&self, from: Lsn, reach: Reach) -> Result<(), Refusal> {
        if from < self.log.archive_oldest() {
            return Err(self.archived());
        }
        let (segments, segments_max) =
            (self.log.archived_segments_from(from), reach.segments_max());
        if segments > segments_max.into() {
            return Err(Refusal::TooFarBack { segments, segments_max });
        }
        Ok(())
    }

    /// The SKU as the oldest checkpoint behind a position has it, and where that one ends. If that goes
    /// meanwhile, or can't be read, the next.
    fn oldest_checkpoint<'a>(&self, past: Past<'a>, lsn: Lsn) -> Result<(Past<'a>, Lsn), Refusal> {
        let all = checkpoint::list(&self.storage).map_err(|e| self.unreadable(&e))?;
        for covers in all.into_iter().rev().filter(|covers| *covers > lsn) {
            let mut loaded = past.clone();
            match self.load(&mut loaded, covers) {
                Ok(()) => return Ok((loaded, covers)),
                Err(error) if is_not_there(&error) => {}
                Err(error) => drop(self.unreadable(&error)),
            }
        }
        Err(self.archived())
    }

    /// The limit before a segment and what that says of it itself.
    fn limit_before(
        &self,
        past: &Past<'_>,
        mut limit: Limit,
        from: Lsn,
        reach: Reach,
    ) -> Result<Option<u32>, Refusal> {
        let mut end = from;
        loop {
            if let Limit::Set(limit) = limit {
                return Ok(limit);
            }
            let Some(begin) = self.log.segment_before(end) else {
                // The log's first record is before every limit.
                let is_all = self.log.archive_oldest() == Lsn(0);
                return if is_all { Ok(None) } else { Err(self.archived()) };
            };
            self.check_reach(begin, reach)?;
            let mut reader = self.reader_back(begin, reach)?;
            self.each_until(&mut reader, end, &mut |record| {
                self.changes(past, record, &mut |change| limit = limit.after(past, &change))
            })?;
            end = begin;
        }
    }

    /// Shows the records up to a position.
    fn each_until(
        &self,
        reader: &mut Reader<S>,
        end: Lsn,
        each: &mut dyn FnMut(&Record<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut count = 0;
        while let Some(record) = reader.next().map_err(|e| self.unreadable(&e))? {
            if record.lsn >= end {
                break;
            }
            self.go_on(&mut count)?;
            each(&record)?;
        }
        Ok(())
    }

    fn go_on(&self, count: &mut usize) -> Result<(), Refusal> {
        *count += 1;
        match count.is_multiple_of(STEP_RECORDS) && self.is_stopping() {
            true => Err(Refusal::ShuttingDown),
            false => Ok(()),
        }
    }
}

impl Limit {
    /// What is said of it after a change.
    fn after(self, past: &Past<'_>, change: &Change) -> Self {
        match change {
            Change::Limit(limit) => Self::Set(*limit),
            // Before its first position the SKU was not there, and without a limit.
            Change::Define(number, _) if past.positions.keys().next() == Some(number) => {
                Self::Set(None)
            }
            _ => self,
        }
    }
}
