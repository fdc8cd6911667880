//! A request as a peer is asked: owned, since it outlives the turn in which it was made.

use std::fmt::Write;

use crate::{
    plan::{Plan, Step},
    target::{Request, ReservationName},
};

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// What it asks for.
    pub step: Step,
    /// Its key.
    pub key: String,
    /// The order that it makes, if it makes one.
    pub order_id: String,
    /// Who.
    pub customer: String,
    /// How long to hold, in milliseconds.
    pub ttl_ms: u64,
    /// The hold that it is about, for a commit and a release.
    pub hold: Option<ReservationName>,
    /// SKUs and units, in the order of the SKUs.
    pub lines: Vec<(String, u32)>,
}

impl Asked {
    /// The request of a plan.
    pub fn of(plan: &Plan, request: &Request<'_>) -> Self {
        let visit = request.visit;
        let lines = visit.lines.iter().map(|line| (Plan::sku(line.sku), line.quantity));
        let mut lines: Vec<(String, u32)> = lines.collect();
        // What locks rows must lock them in one order.
        lines.sort();
        let sells = matches!(request.step, Step::Order | Step::Commit);
        Self {
            step: request.step,
            key: plan.key(visit.shopper, request.step),
            order_id: if sells { plan.order_id(visit.shopper) } else { String::new() },
            customer: format!("c-{}", visit.customer),
            ttl_ms: plan.ttl() / 1_000_000,
            hold: request.reservation.copied(),
            lines,
        }
    }

    /// The cart as one text: `SKU=units`, with commas between.
    pub fn cart(&self) -> String {
        let mut text = String::with_capacity(self.lines.len() * 16);
        for (sku, quantity) in &self.lines {
            let comma = if text.is_empty() { "" } else { "," };
            // Writing into a string can't fail.
            let _ = write!(text, "{comma}{sku}={quantity}");
        }
        text
    }

    /// What is asked, as one text: by which a key that comes again with something else is told.
    pub fn fingerprint(&self) -> String {
        let Self { step, customer, ttl_ms, order_id, .. } = self;
        let hold = self.hold_text();
        format!("{step:?} {hold} {customer} {ttl_ms} {order_id} {}", self.cart())
    }

    /// The hold that it is about; empty if none.
    pub fn hold_text(&self) -> &str {
        let bytes = self.hold.as_ref().map_or(b"".as_slice(), ReservationName::as_bytes);
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}
