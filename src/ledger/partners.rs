//! Partners that were added to a running server, by name. Read at once with a number that rises with
//! every change, so that who keeps something made of them sees cheaply whether it still holds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;

use crate::model::partner::{LIVE_PARTNERS_MAX, PartnerEntry};

/// Partners by name.
pub type ByName = BTreeMap<String, PartnerEntry>;

/// See the module.
#[derive(Debug, Default)]
pub struct Partners {
    all: RwLock<Arc<ByName>>,
    version: AtomicU64,
}

impl Partners {
    /// All of them, revoked ones too.
    pub fn all(&self) -> Arc<ByName> {
        self.all.read().clone()
    }

    /// Rises with every change. What is read after it is at least as new.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The one of a name.
    pub fn get(&self, name: &str) -> Option<PartnerEntry> {
        self.all.read().get(name).cloned()
    }

    /// Whether there is no room for another name.
    pub fn is_full(&self) -> bool {
        self.all.read().len() >= LIVE_PARTNERS_MAX
    }

    /// What a partner is now. Who asks has its record, and lets nobody else change it meanwhile.
    pub fn put(&self, partner: PartnerEntry) {
        Arc::make_mut(&mut *self.all.write()).insert(partner.name.clone(), partner);
        self.version.fetch_add(1, Ordering::Release);
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;
    use crate::model::partner::Terms;

    fn partner(name: &str, lsn: u64) -> PartnerEntry {
        PartnerEntry {
            added_at_ms: 0,
            changed_at_ms: 0,
            changed_lsn: lsn,
            name: name.to_owned(),
            changed_by: String::new(),
            terms: Terms::default(),
            key: [0; 32],
            old_keys: Vec::new(),
            revoked: false,
        }
    }

    #[test]
    fn a_change_is_seen_by_its_version_and_a_reader_keeps_what_he_read() {
        let partners = Partners::default();
        partners.put(partner("a", 8));
        let (before, version) = (partners.all(), partners.version());
        partners.put(partner("a", 16));
        assert_eq!((before["a"].changed_lsn, partners.all()["a"].changed_lsn), (8, 16));
        assert!(partners.version() > version);
        assert!(partners.get("b").is_none() && !partners.is_full());
        (0..LIVE_PARTNERS_MAX).for_each(|n| partners.put(partner(&n.to_string(), 24)));
        assert!(partners.is_full());
    }
}
