//! Everybody who may call: the configuration's partners and those that the log keeps, by the hashes of
//! their keys.
//!
//! What is looked up is made of both when one of them has changed, which a number says that rises with
//! either: so the request after a change sees it. A request costs one hash and one pass over all keys, whether
//! its key is known or not, and takes no lock: it reads a copy that is replaced, never changed.
//!
//! Keys are needed as soon as there is one, and stay needed where all were revoked; on an address that
//! others reach they are needed whatever there is.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use super::{
    Partners,
    meter::{Left, Meter, UsedUp, What},
    partners::Outcomes,
};
use crate::{
    engine::Engine,
    model::{
        partner::{Scope, Terms},
        signature::KeyHash,
        tally::Quota,
    },
};

/// A partner that calls: what it may do, what it has left, what it did.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) name: Arc<str>,
    pub(super) terms: Terms,
    pub(super) meter: Meter,
    pub(super) counts: Counts,
}

/// What was counted of a partner.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) taken: AtomicU64,
    pub(super) forbidden: AtomicU64,
    pub(super) rate: AtomicU64,
    pub(super) quota: AtomicU64,
    /// What became of those that were taken.
    pub(super) outcomes: Outcomes,
}

/// Why a partner's request is not taken.
#[derive(Debug)]
pub(super) enum Refused {
    Scope(&'static [Scope]),
    UsedUp(UsedUp),
}

impl Account {
    fn new(name: &str, terms: Terms) -> Self {
        let meter = Meter::new(&terms.limits);
        Self { name: name.into(), terms, meter, counts: Counts::default() }
    }

    /// Counts a request that needs one of `scopes`, and says what is left; or why it is not taken. What
    /// may not be asked for counts too.
    pub(super) fn enter(
        &self,
        scopes: &'static [Scope],
        now_ms: impl FnOnce() -> u64,
    ) -> Result<Left, (Refused, Left)> {
        let may = self.terms.scopes.have_any(scopes);
        let (count, entered) = match self.meter.count(now_ms) {
            Ok(left) if may => (&self.counts.taken, Ok(left)),
            Ok(left) => (&self.counts.forbidden, Err((Refused::Scope(scopes), left))),
            Err(used_up) => {
                let count = match used_up.what {
                    What::Rate => &self.counts.rate,
                    What::Quota => &self.counts.quota,
                };
                (count, Err((Refused::UsedUp(used_up), used_up.left)))
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        entered
    }
}

/// Who has a key, and until when it is good, in milliseconds since the epoch.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) account: Arc<Account>,
    pub(super) until_ms: u64,
}

/// What is looked up.
#[derive(Debug, Default)]
struct Index {
    /// The version of what it was made of; 0 while the log is not open.
    version: u64,
    hashes: Vec<KeyHash>,
    /// Who has the hash at the same place.
    known: Vec<Known>,
    accounts: Vec<Arc<Account>>,
    /// Whether there is a key, or was one that the log remembers.
    has_keys: bool,
}

/// See the module.
pub(super) struct Directory {
    configured: RwLock<Arc<Partners>>,
    /// How often those have changed.
    changes: AtomicU64,
    index: ArcSwap<Index>,
    /// What was counted before the start of partners that are not there yet; locked while the index is made.
    counted: Mutex<Vec<Quota>>,
    exposed: AtomicBool,
}

impl Directory {
    pub(super) fn new(configured: Partners) -> Self {
        let index = Index::of(&configured, None, &Index::default(), &[]);
        Self {
            configured: RwLock::new(Arc::new(configured)),
            changes: AtomicU64::new(0),
            index: ArcSwap::from_pointee(index),
            counted: Mutex::default(),
            exposed: AtomicBool::new(false),
        }
    }

    pub(super) fn configured(&self) -> Arc<Partners> {
        self.configured.read().clone()
    }

    /// From here on the configuration has these.
    pub(super) fn configure(&self, partners: Partners) {
        let mut configured = self.configured.write();
        *configured = Arc::new(partners.with_counts_of(&configured));
        drop(configured);
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Rises with every change of either; 0 before the log is open.
    pub(super) fn version(&self, engine: Option<&Engine>) -> u64 {
        let changes = || self.changes.load(Ordering::SeqCst);
        engine.map_or(0, |engine| 1 + engine.partners_version() + changes())
    }

    /// From here on every request needs a key, whether there is one or not.
    pub(super) fn expose(&self) {
        self.exposed.store(true, Ordering::SeqCst);
    }

    /// Whether every request needs a key.
    pub(super) fn needs_keys(&self, engine: Option<&Engine>) -> bool {
        self.exposed.load(Ordering::SeqCst) || self.look(engine, |index| index.has_keys)
    }

    /// Who has the key of a hash, if it is good now; the clock is asked only where that matters.
    pub(super) fn find(
        &self,
        engine: Option<&Engine>,
        key: &KeyHash,
        now_ms: impl FnOnce() -> u64,
    ) -> Option<Known> {
        self.look(engine, |index| {
            let found = key.find(index.hashes.iter()).and_then(|at| index.known.get(at));
            found.filter(|known| known.until_ms == u64::MAX || now_ms() < known.until_ms).cloned()
        })
    }

    /// Every partner that may call, for the metrics.
    pub(super) fn accounts(&self, engine: Option<&Engine>) -> Vec<Arc<Account>> {
        self.look(engine, |index| index.accounts.clone())
    }

    /// Goes on with quotas that were counted before the start, of partners that are there or will be.
    pub(super) fn go_on(&self, counted: Vec<Quota>) {
        let mut later = self.counted.lock();
        let index = self.index.load();
        for quota in counted {
            match index.accounts.iter().find(|one| *one.name == *quota.partner) {
                Some(account) => account.meter.go_on((quota.day, quota.counted)),
                None => later.push(quota),
            }
        }
    }

    /// Looks into an index that is not older than what it is made of at the call.
    fn look<T>(&self, engine: Option<&Engine>, look: impl FnOnce(&Index) -> T) -> T {
        let version = self.version(engine);
        let index = self.index.load();
        if index.version >= version {
            return look(&index);
        }
        drop(index);
        look(&self.renewed(engine, version))
    }

    /// An index of this version at least.
    #[cold]
    fn renewed(&self, engine: Option<&Engine>, version: u64) -> Arc<Index> {
        let mut counted = self.counted.lock();
        let before = self.index.load_full();
        if before.version >= version {
            return before;
        }
        // Read before what it is made of: what changes meanwhile is seen by the next look.
        let version = self.version(engine);
        let index = Index::of(&self.configured(), engine, &before, &counted);
        // Who is there now goes on by his own account.
        counted.retain(|quota| index.accounts.iter().all(|one| *one.name != *quota.partner));
        let index = Arc::new(Index { version, ..index });
        self.index.store(index.clone());
        index
    }
}

impl Index {
    /// Partners whose terms are as they were keep what was counted of them; of others their quota goes on,
    /// as it was counted of them before, or before the start.
    fn of(
        configured: &Partners,
        engine: Option<&Engine>,
        before: &Self,
        counted: &[Quota],
    ) -> Self {
        let account = |name: &str, terms: &Terms| before.account(name, terms, counted);
        let mut index = Self::default();
        for (name, key, terms) in configured.keys() {
            index.add(account(name, terms), [(*key, u64::MAX)]);
        }
        let live = engine.map(Engine::partners).unwrap_or_default();
        index.has_keys = configured.have_keys() || !live.is_empty();
        for partner in live.values() {
            // One that the configuration has too would be two under one name.
            if !partner.revoked && !configured.has(&partner.name) {
                index.add(account(&partner.name, &partner.terms), partner.keys());
            }
        }
        index
    }

    fn account(&self, name: &str, terms: &Terms, counted: &[Quota]) -> Arc<Account> {
        let same = self.accounts.iter().find(|one| *one.name == *name);
        if let Some(same) = same.filter(|same| same.terms == *terms) {
            return same.clone();
        }
        let account = Account::new(name, terms.clone());
        let counted = counted.iter().find(|quota| quota.partner == name);
        let counted = counted.map(|quota| (quota.day, quota.counted));
        if let Some(counted) = same.and_then(|same| same.meter.counted()).or(counted) {
            account.meter.go_on(counted);
        }
        Arc::new(account)
    }

    fn add(&mut self, account: Arc<Account>, keys: impl IntoIterator<Item = (KeyHash, u64)>) {
        for (hash, until_ms) in keys {
            self.hashes.push(hash);
            self.known.push(Known { account: account.clone(), until_ms });
        }
        self.accounts.push(account);
    }
}
