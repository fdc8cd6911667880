//! Room for what an order is owed (law 6): when it is placed, the log sets aside what its goods' leaving (or
//! being called off) and its payment may write, so that both still go through when the budget is spent.
//!
//! - It is used only once nothing else is left, and given back once the order is owed nothing more of it.
//! - At most half of what new work may use is set aside for orders: where they are never paid, new work would find no
//!   room in the end. What an order beyond that writes, what is sold when there is no room left, a second
//!   part of a shipment and what comes after it share the reserve of orders.
//! - It is not written down: a start sets aside anew what its orders are owed then.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    ledger::orders::{Aside, Kept},
    model::fact::FactKind,
    wal::Storage,
};

use super::core::Core;

/// What was set aside for one record. Dropped without [`Owed::spend`], it is the order's again.
pub(super) struct Owed<'a, S: Storage> {
    core: &'a Core<S>,
    order: &'a Kept,
    room: Aside,
}

impl<S: Storage> Owed<'_, S> {
    /// Its record stands.
    pub fn spend(mut self) {
        self.core.give_back_aside(std::mem::take(&mut self.room));
    }
}

impl<S: Storage> Drop for Owed<'_, S> {
    fn drop(&mut self) {
        if self.room != Aside::default() {
            self.order.set_aside(self.room);
            // What it was kept for may have happened meanwhile.
            self.core.free_unowed(self.order);
        }
    }
}

impl<S: Storage> Core<S> {
    /// An order was placed: what it is owed is set aside, if there is room for it.
    pub(super) fn set_owed_aside(&self, order: &Kept, room: Aside) {
        self.set_aside_for(order, room, |bytes| self.log.try_set_aside(bytes));
    }

    /// The order is there at a start: what it is owed is set aside again, as it was before.
    pub(super) fn set_owed_aside_again(&self, order: &Kept, room: Aside) {
        self.set_aside_for(order, room, |bytes| {
            self.log.set_aside(bytes);
            true
        });
    }

    fn set_aside_for(&self, order: &Kept, room: Aside, set_aside: impl FnOnce(u64) -> bool) {
        let room = order.owed(room);
        let half = self.log.usable_bytes() / 2;
        let before = self.owed_bytes.fetch_add(room.bytes(), Relaxed);
        if before + room.bytes() > half || !set_aside(room.bytes()) {
            self.owed_bytes.fetch_sub(room.bytes(), Relaxed);
            return;
        }
        order.set_aside(room);
        // What it was set aside for may have happened meanwhile.
        self.free_unowed(order);
    }

    /// What is set aside for a record of at most so many bytes, if there is so much.
    pub(super) fn owed<'a>(
        &'a self,
        order: &'a Kept,
        kind: FactKind,
        bytes: usize,
    ) -> Option<Owed<'a, S>> {
        let room = order.take_aside(kind, bytes as u64)?;
        Some(Owed { core: self, order, room })
    }

    /// Something happened to the order: what it needs no more is free.
    pub(super) fn free_unowed(&self, order: &Kept) {
        self.give_back_aside(order.take_unowed());
    }

    fn give_back_aside(&self, room: Aside) {
        if room != Aside::default() {
            self.owed_bytes.fetch_sub(room.bytes(), Relaxed);
            self.log.give_back(room.bytes());
        }
    }
}
