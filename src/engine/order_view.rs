//! An order as it is told: what was sold, what became of it.

use crate::{
    ledger::orders::Standing,
    model::{
        Amount, Currency, Lsn, OrderId, Timestamp,
        command::{Prices, Priority},
        fact::FactKind,
        life::{Gone, Known, OpenReturn},
        totals,
        view::{FactView, MoneyView, OrderLineView, OrderView, ReturnLineView, ReturnView},
    },
    wal::Storage,
};

use super::{core::Core, thing::state_of};

impl<S: Storage> Core<S> {
    /// The order as it stands; its age is said where it is read.
    pub(super) fn order_view(&self, order: Standing<'_>) -> OrderView {
        let (data, life) = (&order.data, order.life);
        let totals = totals::order(data).unwrap_or_default();
        let lines = data.prices.iter().filter_map(|p| {
            let Gone { shipped, cancelled } = self.gone(order, p.sku_number);
            Some(OrderLineView {
                sku: self.tables.positions.sku(p.sku_number)?.clone(),
                quantity: p.quantity,
                open_quantity: p.quantity - shipped - cancelled,
                shipped,
                cancelled,
                unit_price: Amount::clamped(p.unit_price),
                tax_code: p.tax_code.parse().ok(),
                tax: Amount::clamped(p.tax),
                discount: Amount::clamped(p.discount),
            })
        });
        OrderView {
            order_id: order.id.clone(),
            state: order.state(),
            reservations: order.reservations.to_vec(),
            lines: lines.collect(),
            allocations: self.line_views(&data.allocations),
            currency: Currency::from_bytes(data.currency),
            prices: if data.net { Prices::Net } else { Prices::Gross },
            shipping: Amount::clamped(data.shipping),
            shipping_tax: Amount::clamped(data.shipping_tax),
            total: totals.gross,
            total_tax: totals.tax,
            priority: Priority::of_number(data.priority),
            promised_ship_at: (data.promised_ship_at_ms > 0)
                .then(|| Timestamp::from_millis(data.promised_ship_at_ms)),
            committed_at: Timestamp::from_millis(data.committed_at_ms),
            money: MoneyView {
                invoiced: life.invoiced,
                settled: life.settled,
                fees: life.fees,
                refunded: life.refunded,
            },
            returns: life.returns.iter().filter_map(|r| self.return_view(r)).collect(),
            events: life.known.iter().filter_map(|known| fact_view(&order.id, known)).collect(),
            age_ms: 0,
            lsn: order.last,
        }
    }
    /// Units of a SKU of an order that left or were called off.
    fn gone(&self, order: Standing<'_>, sku_number: u32) -> Gone {
        let of = |at: u32| self.tables.positions.get(at).map(|p| p.sku_number());
        let lines = order.data.allocations.iter().zip(&order.life.gone);
        let of_sku = lines.filter(|(line, _)| of(line.position) == Some(sku_number));
        of_sku.fold(Gone::default(), |sum, (_, gone)| Gone {
            shipped: sum.shipped + gone.shipped,
            cancelled: sum.cancelled + gone.cancelled,
        })
    }

    fn return_view(&self, back: &OpenReturn) -> Option<ReturnView> {
        let lines = back.lines.iter().zip(&back.received).filter_map(|(line, received)| {
            let sku = self.tables.positions.sku(line.sku_number)?.clone();
            Some(ReturnLineView { sku, quantity: line.quantity, received: *received })
        });
        let return_id = back.id.parse().ok()?;
        Some(ReturnView { return_id, restock: back.restock, lines: lines.collect() })
    }
}

/// A fact as it is told.
pub(super) fn fact_view(order_id: &OrderId, known: &Known) -> Option<FactView> {
    Some(FactView {
        order_id: order_id.clone(),
        kind: FactKind::of_number(known.kind)?,
        id: known.id.parse().ok()?,
        state: state_of(known.state),
        at: Timestamp::from_millis(known.at_ms),
        lsn: Lsn(known.lsn),
    })
}
