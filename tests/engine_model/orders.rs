//! Commits and orders.

use holdfast::{
    Refusal,
    model::{Amount, OrderId, view::ReservationState as State},
};

use crate::{CUSTOMERS, SKUS, both::*, common::*, life::timeless, model::*, steps::Line};

pub fn is_sold(state: State) -> bool {
    matches!(state, State::Committed | State::Fulfilled | State::Cancelled)
}

impl Both {
    /// The money side for a mask of SKUs; 0: those that are sold.
    pub fn priced(&self, skus: u8, units: &[&Units]) -> (Vec<&'static str>, bool) {
        let sold: Vec<usize> =
            (0..3).filter(|s| units.iter().any(|u| u.iter().any(|(at, ..)| at.0 == *s))).collect();
        let named: Vec<usize> = match skus {
            0 => sold.clone(),
            mask => (0..3).filter(|s| mask & 1 << s != 0).collect(),
        };
        let fits = named == sold;
        (named.into_iter().map(|s| SKUS[s]).collect(), fits)
    }

    pub fn commit(
        &mut self,
        of: usize,
        skus: u8,
        order: Option<usize>,
        revive: bool,
        bad_tax: bool,
    ) {
        let Some(of) = self.some_reservation(of) else { return };
        let r = self.model.reservations[&of].clone();
        let key = self.key();
        let order_id = match (&r.order, order) {
            (Some(given), None) => given.clone(),
            _ => self.order_id(order),
        };
        let (named, fits) = self.priced(skus, &[&r.units]);
        let mut commit = sale(&order_id, &named);
        commit.revive = revive;
        if r.order.is_some() && order.is_none() {
            commit.order_id = None;
        }
        if let Some(line) = commit.lines.first_mut().filter(|_| bad_tax) {
            line.tax = Amount::new(1_000_000_000).unwrap();
        }
        let sound = fits && (!bad_tax || commit.lines.is_empty());
        let said = self.first_with(key, Request::Commit(of, commit.clone()));
        let said_code = said.as_ref().err().map_or("ok", Refusal::code);
        let expected = if r.order.as_ref().is_some_and(|given| *given != order_id) {
            "order_mismatch"
        } else if is_sold(r.state) {
            match self.model.orders.get(&order_id) {
                None => "order_mismatch",
                Some((view, _)) if !view.reservations.contains(&of) => "order_exists",
                Some((view, _)) => {
                    let lines = commit.lines.iter().map(|l| (l.sku.as_str(), l.tax));
                    if is_same_money(view, lines.collect()) { "ok" } else { "wrong_state" }
                }
            }
        } else if self.model.orders.contains_key(&order_id) {
            "order_exists"
        } else if r.state == State::Expired && revive {
            let wants: Vec<_> = r
                .units
                .iter()
                .map(|(at, quantity, _)| Line {
                    sku: at.0,
                    location: Some(at.1),
                    quantity: *quantity,
                    split: true,
                })
                .collect();
            match self.model.take_more(&wants, r.customer, &vec![]) {
                Err(why) => why,
                Ok(_) if !sound => "malformed",
                Ok(units) => {
                    self.model.apply(&units, r.customer, 1);
                    self.model.reservations.get_mut(&of).unwrap().units = units;
                    "ok"
                }
            }
        } else if r.state != State::Held {
            "wrong_state"
        } else if !sound {
            "malformed"
        } else {
            "ok"
        };
        assert_eq!(said_code, expected, "{commit:?} of {r:?}: {said:?}");
        let Ok(Said::Reservation(view)) = said else { return };
        let state = if is_sold(r.state) { r.state } else { State::Committed };
        assert_eq!((view.id, view.state), (of, state));
        assert_eq!(view.order_id.as_ref().map(OrderId::as_str), Some(order_id.as_str()));
        if is_sold(r.state) {
            return self.forget_last();
        }
        let units = self.model.reservations[&of].units.clone();
        assert_eq!(sorted(view.lines.clone()), line_views(&units));
        self.model.sell(&units);
        let r = self.model.reservations.get_mut(&of).unwrap();
        (r.state, r.last, r.order) = (State::Committed, view.lsn, Some(order_id.clone()));
        self.remember_order(&order_id, units);
    }

    /// A repeat of what was done already, with a new key: nothing is remembered of that key.
    pub fn forget_last(&mut self) {
        self.model.done.pop();
    }

    pub fn remember_order(&mut self, order_id: &str, units: Units) {
        let shop = self.shop();
        let view = shop.settle(shop.0.order(&id(order_id))).unwrap().value;
        assert_eq!(sorted(view.allocations.clone()), line_views(&units));
        let sold: u32 = view.lines.iter().map(|l| l.quantity).sum();
        assert_eq!(sold, units.iter().map(|(_, q, _)| q).sum::<u32>());
        assert_eq!(view.total, i64::from(sold) * 1999);
        self.model.orders.insert(order_id.into(), (timeless(view), units));
    }

    pub fn place_now(
        &mut self,
        lines: &[Line],
        customer: Option<usize>,
        order: Option<usize>,
        bad_tax: bool,
    ) {
        let key = self.key();
        let order_id = self.order_id(order);
        let mut place = order_now(&order_id, &reserve_lines(lines));
        place.customer = customer.map(|c| id(CUSTOMERS[c]));
        if bad_tax {
            place.lines[0].tax = Amount::new(1_000_000_000).unwrap();
        }
        let said = self.first_with(key, Request::Place(place));
        let said_code = said.as_ref().err().map_or("ok", Refusal::code);
        let exists = self.model.orders.contains_key(&order_id);
        let taken = self.model.resolve(lines).and_then(|wants| {
            if exists { Err("order_exists") } else { self.model.take(&wants, customer) }
        });
        let expected = match &taken {
            Err(why) => why,
            Ok(_) if bad_tax => "malformed",
            Ok(_) => "ok",
        };
        assert_eq!(said_code, expected, "{lines:?}: {said:?}");
        let (Ok(Said::Order(view)), Ok(units)) = (said, taken) else { return };
        self.model.apply(&units, customer, 1);
        self.model.sell(&units);
        let of = view.reservations[0];
        let r = Reservation {
            state: State::Committed,
            units: units.clone(),
            customer,
            order: Some(order_id.clone()),
            expires_ms: 0,
            brief: false,
            at_once: true,
            last: view.lsn,
        };
        self.model.reservations.insert(of, r);
        self.remember_order(&order_id, units);
        assert_eq!(self.model.orders[&order_id].0, timeless(view));
    }

    pub fn place_held(&mut self, of: &[usize], skus: u8, order: Option<usize>) {
        let mut ids: Vec<_> = of.iter().filter_map(|of| self.some_reservation(*of)).collect();
        ids.sort();
        ids.dedup();
        if ids.is_empty() {
            return;
        }
        let key = self.key();
        let order_id = self.order_id(order);
        let all: Vec<_> = ids.iter().map(|id| self.model.reservations[id].clone()).collect();
        let units: Vec<&Units> = all.iter().map(|r| &r.units).collect();
        let (named, fits) = self.priced(skus, &units);
        let place = order_of(&order_id, &ids, &named);
        let money = named.iter().map(|sku| (*sku, price(sku).tax)).collect();
        let said = self.first_with(key, Request::Place(place));
        let said_code = said.as_ref().err().map_or("ok", Refusal::code);
        let other_order = |r: &&Reservation| r.order.as_ref().is_some_and(|o| *o != order_id);
        let not_held = all.iter().find(|r| r.state != State::Held);
        let expected = if all.iter().any(|r| other_order(&r)) {
            "order_mismatch"
        } else if let Some((view, _)) = self.model.orders.get(&order_id) {
            // An order that was taken at once may name its customer, and this one names none.
            let nobody = all.iter().all(|r| !r.at_once || r.customer.is_none());
            let same = view.reservations == ids && is_same_money(view, money) && nobody;
            if same { "ok" } else { "order_exists" }
        } else if not_held.is_some() {
            "wrong_state"
        } else if !fits {
            "malformed"
        } else {
            "ok"
        };
        assert_eq!(said_code, expected, "{named:?} of {all:?}: {said:?}");
        let Ok(Said::Order(view)) = said else { return };
        if let Some((before, _)) = self.model.orders.get(&order_id) {
            assert_eq!(timeless(view), *before);
            return self.forget_last();
        }
        let mut sold = Units::new();
        for (of, r) in ids.iter().zip(&all) {
            self.model.sell(&r.units);
            sold.extend(r.units.iter().cloned());
            let r = self.model.reservations.get_mut(of).unwrap();
            (r.state, r.last, r.order) = (State::Committed, view.lsn, Some(order_id.clone()));
        }
        self.remember_order(&order_id, sold);
        assert_eq!(self.model.orders[&order_id].0, timeless(view));
    }
}
