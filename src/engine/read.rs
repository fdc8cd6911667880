//! Reading: stock, reservations, orders. Stock is read without waiting for anything; what is read of
//! a reservation or an order is a decision like any other and is told once its last record is
//! durable.

use std::ops::ControlFlow;

use crate::{
    ledger::{
        orders::Kept,
        positions::{Counts, Position},
        reservations::Snapshot,
    },
    model::{
        CustomerId, Location, Lsn, OrderId, ReservationId, Sku, Timestamp,
        command::Priority,
        event::Line,
        view::{LineView, OrderView, PositionView, ReservationState, ReservationView, StockView},
    },
    wal::Storage,
};

use super::{Decision, Engine, Refusal, core::Core};

/// Which reservations to list.
#[derive(Debug, Clone, Copy)]
pub enum Filter<'a> {
    /// Those made for an order, or that became it.
    Order(&'a OrderId),
    /// Those of a customer.
    Customer(&'a CustomerId),
}

/// Some of the reservations that a filter asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The reservations, by slot.
    pub reservations: Vec<ReservationView>,
    /// Where to go on, if there may be more.
    pub next: Option<u32>,
}

impl<S: Storage> Engine<S> {
    /// The stock of a SKU over all its locations, now. Availability may reflect takes that are not
    /// durable yet.
    ///
    /// # Errors
    /// `unknown_sku`.
    pub fn stock(&self, sku: &Sku) -> Result<StockView, Refusal> {
        self.core().stock(sku)
    }

    /// Every SKU that has a position.
    pub fn skus(&self) -> Vec<Sku> {
        let positions = &self.core().tables.positions;
        (0..positions.skus_len()).filter_map(|n| positions.sku(n).cloned()).collect()
    }

    /// A reservation as it stands.
    ///
    /// # Errors
    /// When settled: `unknown_reservation`.
    pub fn reservation(&self, id: ReservationId) -> Decision<ReservationView> {
        self.core().as_it_is(id)
    }

    /// An order as it stands.
    ///
    /// # Errors
    /// When settled: `unknown_order`.
    pub fn order(&self, id: &OrderId) -> Decision<OrderView> {
        let core = self.core();
        match core.tables.orders.find(id) {
            Some(order) => {
                // In whole seconds, so that who reads twice in a row sees the same order twice.
                let age_ms = core.now_ms().saturating_sub(order.data.committed_at_ms) / 1000 * 1000;
                let view = OrderView { age_ms, ..order.read(|order| core.order_view(order)) };
                let last = view.lsn;
                Decision::made(view, false, last)
            }
            None => Refusal::UnknownOrder.into(),
        }
    }

    /// Hands every order to `each` as it stands, in the order in which they were placed, until that
    /// breaks it off. Blocks until they are durable. For exports: it looks at all orders at once, with
    /// eight bytes for each.
    ///
    /// # Errors
    /// `outcome_unknown` if the log stopped meanwhile.
    pub fn each_order(
        &self,
        mut each: impl FnMut(OrderView) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        let mut orders = self.core().tables.orders.all();
        if let Some(last) = orders.iter().map(|order| order.last()).max() {
            self.log().wait_blocking(last)?;
        }
        orders.sort_by(|a, b| {
            let of = |order: &Kept| order.data.committed_at_ms;
            of(a).cmp(&of(b)).then_with(|| a.id.cmp(&b.id))
        });
        for order in orders {
            let view = order.read(|order| self.core().order_view(order));
            // Something may have happened to it since.
            self.log().wait_blocking(view.lsn)?;
            if each(view).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Reservations by order or customer, `limit` at a time, from slot `after` on. Walks the whole
    /// table, which takes milliseconds a million: for operators, not for storefronts.
    pub fn reservations(
        &self,
        filter: Filter<'_>,
        after: Option<u32>,
        limit: usize,
    ) -> Decision<Page> {
        let core = self.core();
        let (order, customer) = match filter {
            Filter::Order(id) => (core.hasher.text(id.as_str()), 0),
            Filter::Customer(id) => (0, core.hasher.text(id.as_str())),
        };
        let mut behind = Lsn(0);
        let mut page = Page { reservations: Vec::new(), next: None };
        for slot in after.map_or(0, |slot| slot.saturating_add(1))..core.tables.reservations.slots()
        {
            let Ok(seen) = core.tables.reservations.read_any(slot) else { continue };
            let wanted = if order != 0 { seen.order == order } else { seen.customer == customer };
            if !wanted {
                continue;
            }
            if page.reservations.len() == limit {
                page.next = page.reservations.last().map(|r| r.id.slot);
                break;
            }
            behind = behind.max(seen.last);
            page.reservations.push(core.view(&seen));
        }
        Decision::made(page, false, behind)
    }

    /// The SKU and location of a position's number, as records name it.
    pub fn position_name(&self, number: u32) -> Option<(Sku, Location)> {
        self.core().name_of(number)
    }

    /// The priority of an order, which its later records do not say.
    pub fn order_priority(&self, id: &OrderId) -> Option<Priority> {
        let order = self.core().tables.orders.find(id)?;
        Some(Priority::of_number(order.data.priority))
    }

    /// When an order was placed.
    pub fn order_placed_at(&self, id: &OrderId) -> Option<Timestamp> {
        let order = self.core().tables.orders.find(id)?;
        Some(Timestamp::from_millis(order.data.committed_at_ms))
    }

    /// The SKU of a SKU's number, as records name it.
    pub fn sku_name(&self, sku_number: u32) -> Option<Sku> {
        self.core().tables.positions.sku(sku_number).cloned()
    }
}

impl<S: Storage> Core<S> {
    pub(super) fn name_of(&self, number: u32) -> Option<(Sku, Location)> {
        let positions = &self.tables.positions;
        let position = positions.get(number)?;
        let sku = positions.sku(position.sku_number())?;
        Some((sku.clone(), positions.location(position)?.clone()))
    }

    /// Everything whose record begins at or before it is in what is read from now on.
    pub(super) fn read_lsn(&self) -> Lsn {
        Lsn(self.log.durable().0.saturating_sub(1))
    }

    fn stock(&self, sku: &Sku) -> Result<StockView, Refusal> {
        let positions = &self.tables.positions;
        let unknown = || Refusal::UnknownSku { sku: sku.clone(), location: None };
        let sku_number = positions.sku_number(sku).ok_or_else(unknown)?;
        let lsn = self.read_lsn();
        let views: Vec<PositionView> = positions
            .of_sku(sku_number)
            .filter_map(|(_, position)| self.position_view(position, lsn))
            .collect();
        if views.is_empty() {
            return Err(unknown());
        }
        let sum = |of: fn(&PositionView) -> i64| views.iter().map(of).sum();
        Ok(StockView {
            sku: sku.clone(),
            available: sum(|p| p.available),
            on_hand: sum(|p| p.on_hand),
            held: sum(|p| p.held),
            committed: sum(|p| p.committed),
            safety_stock: sum(|p| p.safety_stock),
            backorder_limit: sum(|p| p.backorder_limit),
            per_customer_limit: positions.limit(sku_number),
            positions: views,
            lsn,
        })
    }

    pub(super) fn position_view(&self, position: &Position, lsn: Lsn) -> Option<PositionView> {
        let positions = &self.tables.positions;
        let Counts { available, on_hand, held, committed, safety_stock, backorder_limit } =
            position.counts();
        Some(PositionView {
            sku: positions.sku(position.sku_number())?.clone(),
            location: positions.location(position)?.clone(),
            available,
            on_hand,
            held,
            committed,
            safety_stock,
            backorder_limit,
            per_customer_limit: positions.limit(position.sku_number()),
            lsn,
        })
    }

    /// Whether a position is of the SKU, and at the location where one is named.
    pub(super) fn is_at(&self, number: u32, sku: &Sku, location: Option<&Location>) -> bool {
        let positions = &self.tables.positions;
        let Some(position) = positions.get(number) else { return false };
        positions.sku(position.sku_number()) == Some(sku)
            && location.is_none_or(|l| positions.location(position) == Some(l))
    }

    pub(super) fn line_views(&self, lines: &[Line]) -> Vec<LineView> {
        let positions = &self.tables.positions;
        let mut views: Vec<LineView> = Vec::with_capacity(lines.len());
        for line in lines {
            let Some(position) = positions.get(line.position) else { continue };
            let (Some(sku), Some(location)) =
                (positions.sku(position.sku_number()), positions.location(position))
            else {
                continue;
            };
            match views.iter_mut().find(|v| v.sku == *sku && v.location == *location) {
                Some(same) => same.quantity += line.quantity,
                None => views.push(LineView {
                    sku: sku.clone(),
                    location: location.clone(),
                    quantity: line.quantity,
                }),
            }
        }
        views
    }

    pub(super) fn view(&self, seen: &Snapshot) -> ReservationView {
        let held = seen.state == ReservationState::Held;
        let sold = matches!(
            seen.state,
            ReservationState::Committed | ReservationState::Fulfilled | ReservationState::Cancelled
        );
        ReservationView {
            id: seen.id,
            state: seen.state,
            lines: self.line_views(&seen.lines),
            expires_at: held.then(|| Timestamp::from_millis(seen.deadline_ms)),
            order_id: seen.order_id.clone().filter(|_| sold),
            lsn: seen.last,
        }
    }
}
