//! What a hook can make happen, and the fields that each of these needs: those of the HTTP route's
//! body, with the ids that the route has in its path.

use serde::{Deserialize, Serialize};

/// What a payload becomes. The words are those of the native form's `type` too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `POST /v1/orders/{order_id}/shipments`.
    Shipment,
    /// `POST /v1/orders/{order_id}/cancellations`.
    Cancellation,
    /// `POST /v1/orders/{order_id}/invoices`.
    Invoice,
    /// `POST /v1/orders/{order_id}/settlements`.
    Settlement,
    /// `POST /v1/orders/{order_id}/refunds`.
    Refund,
    /// `POST /v1/orders/{order_id}/returns`.
    Return,
    /// `POST /v1/orders/{order_id}/returns/{return_id}/receipts`.
    Receipt,
    /// `POST /v1/orders/{order_id}/notes`.
    Note,
    /// `POST /v1/stock/adjustments`.
    StockAdjustment,
    /// `PUT /v1/stock/{sku}/{location}`; needs a `source_version`, since a count that came twice can
    /// be told from a new one by nothing else.
    StockSet,
    /// Nothing: the payload is known and of no interest.
    Ignore,
}

/// The fields of an operation, or of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// Those that must be there.
    pub required: &'static [&'static str],
    /// Those that may be.
    pub optional: &'static [&'static str],
}

impl Fields {
    const fn new(required: &'static [&'static str], optional: &'static [&'static str]) -> Self {
        Self { required, optional }
    }

    /// All of them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.required.iter().chain(self.optional).copied()
    }
}

impl Operation {
    /// Its fields.
    pub fn fields(self) -> Fields {
        match self {
            Self::Shipment => {
                Fields::new(&["order_id", "shipment_id", "lines"], &["carrier", "tracking"])
            }
            Self::Cancellation => Fields::new(&["order_id", "cancellation_id"], &["lines"]),
            Self::Invoice => {
                Fields::new(&["order_id", "invoice_id", "currency", "amount"], &["tax"])
            }
            Self::Settlement => {
                Fields::new(&["order_id", "settlement_id", "currency", "amount"], &["fee"])
            }
            Self::Refund => {
                Fields::new(&["order_id", "refund_id", "currency", "amount"], &["tax", "reason"])
            }
            Self::Return => Fields::new(&["order_id", "return_id", "lines"], &["restock"]),
            Self::Receipt => Fields::new(&["order_id", "return_id", "receipt_id", "lines"], &[]),
            Self::Note => Fields::new(&["order_id", "note_id", "text"], &[]),
            Self::StockAdjustment => Fields::new(
                &["sku", "location", "delta", "reason"],
                &["reference", "allow_shortfall"],
            ),
            Self::StockSet => Fields::new(
                &["sku", "location", "on_hand", "source_version"],
                &[
                    "safety_stock",
                    "backorder_limit",
                    "per_customer_limit",
                    "as_of_lsn",
                    "allow_shortfall",
                ],
            ),
            Self::Ignore => Fields::new(&[], &[]),
        }
    }

    /// The fields of one of its `lines`.
    pub fn line_fields(self) -> Fields {
        match self {
            Self::Shipment | Self::Cancellation | Self::Receipt => {
                Fields::new(&["sku", "quantity"], &["location"])
            }
            Self::Return => Fields::new(&["sku", "quantity"], &[]),
            _ => Fields::new(&[], &[]),
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shipment => "shipment",
            Self::Cancellation => "cancellation",
            Self::Invoice => "invoice",
            Self::Settlement => "settlement",
            Self::Refund => "refund",
            Self::Return => "return",
            Self::Receipt => "receipt",
            Self::Note => "note",
            Self::StockAdjustment => "stock_adjustment",
            Self::StockSet => "stock_set",
            Self::Ignore => "ignore",
        }
    }
}
