//! Every business event as a CloudEvent (1.0, JSON batch format), in log order, nothing merged.
//!
//! - A batch is a JSON array, of the media type `application/cloudevents-batch+json`. What a batch says of
//!   itself elsewhere stands in its headers here.
//! - `id` is the log's incarnation and the record's position: an event has the same id whatever sink and
//!   batch bring it, and however often. `source` is `/holdfast/` and the incarnation. `sequence` (an
//!   extension of the standard) is the position as a text that sorts as it does.
//! - `type` is `holdfast.`, one of [`STREAM_EVENTS`](crate::config::STREAM_EVENTS), `.v1`, where 1 is the
//!   schema version that the sink is bound to; `dataschema` names the schema of `data`. `subject` is the
//!   position (`TEE-M/BER`), the reservation or the order. `traceparent` is that of the request, if it had
//!   one.
//! - `data` is what the record says: changes and not totals. It has no secrets, hashes or keys.
//! - Business events only: what the log keeps for itself (its genesis, numbers of names, seals,
//!   acknowledgements, what operators do to sinks) is none.
//!
//! Events are kept as the bytes that are sent: a window is bounded by `batch_bytes_max`, and by `lines_max`
//! events.

use std::cell::Cell;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Error,
    filter::Filter,
    inventory::{Absorbed, Terms},
    lookup::Lookup,
    render::{Rendered, Stamp},
};
use crate::{
    engine::say,
    model::{
        Incarnation, Lsn, OriginView, SchemaVersion, Timestamp,
        command::Priority,
        event::{
            self, Adjust, Change, Event, Expire, Extend, Happened, Placed, Release, Reserve, Stock,
        },
        fact::ArchivedFact,
    },
    wal::Record,
};

/// The events of an open window.
#[derive(Debug, Default)]
pub(super) struct Stream {
    schema: SchemaVersion,
    /// The events, each with a comma behind it.
    json: Vec<u8>,
    events: u64,
}

impl Stream {
    /// An empty window whose events are of this version.
    pub fn new(schema: SchemaVersion) -> Self {
        Self { schema, ..Self::default() }
    }

    /// The window after this one, which is sealed.
    pub fn next(self) -> Self {
        Self::new(self.schema)
    }

    /// Adds a record, unless the window would grow beyond its limits.
    pub fn absorb(
        &mut self,
        record: &Record<'_>,
        terms: Terms<'_>,
        filter: &Filter,
    ) -> Result<Absorbed, Error> {
        let Some(name) = name_of(record)? else { return Ok(Absorbed::Nothing) };
        if !filter.event(name) || !is_of_priority(record, filter, terms.lookup)? {
            return Ok(Absorbed::Nothing);
        }
        let data = data_of(record, terms.lookup)?;
        if filter.asks_for_positions() && !names_place(&data, filter) {
            return Ok(Absorbed::Nothing);
        }
        let (before, json) = (self.json.len(), &mut self.json);
        let event = event_of(record, (self.schema, name), data, terms.lookup);
        serde_json::to_writer(&mut *json, &event)?;
        json.push(b',');
        // An opening bracket; the closing one takes the place of the last comma.
        let bytes = json.len() as u64 + 1;
        let fits = self.events < terms.limits.lines && bytes <= terms.limits.bytes;
        if !fits && self.events > 0 {
            json.truncate(before);
            return Ok(Absorbed::Full);
        }
        self.events += 1;
        Ok(Absorbed::Taken)
    }

    /// The batch's body.
    pub fn render(&self, stamp: Stamp<'_>) -> Rendered {
        let Some(events) = self.json.strip_suffix(b",") else {
            return Rendered::nothing(stamp.chain);
        };
        Rendered::one([b"[", events, b"]"].concat(), stamp.chain)
    }
}

/// The name of a record's event, as a filter has it; `None` if it is the log's own business.
fn name_of(record: &Record<'_>) -> Result<Option<&'static str>, Error> {
    Ok(Some(match record.kind {
        Stock::KIND => "stock.set",
        Adjust::KIND => "stock.adjusted",
        Reserve::KIND => "reservation.held",
        Release::KIND => "reservation.released",
        Extend::KIND => "reservation.extended",
        Change::KIND => "reservation.changed",
        Expire::KIND => "reservation.expired",
        Placed::KIND => "order.placed",
        Happened::KIND => fact_name(
            &event::decode::<Happened>(record.lsn, record.kind, record.version, record.body)?.fact,
        ),
        _ => return Ok(None),
    }))
}

fn fact_name(fact: &ArchivedFact) -> &'static str {
    match fact {
        ArchivedFact::Shipment { .. } => "order.shipped",
        ArchivedFact::Cancellation { .. } => "order.cancelled",
        ArchivedFact::Invoice { .. } => "order.invoiced",
        ArchivedFact::Settlement { .. } => "order.settled",
        ArchivedFact::Refund { .. } => "order.refunded",
        ArchivedFact::Return { .. } => "order.return_authorized",
        ArchivedFact::Receipt { .. } => "order.return_received",
        ArchivedFact::Note { .. } => "order.noted",
    }
}

/// Whether a filter lets a record through by its order's priority; what belongs to no order has none.
fn is_of_priority(
    record: &Record<'_>,
    filter: &Filter,
    lookup: &dyn Lookup,
) -> Result<bool, Error> {
    if !filter.asks_for_priorities() {
        return Ok(true);
    }
    let (lsn, kind, version, body) = (record.lsn, record.kind, record.version, record.body);
    let priority = match kind {
        Placed::KIND => {
            Priority::of_number(event::decode::<Placed>(lsn, kind, version, body)?.order.priority)
        }
        Happened::KIND => {
            let order_id: &str = &event::decode::<Happened>(lsn, kind, version, body)?.order_id;
            lookup.priority(order_id).ok_or(Error::UnknownOrder { lsn })?
        }
        _ => return Ok(false),
    };
    Ok(filter.priority(priority))
}

/// Names for what is said of a record, and what had none.
struct Named<'a> {
    lookup: &'a dyn Lookup,
    position: Cell<Option<u32>>,
    sku: Cell<Option<u32>>,
}

impl say::Names for Named<'_> {
    fn position(&self, number: u32) -> Option<(String, String)> {
        let Some((sku, location)) = self.lookup.position(number) else {
            self.position.set(Some(number));
            return None;
        };
        Some((sku.to_string(), location.to_string()))
    }

    fn sku(&self, number: u32) -> Option<String> {
        let sku = self.lookup.sku(number);
        if sku.is_none() {
            self.sku.set(Some(number));
        }
        sku.map(|sku| sku.to_string())
    }
}

/// What a record says, every number by its name.
fn data_of(record: &Record<'_>, lookup: &dyn Lookup) -> Result<Value, Error> {
    let lsn = record.lsn;
    let named = Named { lookup, position: Cell::new(None), sku: Cell::new(None) };
    let data = say::json(record, &named).map_err(|reason| {
        let (kind, version) = (record.kind, record.version);
        event::Undecodable { lsn, kind, version, reason }
    })?;
    if let Some(position) = named.position.get() {
        return Err(Error::UnknownPosition { lsn, position });
    }
    match named.sku.get() {
        Some(sku_number) => Err(Error::UnknownSku { lsn, sku_number }),
        None => Ok(data),
    }
}

/// Whether what a record says names a SKU, at a location where it names one, that the filter lets
/// through.
fn names_place(data: &Value, filter: &Filter) -> bool {
    match data {
        Value::Object(fields) => {
            let text = |field: &str| fields.get(field).and_then(Value::as_str);
            text("sku").is_some_and(|sku| filter.place(sku, text("location")))
                || fields.values().any(|value| names_place(value, filter))
        }
        Value::Array(items) => items.iter().any(|item| names_place(item, filter)),
        _ => false,
    }
}

fn event_of<'a>(
    record: &Record<'_>,
    (schema, name): (SchemaVersion, &'static str),
    data: Value,
    lookup: &dyn Lookup,
) -> CloudEvent<'a> {
    let life = lookup.incarnation_at(record.lsn);
    CloudEvent {
        specversion: "1.0",
        id: id_of(life, record.lsn),
        source: format!("/holdfast/{life}"),
        r#type: format!("holdfast.{name}.v{}", schema.number()),
        dataschema: schema.urn(&format!("event.{name}")),
        subject: subject_of(&data),
        time: Timestamp::from_millis(record.time_ms),
        sequence: format!("{:020}", record.lsn.0),
        traceparent: OriginView::of(record.version, record.body).and_then(|o| o.traceparent),
        datacontenttype: "application/json",
        data,
    }
}

fn id_of(life: Incarnation, lsn: Lsn) -> String {
    format!("{life}-{lsn}")
}

/// The order or the reservation that an event is of, or the position.
fn subject_of(data: &Value) -> String {
    let text = |field: &str| data.get(field).and_then(Value::as_str);
    match (text("reservation").or(text("order_id")), text("sku"), text("location")) {
        (Some(subject), _, _) => subject.to_owned(),
        (None, Some(sku), Some(location)) => format!("{sku}/{location}"),
        _ => String::new(),
    }
}

/// A business event: CloudEvents 1.0, structured mode. The body of a stream's batch is a list of them.
#[derive(Serialize, ToSchema)]
pub(super) struct CloudEvent<'a> {
    /// `1.0`.
    specversion: &'a str,
    /// Incarnation and position of the record: the same however often the event comes.
    id: String,
    /// `/holdfast/` and the incarnation of the log.
    source: String,
    /// `holdfast.`, what happened, `.v` and the schema version.
    r#type: String,
    /// The schema of `data`, published by the server under the last part of this name.
    dataschema: String,
    /// The order, the reservation or the position (`TEE-M/BER`).
    #[serde(skip_serializing_if = "String::is_empty")]
    subject: String,
    /// When it happened.
    time: Timestamp,
    /// The record's position as a text that sorts as it does.
    sequence: String,
    /// The trace context of the request, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    traceparent: Option<String>,
    /// `application/json`.
    datacontenttype: &'a str,
    /// What happened, as `dataschema` has it.
    #[schema(value_type = Object)]
    data: Value,
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
