//! What happens to an order after it was placed.

use holdfast::{
    Refusal,
    model::{
        Amount, Currency, Quantity,
        command::{
            AuthorizeReturn, Cancel, Invoice, Note, ReceiveReturn, Refund, ReleaseLine, ReturnLine,
            Settle, Ship, ShipLine,
        },
        view::{FactView, OrderView, ReservationState as State, ReturnLineView, ReturnView},
    },
};

use crate::{LOCATIONS, SKUS, both::*, common::*, model::*};

/// What a request says happened; lines are SKU, place in the sourcing order, units.
#[derive(Debug, Clone)]
pub enum What {
    Ship(Vec<Moved>),
    Cancel(Option<Vec<Moved>>),
    Invoice(i64, i64),
    Settle(i64, i64),
    Refund(i64, i64),
    Return(Vec<Moved>, bool),
    Receive(usize, Vec<Moved>),
    Note,
}

pub type Moved = (usize, Option<usize>, u32);

/// A fact as it was asked for, for whoever asks again.
#[derive(Debug, Clone)]
pub struct Fact {
    pub order: String,
    pub id: String,
    pub what: What,
    pub return_id: String,
}

/// A return: its id, whether it is sold again, and authorised and received units by SKU.
pub type Return = (String, bool, Vec<(usize, u32, u32)>);

/// What the dull model knows of an order's life.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// Shipped and cancelled units, in the order of the allocations.
    pub gone: Vec<(u32, u32)>,
    /// Units that left, by place.
    pub left: Vec<(At, u32)>,
    /// Returns that were authorised.
    pub returns: Vec<Return>,
    pub invoiced: (i64, i64),
    pub settled: i64,
    pub refunded: (i64, i64),
}

fn quantity(units: u32) -> Quantity {
    Quantity::new(units).unwrap()
}

fn ship_lines(lines: &[Moved]) -> Vec<ShipLine> {
    let line = |(sku, location, units): &Moved| ShipLine {
        sku: id(SKUS[*sku]),
        location: location.map(|l| id(LOCATIONS[l])),
        quantity: quantity(*units),
    };
    lines.iter().map(line).collect()
}

fn amount(minor: i64) -> Amount {
    Amount::new(minor).unwrap()
}

impl Both {
    pub fn ask_fact(&self, key: &str, fact: &Fact) -> Result<holdfast::Answer<FactView>, Refusal> {
        let shop = self.shop();
        let name = id(key);
        let k = holdfast::Key::new("", &name);
        let (order, own) = (&id(&fact.order), id(&fact.id));
        let currency = Currency::new("EUR").unwrap();
        let decision = match &fact.what {
            What::Ship(lines) => {
                let lines = ship_lines(lines);
                let ship = Ship { shipment_id: own, lines, carrier: None, tracking: None };
                shop.0.ship(k, order, &ship)
            }
            What::Cancel(lines) => {
                let line = |(sku, location, units): &Moved| ReleaseLine {
                    sku: id(SKUS[*sku]),
                    location: location.map(|l| id(LOCATIONS[l])),
                    quantity: quantity(*units),
                };
                let lines = lines.as_ref().map(|lines| lines.iter().map(line).collect());
                shop.0.cancel(k, order, &Cancel { cancellation_id: own, lines })
            }
            What::Invoice(gross, tax) => {
                let (amount, tax) = (amount(*gross), amount(*tax));
                shop.0.invoice(k, order, &Invoice { invoice_id: own, currency, amount, tax })
            }
            What::Settle(gross, fee) => {
                let (amount, fee) = (amount(*gross), amount(*fee));
                shop.0.settle_order(k, order, &Settle { settlement_id: own, currency, amount, fee })
            }
            What::Refund(gross, tax) => {
                let (amount, tax) = (amount(*gross), amount(*tax));
                let refund = Refund { refund_id: own, currency, amount, tax, reason: None };
                shop.0.refund(k, order, &refund)
            }
            What::Return(lines, restock) => {
                let line = |(sku, _, units): &Moved| ReturnLine {
                    sku: id(SKUS[*sku]),
                    quantity: quantity(*units),
                };
                let lines = lines.iter().map(line).collect();
                let back = AuthorizeReturn { return_id: own, lines, restock: *restock };
                shop.0.authorize_return(k, order, &back)
            }
            What::Receive(_, lines) => {
                let receive = ReceiveReturn { receipt_id: own, lines: ship_lines(lines) };
                shop.0.receive_return(k, order, &id(&fact.return_id), &receive)
            }
            What::Note => shop.0.note(k, order, &Note { note_id: own, text: "a dispute".into() }),
        };
        shop.settle(decision)
    }

    pub fn happen(&mut self, order: usize, what: &What) {
        let mut known: Vec<_> = self.model.orders.keys().cloned().collect();
        known.sort();
        let Some(at) = order.checked_rem(known.len()) else { return };
        let (key, order) = (self.key(), known[at].clone());
        let returns = &self.model.lives.entry(order.clone()).or_default().returns;
        let return_id = match what {
            What::Receive(of, _) if !returns.is_empty() => returns[of % returns.len()].0.clone(),
            _ => "none".into(),
        };
        let fact = Fact { order, id: format!("F-{key}"), what: what.clone(), return_id };
        let said = self.ask_fact(&key, &fact);
        let expected = self.model.happen(&fact);
        let said_code = said.as_ref().err().map_or("ok", Refusal::code);
        assert_eq!(said_code, expected, "{fact:?}: {said:?}");
        let Ok(answer) = said else { return };
        let view = answer.value.clone();
        assert!(answer.created && !answer.replayed);
        assert_eq!((view.order_id.as_str(), view.id.as_str()), (&*fact.order, &*fact.id));
        self.model.lsns.push(view.lsn);
        self.model.told(&fact, &view);
        // Its own id again, under another key: the same answer, and nothing is remembered of the key.
        let again = self.ask_fact("again", &fact).unwrap();
        assert_eq!((again.value, again.created), (view, false));
        if let Some(what) = other(what) {
            let refused = self.ask_fact("other", &Fact { what, ..fact.clone() }).unwrap_err();
            assert_eq!(refused.code(), "content_mismatch");
        }
        self.model.facts.push((key, fact, answer.value));
    }

    /// A fact's request again, with its key.
    pub fn repeat_fact(&mut self, of: usize) {
        let Some(at) = of.checked_rem(self.model.facts.len()) else { return };
        let (key, fact, view) = self.model.facts[at].clone();
        let again = self.ask_fact(&key, &fact).unwrap();
        assert_eq!((again.value, again.replayed, again.created), (view.clone(), true, true));
        let now = self.model.orders[&fact.order].0.state;
        assert_eq!(again.current_state, (now != view.state).then_some(now));
    }
}

/// The same kind of thing with other content; notes are all alike here.
fn other(what: &What) -> Option<What> {
    let more = |lines: &[Moved]| lines.iter().map(|(s, l, q)| (*s, *l, q + 100)).collect();
    Some(match what {
        What::Ship(lines) => What::Ship(more(lines)),
        What::Cancel(lines) => {
            What::Cancel(Some(more(lines.as_deref().unwrap_or(&[(0, None, 1)]))))
        }
        What::Invoice(amount, tax) => What::Invoice(amount + 1, *tax),
        What::Settle(amount, fee) => What::Settle(amount + 1, *fee),
        What::Refund(amount, tax) => What::Refund(amount + 1, *tax),
        What::Return(lines, restock) => What::Return(more(lines), *restock),
        What::Receive(of, lines) => What::Receive(*of, more(lines)),
        What::Note => return None,
    })
}

impl Model {
    /// What is to come of a fact; if it may be, it is done to the positions and limits.
    fn happen(&mut self, fact: &Fact) -> Refused {
        let (view, units) = self.orders[&fact.order].clone();
        let mut life = self.lives[&fact.order].clone();
        life.gone.resize(units.len(), (0, 0));
        let said = match &fact.what {
            What::Ship(lines) => self.ship(&mut life, &units, lines),
            What::Cancel(lines) => self.cancel(&mut life, &fact.order, &units, lines.as_deref()),
            What::Invoice(amount, tax) => {
                let cancelled: u32 = life.gone.iter().map(|(_, cancelled)| cancelled).sum();
                let sold: u32 = units.iter().map(|(_, quantity, _)| quantity).sum();
                // Every unit has the same price here, and every line the same small tax.
                let left = view.total * i64::from(sold - cancelled) / i64::from(sold.max(1));
                let tax_left = view.lines.iter().map(|l| self.tax_left(&life, &units, l)).sum();
                within(tax, *amount, "malformed")
                    .and_then(|()| within(&(life.invoiced.0 + amount), left, "wrong_state"))
                    .and_then(|()| within(&(life.invoiced.1 + tax), tax_left, "wrong_state"))
                    .map(|()| life.invoiced = (life.invoiced.0 + amount, life.invoiced.1 + tax))
            }
            What::Settle(amount, fee) => within(fee, *amount, "malformed")
                .and_then(|()| within(&(life.settled + amount), view.total, "wrong_state"))
                .map(|()| life.settled += amount),
            What::Refund(amount, tax) => within(tax, *amount, "malformed")
                .and_then(|()| within(&(life.refunded.0 + amount), view.total, "wrong_state"))
                .and_then(|()| within(&(life.refunded.1 + tax), view.total_tax, "wrong_state"))
                .map(|()| life.refunded = (life.refunded.0 + amount, life.refunded.1 + tax)),
            What::Return(lines, restock) => authorise(&mut life, &units, fact, lines, *restock),
            What::Receive(_, lines) => self.receive(&mut life, &units, &fact.return_id, lines),
            What::Note => Ok(()),
        };
        match said {
            Ok(()) => {
                self.lives.insert(fact.order.clone(), life);
                "ok"
            }
            Err(why) => why,
        }
    }

    fn tax_left(
        &self,
        life: &Life,
        units: &Units,
        line: &holdfast::model::view::OrderLineView,
    ) -> i64 {
        let of_sku = |at: &At| SKUS[at.0] == line.sku.as_str();
        let lines = units.iter().zip(&life.gone).filter(|((at, ..), _)| of_sku(at));
        let cancelled: u32 = lines.map(|(_, (_, cancelled))| cancelled).sum();
        line.tax.minor() - line.tax.minor() * i64::from(cancelled) / i64::from(line.quantity)
    }

    fn ship(&mut self, life: &mut Life, units: &Units, lines: &[Moved]) -> Result<(), Refused> {
        let mut pieces = Vec::new();
        for (sku, location, wanted) in lines {
            if !units.iter().any(|(at, ..)| at.0 == *sku) {
                return Err("malformed");
            }
            let place = location.map(|l| (*sku, l));
            if place.is_some_and(|place| !self.positions.contains_key(&place)) {
                return Err("unknown_sku");
            }
            let mut left = *wanted;
            for here in [true, false] {
                for (at, (from, sold, _)) in units.iter().enumerate() {
                    if from.0 != *sku || place.is_none_or(|place| place == *from) != here {
                        continue;
                    }
                    let open = sold - life.gone[at].0 - life.gone[at].1;
                    let part = left.min(open);
                    life.gone[at].0 += part;
                    left -= part;
                    if part > 0 {
                        pieces.push((*from, place.unwrap_or(*from), part));
                    }
                }
            }
            if left > 0 {
                return Err("wrong_state");
            }
        }
        for (_, to, _) in &pieces {
            let moved = pieces.iter().filter(|(from, other, _)| other == to && from != other);
            let moved: u32 = moved.map(|(_, _, part)| part).sum();
            if moved > 0 && i64::from(moved) > self.positions[to].available() {
                return Err("insufficient_stock");
            }
        }
        for (from, to, part) in pieces {
            self.positions.get_mut(&from).unwrap().committed -= i64::from(part);
            self.positions.get_mut(&to).unwrap().on_hand -= i64::from(part);
            self.moves.push((to, -i64::from(part)));
            life.left.push((to, part));
        }
        Ok(())
    }

    fn cancel(
        &mut self,
        life: &mut Life,
        order: &str,
        units: &Units,
        lines: Option<&[Moved]>,
    ) -> Result<(), Refused> {
        let mut cancelled = Vec::new();
        let all: Vec<Moved>;
        let lines = match lines {
            Some(lines) => lines,
            None => {
                let open = units
                    .iter()
                    .zip(&life.gone)
                    .map(|((at, sold, _), gone)| (at.0, Some(at.1), sold - gone.0 - gone.1));
                all = open.filter(|(.., open)| *open > 0).collect();
                &all
            }
        };
        if lines.is_empty() {
            return Err("wrong_state");
        }
        for (sku, location, wanted) in lines {
            let mut left = *wanted;
            for (at, (place, sold, limited)) in units.iter().enumerate().rev() {
                if place.0 != *sku || location.is_some_and(|l| l != place.1) {
                    continue;
                }
                let part = left.min(sold - life.gone[at].0 - life.gone[at].1);
                life.gone[at].1 += part;
                left -= part;
                cancelled.push((at, *place, part, *limited));
            }
            if left > 0 {
                return Err("wrong_state");
            }
        }
        let takers = self.takers(order, units.len());
        for (at, place, part, limited) in cancelled {
            self.positions.get_mut(&place).unwrap().committed -= i64::from(part);
            if let Some(customer) = takers[at].filter(|_| limited) {
                *self.taken.get_mut(&(customer, place.0)).unwrap() -= part;
            }
        }
        Ok(())
    }

    /// Who took each of an order's allocations.
    fn takers(&self, order: &str, allocations: usize) -> Vec<Option<usize>> {
        let reservations = &self.orders[order].0.reservations;
        let of = reservations.iter().map(|id| &self.reservations[id]);
        let takers: Vec<_> = of.flat_map(|r| r.units.iter().map(|_| r.customer)).collect();
        assert_eq!(takers.len(), allocations);
        takers
    }

    fn receive(
        &mut self,
        life: &mut Life,
        units: &Units,
        return_id: &str,
        lines: &[Moved],
    ) -> Result<(), Refused> {
        let of = life.returns.iter_mut().find(|(id, ..)| id == return_id).ok_or("not_found")?;
        let mut came = Vec::new();
        for (sku, location, quantity) in lines {
            if !units.iter().any(|(at, ..)| at.0 == *sku) {
                return Err("malformed");
            }
            let place = match location {
                Some(l) if self.positions.contains_key(&(*sku, *l)) => (*sku, *l),
                Some(_) => return Err("unknown_sku"),
                None => {
                    let left = life.left.iter().find(|(at, _)| at.0 == *sku);
                    left.map(|(at, _)| *at).ok_or("wrong_state")?
                }
            };
            came.push((place, *quantity));
        }
        for (place, quantity) in &came {
            let mut left = *quantity;
            for (sku, authorised, received) in &mut of.2 {
                let part = if *sku == place.0 { left.min(*authorised - *received) } else { 0 };
                *received += part;
                left -= part;
            }
            if left > 0 {
                return Err("wrong_state");
            }
        }
        if of.1 {
            for (place, quantity) in came {
                self.positions.get_mut(&place).unwrap().on_hand += i64::from(quantity);
                self.moves.push((place, i64::from(quantity)));
            }
        }
        Ok(())
    }

    /// The order as it is told after a fact.
    fn told(&mut self, fact: &Fact, view: &FactView) {
        let life = &self.lives[&fact.order];
        let (order, units) = self.orders.get_mut(&fact.order).unwrap();
        for line in &mut order.lines {
            let of = units.iter().zip(&life.gone);
            let of = of.filter(|((at, ..), _)| SKUS[at.0] == line.sku.as_str());
            let (shipped, cancelled) =
                of.fold((0, 0), |sum, (_, gone)| (sum.0 + gone.0, sum.1 + gone.1));
            (line.shipped, line.cancelled) = (shipped, cancelled);
            line.open_quantity = line.quantity - shipped - cancelled;
        }
        let open: u32 = order.lines.iter().map(|l| l.open_quantity).sum();
        let shipped: u32 = order.lines.iter().map(|l| l.shipped).sum();
        let before = order.state;
        order.state = match (open, shipped) {
            (1.., _) => State::Committed,
            (0, 0) => State::Cancelled,
            (0, _) => State::Fulfilled,
        };
        assert_eq!(view.state, order.state);
        order.money.invoiced = life.invoiced.0;
        order.money.settled = life.settled;
        if let What::Settle(_, fee) = fact.what {
            order.money.fees += fee;
        }
        order.money.refunded = life.refunded.0;
        order.events.push(view.clone());
        order.returns = return_views(Some(life));
        order.lsn = view.lsn;
        let turned = (order.state != before).then(|| order.reservations.clone());
        for of in turned.into_iter().flatten() {
            let r = self.reservations.get_mut(&of).unwrap();
            (r.state, r.last) = (view.state, view.lsn);
        }
        for (at, delta) in self.moves.drain(..) {
            self.positions.get_mut(&at).unwrap().movements.push((view.lsn, delta));
        }
    }
}

fn within(part: &i64, whole: i64, why: Refused) -> Result<(), Refused> {
    if *part <= whole { Ok(()) } else { Err(why) }
}

fn authorise(
    life: &mut Life,
    units: &Units,
    fact: &Fact,
    lines: &[Moved],
    restock: bool,
) -> Result<(), Refused> {
    if lines.iter().any(|(sku, ..)| !units.iter().any(|(at, ..)| at.0 == *sku)) {
        return Err("malformed");
    }
    for (sku, ..) in lines {
        let left: u32 = life.left.iter().filter(|(at, _)| at.0 == *sku).map(|(_, q)| q).sum();
        let known = life.returns.iter().flat_map(|(_, _, lines)| lines);
        let before: u32 = known.filter(|(s, ..)| s == sku).map(|(_, q, _)| q).sum();
        let now: u32 = lines.iter().filter(|(s, ..)| s == sku).map(|(.., q)| q).sum();
        if before + now > left {
            return Err("wrong_state");
        }
    }
    let lines = lines.iter().map(|(sku, _, quantity)| (*sku, *quantity, 0)).collect();
    life.returns.push((fact.id.clone(), restock, lines));
    Ok(())
}

/// An order without what only time changes.
pub fn timeless(view: OrderView) -> OrderView {
    OrderView { age_ms: 0, ..view }
}

/// Returns as they are told.
pub fn return_views(life: Option<&Life>) -> Vec<ReturnView> {
    let returns = life.iter().flat_map(|life| &life.returns);
    let view = |(return_id, restock, lines): &Return| ReturnView {
        return_id: id(return_id),
        restock: *restock,
        lines: lines
            .iter()
            .map(|(sku, quantity, received)| ReturnLineView {
                sku: id(SKUS[*sku]),
                quantity: *quantity,
                received: *received,
            })
            .collect(),
    };
    returns.map(view).collect()
}
