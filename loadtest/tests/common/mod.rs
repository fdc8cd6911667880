//! A target in memory for tests: it answers, stalls, loses answers and lies as it is told.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use holdfast_loadtest::{
    plan::{Plan, Step},
    run::{self, Progress, Run},
    scenario::Scenario,
    target::{
        Answer, Clock, Error, Ledger, Link, Request, ReservationName, Said, Sent, SkuLedger, Target,
    },
};

/// How it behaves.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// How long an answer takes.
    pub service: Duration,
    /// Requests of one link that it takes at once; 0: none at all.
    pub room: usize,
    /// From when to when, since its link was made, nothing is answered.
    pub stall: Option<(Duration, Duration)>,
    /// Nothing is ever answered.
    pub silent: bool,
    /// How long sending blocks the sender.
    pub blocks: Duration,
    /// Of so many answers one is lost, though what was asked for happened; 0: none.
    pub loses_one_of: u64,
    /// Of so many requests one is turned away; 0: none.
    pub sheds_one_of: u64,
    /// It sells what it does not have, and says nothing of it.
    pub oversells: bool,
    /// It forgets keys: a repeat is a new request.
    pub forgets_keys: bool,
    /// Every so many grants have the same name; 0: none.
    pub same_name_every: u64,
    /// It says that it granted, and does nothing.
    pub grants_nothing: bool,
    /// It takes stock and says that it is sold out.
    pub takes_in_secret: bool,
    /// It forgets every commit.
    pub forgets_sales: bool,
}

impl Manner {
    /// One that does everything right, in no time.
    pub fn good() -> Self {
        Self { room: 64, ..Self::default() }
    }
}

#[derive(Debug, Default)]
struct Inside {
    stock: HashMap<u32, SkuLedger>,
    /// By key: what was said.
    keys: HashMap<String, Said>,
    /// By name: what is held.
    held: HashMap<Vec<u8>, Vec<(u32, i64)>>,
    grants: u64,
    asked: u64,
}

/// The target.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    manner: Manner,
    inside: Arc<Mutex<Inside>>,
}

impl Fake {
    pub fn new(manner: Manner) -> Self {
        Self { manner, ..Self::default() }
    }

    /// Requests that it took.
    pub fn asked(&self) -> u64 {
        self.inside.lock().unwrap().asked
    }
}

impl Target for Fake {
    fn name(&self) -> String {
        "a target in memory".to_owned()
    }

    fn prepare(&self, plan: &Plan) -> Result<(), Error> {
        let mut inside = self.inside.lock().unwrap();
        let available = i64::from(plan.catalogue().stock);
        for sku in 0..plan.catalogue().skus {
            inside.stock.insert(sku, SkuLedger { available, ..SkuLedger::default() });
        }
        Ok(())
    }

    fn link(&self, plan: &Arc<Plan>, clock: Clock, _: u32) -> Result<Box<dyn Link>, Error> {
        Ok(Box::new(FakeLink {
            fake: self.clone(),
            plan: plan.clone(),
            clock,
            first: None,
            waiting: VecDeque::new(),
        }))
    }

    fn ledger(&self, plan: &Plan) -> Result<Ledger, Error> {
        let inside = self.inside.lock().unwrap();
        let skus = (0..plan.catalogue().skus).map(|sku| inside.stock[&sku]).collect();
        Ok(Ledger { oversold: 0, skus })
    }
}

impl Fake {
    /// What it does about a request, and what it says of it.
    fn decide(&self, plan: &Plan, request: &Request<'_>) -> Said {
        let mut inside = self.inside.lock().unwrap();
        inside.asked += 1;
        let one_of = |every: u64| every > 0 && inside.asked.is_multiple_of(every);
        if one_of(self.manner.sheds_one_of) {
            return Said::Shed;
        }
        let lost = one_of(self.manner.loses_one_of);
        let key = plan.key(request.visit.shopper, request.step);
        let said = match inside.keys.get(&key) {
            Some(said) if !self.manner.forgets_keys => *said,
            _ => self.do_it(&mut inside, request),
        };
        // Refusals are not remembered.
        if matches!(said, Said::Granted { .. }) {
            inside.keys.insert(key, said);
        }
        if lost { Said::Broken } else { said }
    }

    fn do_it(&self, inside: &mut Inside, request: &Request<'_>) -> Said {
        match request.step {
            Step::Reserve | Step::Order => self.reserve(inside, request),
            Step::Commit | Step::Release => {
                if self.manner.forgets_sales {
                    return Said::Granted { reservation: None };
                }
                let name = request.reservation.expect("a name").as_bytes().to_vec();
                let Some(lines) = inside.held.remove(&name) else { return Said::Refused };
                for (sku, units) in lines {
                    let stock = inside.stock.get_mut(&sku).unwrap();
                    stock.held -= units;
                    match request.step {
                        Step::Commit => stock.committed += units,
                        _ => stock.available += units,
                    }
                }
                Said::Granted { reservation: None }
            }
        }
    }

    fn reserve(&self, inside: &mut Inside, request: &Request<'_>) -> Said {
        let lines: Vec<(u32, i64)> =
            request.visit.lines.iter().map(|l| (l.sku, i64::from(l.quantity))).collect();
        let short = lines.iter().any(|(sku, units)| inside.stock[sku].available < *units);
        if short && !self.manner.oversells {
            return Said::SoldOut;
        }
        inside.grants += 1;
        let every = self.manner.same_name_every;
        let same = every > 0 && inside.grants.is_multiple_of(every);
        let name = if same { "same".to_owned() } else { format!("n{}", inside.grants) };
        if !self.manner.grants_nothing && !short {
            for (sku, units) in &lines {
                let stock = inside.stock.get_mut(sku).unwrap();
                stock.available -= units;
                match request.step {
                    Step::Order => stock.committed += units,
                    _ => stock.held += units,
                }
            }
            inside.held.insert(name.clone().into_bytes(), lines);
        }
        if self.manner.takes_in_secret {
            return Said::SoldOut;
        }
        Said::Granted { reservation: ReservationName::new(name.as_bytes()) }
    }
}

struct FakeLink {
    fake: Fake,
    plan: Arc<Plan>,
    clock: Clock,
    /// When the first request came.
    first: Option<u64>,
    /// Answers, and when they are told.
    waiting: VecDeque<(u64, Answer)>,
}

impl FakeLink {
    fn manner(&self) -> &Manner {
        &self.fake.manner
    }

    /// When what is asked now is answered.
    fn answered_at(&mut self) -> u64 {
        let now = self.clock.now();
        let first = *self.first.get_or_insert(now);
        let at = now + nanos(self.manner().service);
        match self.manner().stall {
            Some((from, to)) if (first + nanos(from)..first + nanos(to)).contains(&at) => {
                first + nanos(to)
            }
            _ => at,
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

impl Link for FakeLink {
    fn send(&mut self, ticket: u32, request: &Request<'_>) -> Sent {
        if self.waiting.len() >= self.manner().room {
            return Sent::Full;
        }
        if !self.manner().blocks.is_zero() {
            thread::sleep(self.manner().blocks);
        }
        let at = if self.manner().silent { u64::MAX } else { self.answered_at() };
        let said = self.fake.decide(&self.plan, request);
        self.waiting.push_back((at, Answer { ticket, at: 0, said }));
        Sent::Taken
    }

    fn poll(&mut self, wait: Duration, answers: &mut Vec<Answer>) {
        let now = self.clock.now();
        let next = self.waiting.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX);
        let until = next.saturating_sub(now).min(nanos(wait));
        if until > 0 {
            thread::sleep(Duration::from_nanos(until));
        }
        let now = self.clock.now();
        self.waiting.retain(|(at, answer)| {
            if *at <= now {
                answers.push(Answer { at: now, ..*answer });
            }
            *at > now
        });
    }

    fn abandon(&mut self, ticket: u32) {
        self.waiting.retain(|(_, answer)| answer.ticket != ticket);
    }
}

/// A scenario of one steady stage.
pub fn scenario(rate: u32, for_s: f64, more: &str) -> Scenario {
    let text = format!(
        "arrivals = \"constant\"\n[[stages]]\nshape = \"steady\"\nrate = {rate}\nfor_s = {for_s}\n{more}"
    );
    Scenario::parse("test", &text, Path::new(".")).unwrap()
}

/// Carries a scenario out against a target that is prepared for it.
pub fn carried_out(target: &dyn Target, scenario: &Scenario) -> (Arc<Plan>, Run) {
    let plan = Arc::new(Plan::new(scenario, 1.0, "t").unwrap());
    target.prepare(&plan).unwrap();
    let interval = Duration::from_secs(1);
    let progress = Progress::default();
    let run = run::carry_out(target, &plan, &scenario.sending, interval, &progress, || {}).unwrap();
    assert_eq!(progress.due.into_inner(), progress.ended.into_inner());
    (plan, run)
}
