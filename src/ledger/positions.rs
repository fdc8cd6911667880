//! The stock of each SKU at each location.
//!
//! The hot value is one [`StockWord`]; everything else changes off the hot path. `held` is not
//! stored: it is what the other numbers leave
//! (`held = on_hand - committed - safety_stock + backorder_limit - available`), so that a
//! reservation touches one word only.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use super::{
    names::Names,
    slab::{NONE, Slab},
    word::StockWord,
};
use crate::model::{Location, Sku};

/// A SKU as [`Names`] keeps it.
#[derive(Debug, Default)]
struct SkuName(Option<Sku>);

impl AsRef<str> for SkuName {
    fn as_ref(&self) -> &str {
        self.0.as_ref().map_or("", Sku::as_str)
    }
}

/// A location as [`Names`] keeps it.
#[derive(Debug, Default)]
struct LocationName(Option<Location>);

impl AsRef<str> for LocationName {
    fn as_ref(&self) -> &str {
        self.0.as_ref().map_or("", Location::as_str)
    }
}

/// What is known of a SKU over all its locations.
#[derive(Debug)]
struct SkuEntry {
    /// Head of the chain of its positions.
    first: AtomicU32,
    /// Limit per customer plus one; 0 without one.
    limit: AtomicU64,
}

impl Default for SkuEntry {
    fn default() -> Self {
        Self { first: AtomicU32::new(NONE), limit: AtomicU64::new(0) }
    }
}

/// A physical movement: its record and the change of `on_hand`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// Its record.
    pub lsn: u64,
    /// Change of the units on hand.
    pub delta: i64,
}

/// How many physical movements a position remembers for counts that name an `as_of_lsn`.
pub const MOVEMENTS_MAX: usize = 256;

/// What only changes of stock touch, under the position's own lock.
#[derive(Debug, Default)]
pub struct Cold {
    /// The last `source_version`.
    pub source_version: Option<u64>,
    /// The latest physical movements, oldest first.
    pub movements: std::collections::VecDeque<Movement>,
    /// Movements up to here are no longer remembered.
    pub movements_from: u64,
    /// Units that forced corrections took below zero; what may be negative without being oversold.
    pub forced: i64,
}

impl Cold {
    /// Remembers a movement.
    pub fn moved(&mut self, movement: Movement) {
        if self.movements.len() == MOVEMENTS_MAX
            && let Some(oldest) = self.movements.pop_front()
        {
            self.movements_from = oldest.lsn + 1;
        }
        self.movements.push_back(movement);
    }

    /// The sum of the movements whose records begin at or after `lsn`; `None` if some of them are
    /// no longer remembered.
    pub fn moved_since(&self, lsn: u64) -> Option<i64> {
        if lsn < self.movements_from {
            return None;
        }
        Some(self.movements.iter().filter(|m| m.lsn >= lsn).map(|m| m.delta).sum())
    }
}

/// One SKU at one location.
#[derive(Debug)]
pub struct Position {
    word: CachePadded<StockWord>,
    sku: AtomicU32,
    location: AtomicU32,
    next: AtomicU32,
    on_hand: AtomicI64,
    committed: AtomicI64,
    safety_stock: AtomicI64,
    backorder_limit: AtomicI64,
    cold: Mutex<Cold>,
}

impl Default for Position {
    fn default() -> Self {
        Self {
            word: CachePadded::default(),
            sku: AtomicU32::new(NONE),
            location: AtomicU32::new(NONE),
            next: AtomicU32::new(NONE),
            on_hand: AtomicI64::new(0),
            committed: AtomicI64::new(0),
            safety_stock: AtomicI64::new(0),
            backorder_limit: AtomicI64::new(0),
            cold: Mutex::default(),
        }
    }
}

/// The numbers of a position at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Units that can be taken.
    pub available: i64,
    /// Units physically there.
    pub on_hand: i64,
    /// Units reserved and not paid (with those of carts being decided).
    pub held: i64,
    /// Units sold and not shipped.
    pub committed: i64,
    /// Units never sold.
    pub safety_stock: i64,
    /// Units sold beyond what is there.
    pub backorder_limit: i64,
}

impl Position {
    /// The decision value.
    pub fn word(&self) -> &StockWord {
        &self.word
    }

    /// The SKU's number.
    pub fn sku_number(&self) -> u32 {
        self.sku.load(Ordering::Acquire)
    }

    /// What changes of stock touch. Holding it keeps other changes of this position's stock away,
    /// never reservations.
    pub fn lock(&self) -> MutexGuard<'_, Cold> {
        self.cold.lock()
    }

    /// The numbers now. Each is exact; those of a change under way may be of either side of it.
    pub fn counts(&self) -> Counts {
        let on_hand = self.on_hand.load(Ordering::Acquire);
        let committed = self.committed.load(Ordering::Acquire);
        let safety_stock = self.safety_stock.load(Ordering::Acquire);
        let backorder_limit = self.backorder_limit.load(Ordering::Acquire);
        let available = i64::from(self.word.load().0);
        let held = on_hand - committed - safety_stock + backorder_limit - available;
        Counts { available, on_hand, held, committed, safety_stock, backorder_limit }
    }

    /// Moves what is sold and not shipped.
    pub fn add_committed(&self, delta: i64) {
        self.committed.fetch_add(delta, Ordering::AcqRel);
    }

    /// Moves the numbers that a change of stock sets; the caller moves the word, before the record
    /// or after it as law 1 demands.
    pub fn add_stock(&self, on_hand: i64, safety_stock: i64, backorder_limit: i64) {
        self.on_hand.fetch_add(on_hand, Ordering::AcqRel);
        self.safety_stock.fetch_add(safety_stock, Ordering::AcqRel);
        self.backorder_limit.fetch_add(backorder_limit, Ordering::AcqRel);
    }
}

/// All positions, by number and by SKU.
#[derive(Debug)]
pub struct Positions {
    skus: Names<SkuName>,
    locations: Names<LocationName>,
    locations_max: u32,
    sku_entries: Slab<SkuEntry>,
    positions: Slab<Position>,
}

impl Positions {
    /// Room for at most `positions_max` positions, and as many SKUs; the locations of the sourcing
    /// order get the lowest numbers, in that order.
    pub fn new(positions_max: u32, sourcing: &[Location]) -> Self {
        let named = u32::try_from(sourcing.len()).unwrap_or(u32::MAX);
        let locations_max = positions_max.min(1 << 16).saturating_add(named);
        let positions = Self {
            skus: Names::new(positions_max),
            locations: Names::new(locations_max),
            locations_max,
            sku_entries: Slab::new(positions_max),
            positions: Slab::new(positions_max),
        };
        for location in sourcing {
            positions.locations.add(LocationName(Some(location.clone())));
        }
        positions
    }

    /// The SKU's number.
    pub fn sku_number(&self, sku: &Sku) -> Option<u32> {
        self.skus.find(sku.as_str())
    }

    /// The SKU of a number.
    pub fn sku(&self, number: u32) -> Option<&Sku> {
        self.skus.get(number)?.0.as_ref()
    }

    /// How many SKUs there are.
    pub fn skus_len(&self) -> u32 {
        self.skus.len()
    }

    /// The position of a number.
    pub fn get(&self, number: u32) -> Option<&Position> {
        self.positions.get(number).filter(|p| p.sku_number() != NONE)
    }

    /// The location of a position.
    pub fn location(&self, position: &Position) -> Option<&Location> {
        self.locations.get(position.location.load(Ordering::Acquire))?.0.as_ref()
    }

    /// How many positions there are.
    pub fn len(&self) -> u32 {
        self.positions.used()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most positions there may be.
    pub fn positions_max(&self) -> u32 {
        self.positions.slots_max()
    }

    /// The SKU's positions in sourcing order: number and position.
    pub fn of_sku(&self, sku_number: u32) -> impl Iterator<Item = (u32, &Position)> {
        let first =
            self.sku_entries.get(sku_number).map_or(NONE, |e| e.first.load(Ordering::Acquire));
        let mut number = first;
        std::iter::from_fn(move || {
            let position = self.positions.get(number)?;
            let this = number;
            number = position.next.load(Ordering::Acquire);
            Some((this, position))
        })
    }

    /// The SKU's position at a location.
    pub fn at(&self, sku_number: u32, location: &Location) -> Option<(u32, &Position)> {
        let wanted = self.locations.find(location.as_str())?;
        self.of_sku(sku_number).find(|(_, p)| p.location.load(Ordering::Acquire) == wanted)
    }

    /// The SKU's limit per customer.
    pub fn limit(&self, sku_number: u32) -> Option<u32> {
        let plus_one = self.sku_entries.get(sku_number)?.limit.load(Ordering::Acquire);
        u32::try_from(plus_one.checked_sub(1)?).ok()
    }

    /// Sets the SKU's limit per customer.
    pub fn set_limit(&self, sku_number: u32, limit: Option<u32>) {
        if let Some(entry) = self.sku_entries.get(sku_number) {
            entry.limit.store(limit.map_or(0, |l| u64::from(l) + 1), Ordering::Release);
        }
    }

    /// Whether there is room for one more position at a location, and for its SKU if that is new.
    pub fn has_room(&self, location: &Location) -> bool {
        let known = self.locations.find(location.as_str()).is_some();
        self.len() < self.positions_max() && (known || self.locations.len() < self.locations_max)
    }

    /// Makes a position under the given numbers, which the caller has found free and keeps others
    /// from using. `None`: a limit is reached, or the numbers don't follow the last ones.
    pub fn define(
        &self,
        number: u32,
        sku_number: u32,
        sku: &Sku,
        location: &Location,
    ) -> Option<()> {
        if self.get(number).is_some() {
            return (self.get(number)?.sku_number() == sku_number).then_some(());
        }
        let location = self.locations.add(LocationName(Some(location.clone())))?;
        if self.skus.add(SkuName(Some(sku.clone())))? != sku_number {
            return None;
        }
        let entry = self.sku_entries.claim(sku_number)?;
        if self.positions.fresh() != number {
            return None;
        }
        let position = self.positions.claim(number)?;
        position.location.store(location, Ordering::Release);
        self.link(entry, number, position, location);
        position.sku.store(sku_number, Ordering::Release);
        Some(())
    }

    /// Puts a position into its SKU's chain, in the order of the locations' numbers.
    fn link(&self, entry: &SkuEntry, number: u32, position: &Position, location: u32) {
        let mut link = &entry.first;
        while let Some(next) = self.positions.get(link.load(Ordering::Acquire)) {
            if next.location.load(Ordering::Acquire) > location {
                break;
            }
            link = &next.next;
        }
        position.next.store(link.load(Ordering::Acquire), Ordering::Release);
        link.store(number, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T: std::str::FromStr>(s: &str) -> T
    where
        T::Err: std::fmt::Debug,
    {
        s.parse().unwrap()
    }

    /// See `numbers_follow_each_other_whoever_adds` in `names`: positions had the same fault.
    #[test]
    fn positions_are_numbered_without_a_gap_whoever_defines_them() {
        let positions = Positions::new(1000, &[]);
        let location: Location = "BER".parse().unwrap();
        for number in 0..20 {
            let sku: Sku = format!("S-{number}").parse().unwrap();
            let define = || positions.define(number, number, &sku, &location);
            let defined = std::thread::scope(|s| s.spawn(define).join().unwrap());
            assert_eq!((defined, positions.len()), (Some(()), number + 1));
        }
    }

    #[test]
    fn positions_of_a_sku_come_in_sourcing_order() {
        let positions = Positions::new(10, &[text("MUC"), text("BER")]);
        let sku = text("A");
        positions.define(0, 0, &sku, &text("HAM")).unwrap();
        positions.define(1, 0, &sku, &text("BER")).unwrap();
        positions.define(2, 0, &sku, &text("MUC")).unwrap();
        let order: Vec<_> = positions.of_sku(0).map(|(n, _)| n).collect();
        assert_eq!(order, [2, 1, 0]);
        assert_eq!(positions.at(0, &text("BER")).unwrap().0, 1);
        assert!(positions.at(0, &text("XXX")).is_none());
        assert_eq!(positions.limit(0), None);
        positions.set_limit(0, Some(0));
        assert_eq!(positions.limit(0), Some(0));
        assert!(positions.define(7, 1, &text("B"), &text("BER")).is_none());
    }

    /// A definition was logged before it was known that no more locations could be kept: the log
    /// could not be opened any more.
    #[test]
    fn one_location_too_many_is_known_before_anything_is_written() {
        let positions = Positions::new(100_000, &[text("BER")]);
        let mut number = 0;
        loop {
            let location = text(&format!("L{number}"));
            let defined = positions.has_room(&location);
            if !defined {
                assert!(positions.has_room(&text("BER")) && positions.has_room(&text("L0")));
                return assert_eq!(number, 1 << 16);
            }
            positions.define(number, number, &text(&format!("S{number}")), &location).unwrap();
            number += 1;
        }
    }

    #[test]
    fn held_is_what_the_other_numbers_leave() {
        let position = Position::default();
        position.add_stock(10, 2, 1);
        position.word().give(9);
        position.word().take(4);
        position.add_committed(1);
        let counts = position.counts();
        assert_eq!((counts.available, counts.held, counts.committed), (5, 3, 1));
    }

    #[test]
    fn a_count_asks_for_movements_that_are_remembered() {
        let mut cold = Cold::default();
        for lsn in 0..300 {
            cold.moved(Movement { lsn: lsn * 8, delta: 1 });
        }
        assert_eq!(cold.moved_since(299 * 8), Some(1));
        assert_eq!(cold.moved_since(0), None);
        assert_eq!(cold.moved_since(cold.movements_from), Some(256));
    }
}
