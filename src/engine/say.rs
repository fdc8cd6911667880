//! Records as JSON, for people: the fields of the events, numbers of positions with their names.

use crate::{
    model::{
        Lsn, ReservationId, Timestamp,
        command::{AdjustmentReason, Priority},
        event,
        event::{
            Acknowledge, Adjust, Change, Define, Event, Expire, Extend, Genesis, Happened, Operate,
            Park, PartnerChange, Placed, Release, Reserve, Seal, Stock, Tallied, Unpark,
            decode as read,
        },
        fact::{Fact, Units},
        inbound::ParkedOutcome,
        letter::{Letter, TakenPart},
        sink::{Deed, Lane},
        tally::Tally,
    },
    wal::Record,
};
use rkyv::{api::high::HighDeserializer, rancor, util::AlignedVec};
use serde_json::{Value, json};

use super::thing::state_of;

/// The names of all kinds.
pub const KINDS: [&str; 18] = [
    "genesis",
    "define",
    "stock",
    "adjust",
    "reserve",
    "release",
    "extend",
    "expire",
    "change",
    "placed",
    "happened",
    "park",
    "unpark",
    "seal",
    "acknowledge",
    "operate",
    "partner",
    "tally",
];

/// The name of a kind; `unknown` for what this version does not know.
pub fn name(kind: u8) -> &'static str {
    match kind {
        Genesis::KIND => "genesis",
        Define::KIND => "define",
        Stock::KIND => "stock",
        Adjust::KIND => "adjust",
        Reserve::KIND => "reserve",
        Release::KIND => "release",
        Extend::KIND => "extend",
        Expire::KIND => "expire",
        Change::KIND => "change",
        Placed::KIND => "placed",
        Happened::KIND => "happened",
        Park::KIND => "park",
        Unpark::KIND => "unpark",
        Seal::KIND => "seal",
        Acknowledge::KIND => "acknowledge",
        Operate::KIND => "operate",
        PartnerChange::KIND => "partner",
        Tallied::KIND => "tally",
        _ => "unknown",
    }
}

/// What numbers in records stand for.
pub trait Names {
    /// SKU and location of a position's number.
    fn position(&self, number: u32) -> Option<(String, String)>;
    /// The SKU of a SKU's number.
    fn sku(&self, number: u32) -> Option<String>;
}

/// Numbers as they are.
pub struct NoNames;

impl Names for NoNames {
    fn position(&self, _: u32) -> Option<(String, String)> {
        None
    }

    fn sku(&self, _: u32) -> Option<String> {
        None
    }
}

/// Numbers with their names, as JSON.
struct Named<'a>(&'a dyn Names);

impl Named<'_> {
    fn position(&self, number: u32) -> Value {
        match self.0.position(number) {
            Some((sku, location)) => json!({"sku": sku, "location": location}),
            None => json!({"position": number}),
        }
    }

    fn units(&self, position: u32, quantity: u32) -> Value {
        let mut value = self.position(position);
        value["quantity"] = quantity.into();
        value
    }

    fn line(&self, line: &event::Line) -> Value {
        let mut value = self.units(line.position, line.quantity);
        if line.limited {
            value["limited"] = true.into();
        }
        value
    }

    fn lines(&self, lines: &[event::Line]) -> Vec<Value> {
        lines.iter().map(|line| self.line(line)).collect()
    }

    fn sku(&self, number: u32) -> Value {
        self.0.sku(number).map_or_else(|| number.into(), Value::from)
    }
}

/// Whether a record decodes.
///
/// # Errors
/// If not, why.
pub fn decode(record: &Record<'_>) -> Result<(), String> {
    json(record, &NoNames).map(drop)
}

/// A record's event.
///
/// # Errors
/// If it does not decode, why.
pub fn json(record: &Record<'_>, names: &dyn Names) -> Result<Value, String> {
    let names = &Named(names);
    match record.kind {
        // Its secrets stay in the log.
        Genesis::KIND => owned::<Genesis>(record).map(|_| json!({})),
        Define::KIND => owned(record).map(define),
        Stock::KIND => owned(record).map(|event| stock(event, names)),
        Adjust::KIND => owned(record).map(|event| adjust(event, names)),
        Reserve::KIND => reserve(record, names),
        Release::KIND => owned(record).map(|event| release(event, names)),
        Extend::KIND => owned(record).map(extend),
        Expire::KIND => owned(record).map(|event| expire(event, names)),
        Change::KIND => owned(record).map(|event| change(event, names)),
        Placed::KIND => owned(record).map(|event| placed(record.lsn, event, names)),
        Happened::KIND => owned(record).map(|event| happened(event, names)),
        Park::KIND => owned(record).map(park),
        Unpark::KIND => owned(record).map(unpark),
        Seal::KIND => owned(record).map(Seal::unpacked).map(seal),
        Acknowledge::KIND => owned(record).map(acknowledge),
        Operate::KIND => owned(record).map(operate),
        PartnerChange::KIND => owned(record).map(partner),
        Tallied::KIND => owned(record).map(tallied),
        kind => Err(format!("the record at {} is of kind {kind}, which is unknown", record.lsn)),
    }
}

/// The event, taken out of the log.
///
/// # Errors
/// If it does not decode, why.
pub fn owned<E>(record: &Record<'_>) -> Result<E, String>
where
    E: Event,
    E::Archived: event::Checked + rkyv::Deserialize<E, HighDeserializer<rancor::Error>>,
{
    let mut body = AlignedVec::<8>::new();
    body.extend_from_slice(record.body);
    let archived = read::<E>(record.lsn, record.kind, record.version, &body);
    Ok(event::to_owned(archived.map_err(|e| e.to_string())?))
}

fn time(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn of(of: &event::Of) -> ReservationId {
    ReservationId { lsn: Lsn(of.reservation), slot: of.slot }
}

fn define(event: Define) -> Value {
    json!({
        "position": event.position,
        "sku_number": event.sku_number,
        "sku": event.sku,
        "location": event.location,
    })
}

fn stock(event: Stock, names: &Named<'_>) -> Value {
    let mut value = names.position(event.position);
    value["on_hand"] = event.on_hand.into();
    value["safety_stock"] = event.safety_stock.into();
    value["backorder_limit"] = event.backorder_limit.into();
    if let Some(version) = event.source_version {
        value["source_version"] = version.into();
    }
    if let Some(limit) = event.per_customer_limit {
        value["per_customer_limit"] = limit.into();
    }
    if event.forced {
        value["forced"] = true.into();
    }
    value
}

fn adjust(event: Adjust, names: &Named<'_>) -> Value {
    let mut value = names.position(event.position);
    value["delta"] = event.delta.into();
    value["reason"] = AdjustmentReason::word(event.reason).into();
    value["reference"] = event.reference.into();
    if event.forced {
        value["forced"] = true.into();
    }
    value
}

fn reserve(record: &Record<'_>, names: &Named<'_>) -> Result<Value, String> {
    let mut body = AlignedVec::<8>::new();
    body.extend_from_slice(record.body);
    let event = read::<Reserve<'_>>(record.lsn, record.kind, record.version, &body)
        .map_err(|e| e.to_string())?;
    let lines: Vec<_> = event
        .lines
        .iter()
        .map(|line| event::Line {
            position: line.position.to_native(),
            quantity: line.quantity.to_native(),
            limited: line.limited,
        })
        .collect();
    Ok(json!({
        "reservation": ReservationId { lsn: record.lsn, slot: event.slot.to_native() },
        "expires_at": time(event.deadline_ms.to_native()),
        "customer": &*event.customer,
        "order_id": &*event.order_id,
        "lines": names.lines(&lines),
    }))
}

fn release(event: Release, names: &Named<'_>) -> Value {
    json!({
        "reservation": of(&event.of),
        "lines": names.lines(&event.lines),
        "left": names.lines(&event.left),
    })
}

fn expire(event: Expire, names: &Named<'_>) -> Value {
    json!({"reservation": of(&event.of), "lines": names.lines(&event.lines)})
}

fn extend(event: Extend) -> Value {
    json!({"reservation": of(&event.of), "expires_at": time(event.deadline_ms)})
}

fn change(event: Change, names: &Named<'_>) -> Value {
    json!({
        "reservation": of(&event.of),
        "taken": names.lines(&event.taken),
        "given": names.lines(&event.given),
        "lines": names.lines(&event.lines),
        "expires_at": time(event.deadline_ms),
    })
}

fn placed(lsn: Lsn, event: Placed, names: &Named<'_>) -> Value {
    let order = &event.order;
    let mut reservations: Vec<_> = event
        .reservations
        .iter()
        .map(|sold| json!({"reservation": of(&sold.of), "revived": sold.revived}))
        .collect();
    if let Some(slot) = event.taken_slot {
        let id = ReservationId { lsn, slot };
        reservations.push(json!({"reservation": id, "taken": true}));
    }
    let prices: Vec<_> = order
        .prices
        .iter()
        .map(|price| {
            json!({
                "sku": names.sku(price.sku_number),
                "quantity": price.quantity,
                "unit_price": price.unit_price,
                "tax_code": price.tax_code,
                "tax": price.tax,
                "discount": price.discount,
            })
        })
        .collect();
    json!({
        "order_id": order.order_id,
        "customer": order.customer,
        "reservations": reservations,
        "currency": String::from_utf8_lossy(&order.currency),
        "prices": if order.net { "net" } else { "gross" },
        "lines": prices,
        "allocations": names.lines(&order.allocations),
        "shipping": order.shipping,
        "shipping_tax": order.shipping_tax,
        "priority": Priority::of_number(order.priority).as_str(),
        "committed_at": time(order.committed_at_ms),
        "promised_ship_at": (order.promised_ship_at_ms > 0).then(|| time(order.promised_ship_at_ms)),
    })
}

fn happened(event: Happened, names: &Named<'_>) -> Value {
    let mut value = fact(&event.fact, names);
    value["order_id"] = event.order_id.as_str().into();
    value["fact"] = event.fact.kind().as_str().into();
    value["id"] = event.id.as_str().into();
    value["state"] = state_of(event.state).as_str().into();
    value
}

fn fact(fact: &Fact, names: &Named<'_>) -> Value {
    match fact {
        Fact::Shipment { lines, carrier, tracking } => json!({
            "lines": lines.iter().map(|l| names.units(l.position, l.quantity)).collect::<Vec<_>>(),
            "carrier": carrier,
            "tracking": tracking,
        }),
        Fact::Cancellation { lines } => json!({
            "lines": lines.iter().map(|l| names.line(&l.line())).collect::<Vec<_>>(),
        }),
        Fact::Invoice { amount, tax } => json!({"amount": amount, "tax": tax}),
        Fact::Settlement { amount, fee } => json!({"amount": amount, "fee": fee}),
        Fact::Refund { amount, tax, reason } => {
            json!({"amount": amount, "tax": tax, "reason": reason})
        }
        Fact::Return { lines, restock } => {
            let line = |l: &Units| json!({"sku": names.sku(l.sku_number), "quantity": l.quantity});
            json!({"lines": lines.iter().map(line).collect::<Vec<_>>(), "restock": restock})
        }
        Fact::Receipt { return_id, lines, restock } => json!({
            "return_id": return_id,
            "lines": lines.iter().map(|l| names.units(l.position, l.quantity)).collect::<Vec<_>>(),
            "restock": restock,
        }),
        Fact::Note { text } => json!({"text": text}),
    }
}

fn park(event: Park) -> Value {
    // Written by this house from what was parsed: it is JSON.
    let reported = serde_json::from_str::<Value>(&event.event).unwrap_or_default();
    json!({
        "order_id": event.order_id,
        "partner": event.partner,
        "id": event.id,
        "event": reported,
    })
}

fn unpark(event: Unpark) -> Value {
    let (outcome, why) = match event.outcome {
        ParkedOutcome::Applied => ("applied", Value::Null),
        ParkedOutcome::Refused(why) => ("refused", json!({"code": why.code, "detail": why.detail})),
        ParkedOutcome::Discarded(reason) => ("discarded", reason.into()),
    };
    json!({
        "order_id": event.order_id,
        "parked": event.parked,
        "outcome": outcome,
        "why": why,
    })
}

fn seal(event: Seal) -> Value {
    let body = body_of(&event.body);
    json!({
        "sink": event.sink,
        "number": event.number,
        "first_lsn": event.first_lsn,
        "last_lsn": event.last_lsn,
        "covers_lsn": event.covers_lsn,
        "sealed_at": time(event.sealed_at_ms),
        "events": event.events,
        "config_version": event.config_version,
        "digest": hex(&event.digest),
        "chain": hex(&event.chain),
        "recognition": event.recognition,
        "parked": event.parking.parked.iter().map(|parked| parked.lsn).collect::<Vec<_>>(),
        "released": event.parking.released,
        "lane": Lane::of_index(event.lane.into()).as_str(),
        "letter": event.letter,
        "part_id": event.part_id,
        "body": body,
        "more": event.more.iter().map(|body| body_of(body)).collect::<Vec<_>>(),
    })
}

/// A body as it was sent: JSON, or else the text that it is.
fn body_of(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into())
}

fn letter(letter: &Letter) -> Value {
    json!({
        "id": letter.id,
        "part_id": letter.part_id,
        "status": letter.status,
        "reason": letter.reason,
        "uncertain": letter.uncertain,
        "mended": letter.mended,
        "body": body_of(&letter.body),
    })
}

fn operate(event: Operate) -> Value {
    let what = match &event.deed {
        Deed::Replay { from_number, to_number } => {
            json!({"from_number": from_number, "to_number": to_number})
        }
        Deed::Skip { number } => json!({"number": number}),
        Deed::Mend { letter: mended } => letter(mended),
        Deed::Retry { letter } | Deed::Discard { letter } => json!({"letter": letter}),
        Deed::Configure { version, .. } => json!({"version": version}),
        Deed::Split { split } => json!({
            "number": split.number,
            "attempts": split.attempts,
            "taken": paths(&split.taken),
            "pending": split.pending.iter().map(|part| part.path.as_str()).collect::<Vec<_>>(),
            "letters": split.letters.iter().map(letter).collect::<Vec<_>>(),
        }),
        Deed::Pause | Deed::Resume => Value::Null,
    };
    json!({
        "sink": event.sink,
        "deed": event.deed.as_str(),
        "what": what,
        "by": event.by,
        "reason": event.reason,
        "forced": event.forced,
    })
}

/// Of its keys nothing but until when old ones are good.
fn partner(event: PartnerChange) -> Value {
    let PartnerChange { partner, deed } = event;
    let good = partner.old_keys.iter().map(|old| time(old.until_ms));
    json!({
        "partner": partner.name,
        "deed": deed.as_str(),
        "by": partner.changed_by,
        "scopes": partner.terms.scopes,
        "limits": partner.terms.limits,
        "old_keys_until": good.collect::<Vec<_>>(),
    })
}

fn tallied(event: Tallied) -> Value {
    let say =
        |tally: Tally| json!({"of": tally.of, "period": tally.period, "counts": tally.counts});
    json!({"tallies": event.tallies.into_iter().map(say).collect::<Vec<_>>()})
}

fn acknowledge(event: Acknowledge) -> Value {
    json!({
        "sink": event.sink,
        "number": event.number,
        "seal_lsn": event.seal_lsn,
        "attempts": event.attempts,
        "status": event.status,
        "refused": event.refused,
        "answer": event.answer,
        "letter": event.letter,
        "letters": event.letters.iter().map(letter).collect::<Vec<_>>(),
        "taken": paths(&event.taken),
    })
}

fn paths(parts: &[TakenPart]) -> Vec<&str> {
    parts.iter().map(|part| part.path.as_str()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The record that an event makes.
    fn record(kind: u8, body: &[u8]) -> Record<'_> {
        Record { lsn: Lsn(640), end: Lsn(1280), kind, version: 1, time_ms: 7, body }
    }

    fn encoded<E: Event + event::Encode>(event: &E) -> Vec<u8> {
        let mut body = Vec::new();
        event::encode(event, &mut body);
        body
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let named: Vec<_> = (0..=u8::MAX).map(name).filter(|name| *name != "unknown").collect();
        assert_eq!(named.len(), KINDS.len());
        assert!(KINDS.iter().all(|kind| named.contains(kind)));
    }

    #[test]
    fn positions_have_the_names_that_they_are_given() {
        struct One;
        impl Names for One {
            fn position(&self, number: u32) -> Option<(String, String)> {
                (number == 3).then(|| ("TEE-M".to_owned(), "BER".to_owned()))
            }

            fn sku(&self, _: u32) -> Option<String> {
                None
            }
        }
        let names = One;
        let line = |position| event::Line { position, quantity: 5, limited: false };
        let lines = [line(3), line(4)];
        let reserve = Reserve {
            key: event::KeyRef::default(),
            deadline_ms: 1_764_000_000_120,
            customer_hash: 0,
            order_hash: 0,
            slot: 9,
            lines: &lines,
            customer: "c-42",
            order_id: "",
        };
        let value = json(&record(Reserve::KIND, &encoded(&reserve)), &names).unwrap();
        assert_eq!(
            value,
            json!({
                "reservation": "r000000000000028000000009",
                "expires_at": "2025-11-24T16:00:00.120Z",
                "customer": "c-42",
                "order_id": "",
                "lines": [
                    {"sku": "TEE-M", "location": "BER", "quantity": 5},
                    {"position": 4, "quantity": 5},
                ],
            })
        );
    }

    #[test]
    fn what_does_not_decode_is_said_not_guessed() {
        let names = NoNames;
        let error = json(&record(200, b""), &names).unwrap_err();
        assert!(error.contains("640") && error.contains("200"), "{error}");
        let error = json(&record(Reserve::KIND, &[0; 16]), &names).unwrap_err();
        assert!(error.contains("640"), "{error}");
        assert!(json(&record(Seal::KIND, &[0xff; 64]), &names).is_err());
    }

    #[test]
    fn a_genesis_keeps_its_secrets() {
        let genesis = Genesis { hash_secret: [17, 18] };
        let value = json(&record(Genesis::KIND, &encoded(&genesis)), &NoNames);
        assert_eq!(value, Ok(json!({})));
    }
}
