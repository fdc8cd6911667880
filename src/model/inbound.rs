//! What partners report of orders, as one type whatever the kind, and what is kept of a report that
//! came before its order: a *parked event*.
//!
//! A parked event has its own record in the log and is known by its position there. It waits for its
//! order, or, once the order was there and would not have it, for a person.

use rkyv::{Archive, Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Currency, Lsn, OrderId, Reference, Timestamp,
    command::{AuthorizeReturn, Cancel, Invoice, Note, ReceiveReturn, Refund, Settle, Ship},
    fact::FactKind,
    view::FactView,
};

/// The most bytes of a report that is parked, as JSON: a shipment of some hundred lines.
pub const PARKED_BYTES_MAX: usize = 32 << 10;

/// Something that happened to an order, as it is reported: the body of one of the order's routes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderEvent {
    /// Goods left.
    Shipment(Ship),
    /// Units were called off.
    Cancellation(Cancel),
    /// The customer was billed.
    Invoice(Invoice),
    /// The payment provider has the money.
    Settlement(Settle),
    /// The customer got money back.
    Refund(Refund),
    /// A return is authorised.
    Return(AuthorizeReturn),
    /// Goods of the return came back.
    Receipt(Reference, ReceiveReturn),
    /// Something to know.
    Note(Note),
}

impl OrderEvent {
    /// Of what kind it is.
    pub fn kind(&self) -> FactKind {
        match self {
            Self::Shipment(_) => FactKind::Shipment,
            Self::Cancellation(_) => FactKind::Cancellation,
            Self::Invoice(_) => FactKind::Invoice,
            Self::Settlement(_) => FactKind::Settlement,
            Self::Refund(_) => FactKind::Refund,
            Self::Return(_) => FactKind::Return,
            Self::Receipt(..) => FactKind::Receipt,
            Self::Note(_) => FactKind::Note,
        }
    }

    /// The currency of its amounts, if it has any.
    pub fn currency(&self) -> Option<Currency> {
        match self {
            Self::Invoice(invoice) => Some(invoice.currency),
            Self::Settlement(settle) => Some(settle.currency),
            Self::Refund(refund) => Some(refund.currency),
            _ => None,
        }
    }

    /// Its own id.
    pub fn id(&self) -> &Reference {
        match self {
            Self::Shipment(ship) => &ship.shipment_id,
            Self::Cancellation(cancel) => &cancel.cancellation_id,
            Self::Invoice(invoice) => &invoice.invoice_id,
            Self::Settlement(settle) => &settle.settlement_id,
            Self::Refund(refund) => &refund.refund_id,
            Self::Return(back) => &back.return_id,
            Self::Receipt(_, receive) => &receive.receipt_id,
            Self::Note(note) => &note.note_id,
        }
    }
}

/// A report that came before its order, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ParkedEvent {
    /// The position of its record: its id.
    pub lsn: u64,
    /// When it was parked, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Keyed hash of what was reported: the same id with other content is refused.
    pub content: u64,
    /// Whose report it is.
    pub partner: String,
    /// The order.
    pub order_id: String,
    /// Its own id.
    pub id: String,
    /// The [`OrderEvent`] as JSON.
    pub event: String,
    /// The request that brought it; may be empty.
    pub request_id: String,
    /// Its W3C `traceparent`; may be empty.
    pub traceparent: String,
    /// Why the order would not have it, if so.
    pub refused: Option<Refused>,
    /// The number of its [`FactKind`].
    pub kind: u8,
    /// Whether it is done with: it happened, or was discarded.
    pub over: bool,
}

/// That an order would not have a report.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Refused {
    /// The record that says so.
    pub lsn: u64,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Why.
    pub why: Why,
}

/// Why an order would not have a report.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Why {
    /// The contract's code for it.
    pub code: String,
    /// In words.
    pub detail: String,
}

/// What became of a parked event.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub enum ParkedOutcome {
    /// It happened to its order.
    Applied,
    /// Its order would not have it: it stays, for a person.
    Refused(Why),
    /// A person discarded it, for this reason; may be empty.
    Discarded(String),
}

/// An outcome, and the record that says so.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Unparked {
    /// The record.
    pub lsn: u64,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// What became of it.
    pub outcome: ParkedOutcome,
}

impl ParkedEvent {
    /// Takes in what became of it.
    pub fn unpark(&mut self, Unparked { lsn, at_ms, outcome }: Unparked) {
        match outcome {
            ParkedOutcome::Refused(why) => self.refused = Some(Refused { lsn, at_ms, why }),
            ParkedOutcome::Applied | ParkedOutcome::Discarded(_) => self.over = true,
        }
    }

    /// The last record about it.
    pub fn last(&self) -> Lsn {
        Lsn(self.refused.as_ref().map_or(self.lsn, |refused| refused.lsn))
    }
}

/// Where a parked event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParkedState {
    /// It waits for its order.
    Parked,
    /// Its order is there and would not have it; it waits for a person.
    Refused,
}

impl ParkedState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Refused => "refused",
        }
    }
}

/// A parked event, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct ParkedEventView {
    /// The position of its record in the log: its id.
    pub id: Lsn,
    /// Where it stands.
    pub state: ParkedState,
    /// Whose report it is; empty where there are no partners.
    pub partner: String,
    /// The order.
    pub order_id: OrderId,
    /// What happened.
    pub kind: FactKind,
    /// Its own id.
    pub event_id: Reference,
    /// When it was parked.
    pub parked_at: Timestamp,
    /// How long ago, in milliseconds; not in the answer to its sender, which stays the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Why its order would not have it, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusedView>,
    /// What was reported; only where one event is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<serde_json::Value>,
}

/// Why an order would not have a report, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct RefusedView {
    /// The code of the problem that the order's route would answer with.
    pub code: String,
    /// In words.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

/// What became of a report when it came.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, ToSchema)]
#[serde(untagged)]
pub enum Taken {
    /// It happened to its order.
    Happened(FactView),
    /// Its order is not there yet; it waits.
    Parked(ParkedEventView),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One of every kind, as short and as long as it can be.
    pub(crate) fn events() -> Vec<OrderEvent> {
        let lines =
            json!([{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 2, "location": "X"}]);
        let plain = json!([{"sku": "A", "quantity": 1}]);
        let said = [
            json!({"shipment": {"shipment_id": "S", "lines": lines}}),
            json!({"shipment": {"shipment_id": "S", "lines": lines, "carrier": "C", "tracking": "T"}}),
            json!({"cancellation": {"cancellation_id": "C"}}),
            json!({"cancellation": {"cancellation_id": "C", "lines": lines}}),
            json!({"invoice": {"invoice_id": "I", "currency": "EUR", "amount": 1}}),
            json!({"settlement": {"settlement_id": "P", "currency": "EUR", "amount": 2, "fee": 1}}),
            json!({"refund": {"refund_id": "R", "currency": "EUR", "amount": 2, "reason": "x"}}),
            json!({"return": {"return_id": "RT", "lines": plain, "restock": false}}),
            json!({"receipt": ["RT", {"receipt_id": "RC", "lines": lines}]}),
            json!({"note": {"note_id": "N", "text": "\"quoted\" \u{1f4e6}"}}),
        ];
        said.into_iter().map(|event| serde_json::from_value(event).unwrap()).collect()
    }

    #[test]
    fn an_event_reads_as_it_was_written() {
        let mut kinds = Vec::new();
        for event in events() {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<OrderEvent>(&text).unwrap(), event, "{text}");
            assert_eq!(text.find(event.kind().as_str()), Some(2), "{text}");
            kinds.push(event.kind() as u8);
        }
        kinds.dedup();
        assert_eq!(kinds, [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
