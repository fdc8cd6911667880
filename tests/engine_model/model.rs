//! The dull model: plain maps.

use std::collections::{BTreeMap, HashMap};

use holdfast::model::{
    Amount, Lsn, ReservationId,
    command::{AdjustStock, Commit, Extend, PlaceOrder, Release, Reserve},
    view::{
        FactView, LineView, OrderView, PositionView, ReservationState as State, ReservationView,
    },
};

use crate::{
    LOCATIONS, SKUS,
    common::id,
    life::{Fact, Life},
    steps::Line,
};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Position {
    /// How many were defined before it.
    pub number: usize,
    pub on_hand: i64,
    pub safety: i64,
    pub backorder: i64,
    pub held: i64,
    pub committed: i64,
    pub version: Option<u64>,
    /// Position in the log and change of each adjustment.
    pub movements: Vec<(Lsn, i64)>,
}

impl Position {
    pub fn available(&self) -> i64 {
        self.on_hand - self.safety + self.backorder - self.held - self.committed
    }
}

/// Units by SKU and place in the sourcing order, and whether they count against the limit.
pub type Units = Vec<(At, u32, bool)>;

/// A SKU and a place in the sourcing order.
pub type At = (usize, usize);

#[derive(Debug, Clone)]
pub struct Reservation {
    pub state: State,
    pub units: Units,
    pub customer: Option<usize>,
    pub order: Option<String>,
    pub expires_ms: u64,
    pub brief: bool,
    /// Made by an order in one step.
    pub at_once: bool,
    pub last: Lsn,
}

/// A request that was done: what it was, and its first answer.
#[derive(Debug, Clone)]
pub struct Done {
    pub key: String,
    pub request: Request,
    pub answer: Said,
    pub created: bool,
}

#[derive(Debug, Clone)]
pub enum Request {
    Adjust(AdjustStock),
    Reserve(Reserve),
    Commit(ReservationId, Commit),
    Release(ReservationId, Release),
    Extend(ReservationId, Extend),
    Place(PlaceOrder),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Position(PositionView),
    Reservation(ReservationView),
    Order(OrderView),
}

#[derive(Debug, Default)]
pub struct Model {
    /// SKUs are in the order in which they were defined; positions in the sourcing order.
    pub positions: BTreeMap<(usize, usize), Position>,
    pub limits: HashMap<usize, u32>,
    pub taken: HashMap<(usize, usize), u32>,
    pub reservations: BTreeMap<ReservationId, Reservation>,
    pub orders: HashMap<String, (OrderView, Units)>,
    pub lives: HashMap<String, Life>,
    /// Facts that happened: key, request, answer.
    pub facts: Vec<(String, Fact, FactView)>,
    /// On hand moved by the fact at hand.
    pub moves: Vec<(At, i64)>,
    pub done: Vec<Done>,
    pub lsns: Vec<Lsn>,
}

/// The code of a refusal; what it says besides is looked at where it matters.
pub type Refused = &'static str;

impl Model {
    pub fn resolve(&self, lines: &[Line]) -> Result<Vec<Line>, Refused> {
        let mut wants: Vec<Line> = Vec::new();
        for line in lines {
            let known =
                |at: &(usize, usize)| at.0 == line.sku && line.location.is_none_or(|l| l == at.1);
            if !self.positions.keys().any(known) {
                return Err("unknown_sku");
            }
            let same = wants.iter_mut().find(|w| {
                let alike = w.split == line.split || line.location.is_some();
                w.sku == line.sku && w.location == line.location && alike
            });
            match same {
                Some(same) => same.quantity += line.quantity,
                None => wants.push(line.clone()),
            }
        }
        // Those that can only be met in one way first, in the order of their definition.
        let number = |w: &Line| Some(self.positions[&(w.sku, w.location?)].number);
        wants.sort_by_key(|w| (w.sku, w.location.is_none(), number(w), w.split));
        Ok(wants)
    }

    /// Where each line is taken, or that it can't be.
    pub fn source(&self, wants: &[Line]) -> Result<Vec<(At, u32)>, Refused> {
        let mut left: BTreeMap<_, _> =
            self.positions.iter().map(|(at, p)| (*at, p.available().max(0))).collect();
        let mut taken: Vec<(At, u32)> = Vec::new();
        for want in wants {
            let mut quantity = i64::from(want.quantity);
            let fits: Vec<_> = left
                .keys()
                .filter(|at| at.0 == want.sku && want.location.is_none_or(|l| l == at.1))
                .copied()
                .collect();
            let whole = fits.iter().find(|at| left[at] >= quantity);
            let parts = match whole {
                Some(at) => vec![*at],
                None if want.split && want.location.is_none() => fits.clone(),
                None => return Err("insufficient_stock"),
            };
            for at in parts {
                let part = quantity.min(left[&at]);
                if part > 0 {
                    *left.get_mut(&at).unwrap() -= part;
                    match taken.iter_mut().find(|(there, _)| *there == at) {
                        Some((_, sum)) => *sum += part as u32,
                        None => taken.push((at, part as u32)),
                    }
                    quantity -= part;
                }
            }
            if quantity > 0 {
                return Err("insufficient_stock");
            }
        }
        Ok(taken)
    }

    /// Takes lines for a customer who has nothing of them yet. What is short is said first.
    pub fn take(&self, wants: &[Line], customer: Option<usize>) -> Result<Units, Refused> {
        self.source(wants)?;
        self.take_more(wants, customer, &vec![])
    }

    /// Takes lines for a customer, who gives `credit` back by the same decision. What is beyond the
    /// limit is said first.
    pub fn take_more(
        &self,
        wants: &[Line],
        customer: Option<usize>,
        credit: &Units,
    ) -> Result<Units, Refused> {
        for sku in 0..3 {
            let wanted: u32 = wants.iter().filter(|w| w.sku == sku).map(|w| w.quantity).sum();
            let Some(limit) = self.limits.get(&sku).filter(|_| wanted > 0) else { continue };
            let Some(customer) = customer else { return Err("malformed") };
            let given: u32 = credit
                .iter()
                .filter(|(at, _, limited)| at.0 == sku && *limited)
                .map(|(_, q, _)| q)
                .sum();
            let taken = self.taken.get(&(customer, sku)).copied().unwrap_or(0);
            if taken + wanted > limit + given {
                return Err("purchase_limit");
            }
        }
        let limited = |at: &(usize, usize)| self.limits.contains_key(&at.0);
        Ok(self.source(wants)?.into_iter().map(|(at, q)| (at, q, limited(&at))).collect())
    }

    pub fn apply(&mut self, units: &Units, customer: Option<usize>, sign: i64) {
        for (at, quantity, limited) in units {
            self.positions.get_mut(at).unwrap().held += sign * i64::from(*quantity);
            if let Some(customer) = customer.filter(|_| *limited) {
                let taken = self.taken.entry((customer, at.0)).or_default();
                *taken = taken.checked_add_signed((sign * i64::from(*quantity)) as i32).unwrap();
            }
        }
    }

    pub fn sell(&mut self, units: &Units) {
        for (at, quantity, _) in units {
            let position = self.positions.get_mut(at).unwrap();
            position.held -= i64::from(*quantity);
            position.committed += i64::from(*quantity);
        }
    }

    pub fn due(&mut self) {
        let due: Vec<_> = self
            .reservations
            .iter()
            .filter(|(_, r)| r.brief && r.state == State::Held)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let r = self.reservations[&id].clone();
            self.apply(&r.units, r.customer, -1);
            self.reservations.get_mut(&id).unwrap().state = State::Expired;
        }
    }
}

pub fn line_views(units: &Units) -> Vec<LineView> {
    let mut views: Vec<LineView> = Vec::new();
    for (at, quantity, _) in units {
        let (sku, location) = (id(SKUS[at.0]), id(LOCATIONS[at.1]));
        match views.iter_mut().find(|v| v.sku == sku && v.location == location) {
            Some(same) => same.quantity += quantity,
            None => views.push(LineView { sku, location, quantity: *quantity }),
        }
    }
    views.sort_by_key(|v| (v.sku.clone(), v.location.clone()));
    views
}

/// Whether an order's prices are these: all have the same unit price here.
pub fn is_same_money(view: &OrderView, mut lines: Vec<(&str, Amount)>) -> bool {
    let mut sold: Vec<_> = view.lines.iter().map(|l| (l.sku.as_str(), l.tax)).collect();
    sold.sort();
    lines.sort();
    sold == lines
}

pub fn sorted(mut lines: Vec<LineView>) -> Vec<LineView> {
    lines.sort_by_key(|v| (v.sku.clone(), v.location.clone()));
    lines
}

// ---- The two side by side ----
