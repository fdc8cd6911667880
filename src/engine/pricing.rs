//! What is sold for how much: the money of a request, checked against what is taken for it.
//!
//! Every SKU of an order has exactly one price, its amounts add up within 64 bits, and its tax codes are those
//! of the books; else the order is refused with the field that is wrong.

use smallvec::SmallVec;

use crate::{
    model::{
        Amount, Currency, OrderId, Reference, Timestamp,
        command::{Commit, PlaceOrder, PriceLine, Prices, Priority},
        event::{self, Line, OrderData, Priced, Sold},
        totals,
    },
    wal::{Draft, Storage},
};

use super::{Refusal, core::Core, take::FewLines, transition::fixed_bytes};

/// The money side of a request, whichever it came with.
pub(super) struct Money<'a> {
    pub(super) order_id: &'a OrderId,
    customer: &'a str,
    currency: Currency,
    prices: Prices,
    lines: &'a [PriceLine],
    shipping: Amount,
    shipping_tax: Amount,
    priority: Priority,
    promised_ship_at: Option<Timestamp>,
}

impl<'a> Money<'a> {
    pub(super) fn of_commit(commit: &'a Commit, order_id: &'a OrderId) -> Self {
        Self {
            order_id,
            customer: "",
            currency: commit.currency,
            prices: commit.prices,
            lines: &commit.lines,
            shipping: commit.shipping,
            shipping_tax: commit.shipping_tax,
            priority: commit.priority,
            promised_ship_at: commit.promised_ship_at,
        }
    }

    pub(super) fn of_order(place: &'a PlaceOrder, lines: &'a [PriceLine]) -> Self {
        Self {
            order_id: &place.order_id,
            customer: place.customer.as_ref().map_or("", |c| c.as_str()),
            currency: place.currency,
            prices: place.prices,
            lines,
            shipping: place.shipping,
            shipping_tax: place.shipping_tax,
            priority: place.priority,
            promised_ship_at: place.promised_ship_at,
        }
    }

    /// Bytes that the order's record takes at most.
    pub(super) fn record_bytes(&self, allocations: usize, reservations: usize) -> usize {
        let texts: usize = self
            .lines
            .iter()
            .map(|l| l.tax_code.as_ref().map_or(0, |t| t.as_str().len()) + 8)
            .sum::<usize>()
            + self.order_id.as_str().len()
            + self.customer.len()
            + 32;
        let body = fixed_bytes::<event::Placed>()
            + (self.lines.len() + 1) * size_of::<<Priced as rkyv::Archive>::Archived>()
            + (allocations + 1) * size_of::<<Line as rkyv::Archive>::Archived>()
            + (reservations + 1) * size_of::<<Sold as rkyv::Archive>::Archived>()
            + texts;
        Draft::bytes_for(body)
    }
}

fn sum_by_sku<S: Storage>(core: &Core<S>, lines: &[Line]) -> SmallVec<[(u32, u32); 4]> {
    let mut sums: SmallVec<[(u32, u32); 4]> = SmallVec::new();
    for line in lines {
        let Some(position) = core.tables.positions.get(line.position) else { continue };
        let sku_number = position.sku_number();
        match sums.iter_mut().find(|(number, _)| *number == sku_number) {
            Some((_, sum)) => *sum = sum.saturating_add(line.quantity),
            None => sums.push((sku_number, line.quantity)),
        }
    }
    sums
}

impl<S: Storage> Core<S> {
    /// What is sold for how much, checked: every SKU has exactly one price, and the money adds up.
    pub(super) fn order_data(
        &self,
        money: &Money<'_>,
        allocations: FewLines,
        now_ms: u64,
    ) -> Result<OrderData, Refusal> {
        let mut sums = sum_by_sku(self, &allocations);
        let net = money.prices == Prices::Net;
        let mut prices = SmallVec::with_capacity(money.lines.len());
        for (index, line) in money.lines.iter().enumerate() {
            let field = |name: &str| format!("lines[{index}].{name}");
            let number = self.tables.positions.sku_number(&line.sku);
            let at = sums.iter().position(|(n, _)| Some(*n) == number).ok_or_else(|| {
                Refusal::malformed(field("sku"), "is not in the order, or has a line already")
            })?;
            let (sku_number, quantity) = sums.swap_remove(at);
            let (unit_price, discount) = (line.unit_price.minor(), line.discount.minor());
            totals::line(unit_price, quantity, discount, 0, net)
                .map_err(|why| Refusal::malformed(field("discount"), why.0))?;
            totals::line(unit_price, quantity, discount, line.tax.minor(), net)
                .map_err(|why| Refusal::malformed(field("tax"), why.0))?;
            prices.push(Priced {
                unit_price,
                tax: line.tax.minor(),
                discount,
                unit_cost: line.unit_cost.map_or(0, Amount::minor),
                sku_number,
                quantity,
                tax_code: line.tax_code.as_ref().map_or("", |t| t.as_str()).into(),
            });
        }
        if let Some((sku_number, _)) = sums.first() {
            let sku = self.tables.positions.sku(*sku_number).map_or("", |s| s.as_str());
            return Err(Refusal::malformed("lines", format!("have no price for SKU `{sku}`")));
        }
        let (shipping, shipping_tax) = (money.shipping.minor(), money.shipping_tax.minor());
        totals::shipping(shipping, shipping_tax, net)
            .map_err(|why| Refusal::malformed("shipping_tax", why.0))?;
        let data = OrderData {
            shipping,
            shipping_tax,
            promised_ship_at_ms: money.promised_ship_at.map_or(0, Timestamp::millis),
            committed_at_ms: now_ms,
            order_id: money.order_id.as_str().into(),
            customer: money.customer.into(),
            prices,
            allocations,
            currency: money.currency.as_bytes(),
            net,
            priority: money.priority as u8,
        };
        totals::order(&data).map_err(|why| Refusal::malformed("lines", why.0))?;
        Ok(data)
    }

    /// Whether the books know every code. What was sold before is not asked for it again.
    pub(super) fn check_tax_codes<'a>(
        &self,
        currency: Currency,
        codes: impl Iterator<Item = Option<&'a Reference>>,
    ) -> Result<(), Refusal> {
        let known = self.tax_codes.read();
        let unknown = |code: &Reference| !known.knows(currency, code);
        match codes.into_iter().position(|code| code.is_some_and(unknown)) {
            Some(index) => {
                let reason = "is in no list of the books (`accounts.tax_codes`)";
                Err(Refusal::malformed(format!("lines[{index}].tax_code"), reason))
            }
            None => Ok(()),
        }
    }
}

/// Whether two sales are the same, in whatever order their prices are named.
pub(super) fn is_same_sale(mut one: OrderData, other: &OrderData) -> bool {
    one.prices.sort_unstable_by_key(|p| p.sku_number);
    let mut prices: Vec<_> = other.prices.iter().collect();
    prices.sort_unstable_by_key(|p| p.sku_number);
    let same = one.prices.iter().eq(prices);
    one.prices.clone_from(&other.prices);
    same && one == *other
}

/// The prices of an order's lines, one for each SKU: lines of one SKU at several locations are
/// priced together, so they must agree on unit price and tax code.
pub(super) fn merged_prices(place: &PlaceOrder) -> Result<SmallVec<[PriceLine; 1]>, Refusal> {
    let mut prices: SmallVec<[PriceLine; 1]> = SmallVec::with_capacity(place.lines.len());
    for (index, line) in place.lines.iter().enumerate() {
        let field = |name: &str| format!("lines[{index}].{name}");
        let taken = [("quantity", line.quantity.is_some()), ("location", line.location.is_some())];
        let named = taken.iter().find(|(_, given)| *given && place.reservations.is_some());
        if let Some((name, _)) = named {
            let reason = "must be absent where `reservations` are given";
            return Err(Refusal::malformed(field(name), reason));
        }
        let same = prices.iter_mut().find(|p: &&mut PriceLine| p.sku == line.sku);
        let Some(same) = same else {
            prices.push(PriceLine {
                sku: line.sku.clone(),
                unit_price: line.unit_price,
                tax_code: line.tax_code.clone(),
                tax: line.tax,
                discount: line.discount,
                unit_cost: line.unit_cost,
            });
            continue;
        };
        if place.reservations.is_some() {
            return Err(Refusal::malformed(field("sku"), "has a line already"));
        }
        if same.unit_price != line.unit_price
            || same.tax_code != line.tax_code
            || same.unit_cost != line.unit_cost
        {
            let reason = "must be the same in every line of one SKU";
            return Err(Refusal::malformed(field("unit_price"), reason));
        }
        let sum = |a: Amount, b: Amount| Amount::new(a.minor() + b.minor());
        same.tax = sum(same.tax, line.tax).map_err(|e| Refusal::malformed(field("tax"), e.0))?;
        same.discount = sum(same.discount, line.discount)
            .map_err(|e| Refusal::malformed(field("discount"), e.0))?;
    }
    Ok(prices)
}
