//! What is asked for of orders that were placed: shipments, cancellations, invoices, settlements,
//! refunds, returns and what comes back of them, notes.

use holdfast::{
    Decision, Key,
    model::{
        Amount, Currency, OrderId, Quantity, Reference, Sku,
        command::{
            AuthorizeReturn, Cancel, Invoice, Note, ReceiveReturn, Refund, ReleaseLine, ReturnLine,
            Settle, Ship, ShipLine,
        },
        view::FactView,
    },
    wal::sim::Random,
};

use super::LOCATIONS;
use crate::common::{SimEngine, id};

/// What is asked for.
#[derive(Debug, Clone)]
pub enum Asked {
    Ship(Ship),
    Cancel(Cancel),
    Invoice(Invoice),
    Settle(Settle),
    Refund(Refund),
    Return(AuthorizeReturn),
    Receive(Reference, ReceiveReturn),
    Note(Note),
}

/// An order that one knows: its id, its SKUs, its returns that one asked for.
pub struct Known {
    pub order: OrderId,
    pub skus: Vec<Sku>,
    returns: Vec<Reference>,
}

impl Asked {
    pub fn decide(&self, engine: &SimEngine, key: Key<'_>, of: &OrderId) -> Decision<FactView> {
        match self {
            Self::Ship(ship) => engine.ship(key, of, ship),
            Self::Cancel(cancel) => engine.cancel(key, of, cancel),
            Self::Invoice(invoice) => engine.invoice(key, of, invoice),
            Self::Settle(settle) => engine.settle_order(key, of, settle),
            Self::Refund(refund) => engine.refund(key, of, refund),
            Self::Return(back) => engine.authorize_return(key, of, back),
            Self::Receive(back, receive) => engine.receive_return(key, of, back, receive),
            Self::Note(note) => engine.note(key, of, note),
        }
    }
}

fn minor(units: u64) -> Amount {
    Amount::new(units as i64).unwrap()
}

impl Known {
    pub fn new(order: OrderId, skus: Vec<Sku>) -> Self {
        Self { order, skus, returns: Vec::new() }
    }

    fn sku(&self, random: &mut Random) -> Sku {
        self.skus[random.below(self.skus.len() as u64) as usize].clone()
    }

    /// One or two lines, some of them with a location, which need not be the one they were sold from.
    fn lines(&self, random: &mut Random) -> Vec<ShipLine> {
        let line = |random: &mut Random| ShipLine {
            sku: self.sku(random),
            location: (random.below(2) == 0).then(|| id(LOCATIONS[random.below(2) as usize])),
            quantity: Quantity::new(1 + random.below(2) as u32).unwrap(),
        };
        let lines = 1 + u64::from(random.below(4) == 0);
        (0..lines).map(|_| line(random)).collect()
    }

    /// Thinks of something that happens to the order. Its own id is its key's name, or, now and then,
    /// one that others have too, with other content mostly.
    pub fn think(&self, random: &mut Random, name: &str) -> Asked {
        let own: Reference = match random.below(10) {
            0 => id(&format!("own{}", random.below(3))),
            _ => id(name),
        };
        let lines = self.lines(random);
        let currency = Currency::new("EUR").unwrap();
        let (amount, part) = (minor(1 + random.below(2_500)), minor(random.below(3)));
        match random.below(20) {
            0..=5 => Asked::Ship(Ship {
                shipment_id: own,
                lines,
                carrier: (random.below(2) == 0).then(|| id("DHL")),
                tracking: None,
            }),
            6..=8 => Asked::Cancel(Cancel {
                cancellation_id: own,
                lines: (random.below(3) > 0).then(|| lines.into_iter().map(release).collect()),
            }),
            9 => Asked::Invoice(Invoice { invoice_id: own, currency, amount, tax: part }),
            10 => Asked::Settle(Settle { settlement_id: own, currency, amount, fee: part }),
            11 => {
                let reason = (random.below(2) == 0).then(|| id("broken"));
                Asked::Refund(Refund { refund_id: own, currency, amount, tax: part, reason })
            }
            12..=14 => Asked::Return(AuthorizeReturn {
                return_id: own.clone(),
                lines: lines
                    .into_iter()
                    .map(|line| ReturnLine { sku: line.sku, quantity: line.quantity })
                    .collect(),
                restock: random.below(3) > 0,
            }),
            15..=18 => {
                let back = self.returns.get(random.below(1 + self.returns.len() as u64) as usize);
                let back = back.or(self.returns.last()).cloned().unwrap_or_else(|| id("none"));
                Asked::Receive(back, ReceiveReturn { receipt_id: own, lines })
            }
            _ => Asked::Note(Note { note_id: own, text: format!("{name}: it rains") }),
        }
    }

    /// A return that was authorised.
    pub fn authorised(&mut self, back: &AuthorizeReturn) {
        self.returns.push(back.return_id.clone());
    }
}

fn release(line: ShipLine) -> ReleaseLine {
    ReleaseLine { sku: line.sku, quantity: line.quantity, location: line.location }
}
