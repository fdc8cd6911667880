//! What happens to an order, as it is reported.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ReleaseLine, yes};
use crate::model::{Amount, Currency, Location, Quantity, Reference, Sku};

/// A line of a shipment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShipLine {
    /// The SKU.
    pub sku: Sku,
    /// Where it leaves; absent: where it was reserved. Another location than that is fine if it has
    /// the stock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// How many.
    pub quantity: Quantity,
}

/// Goods left, `POST /v1/orders/{order_id}/shipments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ship {
    /// The shipment's id.
    pub shipment_id: Reference,
    /// What left.
    #[schema(min_items = 1)]
    pub lines: Vec<ShipLine>,
    /// Who carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Reference>,
    /// The carrier's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Reference>,
}

/// Units that had not left are called off, `POST /v1/orders/{order_id}/cancellations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// The cancellation's id.
    pub cancellation_id: Reference,
    /// What is called off; absent: all that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<ReleaseLine>>,
}

/// The customer was billed, `POST /v1/orders/{order_id}/invoices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invoice {
    /// The invoice's id or number.
    pub invoice_id: Reference,
    /// The order's currency.
    #[serde(deserialize_with = "Currency::read_of_any_time")]
    pub currency: Currency,
    /// What for, gross.
    pub amount: Amount,
    /// The tax in it.
    #[serde(default)]
    pub tax: Amount,
}

/// The payment provider has the money, `POST /v1/orders/{order_id}/settlements`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// The settlement's id.
    pub settlement_id: Reference,
    /// The order's currency.
    #[serde(deserialize_with = "Currency::read_of_any_time")]
    pub currency: Currency,
    /// What the customer paid.
    pub amount: Amount,
    /// What the provider keeps of it.
    #[serde(default)]
    pub fee: Amount,
}

/// The customer got money back, `POST /v1/orders/{order_id}/refunds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refund {
    /// The refund's id.
    pub refund_id: Reference,
    /// The order's currency.
    #[serde(deserialize_with = "Currency::read_of_any_time")]
    pub currency: Currency,
    /// How much, gross.
    pub amount: Amount,
    /// The tax in it.
    #[serde(default)]
    pub tax: Amount,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reference>,
}

/// A line of a return: units of a SKU, wherever they left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnLine {
    /// The SKU.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
}

/// A return is authorised, `POST /v1/orders/{order_id}/returns`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizeReturn {
    /// The return's id.
    pub return_id: Reference,
    /// What may come back.
    #[schema(min_items = 1)]
    pub lines: Vec<ReturnLine>,
    /// Whether it is sold again when it does (default), or written off.
    #[serde(default = "yes")]
    pub restock: bool,
}

/// Goods came back, `POST /v1/orders/{order_id}/returns/{return_id}/receipts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiveReturn {
    /// The receipt's id.
    pub receipt_id: Reference,
    /// What came back; the location where it is now, or, absent, where it left.
    #[schema(min_items = 1)]
    pub lines: Vec<ShipLine>,
}

/// Something to know that changes neither stock nor money, `POST /v1/orders/{order_id}/notes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The note's id: a dispute's, say.
    pub note_id: Reference,
    /// What; 1 to 1,024 characters.
    #[schema(min_length = 1, max_length = 1024)]
    pub text: String,
}
