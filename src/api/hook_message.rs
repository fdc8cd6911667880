//! What a hook's message says, once the partner's rules have read it: the same types as the routes' bodies.

use std::fmt;

use serde_json::{Map, Value};

use super::{json, problem::Problem};
use crate::model::{
    Invalid, OrderId, Reference,
    command::{AdjustStock, ImportStock},
    inbound::OrderEvent,
    mapping::{Mapped, Mapping, Operation},
};

/// What is to be done for a message.
pub(super) enum Told {
    /// Nothing.
    Nothing,
    /// A position was counted; with a `source_version`.
    Count(ImportStock),
    /// A position's stock moved.
    Adjustment(AdjustStock),
    /// Something happened to an order.
    OfOrder(OrderId, OrderEvent),
}

/// Reads what rules made of a message.
pub(super) fn read(mapped: Mapped) -> Result<Told, Problem> {
    let Mapped { operation, mut fields } = mapped;
    match operation {
        Operation::Ignore => return Ok(Told::Nothing),
        Operation::StockSet => return count(fields).map(Told::Count),
        Operation::StockAdjustment => return json::object(fields).map(Told::Adjustment),
        _ => {}
    }
    let order = id(&mut fields, "order_id")?;
    let event = event(operation, fields)?;
    Ok(event.map_or(Told::Nothing, |event| Told::OfOrder(order, event)))
}

fn count(fields: Map<String, Value>) -> Result<ImportStock, Problem> {
    let count: ImportStock = json::object(fields)?;
    if count.source_version.is_none() {
        let reason = "is missing; without it a count that comes twice can't be told from a new one";
        return Err(Problem::malformed("source_version", reason));
    }
    Ok(count)
}

/// Reads the fields as the body of the order's route; `None` if the operation is not about an order.
fn event(
    operation: Operation,
    mut fields: Map<String, Value>,
) -> Result<Option<OrderEvent>, Problem> {
    Ok(Some(match operation {
        Operation::Shipment => OrderEvent::Shipment(json::object(fields)?),
        Operation::Cancellation => OrderEvent::Cancellation(json::object(fields)?),
        Operation::Invoice => OrderEvent::Invoice(json::object(fields)?),
        Operation::Settlement => OrderEvent::Settlement(json::object(fields)?),
        Operation::Refund => OrderEvent::Refund(json::object(fields)?),
        Operation::Return => OrderEvent::Return(json::object(fields)?),
        Operation::Receipt => {
            let return_id: Reference = id(&mut fields, "return_id")?;
            OrderEvent::Receipt(return_id, json::object(fields)?)
        }
        Operation::Note => OrderEvent::Note(json::object(fields)?),
        Operation::StockAdjustment | Operation::StockSet | Operation::Ignore => return Ok(None),
    }))
}

/// A field that is in a route's path.
fn id<T: std::str::FromStr<Err = Invalid>>(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<T, Problem> {
    let value = fields.remove(name).ok_or_else(|| Problem::malformed(name, "is missing"))?;
    let text = value.as_str().ok_or_else(|| Problem::malformed(name, "must be a text"))?;
    text.parse().map_err(|e: Invalid| Problem::malformed(name, e.0))
}

/// What a partner's rules make of a message, without its doing anything.
#[derive(Debug, Clone, PartialEq)]
pub struct TriedMessage {
    /// What would be done: `shipment`, `stock_set`, `ignore`.
    pub operation: &'static str,
    /// With these fields, as the route's body and path have them.
    pub fields: Map<String, Value>,
}

impl fmt::Display for TriedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{:#}", self.operation, Value::Object(self.fields.clone()))
    }
}

/// Reads a message as the partner's hook would; nothing is done, and no signature is asked for.
///
/// # Errors
/// Why the hook would not take it.
pub fn try_message(mapping: &Mapping, body: &[u8]) -> Result<TriedMessage, Problem> {
    let payload = json::any(body)?;
    let mapped = mapping.map(&payload).map_err(|why| Problem::unmapped(&why))?;
    let tried =
        TriedMessage { operation: mapped.operation.as_str(), fields: mapped.fields.clone() };
    read(mapped)?;
    Ok(tried)
}
