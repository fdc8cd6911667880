//! Records of orders: that one was placed, what happened to it, and reports that came before it.

use compact_str::CompactString;
use rkyv::{Archive, Deserialize, Serialize};
use smallvec::SmallVec;

use super::{KeyRef, Line, Of};
use crate::model::{fact::Fact, inbound::ParkedOutcome, text::AsText, worth::Worth};

/// A reservation that became an order.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Sold {
    /// Which.
    pub of: Of,
    /// Whether it had expired and was taken again.
    pub revived: bool,
}

/// What a SKU of an order cost.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Priced {
    /// Price of one unit.
    pub unit_price: i64,
    /// Tax of the line.
    pub tax: i64,
    /// Discount on the line.
    pub discount: i64,
    /// What one unit cost the house; 0 where it is not said.
    pub unit_cost: i64,
    /// The SKU's number.
    pub sku_number: u32,
    /// Units.
    pub quantity: u32,
    /// The tax code; may be empty.
    #[rkyv(with = AsText)]
    pub tax_code: CompactString,
}

/// An order: the money side of [`Placed`].
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct OrderData {
    /// Shipping fee.
    pub shipping: i64,
    /// Tax of the shipping fee.
    pub shipping_tax: i64,
    /// When the customer was promised that it leaves; 0 where not.
    pub promised_ship_at_ms: u64,
    /// When it was committed.
    pub committed_at_ms: u64,
    /// The order's id.
    #[rkyv(with = AsText)]
    pub order_id: CompactString,
    /// The customer; may be empty.
    #[rkyv(with = AsText)]
    pub customer: CompactString,
    /// Prices by SKU.
    pub prices: SmallVec<[Priced; 1]>,
    /// Every unit sold, and where it is taken from.
    pub allocations: SmallVec<[Line; 2]>,
    /// The currency of every amount.
    pub currency: [u8; 3],
    /// Whether prices are net (tax comes on top).
    pub net: bool,
    /// 0 express, 1 standard, 2 bulk.
    pub priority: u8,
}

/// Reservations became an order: held ones, or one that this record takes as well.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Placed {
    /// The request's key.
    pub key: KeyRef,
    /// Keyed hash of the customer; 0 without one.
    pub customer_hash: u64,
    /// Keyed hash of the order's id.
    pub order_hash: u64,
    /// The slot of the reservation that an order in one step makes; its id is this record's
    /// position and the slot, its lines are the order's allocations.
    pub taken_slot: Option<u32>,
    /// The held reservations.
    pub reservations: Vec<Sold>,
    /// The order.
    pub order: OrderData,
}

/// Something happened to an order: a shipment, an invoice, a refund.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Happened {
    /// The request's key.
    pub key: KeyRef,
    /// The position of the order's record before this one: lineage is a walk along it.
    pub previous: u64,
    /// Keyed hash of what was asked for; see [`crate::model::life::Known::content`].
    pub content: u64,
    /// The order.
    #[rkyv(with = AsText)]
    pub order_id: CompactString,
    /// The fact's own id: the shipment's, the invoice's.
    #[rkyv(with = AsText)]
    pub id: CompactString,
    /// The reservations whose state the order's new state becomes: empty while it stays the same.
    pub turned: SmallVec<[Of; 1]>,
    /// What happened.
    pub fact: Fact,
    /// What it is worth to the books.
    pub worth: Worth,
    /// The number of the order's state after it.
    pub state: u8,
}

/// A partner's report of an order that is not there yet was put aside, see [`crate::model::inbound`].
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Park {
    /// The request's key; its fingerprint is the content's.
    pub key: KeyRef,
    /// Whose report it is.
    pub partner: String,
    /// The order.
    pub order_id: String,
    /// The fact's own id.
    pub id: String,
    /// The [`OrderEvent`](crate::model::inbound::OrderEvent) as JSON.
    pub event: String,
    /// The number of its [`FactKind`](crate::model::fact::FactKind).
    pub kind: u8,
}

/// What became of a parked report. Its fact, if it happened, has a record of its own before this one.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Unpark {
    /// The position of the record that parked it.
    pub parked: u64,
    /// The order.
    pub order_id: String,
    /// What became of it.
    pub outcome: ParkedOutcome,
}
