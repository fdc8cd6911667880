//! Bodies of requests, made of what records say.

use std::sync::Arc;

use holdfast::model::event::{Line, OrderData, Priced};
use serde::Serialize;

use super::names::{self, Names};

#[derive(Serialize)]
struct CartLine<'a> {
    sku: &'a str,
    location: &'a str,
    quantity: u32,
}

#[derive(Serialize)]
struct Cart<'a> {
    lines: Vec<CartLine<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    customer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
    ttl_ms: u64,
}

#[derive(Serialize)]
struct Lines<'a> {
    lines: Vec<CartLine<'a>>,
}

#[derive(Serialize)]
struct Extend {
    ttl_ms: u64,
}

#[derive(Serialize)]
struct PriceLine<'a> {
    sku: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<&'a str>,
    unit_price: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    tax_code: &'a str,
    tax: i64,
    discount: i64,
    #[serde(skip_serializing_if = "is_0")]
    unit_cost: i64,
}

fn is_0(number: &i64) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct Order<'a> {
    order_id: String,
    currency: &'a str,
    prices: &'static str,
    lines: Vec<PriceLine<'a>>,
    shipping: i64,
    shipping_tax: i64,
    priority: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    customer: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    revive: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a position or a SKU has no name of.
#[derive(Debug)]
pub(super) struct Unnamed(pub u32);

type Body = Result<Vec<u8>, Unnamed>;

fn json(body: &impl Serialize) -> Vec<u8> {
    // Texts and numbers can always be written.
    serde_json::to_vec(body).unwrap_or_default()
}

fn cart<'a>(names: &'a Names, lines: &[Line]) -> Result<Vec<CartLine<'a>>, Unnamed> {
    let named = lines.iter().map(|line| {
        let position = names.position(line.position).ok_or(Unnamed(line.position))?;
        let (sku, location) = (&*position.sku, &*position.location);
        Ok(CartLine { sku, location, quantity: line.quantity })
    });
    named.collect()
}

/// Of a reservation.
pub(super) fn reserve(
    (names, run): (&Names, &str),
    lines: &[Line],
    (customer, order_id): (&str, &str),
    ttl_ms: u64,
) -> Body {
    let order_id = (!order_id.is_empty()).then(|| names::order(run, order_id));
    Ok(json(&Cart { lines: cart(names, lines)?, customer, order_id, ttl_ms }))
}

/// Of lines that are given back, or that a cart shall hold.
pub(super) fn lines(names: &Names, lines: &[Line]) -> Body {
    Ok(json(&Lines { lines: cart(names, lines)? }))
}

/// Of an extension.
pub(super) fn extend(ttl_ms: u64) -> Vec<u8> {
    json(&Extend { ttl_ms })
}

/// Whose lines an order has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Of one reservation, which may have to be taken again.
    Reservation {
        /// Whether it may.
        revive: bool,
    },
    /// Of several reservations.
    Reservations,
    /// Its own.
    Itself,
}

/// Of an order.
pub(super) fn order((names, run): (&Names, &str), order: &OrderData, of: Of) -> Body {
    let own = of == Of::Itself;
    let price = |priced: &Priced| {
        let sku: &Arc<str> = names.sku(priced.sku_number).ok_or(Unnamed(priced.sku_number))?;
        Ok((sku, priced.quantity, priced.sku_number))
    };
    let mut lines = Vec::with_capacity(order.prices.len());
    for priced in &order.prices {
        let (sku, quantity, number) = price(priced)?;
        lines.push(PriceLine {
            sku,
            quantity: own.then_some(quantity),
            location: if own { only_location(names, order, number) } else { None },
            unit_price: priced.unit_price,
            tax_code: &priced.tax_code,
            tax: priced.tax,
            discount: priced.discount,
            unit_cost: priced.unit_cost,
        });
    }
    Ok(json(&Order {
        order_id: names::order(run, &order.order_id),
        currency: std::str::from_utf8(&order.currency).unwrap_or_default(),
        prices: if order.net { "net" } else { "gross" },
        lines,
        shipping: order.shipping,
        shipping_tax: order.shipping_tax,
        priority: holdfast::model::command::Priority::of_number(order.priority).as_str(),
        // A commit's is its reservation's.
        customer: if own { &order.customer } else { "" },
        revive: of == Of::Reservation { revive: true },
    }))
}

/// Where a SKU of an order was taken; `None` if at several locations, which the server chooses again.
fn only_location<'a>(names: &'a Names, order: &OrderData, sku_number: u32) -> Option<&'a str> {
    let mut of = order.allocations.iter().filter_map(|line| {
        names.position(line.position).filter(|position| position.sku_number == sku_number)
    });
    let first = of.next()?;
    of.next().is_none().then_some(&*first.location)
}
