//! What waits for something else to be booked first, of one finance sink.
//!
//! It is bounded by `parked_max`: whoever parks one more must release the oldest. What is parked stands
//! in seals, and so in checkpoints: it survives a crash, and needs nothing of the log.

use std::collections::{BTreeMap, HashMap};

use rkyv::util::AlignedVec;

use super::{
    Error,
    causal::{self, Come, Follower},
};
use crate::{
    model::{
        Lsn,
        event::{self, ArchivedHappened, Happened},
        posting::Recognition,
        sink::{Parked, ParkedView},
    },
    wal::Record,
};

/// A record that waits.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub at_ms: u64,
    pub kind: u8,
    pub version: u8,
    pub body: AlignedVec<8>,
    order_id: String,
    follower: Follower,
    /// Whether no seal has it yet.
    fresh: bool,
}

/// The records that wait, by position.
#[derive(Debug, Clone, Default)]
pub(super) struct ParkedRecords {
    items: BTreeMap<u64, Item>,
    by_order: HashMap<String, Vec<u64>>,
    /// Grows with every change.
    version: u64,
}

impl ParkedRecords {
    /// Those that the sink's seals have parked.
    pub fn restore(parked: Vec<Parked>) -> Result<Self, Error> {
        let mut all = Self::default();
        for Parked { lsn, at_ms, body, kind, version } in parked {
            let mut aligned = AlignedVec::new();
            aligned.extend_from_slice(&body);
            all.insert(Lsn(lsn), at_ms, (kind, version), aligned, false)?;
        }
        Ok(all)
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn oldest(&self) -> Option<u64> {
        self.items.keys().next().copied()
    }

    pub fn get(&self, lsn: u64) -> Option<&Item> {
        self.items.get(&lsn)
    }

    /// Parks a record that can be early.
    pub fn park(&mut self, record: &Record<'_>) -> Result<(), Error> {
        let mut body = AlignedVec::new();
        body.extend_from_slice(record.body);
        self.insert(record.lsn, record.time_ms, (record.kind, record.version), body, true)
    }

    fn insert(
        &mut self,
        lsn: Lsn,
        at_ms: u64,
        (kind, version): (u8, u8),
        body: AlignedVec<8>,
        fresh: bool,
    ) -> Result<(), Error> {
        let happened = event::decode::<Happened>(lsn, kind, version, &body)?;
        let Some(follower) = causal::follower(happened) else { return Ok(()) };
        let order_id = happened.order_id.as_str().to_owned();
        self.version += 1;
        self.by_order.entry(order_id.clone()).or_default().push(lsn.0);
        self.items.insert(lsn.0, Item { at_ms, kind, version, body, order_id, follower, fresh });
        Ok(())
    }

    pub fn remove(&mut self, lsn: u64) -> Option<Item> {
        let item = self.items.remove(&lsn)?;
        self.version += 1;
        if let Some(of_order) = self.by_order.get_mut(&item.order_id) {
            of_order.retain(|other| *other != lsn);
            if of_order.is_empty() {
                self.by_order.remove(&item.order_id);
            }
        }
        Some(item)
    }

    /// Those of an order.
    pub fn of_order(&self, order_id: &str) -> &[u64] {
        self.by_order.get(order_id).map_or(&[], Vec::as_slice)
    }

    /// Those that wait no longer once a record has come.
    pub fn freed_by(&self, record: &ArchivedHappened, when: Recognition) -> Vec<u64> {
        let of_order = self.of_order(record.order_id.as_str());
        if of_order.is_empty() {
            return Vec::new();
        }
        let come = Come::with(record, when);
        let free = |lsn: &&u64| {
            self.items.get(lsn).is_some_and(|item| come.missing(item.follower).is_none())
        };
        of_order.iter().filter(free).copied().collect()
    }

    /// Those that no seal has yet, for the seal that will.
    pub fn fresh(&self) -> Vec<Parked> {
        let fresh = self.items.iter().filter(|(_, item)| item.fresh);
        fresh
            .map(|(lsn, item)| Parked {
                lsn: *lsn,
                at_ms: item.at_ms,
                body: item.body.to_vec(),
                kind: item.kind,
                version: item.version,
            })
            .collect()
    }

    /// A seal has all of them now.
    pub fn sealed(&mut self) {
        self.items.values_mut().for_each(|item| item.fresh = false);
    }

    /// When the oldest was written.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.items.values().next().map(|item| item.at_ms)
    }

    /// As an operator sees them, oldest first; ages are filled in by whoever knows the time, and are
    /// the time of writing until then.
    pub fn views(&self, when: Recognition) -> Vec<ParkedView> {
        let view = |(lsn, item): (&u64, &Item)| {
            let record =
                event::decode::<Happened>(Lsn(*lsn), item.kind, item.version, &item.body).ok()?;
            Some(ParkedView {
                order_id: item.order_id.clone(),
                kind: match item.follower {
                    Follower::Settlement => "settlement",
                    Follower::Refund => "refund",
                }
                .to_owned(),
                id: record.id.as_str().to_owned(),
                lsn: Lsn(*lsn),
                age_ms: item.at_ms,
                waits_for: causal::waits_for(record, when).unwrap_or("release").to_owned(),
            })
        };
        self.items.iter().filter_map(view).collect()
    }
}
