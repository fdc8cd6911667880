//! The engine in this process: what a reservation costs without a wire. The time of a request is its
//! decision and the wait for its place in the log.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use holdfast::{
    Decision, Engine, Key, Refusal,
    model::{
        IdempotencyKey, Lsn, ReservationId,
        command::{Commit, PlaceOrder, Release, Reserve, SetStock},
        view::{OrderView, ReservationView},
    },
    wal,
};

use super::{
    Answer, Clock, Error, Ledger, Link, Request, ReservationName, Said, Sent, SkuLedger, Target,
};
use crate::plan::{Plan, Step};

/// Requests of one thread that wait for the log.
const WAITING_MAX: usize = 65_536;
/// How long one waits for the log where it tells nobody of its progress.
const GLANCE: Duration = Duration::from_micros(20);
/// The scope of the keys.
const SCOPE: &str = "";

/// An engine.
#[derive(Debug, Clone)]
pub struct InProcess {
    /// It.
    pub engine: Engine,
}

impl Target for InProcess {
    fn name(&self) -> String {
        "holdfast's engine in this process".to_owned()
    }

    fn prepare(&self, plan: &Plan) -> Result<(), Error> {
        let failed = |e: &dyn std::fmt::Display| Error::Engine(e.to_string());
        let mut last = None;
        for sku in 0..plan.catalogue().skus {
            let name = Plan::sku(sku).parse().map_err(|e| failed(&e))?;
            for number in 0..plan.catalogue().locations {
                let location = Plan::location(number).parse().map_err(|e| failed(&e))?;
                let units = plan.units_at(number);
                let limit = plan.catalogue().purchase_limit;
                let limit = limit.map_or("null".to_owned(), |limit| limit.to_string());
                let set = format!(r#"{{"on_hand":{units},"per_customer_limit":{limit}}}"#);
                let set: SetStock = serde_json::from_str(&set).map_err(|e| failed(&e))?;
                last = Some(self.engine.set_stock(&name, &location, &set));
            }
        }
        let settled = last.map(|decision| self.engine.settle_blocking(decision));
        settled.transpose().map(drop).map_err(|e| failed(&e))
    }

    fn link(&self, plan: &Arc<Plan>, clock: Clock, _sender: u32) -> Result<Box<dyn Link>, Error> {
        Ok(Box::new(InProcessLink {
            engine: self.engine.clone(),
            plan: plan.clone(),
            clock,
            waiting: VecDeque::new(),
            ready: Vec::new(),
            body: Vec::new(),
        }))
    }

    fn ledger(&self, plan: &Plan) -> Result<Ledger, Error> {
        let failed = |e: &dyn std::fmt::Display| Error::Engine(e.to_string());
        let mut skus = Vec::new();
        for number in 0..plan.catalogue().skus {
            let name = Plan::sku(number).parse().map_err(|e| failed(&e))?;
            let stock = self.engine.stock(&name).map_err(|e| failed(&e))?;
            skus.push(SkuLedger {
                available: stock.available,
                held: stock.held,
                committed: stock.committed,
            });
        }
        Ok(Ledger { oversold: self.engine.status().oversold, skus })
    }
}

/// What waits for its place in the log.
enum Waiting {
    Reservation(Decision<ReservationView>),
    Order(Decision<OrderView>),
}

impl Waiting {
    fn lsn(&self) -> Option<Lsn> {
        match self {
            Self::Reservation(decision) => decision.lsn(),
            Self::Order(decision) => decision.lsn(),
        }
    }

    /// What it says; blocks if it is not durable yet.
    fn settle(self, engine: &Engine) -> Said {
        let id = match self {
            Self::Reservation(decision) => {
                engine.settle_blocking(decision).map(|answer| Some(answer.value.id))
            }
            Self::Order(decision) => engine
                .settle_blocking(decision)
                .map(|answer| answer.value.reservations.first().copied()),
        };
        match id {
            Ok(id) => {
                let name = id.and_then(|id| ReservationName::new(id.to_string().as_bytes()));
                Said::Granted { reservation: name }
            }
            Err(refusal) => refused(&refusal),
        }
    }
}

/// As the HTTP contract has it.
fn refused(refusal: &Refusal) -> Said {
    match refusal {
        Refusal::InsufficientStock { .. } => Said::SoldOut,
        Refusal::LogFull | Refusal::Overloaded { .. } | Refusal::ShuttingDown => Said::Shed,
        Refusal::OutcomeUnknown => Said::Failed,
        Refusal::PurchaseLimit { .. }
        | Refusal::WrongState { .. }
        | Refusal::OrderExists
        | Refusal::OrderMismatch => Said::Refused,
        _ => Said::Invalid,
    }
}

struct InProcessLink {
    engine: Engine,
    plan: Arc<Plan>,
    clock: Clock,
    /// In the order of the log but for moments.
    waiting: VecDeque<(u32, Waiting)>,
    /// What is known without waiting.
    ready: Vec<Answer>,
    body: Vec<u8>,
}

impl InProcessLink {
    fn decide(&mut self, request: &Request<'_>) -> Option<Waiting> {
        self.body.clear();
        self.plan.body(request.visit, request.step, &mut self.body);
        let name: IdempotencyKey =
            self.plan.key(request.visit.shopper, request.step).parse().ok()?;
        let key = Key::new(SCOPE, &name);
        let id = || -> Option<ReservationId> {
            std::str::from_utf8(request.reservation?.as_bytes()).ok()?.parse().ok()
        };
        Some(match request.step {
            Step::Reserve => {
                let cart: Reserve = serde_json::from_slice(&self.body).ok()?;
                Waiting::Reservation(self.engine.reserve(key, &cart))
            }
            Step::Order => {
                let order: PlaceOrder = serde_json::from_slice(&self.body).ok()?;
                Waiting::Order(self.engine.place_order(key, &order))
            }
            Step::Commit => {
                let commit: Commit = serde_json::from_slice(&self.body).ok()?;
                Waiting::Reservation(self.engine.commit(key, id()?, &commit))
            }
            Step::Release => {
                Waiting::Reservation(self.engine.release(key, id()?, &Release::default()))
            }
        })
    }

    /// Tells those at the front whose place in the log is durable.
    fn tell(&mut self, answers: &mut Vec<Answer>) {
        while let Some((_, waiting)) = self.waiting.front()
            && waiting.lsn().is_none_or(|lsn| self.engine.log().is_acked(lsn))
            && let Some((ticket, waiting)) = self.waiting.pop_front()
        {
            let said = waiting.settle(&self.engine);
            answers.push(Answer { ticket, at: self.clock.now(), said });
        }
    }
}

impl Link for InProcessLink {
    fn send(&mut self, ticket: u32, request: &Request<'_>) -> Sent {
        if self.waiting.len() >= WAITING_MAX {
            return Sent::Full;
        }
        let decided = self.decide(request);
        let said = match decided {
            Some(waiting) if waiting.lsn().is_some() => {
                self.waiting.push_back((ticket, waiting));
                return Sent::Taken;
            }
            Some(refused) => refused.settle(&self.engine),
            None => Said::Invalid,
        };
        self.ready.push(Answer { ticket, at: self.clock.now(), said });
        Sent::Taken
    }

    fn poll(&mut self, wait: Duration, answers: &mut Vec<Answer>) {
        answers.append(&mut self.ready);
        self.tell(answers);
        if !answers.is_empty() || wait.is_zero() {
            return;
        }
        match self.waiting.front().and_then(|(_, waiting)| waiting.lsn()) {
            None => std::thread::sleep(wait),
            Some(lsn) => {
                let disk = self.engine.log().options().ack == wal::Ack::Disk;
                if disk {
                    // A log that has stopped is told by what is settled next.
                    let _ = self.engine.log().wait_durable_timeout(lsn, wait);
                } else {
                    std::thread::sleep(wait.min(GLANCE));
                }
                self.tell(answers);
            }
        }
    }

    fn abandon(&mut self, ticket: u32) {
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
        self.ready.retain(|answer| answer.ticket != ticket);
    }
}
