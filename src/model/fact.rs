//! Facts: what can happen to an order after it was placed. A shipment, a cancellation, an invoice, a
//! settlement, a refund, a return that was authorised, goods that came back, a note.
//!
//! Lines name allocations by their index in the order, positions and SKUs by their numbers.
#![allow(missing_docs)] // The archived form of an enum has a field that its derive does not document.

use rkyv::{Archive, Deserialize, Serialize};
use smallvec::SmallVec;

use super::event::Line;

/// Units that leave, and the allocation that they were sold from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Shipped {
    /// Index into the order's allocations.
    pub allocation: u32,
    /// The allocation's position.
    pub from: u32,
    /// The position that they leave: the allocation's, or another one of the SKU.
    pub position: u32,
    /// Units.
    pub quantity: u32,
}

/// Units of an allocation that are called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Cancelled {
    /// Index into the order's allocations.
    pub allocation: u32,
    /// The allocation's position.
    pub position: u32,
    /// Units.
    pub quantity: u32,
    /// Whether they count against the customer's limit.
    pub limited: bool,
    /// Keyed hash of the customer whose limit that is; 0 without one.
    pub customer_hash: u64,
    /// The record of the reservation that took them: they are given back to that period of the limit.
    pub granted: u64,
}

impl Cancelled {
    /// As units at a position, which can be given back.
    pub fn line(&self) -> Line {
        Line { position: self.position, quantity: self.quantity, limited: self.limited }
    }
}

/// Units of a SKU, wherever they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Units {
    /// The SKU's number.
    pub sku_number: u32,
    /// Units.
    pub quantity: u32,
}

/// Units of a SKU that came back, and where they are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct CameBack {
    /// The SKU's number.
    pub sku_number: u32,
    /// The position that got them, or would have.
    pub position: u32,
    /// Units.
    pub quantity: u32,
}

/// One thing that happened to an order. Amounts are gross, with the contained tax beside them.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub enum Fact {
    /// Goods left.
    Shipment {
        /// What left where.
        lines: SmallVec<[Shipped; 2]>,
        /// Who carries them; may be empty.
        carrier: String,
        /// The carrier's number; may be empty.
        tracking: String,
    },
    /// Units that had not left are called off.
    Cancellation {
        /// What is called off.
        lines: Vec<Cancelled>,
    },
    /// The customer was billed.
    Invoice {
        /// What for.
        amount: i64,
        /// The tax in it.
        tax: i64,
    },
    /// The payment provider has the customer's money.
    Settlement {
        /// What the customer paid.
        amount: i64,
        /// What the provider keeps of it.
        fee: i64,
    },
    /// The customer got money back.
    Refund {
        /// How much.
        amount: i64,
        /// The tax in it.
        tax: i64,
        /// Why; may be empty.
        reason: String,
    },
    /// A return was authorised.
    Return {
        /// What may come back.
        lines: Vec<Units>,
        /// Whether it is sold again when it does, or written off.
        restock: bool,
    },
    /// Goods came back.
    Receipt {
        /// The return that they belong to.
        return_id: String,
        /// What came back, and where it is.
        lines: Vec<CameBack>,
        /// Whether it is sold again, as the return says.
        restock: bool,
    },
    /// Something to know that changes neither stock nor money: a dispute, say.
    Note {
        /// What.
        text: String,
    },
}

/// What kind of thing happened.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FactKind {
    /// See [`Fact::Shipment`].
    Shipment = 0,
    /// See [`Fact::Cancellation`].
    Cancellation = 1,
    /// See [`Fact::Invoice`].
    Invoice = 2,
    /// See [`Fact::Settlement`].
    Settlement = 3,
    /// See [`Fact::Refund`].
    Refund = 4,
    /// See [`Fact::Return`].
    Return = 5,
    /// See [`Fact::Receipt`].
    Receipt = 6,
    /// See [`Fact::Note`].
    Note = 7,
}

impl FactKind {
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
        }
    }

    /// The kind of a number.
    pub fn of_number(number: u8) -> Option<Self> {
        use FactKind as K;
        [
            K::Shipment,
            K::Cancellation,
            K::Invoice,
            K::Settlement,
            K::Refund,
            K::Return,
            K::Receipt,
            K::Note,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

impl Fact {
    /// What kind of thing it is.
    pub fn kind(&self) -> FactKind {
        match self {
            Self::Shipment { .. } => FactKind::Shipment,
            Self::Cancellation { .. } => FactKind::Cancellation,
            Self::Invoice { .. } => FactKind::Invoice,
            Self::Settlement { .. } => FactKind::Settlement,
            Self::Refund { .. } => FactKind::Refund,
            Self::Return { .. } => FactKind::Return,
            Self::Receipt { .. } => FactKind::Receipt,
            Self::Note { .. } => FactKind::Note,
        }
    }
}

impl CameBack {
    /// How many of what.
    pub fn units(&self) -> Units {
        Units { sku_number: self.sku_number, quantity: self.quantity }
    }
}
