//! The auditor's reading of what happens to orders: of the records alone, without the engine's own fold
//! of them, so that a fault in that fold shows as a difference.

use std::collections::{BTreeMap, HashMap};

use holdfast::{
    Engine,
    model::{
        Lsn, ReservationId,
        event::{self, Happened},
        fact::{CameBack, Cancelled, Fact, FactKind, Shipped, Units},
        view::{MoneyView, OrderView, ReservationState},
    },
    wal::Storage,
};

use super::{Audit, id};

/// What was sold from a position, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditedAllocation {
    pub position: u32,
    pub limited: bool,
    pub sold: u32,
    pub shipped: u32,
    pub cancelled: u32,
}

/// A return as a log says it is: units authorised and received by SKU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedReturn {
    pub id: String,
    pub restock: bool,
    pub units: BTreeMap<u32, (u32, u32)>,
}

/// An order as a log says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedOrder {
    pub placed: u64,
    pub last: u64,
    pub state: ReservationState,
    pub reservations: Vec<ReservationId>,
    pub allocations: Vec<AuditedAllocation>,
    /// Units that left, by SKU.
    pub left: HashMap<u32, u32>,
    pub returns: Vec<AuditedReturn>,
    pub money: MoneyView,
    /// What happened: the record of each, its kind, its own id, the state after it.
    pub facts: Vec<(u64, FactKind, String, ReservationState)>,
}

impl AuditedOrder {
    pub fn placed(
        lsn: Lsn,
        reservations: Vec<ReservationId>,
        lines: &[event::ArchivedLine],
    ) -> Self {
        let allocations = lines.iter().map(|line| AuditedAllocation {
            position: line.position.to_native(),
            limited: line.limited,
            sold: line.quantity.to_native(),
            shipped: 0,
            cancelled: 0,
        });
        Self {
            placed: lsn.0,
            last: lsn.0,
            state: ReservationState::Committed,
            reservations,
            allocations: allocations.collect(),
            left: HashMap::new(),
            returns: Vec::new(),
            money: MoneyView::default(),
            facts: Vec::new(),
        }
    }

    /// The state that the order's units say it has.
    fn state_of_units(&self) -> ReservationState {
        if self.allocations.iter().any(|a| a.shipped + a.cancelled < a.sold) {
            ReservationState::Committed
        } else if self.allocations.iter().any(|a| a.shipped > 0) {
            ReservationState::Fulfilled
        } else {
            ReservationState::Cancelled
        }
    }

    /// An allocation of which some units go now: no more of it goes than was sold.
    fn go(
        &mut self,
        lsn: Lsn,
        (allocation, position): (u32, u32),
        go: impl Fn(&mut AuditedAllocation),
    ) -> AuditedAllocation {
        let of = self.allocations.get_mut(allocation as usize);
        let of = of.unwrap_or_else(|| panic!("at {lsn}: no allocation {allocation}"));
        assert_eq!(of.position, position, "at {lsn}: where allocation {allocation} is");
        go(of);
        assert!(of.shipped + of.cancelled <= of.sold, "at {lsn}: more goes than was sold: {of:?}");
        *of
    }

    fn authorised(&self, sku: u32) -> u32 {
        self.returns.iter().filter_map(|r| r.units.get(&sku)).map(|(units, _)| units).sum()
    }
}

impl Audit {
    /// A record of something that happened to an order.
    pub(super) fn happened(&mut self, lsn: Lsn, happened: &event::ArchivedHappened) {
        let happened: Happened = event::to_owned::<Happened>(happened);
        self.hash(lsn, happened.key.hash);
        let name = happened.order_id.as_str();
        let order = self.orders.remove(name);
        let mut order = order.unwrap_or_else(|| panic!("at {lsn}: {name} is not placed yet"));
        assert_eq!(order.last, happened.previous, "at {lsn}: the lineage of {name}");
        let (kind, own) = (happened.fact.kind(), happened.id.to_string());
        let twice = order.facts.iter().any(|(_, k, id, _)| (*k, id) == (kind, &own));
        assert!(!twice, "at {lsn}: {kind:?} {own} of {name} again");
        match &happened.fact {
            Fact::Shipment { lines, .. } => self.shipped(lsn, &mut order, lines),
            Fact::Cancellation { lines } => self.cancelled(lsn, &mut order, lines),
            Fact::Invoice { amount, .. } => order.money.invoiced += amount,
            Fact::Settlement { amount, fee } => {
                order.money.settled += amount;
                order.money.fees += fee;
            }
            Fact::Refund { amount, .. } => order.money.refunded += amount,
            Fact::Return { lines, restock } => authorised(lsn, &mut order, &own, lines, *restock),
            Fact::Receipt { return_id, lines, restock } => {
                self.received(lsn, &mut order, return_id, lines, *restock);
            }
            Fact::Note { .. } => {}
        }
        let state = order.state_of_units();
        assert_eq!(happened.state, state as u8, "at {lsn}: the state of {name}");
        let turned: Vec<_> = happened.turned.iter().map(reservation).collect();
        let turns = if state == order.state { &[][..] } else { &order.reservations };
        assert_eq!(turned, turns, "at {lsn}: the reservations that turn with {name}");
        for of in &happened.turned {
            let of = (reservation(of), of.previous);
            self.turn_from(lsn, of, ReservationState::Committed).state = state;
        }
        order.state = state;
        order.last = lsn.0;
        order.facts.push((lsn.0, kind, own, state));
        self.orders.insert(happened.order_id.into(), order);
    }

    fn sku_number(&self, position: u32) -> u32 {
        self.positions[position as usize].sku_number
    }

    /// Units that leave elsewhere are taken there first; what they were sold from is free after it.
    fn shipped(&mut self, lsn: Lsn, order: &mut AuditedOrder, lines: &[Shipped]) {
        for line in lines {
            let units = i64::from(line.quantity);
            let (here, from) = (self.sku_number(line.position), self.sku_number(line.from));
            assert_eq!(here, from, "at {lsn}: another SKU leaves than was sold");
            order.go(lsn, (line.allocation, line.from), |of| of.shipped += line.quantity);
            *order.left.entry(here).or_default() += line.quantity;
            if line.position != line.from {
                self.take(lsn, &[(line.position, line.quantity)]);
            }
            self.positions[line.position as usize].on_hand -= units;
            self.uncommit(lsn, line.from, units);
        }
        for line in lines.iter().filter(|line| line.position != line.from) {
            self.give(&[(line.from, line.quantity)]);
        }
    }

    fn cancelled(&mut self, lsn: Lsn, order: &mut AuditedOrder, lines: &[Cancelled]) {
        for line in lines {
            let of = (line.allocation, line.position);
            let of = order.go(lsn, of, |of| of.cancelled += line.quantity);
            assert_eq!(of.limited, line.limited, "at {lsn}: {of:?}");
            let taker = order.reservations.iter().find(|id| id.lsn.0 == line.granted);
            let taker = taker.map(|id| self.reservations[id].customer);
            assert_eq!(taker, Some(line.customer_hash), "at {lsn}: who took {of:?}");
            self.uncommit(lsn, line.position, i64::from(line.quantity));
            self.give(&[(line.position, line.quantity)]);
        }
    }

    fn received(
        &mut self,
        lsn: Lsn,
        order: &mut AuditedOrder,
        of: &str,
        lines: &[CameBack],
        restock: bool,
    ) {
        let of = order.returns.iter_mut().find(|r| r.id == of);
        let of = of.unwrap_or_else(|| panic!("at {lsn}: a receipt of a return that is not there"));
        assert_eq!(of.restock, restock, "at {lsn}: what is to become of what came back");
        for line in lines {
            assert_eq!(self.sku_number(line.position), line.sku_number, "at {lsn}");
            let units = of.units.get_mut(&line.sku_number);
            let (authorised, received) = units.unwrap_or_else(|| panic!("at {lsn}: not returned"));
            *received += line.quantity;
            assert!(received <= authorised, "at {lsn}: more comes back than may: {lines:?}");
            if restock {
                self.positions[line.position as usize].on_hand += i64::from(line.quantity);
                self.give(&[(line.position, line.quantity)]);
            }
        }
    }

    fn uncommit(&mut self, lsn: Lsn, position: u32, units: i64) {
        let position = &mut self.positions[position as usize];
        position.committed -= units;
        assert!(position.committed >= 0, "at {lsn}: more goes than is committed: {position:?}");
    }

    /// Compares the orders of an engine at rest with what its log says.
    pub(super) fn orders_agree<S: Storage>(&self, engine: &Engine<S>) {
        for (name, said) in &self.orders {
            let view = engine.settle_blocking(engine.order(&id(name))).unwrap().value;
            let seen = (view.state, view.lsn.0, &view.reservations, view.money);
            assert_eq!(seen, (said.state, said.last, &said.reservations, said.money), "{name}");
            self.lines_agree(name, said, &view);
            let returns = view.returns.iter().map(|r| {
                let units = r.lines.iter().map(|l| (l.sku.to_string(), (l.quantity, l.received)));
                (r.return_id.to_string(), r.restock, summed(units))
            });
            let said_returns = said.returns.iter().map(|r| {
                let units = r.units.iter().map(|(sku, units)| (self.sku(*sku), *units));
                (r.id.clone(), r.restock, summed(units))
            });
            assert!(returns.eq(said_returns), "{name}: {:?}, not {:?}", view.returns, said.returns);
            let facts = view.events.iter().map(|e| (e.lsn.0, e.kind, e.id.to_string(), e.state));
            assert_eq!(facts.collect::<Vec<_>>(), said.facts, "{name}");
            let MoneyView { invoiced, settled, fees, refunded } = said.money;
            let most = invoiced.max(settled).max(refunded);
            assert!(most <= view.total && fees <= settled, "{name}: {:?}", said.money);
        }
    }

    fn lines_agree(&self, name: &str, said: &AuditedOrder, view: &OrderView) {
        let mut units: HashMap<String, [u32; 3]> = HashMap::new();
        for of in &said.allocations {
            let sums = units.entry(self.positions[of.position as usize].sku.clone()).or_default();
            let more = [of.sold, of.shipped, of.cancelled];
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        assert_eq!(view.lines.len(), units.len(), "{name}");
        for line in &view.lines {
            let [sold, shipped, cancelled] = units[line.sku.as_str()];
            let seen = [line.quantity, line.open_quantity, line.shipped, line.cancelled];
            assert_eq!(seen, [sold, sold - shipped - cancelled, shipped, cancelled], "{name}");
        }
    }

    fn sku(&self, sku_number: u32) -> String {
        let of = self.positions.iter().find(|p| p.sku_number == sku_number);
        of.map_or_else(String::new, |p| p.sku.clone())
    }
}

fn reservation(of: &event::Of) -> ReservationId {
    ReservationId { lsn: Lsn(of.reservation), slot: of.slot }
}

fn summed(units: impl Iterator<Item = (String, (u32, u32))>) -> BTreeMap<String, (u32, u32)> {
    let mut sums = BTreeMap::<_, (u32, u32)>::new();
    for (sku, (authorised, received)) in units {
        let sum = sums.entry(sku).or_default();
        *sum = (sum.0 + authorised, sum.1 + received);
    }
    sums
}

/// No more may come back than left.
fn authorised(lsn: Lsn, order: &mut AuditedOrder, own: &str, lines: &[Units], restock: bool) {
    let mut units = BTreeMap::<_, (u32, u32)>::new();
    lines.iter().for_each(|line| units.entry(line.sku_number).or_default().0 += line.quantity);
    order.returns.push(AuditedReturn { id: own.to_owned(), restock, units });
    for line in lines {
        let left = order.left.get(&line.sku_number).copied().unwrap_or(0);
        let back = order.authorised(line.sku_number);
        assert!(back <= left, "at {lsn}: {back} of {left} units may come back");
    }
}
