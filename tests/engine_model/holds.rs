//! Stock, and what is held of it.

use holdfast::{
    Refusal,
    model::{
        Quantity,
        command::{
            AdjustStock, AdjustmentReason, ChangeLines, Extend, Release, ReleaseLine, Reserve,
            SetStock,
        },
        view::ReservationState as State,
    },
};

use crate::{CUSTOMERS, LOCATIONS, SKUS, both::*, common::*, model::*, steps::*};

impl Both {
    pub fn set(&mut self, step: &Step) {
        let Step::Set { at, on_hand, safety, backorder, limit, version, as_of, allow } = step
        else {
            return;
        };
        let lsns = &self.model.lsns;
        let as_of = as_of.and_then(|of| lsns.get(of.checked_rem(lsns.len())?).copied());
        let set = SetStock {
            on_hand: count(*on_hand),
            safety_stock: count(*safety),
            backorder_limit: count(*backorder),
            per_customer_limit: limit.map(|l| l.map(count)),
            source_version: *version,
            as_of_lsn: as_of,
            allow_shortfall: *allow,
        };
        let shop = self.shop.as_ref().unwrap();
        let said = shop.set(SKUS[at.0], LOCATIONS[at.1], &set);
        // Whatever is said, the position is defined by now.
        let number = self.model.positions.len();
        let fresh = Position { number, ..Position::default() };
        let position = self.model.positions.entry(*at).or_insert(fresh);
        let moved: i64 = as_of.map_or(0, |as_of| {
            position.movements.iter().filter(|(lsn, _)| *lsn > as_of).map(|(_, d)| d).sum()
        });
        let on_hand = i64::from(*on_hand) + moved;
        let after = Position {
            on_hand,
            safety: i64::from(*safety),
            backorder: i64::from(*backorder),
            ..position.clone()
        };
        let expected = if version.is_some_and(|v| position.version.is_some_and(|last| v <= last)) {
            "stale_version"
        } else if on_hand < 0 && !allow {
            "malformed"
        } else if after.available() < 0 && !allow {
            "shortfall"
        } else {
            "ok"
        };
        assert_eq!(code(&said), expected, "{step:?} on {position:?}: {said:?}");
        if let Ok(answer) = said {
            *position = Position { version: version.or(position.version), ..after };
            if let Some(limit) = limit {
                match limit {
                    Some(limit) => self.model.limits.insert(at.0, *limit),
                    None => self.model.limits.remove(&at.0),
                };
            }
            self.model.lsns.push(answer.value.lsn);
            self.compare_position(&answer.value);
        }
    }

    pub fn adjust(&mut self, at: (usize, usize), delta: i64, allow: bool) {
        let adjust = AdjustStock {
            sku: id(SKUS[at.0]),
            location: id(LOCATIONS[at.1]),
            delta,
            reason: AdjustmentReason::Correction,
            reference: None,
            allow_shortfall: allow,
        };
        let said = self.first(Request::Adjust(adjust));
        let expected = match self.model.positions.get(&at) {
            _ if delta == 0 => "malformed",
            None => "unknown_sku",
            // What comes in is never refused.
            Some(p) if delta < 0 && !allow => {
                if p.on_hand + delta < 0 || p.available() + delta < 0 { "shortfall" } else { "ok" }
            }
            Some(p) if p.on_hand + delta < 0 && !allow => "shortfall",
            Some(_) => "ok",
        };
        assert_eq!(said.as_ref().err().map_or("ok", Refusal::code), expected, "{delta} at {at:?}");
        if let Ok(Said::Position(view)) = said {
            let position = self.model.positions.get_mut(&at).unwrap();
            position.on_hand += delta;
            position.movements.push((view.lsn, delta));
            self.compare_position(&view);
        }
    }

    pub fn reserve(&mut self, lines: &[Line], customer: Option<usize>, order: bool, brief: bool) {
        let order = order.then(|| format!("R-{}", self.keys));
        let reserve = Reserve {
            lines: reserve_lines(lines),
            customer: customer.map(|c| id(CUSTOMERS[c])),
            order_id: order.as_deref().map(id),
            ttl_ms: brief.then_some(1),
        };
        let expected = self.model.resolve(lines).and_then(|w| self.model.take(&w, customer));
        let before = self.shop().0.now().millis();
        let said = self.first(Request::Reserve(reserve));
        let (units, view) = match (expected, said) {
            (Ok(units), Ok(Said::Reservation(view))) => (units, view),
            (Err(expected), Err(said)) if said.code() == expected => return,
            (expected, said) => panic!("{lines:?}: {said:?} instead of {expected:?}"),
        };
        assert_eq!((view.state, view.lsn), (State::Held, view.id.lsn));
        assert_eq!(sorted(view.lines), line_views(&units));
        let expires_ms = view.expires_at.unwrap().millis();
        let ttl_ms = if brief { 1 } else { self.options.ttl_default_ms };
        assert!((before + ttl_ms..=self.shop().0.now().millis() + ttl_ms).contains(&expires_ms));
        self.model.apply(&units, customer, 1);
        let state = State::Held;
        let last = view.lsn;
        let at_once = false;
        let r = Reservation { state, units, customer, order, expires_ms, brief, at_once, last };
        self.model.reservations.insert(view.id, r);
        if brief {
            // It may expire at any moment from now on; the model waits until it has.
            self.wait();
        }
    }

    pub fn wait(&mut self) {
        let brief: Vec<_> = self.model.reservations.iter().filter(|(_, r)| r.brief).collect();
        for (of, r) in brief {
            if r.state == State::Held {
                self.shop().wait_for(*of, State::Expired);
            }
        }
        self.model.due();
        for (of, r) in &mut self.model.reservations {
            if r.brief {
                r.last = self.shop.as_ref().unwrap().see(*of).unwrap().value.lsn;
            }
        }
    }

    pub fn change(&mut self, of: usize, lines: &[Line]) {
        let Some(of) = self.some_reservation(of) else { return };
        let change = ChangeLines { lines: reserve_lines(lines) };
        let said = self.shop().settle(self.shop().0.change_lines(of, &change, None));
        let r = self.model.reservations[&of].clone();
        let expected = self.model.resolve(lines).and_then(|mut wants| {
            if r.state != State::Held {
                return Err("wrong_state");
            }
            // What it has and may keep stays where it is.
            let (mut kept, mut left) = (Units::new(), r.units.clone());
            for want in &mut wants {
                for (at, quantity, limited) in &mut left {
                    let fits = at.0 == want.sku && want.location.is_none_or(|l| l == at.1);
                    let whole = want.location.is_some() || want.split || *quantity >= want.quantity;
                    let part = (*quantity).min(want.quantity);
                    if fits && whole && part > 0 {
                        *quantity -= part;
                        want.quantity -= part;
                        kept.push((*at, part, *limited));
                    }
                }
            }
            wants.retain(|w| w.quantity > 0);
            left.retain(|(_, q, _)| *q > 0);
            let taken = self.model.take_more(&wants, r.customer, &left)?;
            Ok((kept, left, taken))
        });
        let ((mut kept, given, taken), view) = match (expected, said) {
            (Ok(units), Ok(answer)) => (units, answer.value),
            (Err(expected), Err(said)) if said.code() == expected => return,
            (expected, said) => panic!("{lines:?} of {r:?}: {said:?} instead of {expected:?}"),
        };
        self.model.apply(&given, r.customer, -1);
        self.model.apply(&taken, r.customer, 1);
        kept.extend(taken);
        let mut units = Units::new();
        for (at, quantity, limited) in kept {
            match units.iter_mut().find(|u| u.0 == at && u.2 == limited) {
                Some(same) => same.1 += quantity,
                None => units.push((at, quantity, limited)),
            }
        }
        assert_eq!(sorted(view.lines), line_views(&units));
        let r = self.model.reservations.get_mut(&of).unwrap();
        (r.units, r.last) = (units, view.lsn);
        self.model.lsns.push(view.lsn);
    }

    pub fn release(&mut self, of: usize, part: Option<(usize, Option<usize>, u32)>) {
        let Some(of) = self.some_reservation(of) else { return };
        let r = self.model.reservations[&of].clone();
        let lines = part.map(|(sku, location, quantity)| {
            vec![ReleaseLine {
                sku: id(SKUS[sku]),
                quantity: Quantity::new(quantity).unwrap(),
                location: location.map(|l| id(LOCATIONS[l])),
            }]
        });
        let said = self.first(Request::Release(of, Release { lines }));
        let said_code = said.as_ref().err().map_or("ok", Refusal::code);
        let view = match said {
            Ok(Said::Reservation(view)) => Some(view),
            _ => None,
        };
        if r.state == State::Released && part.is_none() {
            assert_eq!(said_code, "ok", "a release again is nothing new");
            return self.forget_last();
        }
        let held: u32 = match part {
            None => u32::MAX,
            Some((sku, location, _)) => r
                .units
                .iter()
                .filter(|(at, ..)| at.0 == sku && location.is_none_or(|l| l == at.1))
                .map(|(_, q, _)| q)
                .sum(),
        };
        let expected = match (r.state, part) {
            (State::Held, Some((.., quantity))) if quantity > held => "malformed",
            (State::Held, _) => "ok",
            _ => "wrong_state",
        };
        assert_eq!(said_code, expected, "{part:?} of {r:?}");
        let Some(view) = view else { return };
        let (mut given, mut left) = (Units::new(), r.units.clone());
        match part {
            None => given = std::mem::take(&mut left),
            Some((sku, location, mut quantity)) => {
                // Last taken first.
                for (at, has, limited) in left.iter_mut().rev() {
                    if at.0 == sku && location.is_none_or(|l| l == at.1) {
                        let some = quantity.min(*has);
                        (*has, quantity) = (*has - some, quantity - some);
                        given.push((*at, some, *limited));
                    }
                }
                left.retain(|(_, q, _)| *q > 0);
            }
        }
        let closed = left.is_empty();
        // Where it is given back among several locations is the engine's to say; the sums are not.
        let left_view = if closed { line_views(&r.units) } else { line_views(&left) };
        assert_eq!(sorted(view.lines.clone()), left_view, "{part:?} of {r:?}");
        assert_eq!(view.state, if closed { State::Released } else { State::Held });
        self.model.apply(&given, r.customer, -1);
        let r = self.model.reservations.get_mut(&of).unwrap();
        r.last = view.lsn;
        match closed {
            true => r.state = State::Released,
            false => r.units = left,
        }
    }

    pub fn extend(&mut self, of: usize, ttl_ms: u64) {
        let Some(of) = self.some_reservation(of) else { return };
        let before = self.shop().0.now().millis();
        let said = self.first(Request::Extend(of, Extend { ttl_ms }));
        let now = self.shop().0.now().millis();
        let r = self.model.reservations.get_mut(&of).unwrap();
        match said {
            Ok(Said::Reservation(view)) => {
                assert_eq!((r.state, view.state), (State::Held, State::Held));
                r.expires_ms = view.expires_at.unwrap().millis();
                assert!((before + ttl_ms..=now + ttl_ms).contains(&r.expires_ms));
                assert_eq!(sorted(view.lines), line_views(&r.units));
                r.last = view.lsn;
            }
            other => {
                assert_eq!(other, Err(Refusal::WrongState { state: r.state }));
                assert_ne!(r.state, State::Held);
            }
        }
    }
}
