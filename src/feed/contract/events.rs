//! What the data of each event says. Nothing of this is built: events are rendered from records.
#![allow(dead_code, reason = "read by their schemas alone")]

use utoipa::ToSchema;

use super::Shape;
use crate::model::{
    Currency, Location, Sku, Timestamp,
    command::{AdjustmentReason, Prices, Priority},
    fact::FactKind,
    view::ReservationState,
};

/// The shapes of all events' data, as [`STREAM_EVENTS`](crate::config::STREAM_EVENTS) has them.
pub(super) fn shapes() -> Vec<Shape> {
    vec![
        Shape::of::<StockSet>("event.stock.set"),
        Shape::of::<StockAdjusted>("event.stock.adjusted"),
        Shape::of::<ReservationHeld>("event.reservation.held"),
        Shape::of::<ReservationReleased>("event.reservation.released"),
        Shape::of::<ReservationExtended>("event.reservation.extended"),
        Shape::of::<ReservationChanged>("event.reservation.changed"),
        Shape::of::<ReservationExpired>("event.reservation.expired"),
        Shape::of::<OrderPlaced>("event.order.placed"),
        Shape::of::<OrderShipped>("event.order.shipped"),
        Shape::of::<OrderCancelled>("event.order.cancelled"),
        Shape::of::<OrderInvoiced>("event.order.invoiced"),
        Shape::of::<OrderSettled>("event.order.settled"),
        Shape::of::<OrderRefunded>("event.order.refunded"),
        Shape::of::<ReturnAuthorized>("event.order.return_authorized"),
        Shape::of::<ReturnReceived>("event.order.return_received"),
        Shape::of::<OrderNoted>("event.order.noted"),
    ]
}

/// Units at a position.
#[derive(ToSchema)]
struct EventLine {
    /// The SKU.
    sku: Sku,
    /// The location.
    location: Location,
    /// How many.
    quantity: u32,
    /// There and true where they count against the customer's limit.
    #[schema(required = false)]
    limited: bool,
}

/// Units of a SKU.
#[derive(ToSchema)]
struct EventUnits {
    /// The SKU.
    sku: Sku,
    /// How many.
    quantity: u32,
}

/// A position was set, by a count or a feed: what changed by it, not what it is now.
#[derive(ToSchema)]
struct StockSet {
    /// The SKU.
    sku: Sku,
    /// The location.
    location: Location,
    /// Change of the units on hand.
    on_hand: i64,
    /// Change of the safety stock.
    safety_stock: i64,
    /// Change of the backorder limit.
    backorder_limit: i64,
    /// The sender's version, if it gave one.
    #[schema(nullable = false)]
    source_version: Option<u64>,
    /// The SKU's limit per customer, if it was set; null: lifted.
    #[schema(required = false)]
    per_customer_limit: Option<u32>,
    /// There and true where it took availability below zero, as its sender had allowed.
    #[schema(required = false)]
    forced: bool,
}

/// Stock moved physically.
#[derive(ToSchema)]
struct StockAdjusted {
    /// The SKU.
    sku: Sku,
    /// The location.
    location: Location,
    /// Units that came (positive) or went (negative).
    delta: i64,
    /// Why.
    reason: AdjustmentReason,
    /// The document that says so; may be empty.
    reference: String,
    /// There and true where it took availability below zero, as its sender had allowed.
    #[schema(required = false)]
    forced: bool,
}

/// Stock was taken for a while.
#[derive(ToSchema)]
struct ReservationHeld {
    /// The reservation.
    reservation: String,
    /// Until when it is held.
    expires_at: Timestamp,
    /// The customer; may be empty.
    customer: String,
    /// The order that it is to become; may be empty.
    order_id: String,
    /// What is held.
    lines: Vec<EventLine>,
}

/// A reservation was given back, all or some of it.
#[derive(ToSchema)]
struct ReservationReleased {
    /// The reservation.
    reservation: String,
    /// What was given back.
    lines: Vec<EventLine>,
    /// What is still held.
    left: Vec<EventLine>,
}

/// A reservation is held longer, or shorter.
#[derive(ToSchema)]
struct ReservationExtended {
    /// The reservation.
    reservation: String,
    /// Until when it is held.
    expires_at: Timestamp,
}

/// A held cart was changed.
#[derive(ToSchema)]
struct ReservationChanged {
    /// The reservation.
    reservation: String,
    /// What was taken.
    taken: Vec<EventLine>,
    /// What was given back.
    given: Vec<EventLine>,
    /// What is held now.
    lines: Vec<EventLine>,
    /// Until when it is held.
    expires_at: Timestamp,
}

/// A reservation ran out.
#[derive(ToSchema)]
struct ReservationExpired {
    /// The reservation.
    reservation: String,
    /// What was given back.
    lines: Vec<EventLine>,
}

/// A reservation that became an order.
#[derive(ToSchema)]
struct EventSold {
    /// The reservation.
    reservation: String,
    /// Whether it had expired and was taken again.
    #[schema(required = false)]
    revived: bool,
    /// There and true where it was taken with the order itself.
    #[schema(required = false)]
    taken: bool,
}

/// What a SKU of an order cost, in minor units of the order's currency.
#[derive(ToSchema)]
struct EventPrice {
    /// The SKU.
    sku: Sku,
    /// Units.
    quantity: u32,
    /// Price of one unit.
    unit_price: i64,
    /// The tax code; may be empty.
    tax_code: String,
    /// Tax of the line.
    tax: i64,
    /// Discount on the line.
    discount: i64,
}

/// Reservations became an order.
#[derive(ToSchema)]
struct OrderPlaced {
    /// The order.
    order_id: String,
    /// The customer; may be empty.
    customer: String,
    /// The reservations.
    reservations: Vec<EventSold>,
    /// The currency of every amount.
    currency: Currency,
    /// Whether prices contain their tax.
    prices: Prices,
    /// What was sold, priced by SKU.
    lines: Vec<EventPrice>,
    /// Where it is taken from.
    allocations: Vec<EventLine>,
    /// Shipping fee.
    shipping: i64,
    /// Tax of the shipping fee.
    shipping_tax: i64,
    /// How urgent.
    priority: Priority,
    /// When it was committed.
    committed_at: Timestamp,
    /// When the customer was promised that it leaves.
    #[schema(required = true)]
    promised_ship_at: Option<Timestamp>,
}

macro_rules! happened {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(ToSchema)]
        struct $name {
            /// The order.
            order_id: String,
            /// What kind of thing it is.
            fact: FactKind,
            /// Its own id: the shipment's, the invoice's.
            id: String,
            /// The order's state after it.
            state: ReservationState,
            $($(#[$field_doc])* $field: $type,)*
        }
    };
}

happened!(/// Goods left.
OrderShipped {
    /// What left where.
    lines: Vec<EventLine>,
    /// Who carries them; may be empty.
    carrier: String,
    /// The carrier's number; may be empty.
    tracking: String,
});
happened!(/// Units that had not left are called off.
OrderCancelled {
    /// What is called off.
    lines: Vec<EventLine>,
});
happened!(/// The customer was billed.
OrderInvoiced {
    /// How much, tax contained.
    amount: i64,
    /// The tax in it.
    tax: i64,
});
happened!(/// The payment provider has the customer's money.
OrderSettled {
    /// What the customer paid.
    amount: i64,
    /// What the provider keeps of it.
    fee: i64,
});
happened!(/// The customer got money back.
OrderRefunded {
    /// How much, tax contained.
    amount: i64,
    /// The tax in it.
    tax: i64,
    /// Why; may be empty.
    reason: String,
});
happened!(/// A return was authorised.
ReturnAuthorized {
    /// What may come back.
    lines: Vec<EventUnits>,
    /// Whether it is sold again when it does.
    restock: bool,
});
happened!(/// Goods came back.
ReturnReceived {
    /// The return that they belong to.
    return_id: String,
    /// What came back, and where it is.
    lines: Vec<EventLine>,
    /// Whether it is sold again.
    restock: bool,
});
happened!(/// Something to know that changes neither stock nor money.
OrderNoted {
    /// What.
    text: String,
});
