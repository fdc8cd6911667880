//! Room for what orders are owed (law 6): when one is placed, the log sets aside what its goods' leaving (or being
//! called off) and its payment may write, so that both still go through when the budget is spent.
//!
//! - It is used only once nothing else is left, by any order for what it is owed, and given back once the order
//!   that it was set aside for is owed nothing more of it.
//! - At most half of what new work may use is set aside for orders: where they are never paid, new work would
//!   find no room in the end. Beyond that, orders are only taken below the log's soft mark.
//! - What comes after what an order is owed (invoices, refunds, returns, notes) shares the reserve of orders.
//! - It is not written down: a start sets aside anew what its orders are owed then, as far as there is room.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use crate::{
    ledger::orders::{Aside, Kept},
    model::fact::FactKind,
    wal::Storage,
};

use super::{Refusal, core::Core};

/// About what is set aside for an order of one line.
const ORDER_BYTES: u64 = 1 << 10;

/// Room for one record, of what was set aside. Dropped without [`Owed::spend`], it is set aside again.
pub(super) struct Owed<'a, S: Storage> {
    core: &'a Core<S>,
    bytes: u64,
    has_ticket: bool,
}

impl<S: Storage> Owed<'_, S> {
    /// There is a ticket for the record, which took as much from what is free: not before, or others would
    /// take it.
    pub fn take_ticket(&mut self) {
        self.core.log.give_back(self.bytes);
        self.has_ticket = true;
    }

    /// Its record stands.
    pub fn spend(mut self) {
        self.bytes = 0;
    }
}

impl<S: Storage> Drop for Owed<'_, S> {
    fn drop(&mut self) {
        if self.has_ticket {
            self.core.log.set_aside(self.bytes);
        }
        self.core.owed_bytes.fetch_add(self.bytes, AcqRel);
    }
}

impl<S: Storage> Core<S> {
    /// The most that is set aside for orders.
    pub(super) fn owed_bytes_max(&self) -> u64 {
        self.log.usable_bytes() / 2
    }

    /// Whether another order may be placed: not past the soft mark, if nothing would be set aside for it.
    pub(super) fn may_owe(&self) -> Result<(), Refusal> {
        let bytes = self.owed_bytes.load(Relaxed) + ORDER_BYTES;
        match bytes > self.owed_bytes_max() && self.log.is_past_soft_mark() {
            true => Err(Refusal::LogFull),
            false => Ok(()),
        }
    }

    /// An order was placed: what it is owed is set aside, if there is room for it.
    pub(super) fn set_owed_aside(&self, order: &Kept, room: Aside) {
        let before = self.owed_bytes.fetch_add(room.bytes(), AcqRel);
        if before + room.bytes() > self.owed_bytes_max() || !self.log.try_set_aside(room.bytes()) {
            self.owed_bytes.fetch_sub(room.bytes(), AcqRel);
            return;
        }
        order.set_aside(room);
        // What it was set aside for may have happened meanwhile.
        self.free_unowed(order);
    }

    /// A start: what orders are owed is set aside again, of what the log will have room for.
    pub(super) fn set_all_owed_aside(&self, room_of: impl Fn(&Kept) -> Aside) {
        let used = self.log.appended().0 - self.log.oldest().0;
        let most = self.owed_bytes_max().min(self.log.usable_bytes().saturating_sub(used));
        let mut bytes = 0;
        self.tables.orders.each(|order| {
            let room = order.owed(room_of(order));
            if bytes + room.bytes() <= most {
                order.set_aside(room);
                bytes += room.bytes();
            }
        });
        self.log.set_aside(bytes);
        self.owed_bytes.fetch_add(bytes, AcqRel);
    }

    /// Room of so many bytes for a record of this kind, of what is set aside, if the order is owed it.
    pub(super) fn owed<'a>(
        &'a self,
        order: &Kept,
        kind: FactKind,
        bytes: usize,
    ) -> Option<Owed<'a, S>> {
        if !order.is_owed(kind) {
            return None;
        }
        let bytes = bytes as u64;
        let taken = self.owed_bytes.fetch_update(AcqRel, Relaxed, |all| all.checked_sub(bytes));
        taken.ok()?;
        Some(Owed { core: self, bytes, has_ticket: false })
    }

    /// Something happened to the order: what it needs no more is free, as far as others have not used it.
    pub(super) fn free_unowed(&self, order: &Kept) {
        let bytes = order.take_unowed().bytes();
        if bytes == 0 {
            return;
        }
        let rest = |all: u64| Some(all.saturating_sub(bytes));
        let before = self.owed_bytes.fetch_update(AcqRel, Relaxed, rest).unwrap_or_default();
        self.log.give_back(bytes.min(before));
    }
}
