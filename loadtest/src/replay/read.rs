//! The log, read twice: once for what is in it, and once as it is played.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path, sync::mpsc::SyncSender};

use holdfast::{
    engine::say,
    model::{
        Lsn,
        event::{
            self, Adjust, Change, Define, Event, Expire, Extend, Placed, Release, Reserve, Stock,
        },
    },
    wal::{Record, inspect::inspect},
};
use smallvec::{SmallVec, smallvec};

use super::{
    Error, Options,
    body::{self, Of, Unnamed},
    names::{Names, Position},
};

/// The stock that a log knows of a position: all that ever came in, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stocked {
    pub position: Position,
    pub on_hand: i64,
    pub safety_stock: i64,
    pub backorder_limit: i64,
    pub per_customer_limit: Option<u32>,
}

/// What stands in a log.
#[derive(Debug, Default)]
pub struct Summary {
    /// Requests that are played.
    pub arrivals: u64,
    /// Records that are not, by kind.
    pub not_played: BTreeMap<&'static str, u64>,
    /// When the first and the last arrival were, in milliseconds since 1970.
    pub span_ms: [u64; 2],
    pub(super) stock: BTreeMap<u32, Stocked>,
}

impl Summary {
    /// How long it takes at so many times its pace, in nanoseconds.
    pub fn length_ns(&self, speed: f64) -> u64 {
        instant(self.span_ms[0], self.span_ms[1], speed)
    }
}

/// When something is due, in nanoseconds since the begin.
fn instant(first_ms: u64, at_ms: u64, speed: f64) -> u64 {
    (at_ms.saturating_sub(first_ms) as f64 * 1e6 / speed) as u64
}

/// What an arrival asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Reserve,
    /// All of it, or only its lines.
    Release {
        whole: bool,
    },
    Extend,
    Change,
    Commit,
    /// Of several reservations.
    OrderOf,
    /// In one step.
    Order,
    /// Nothing: in the record the hold ran out here.
    RunOut,
}

/// Units by number of the SKU.
pub(super) type Units = SmallVec<[(u32, i64); 2]>;

/// An arrival.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The position of its record: what names it.
    pub lsn: u64,
    /// When it is due, in nanoseconds since the begin.
    pub due: u64,
    pub act: Act,
    /// The recorded reservations that it is about; of a reservation its own.
    pub of: SmallVec<[u64; 1]>,
    pub units: Units,
    /// How long a hold lasts from here on, in nanoseconds.
    pub ttl: u64,
    pub body: Vec<u8>,
}

fn log_error(path: &Path) -> impl Fn(holdfast::wal::Error) -> Error {
    move |source| Error::Log { path: path.to_owned(), source }
}

fn damaged(path: &Path, reason: impl ToString) -> Error {
    Error::Record { path: path.to_owned(), reason: reason.to_string() }
}

/// Reads a log for what is in it.
pub(super) fn summary(path: &Path) -> Result<Summary, Error> {
    let (mut summary, mut names, mut wrong) = (Summary::default(), Names::default(), None);
    let inspection = inspect(path, &mut |record| match summary.take(record, &mut names) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            wrong = Some(damaged(path, error));
            ControlFlow::Break(())
        }
    });
    let inspection = inspection.map_err(log_error(path))?;
    if inspection.begin > Lsn(0) {
        return Err(Error::Recycled { path: path.to_owned(), begin: inspection.begin.0 });
    }
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    if let Some(rot) = inspection.rot.first() {
        return Err(damaged(path, format!("what was durable at {} can't be read", rot.lsn)));
    }
    if summary.arrivals == 0 {
        return Err(Error::Empty { path: path.to_owned() });
    }
    Ok(summary)
}

impl Summary {
    fn take(&mut self, record: &Record<'_>, names: &mut Names) -> Result<(), String> {
        match record.kind {
            Define::KIND => {
                let define: Define = say::owned(record)?;
                let number = define.position;
                names.learn(define);
                if let Some(position) = names.position(number) {
                    let stocked = Stocked {
                        position: position.clone(),
                        on_hand: 0,
                        safety_stock: 0,
                        backorder_limit: 0,
                        per_customer_limit: None,
                    };
                    self.stock.insert(number, stocked);
                }
            }
            Stock::KIND => self.stock(&say::owned(record)?),
            Adjust::KIND => {
                let adjust: Adjust = say::owned(record)?;
                self.not_played(record);
                if let Some(stocked) = self.stock.get_mut(&adjust.position) {
                    stocked.on_hand += adjust.delta;
                }
            }
            Reserve::KIND | Release::KIND | Extend::KIND | Change::KIND | Placed::KIND => {
                let at = record.time_ms;
                let [first, last] = self.span_ms;
                let first = if self.arrivals == 0 { at } else { first.min(at) };
                self.span_ms = [first, last.max(at)];
                self.arrivals += 1;
            }
            _ => self.not_played(record),
        }
        Ok(())
    }

    fn not_played(&mut self, record: &Record<'_>) {
        let name = say::name(record.kind);
        // What the house writes for itself is nobody's request.
        if !matches!(name, "genesis" | "seal" | "acknowledge" | "operate") {
            *self.not_played.entry(name).or_default() += 1;
        }
    }

    fn stock(&mut self, set: &Stock) {
        if self.arrivals > 0 {
            *self.not_played.entry("stock").or_default() += 1;
        }
        let Some(stocked) = self.stock.get_mut(&set.position) else { return };
        stocked.on_hand += set.on_hand;
        stocked.safety_stock += set.safety_stock;
        stocked.backorder_limit += set.backorder_limit;
        if let Some(limit) = set.per_customer_limit {
            stocked.per_customer_limit = limit;
        }
    }
}

/// Reads a log as it is played.
pub(super) struct Reader<'a> {
    options: &'a Options,
    run: &'a str,
    names: Names,
    first_ms: Option<u64>,
    /// Blocks while enough is read ahead.
    send: SyncSender<Arrival>,
}

/// Why a record is not played.
enum Not {
    /// It can't be read.
    Wrong(String),
    /// It is no arrival.
    Arrival,
}

impl From<Unnamed> for Not {
    fn from(Unnamed(number): Unnamed) -> Self {
        Self::Wrong(format!("position or SKU {number} has no definition"))
    }
}

impl From<String> for Not {
    fn from(wrong: String) -> Self {
        Self::Wrong(wrong)
    }
}

impl<'a> Reader<'a> {
    pub fn new(options: &'a Options, run: &'a str, send: SyncSender<Arrival>) -> Self {
        Self { options, run, names: Names::default(), first_ms: None, send }
    }

    /// Reads to the end, or until nobody plays any more.
    pub fn read(mut self) -> Result<(), Error> {
        let path = &self.options.log;
        let mut wrong = None;
        let inspected = inspect(path, &mut |record| match self.arrival(record) {
            Ok(arrival) => match self.send.send(arrival) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            },
            Err(Not::Arrival) => ControlFlow::Continue(()),
            Err(Not::Wrong(reason)) => {
                wrong = Some(reason);
                ControlFlow::Break(())
            }
        });
        inspected.map_err(log_error(path))?;
        wrong.map_or(Ok(()), |reason| Err(damaged(path, reason)))
    }

    fn arrival(&mut self, record: &Record<'_>) -> Result<Arrival, Not> {
        if record.kind == Define::KIND {
            self.names.learn(say::owned(record)?);
            return Err(Not::Arrival);
        }
        let first = match record.kind {
            Reserve::KIND | Release::KIND | Extend::KIND | Change::KIND | Placed::KIND => {
                *self.first_ms.get_or_insert(record.time_ms)
            }
            Expire::KIND => self.first_ms.unwrap_or(record.time_ms),
            _ => return Err(Not::Arrival),
        };
        let mut arrival = Arrival {
            lsn: record.lsn.0,
            due: instant(first, record.time_ms, self.options.speed),
            act: Act::Reserve,
            of: SmallVec::new(),
            units: Units::new(),
            ttl: 0,
            body: Vec::new(),
        };
        match record.kind {
            Reserve::KIND => self.reserve(record, &mut arrival)?,
            Release::KIND => self.release(&say::owned(record)?, &mut arrival)?,
            Extend::KIND => {
                let extend: Extend = say::owned(record)?;
                (arrival.act, arrival.of) = (Act::Extend, smallvec![extend.of.reservation]);
                arrival.body = body::extend(self.ttl(record, extend.deadline_ms, &mut arrival));
            }
            Change::KIND => {
                let change: Change = say::owned(record)?;
                (arrival.act, arrival.of) = (Act::Change, smallvec![change.of.reservation]);
                arrival.units = self.units(&change.lines)?;
                arrival.body = body::lines(&self.names, &change.lines)?;
            }
            Placed::KIND => self.placed(&say::owned(record)?, &mut arrival)?,
            _ => {
                let expire: Expire = say::owned(record)?;
                (arrival.act, arrival.of) = (Act::RunOut, smallvec![expire.of.reservation]);
            }
        }
        Ok(arrival)
    }

    fn reserve(&self, record: &Record<'_>, arrival: &mut Arrival) -> Result<(), Not> {
        let Record { lsn, kind, version, body, .. } = *record;
        let event = event::decode::<Reserve<'_>>(lsn, kind, version, body);
        let event = event.map_err(|error| error.to_string())?;
        let lines = event.lines.iter().map(|line| event::Line {
            position: line.position.to_native(),
            quantity: line.quantity.to_native(),
            limited: line.limited,
        });
        let lines: Vec<event::Line> = lines.collect();
        arrival.of = smallvec![lsn.0];
        arrival.units = self.units(&lines)?;
        let ttl_ms = self.ttl(record, event.deadline_ms.to_native(), arrival);
        let who = (&*event.customer, &*event.order_id);
        arrival.body = body::reserve((&self.names, self.run), &lines, who, ttl_ms)?;
        Ok(())
    }

    fn release(&self, release: &Release, arrival: &mut Arrival) -> Result<(), Not> {
        let whole = release.left.is_empty();
        (arrival.act, arrival.of) = (Act::Release { whole }, smallvec![release.of.reservation]);
        arrival.units = self.units(&release.lines)?;
        if !whole {
            arrival.body = body::lines(&self.names, &release.lines)?;
        }
        Ok(())
    }

    fn placed(&self, placed: &Placed, arrival: &mut Arrival) -> Result<(), Not> {
        let (act, of) = match placed.reservations.as_slice() {
            [] => (Act::Order, Of::Itself),
            [sold] => (Act::Commit, Of::Reservation { revive: sold.revived }),
            _ => (Act::OrderOf, Of::Reservations),
        };
        arrival.act = act;
        arrival.of = placed.reservations.iter().map(|sold| sold.of.reservation).collect();
        if act == Act::Order {
            arrival.units = self.units(&placed.order.allocations)?;
        }
        arrival.body = body::order((&self.names, self.run), &placed.order, of)?;
        Ok(())
    }

    /// How long a hold lasts in this run, in milliseconds: as much shorter as all is faster.
    fn ttl(&self, record: &Record<'_>, deadline_ms: u64, arrival: &mut Arrival) -> u64 {
        let recorded = deadline_ms.saturating_sub(record.time_ms) as f64;
        let ttl_ms = ((recorded / self.options.speed).round() as u64).max(1);
        arrival.ttl = ttl_ms.saturating_mul(1_000_000);
        ttl_ms
    }

    fn units(&self, lines: &[event::Line]) -> Result<Units, Unnamed> {
        let mut units = Units::new();
        for line in lines {
            let sku = self.names.position(line.position).ok_or(Unnamed(line.position))?.sku_number;
            let more = i64::from(line.quantity);
            match units.iter_mut().find(|(number, _)| *number == sku) {
                Some((_, sum)) => *sum += more,
                None => units.push((sku, more)),
            }
        }
        Ok(units)
    }
}
