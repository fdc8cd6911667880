//! What the shoppers saw: counts, latencies, and the books that they would show if the shop claimed
//! something else.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Complaints that are kept in words; all are counted.
const COMPLAINTS_MAX: usize = 20;
/// The longest latency that is told apart.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reserve a cart.
    Reserve,
    /// Commit it.
    Commit,
    /// Release it.
    Release,
}

impl Operation {
    /// All of them, in the order in which a report names them.
    pub const ALL: [Self; 3] = [Self::Reserve, Self::Commit, Self::Release];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Commit => "commit",
            Self::Release => "release",
        }
    }
}

/// A count that many tasks add to.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The sum.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that is counted while a sale runs.
#[derive(Debug)]
pub struct Tally {
    latencies: [Mutex<Histogram<u64>>; 3],
    /// Reservations granted, repeats apart.
    pub granted: Count,
    /// Reservations refused, by the server's code.
    refused: Mutex<BTreeMap<String, u64>>,
    /// Carts given back after a failed payment.
    pub released: Count,
    /// Carts that nobody came back for.
    pub abandoned: Count,
    /// Carts that had expired when their shopper wanted to pay.
    pub too_late: Count,
    /// Requests sent twice with the same key.
    pub repeats: Count,
    /// Attempts repeated since the server was busy or a connection broke.
    pub retries: Count,
    /// Orders that were confirmed to shoppers.
    pub orders: Count,
    /// What they cost, in minor units.
    minor: AtomicI64,
    /// Units confirmed to shoppers, by item.
    sold: Vec<Count>,
    /// When an item was first found to be gone, by item, in milliseconds from the opening; 0: never.
    gone: Vec<AtomicU64>,
    opening: Instant,
    complaints: Mutex<Vec<String>>,
    /// All complaints, those that are not kept too.
    pub complaints_count: Count,
}

impl Tally {
    /// An empty one for so many items.
    pub fn new(items: usize) -> Self {
        let histogram = || {
            // The bounds are fixed and valid, so that this can't fail.
            let made = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
            Mutex::new(made.unwrap_or_else(|e| unreachable!("fixed bounds: {e}")))
        };
        Self {
            latencies: [histogram(), histogram(), histogram()],
            granted: Count::default(),
            refused: Mutex::default(),
            released: Count::default(),
            abandoned: Count::default(),
            too_late: Count::default(),
            repeats: Count::default(),
            retries: Count::default(),
            orders: Count::default(),
            minor: AtomicI64::new(0),
            sold: (0..items).map(|_| Count::default()).collect(),
            gone: (0..items).map(|_| AtomicU64::default()).collect(),
            opening: Instant::now(),
            complaints: Mutex::default(),
            complaints_count: Count::default(),
        }
    }

    /// An answer came after so long.
    pub fn answered(&self, operation: Operation, after: Duration) {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.latencies[operation as usize].lock().saturating_record(micros.max(1));
    }

    /// A reservation was refused.
    pub fn refuse(&self, code: &str) {
        *self.refused.lock().entry(code.to_owned()).or_default() += 1;
    }

    /// Refusals by code.
    pub fn refused(&self) -> BTreeMap<String, u64> {
        self.refused.lock().clone()
    }

    /// An order was confirmed: its total, and units by item.
    pub fn sell(&self, total: i64, units: impl Iterator<Item = (usize, u32)>) {
        self.orders.add(1);
        self.minor.fetch_add(total, Ordering::Relaxed);
        for (item, quantity) in units {
            self.sold[item].add(u64::from(quantity));
        }
    }

    /// Units of an item that were confirmed to shoppers.
    pub fn sold(&self, item: usize) -> u64 {
        self.sold[item].get()
    }

    /// A shopper was told that nothing is left of an item.
    pub fn found_gone(&self, item: usize) {
        let millis = u64::try_from(self.opening.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Only the first one counts; the others fail here.
        let _ = self.gone[item].compare_exchange(
            0,
            millis.max(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// When an item was first found to be gone.
    pub fn gone(&self, item: usize) -> Option<Duration> {
        let millis = self.gone[item].load(Ordering::Relaxed);
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// What all confirmed orders cost, in minor units.
    pub fn minor(&self) -> i64 {
        self.minor.load(Ordering::Relaxed)
    }

    /// The server did what it must not.
    pub fn complain(&self, complaint: String) {
        self.complaints_count.add(1);
        let mut kept = self.complaints.lock();
        if kept.len() < COMPLAINTS_MAX {
            kept.push(complaint);
        }
    }

    /// The complaints that were kept.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().clone()
    }

    /// The latencies of an operation, in microseconds.
    pub fn latencies(&self, operation: Operation) -> Histogram<u64> {
        self.latencies[operation as usize].lock().clone()
    }

    /// Answers so far.
    pub fn answers(&self) -> u64 {
        self.latencies.iter().map(|histogram| histogram.lock().len()).sum()
    }
}
