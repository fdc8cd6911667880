//! Records as the log gives them, for this module's tests.

use std::collections::HashMap;

use rkyv::util::AlignedVec;

use super::lookup::Lookup;
use crate::{
    model::{
        Incarnation, Location, Lsn, Sku,
        command::Priority,
        event::{self, Adjust, Event, Happened, KeyRef, Line, OrderData, Placed, Priced, Stock},
        fact::Fact,
        life::{Known, Life},
        worth,
    },
    wal::Record,
};

/// Names of 1,000 positions: SKU-0 at BER and MUC, SKU-1 at BER and MUC, and so on; the priorities of
/// the orders that it is told of.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub priorities: HashMap<String, Priority>,
}

pub const LIFE: Incarnation = Incarnation(0x3f9c << 48);
/// A name that JSON must escape.
pub const MUC: &str = "say \"M\\UC\"";

impl Lookup for Names {
    fn position(&self, number: u32) -> Option<(Sku, Location)> {
        let location = if number.is_multiple_of(2) { "BER" } else { MUC };
        (number < 1_000)
            .then(|| (format!("SKU-{}", number / 2).parse().unwrap(), location.parse().unwrap()))
    }

    fn sku(&self, number: u32) -> Option<Sku> {
        (number < 500).then(|| format!("SKU-{number}").parse().unwrap())
    }

    fn priority(&self, order_id: &str) -> Option<Priority> {
        self.priorities.get(order_id).copied()
    }

    fn incarnation_at(&self, _: Lsn) -> Incarnation {
        LIFE
    }
}

/// What the first version of the schemas sends for known records, byte for byte: an upgrade that changes
/// it breaks what partners were promised. A body that is new is written with HOLDFAST_WRITE_SCHEMAS=1.
#[track_caller]
pub fn assert_golden(name: &str, body: &[u8]) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/v1/golden");
    let path = format!("{folder}/{name}.json");
    if std::env::var_os("HOLDFAST_WRITE_SCHEMAS").is_some() {
        std::fs::write(&path, body).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let (golden, body) = (String::from_utf8_lossy(&golden), String::from_utf8_lossy(body));
    assert_eq!(golden, body, "{path}");
}

/// A record's body and header.
#[derive(Debug, Clone)]
pub struct Written {
    pub lsn: Lsn,
    pub kind: u8,
    pub version: u8,
    pub body: AlignedVec<8>,
}

impl Written {
    pub fn record(&self) -> Record<'_> {
        let end = Lsn(self.lsn.0 + 16 + self.body.len() as u64);
        Record {
            lsn: self.lsn,
            end,
            kind: self.kind,
            version: self.version,
            time_ms: 1_000,
            body: &self.body,
        }
    }
}

macro_rules! written {
    ($lsn:expr, $event:expr, $kind:ty) => {{
        let mut bytes = Vec::new();
        event::encode($event, &mut bytes);
        let mut body = AlignedVec::new();
        body.extend_from_slice(&bytes);
        Written { lsn: Lsn($lsn), kind: <$kind>::KIND, version: <$kind>::VERSION, body }
    }};
}

pub fn placed(lsn: u64, order: OrderData) -> Written {
    let event = Placed {
        key: KeyRef::default(),
        customer_hash: 0,
        order_hash: 1,
        taken_slot: Some(0),
        reservations: Vec::new(),
        order,
    };
    written!(lsn, &event, Placed)
}

/// Something happens to an order: the record, and what has become of the order.
pub fn happened(lsn: u64, order: &OrderData, life: &mut Life, fact: Fact) -> Written {
    let sku_of = |position| position;
    life.check(order, &fact, sku_of).unwrap();
    let (before, id) = (life.clone(), format!("F-{}", life.known.len()));
    let kind = fact.kind() as u8;
    let known = Known { lsn, content: 0, at_ms: 1_000, id: id.as_str().into(), kind, state: 0 };
    life.add(order, &fact, known);
    let event = Happened {
        key: KeyRef::default(),
        previous: 0,
        content: 0,
        order_id: order.order_id.clone(),
        id: id.into(),
        turned: Default::default(),
        worth: worth::of(order, &before, life, &fact, sku_of).unwrap(),
        fact,
        state: life.state(order) as u8,
    };
    written!(lsn, &event, Happened)
}

pub fn adjust(lsn: u64, position: u32, delta: i64, reason: u8) -> Written {
    let (reference, answer) = (String::new(), String::new());
    let event = Adjust {
        key: KeyRef::default(),
        delta,
        position,
        forced: false,
        reason,
        reference,
        answer,
    };
    written!(lsn, &event, Adjust)
}

pub fn stock(lsn: u64, position: u32, on_hand: i64) -> Written {
    let event = Stock {
        on_hand,
        safety_stock: 5,
        backorder_limit: 0,
        source_version: None,
        per_customer_limit: None,
        position,
        forced: false,
    };
    written!(lsn, &event, Stock)
}

/// An order of `lines` (position, quantity), without money.
pub fn order(lines: &[(u32, u32)]) -> OrderData {
    let line = |&(position, quantity): &(u32, u32)| Line { position, quantity, limited: false };
    OrderData {
        shipping: 0,
        shipping_tax: 0,
        promised_ship_at_ms: 0,
        committed_at_ms: 1_000,
        order_id: "O-1".into(),
        customer: "".into(),
        prices: Default::default(),
        allocations: lines.iter().map(line).collect(),
        currency: *b"EUR",
        net: false,
        priority: 1,
    }
}

pub fn priced(unit_price: i64, quantity: u32, tax: i64, discount: i64, tax_code: &str) -> Priced {
    Priced {
        unit_price,
        tax,
        discount,
        unit_cost: 0,
        sku_number: 0,
        quantity,
        tax_code: tax_code.into(),
    }
}
