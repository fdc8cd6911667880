//! Partners that are added, given another key and revoked while the house runs.
//!
//! - Each of the three is a record, and answered once that is durable. The record has the partner as it is
//!   then, so that the last one about a name is what holds; one is decided on at a time.
//! - Of a key only the hash comes in here. Who made the key shows it, once.
//! - There are at most [`LIVE_PARTNERS_MAX`](crate::model::partner::LIVE_PARTNERS_MAX), revoked ones among
//!   them, and each has at most [`OLD_KEYS_MAX`] old keys: beyond that it is refused, and nobody loses a
//!   key to make room. A revoked name is given anew once its idempotency keys are forgotten.

use std::sync::Arc;

use crate::{
    ledger::partners::ByName,
    model::{
        event::PartnerChange,
        partner::{
            AddPartner, GRACE_MS_MAX, OLD_KEYS_MAX, OldKey, PartnerDeed, PartnerEntry, Terms,
        },
        signature::KeyHash,
    },
    wal::{Draft, RoomClass, Storage},
};

use super::{Decision, Engine, Refusal, core::Core, transition::fixed_bytes};

impl<S: Storage> Engine<S> {
    /// Partners that the log keeps, by name, revoked ones too. They may not be durable yet; see
    /// [`Engine::listed_partners`].
    pub fn partners(&self) -> Arc<ByName> {
        self.core().tables.partners.all()
    }

    /// Rises with every change of [`Engine::partners`].
    pub fn partners_version(&self) -> u64 {
        self.core().tables.partners.version()
    }

    /// The same to be told: what is said is durable once it is settled.
    pub fn listed_partners(&self) -> Decision<Vec<PartnerEntry>> {
        let all: Vec<_> = self.partners().values().cloned().collect();
        let behind = all.iter().map(PartnerEntry::last).max().unwrap_or_default();
        Decision::made(all, false, behind)
    }

    /// Adds a partner with a key of this hash.
    ///
    /// # Errors
    /// When settled: `malformed`, `partner_exists`, `overloaded` if there are as many as may be,
    /// `log_full`.
    pub fn add_partner(&self, add: &AddPartner, key: &KeyHash, by: &str) -> Decision<PartnerEntry> {
        if let Err((field, wrong)) = add.check() {
            return Refusal::malformed(field, wrong.0).into();
        }
        let (core, hash) = (self.core(), key.to_bytes());
        core.change(&add.name, PartnerDeed::Add, by, |before, now_ms| {
            let retention_ms = core.options.retention_ms;
            match before {
                Some(one) if !one.revoked => return Err(Refusal::PartnerExists { revoked: false }),
                Some(one) if now_ms < one.changed_at_ms.saturating_add(retention_ms) => {
                    return Err(Refusal::PartnerExists { revoked: true });
                }
                None if core.tables.partners.is_full() => {
                    return Err(Refusal::Overloaded {
                        what: "there are as many partners as may be",
                    });
                }
                _ => {}
            }
            Ok(new(&add.name, add.terms(), hash, now_ms))
        })
    }

    /// Gives a partner another key; the present one stays good for `grace_ms`, 0: not at all.
    ///
    /// # Errors
    /// When settled: `malformed`, also of a grace when too many old keys are still good, `not_found`,
    /// `log_full`.
    pub fn rotate_partner(
        &self,
        name: &str,
        key: &KeyHash,
        grace_ms: u64,
        by: &str,
    ) -> Decision<PartnerEntry> {
        if grace_ms > GRACE_MS_MAX {
            return Refusal::malformed("grace_ms", "must be at most 30 days").into();
        }
        let hash = key.to_bytes();
        self.core().change(name, PartnerDeed::Rotate, by, |before, now_ms| {
            let mut partner = active(before)?;
            partner.old_keys.retain(|old| grace_ms > 0 && old.until_ms > now_ms);
            if partner.old_keys.len() >= OLD_KEYS_MAX {
                let what = "must be 0, which ends them all: too many old keys are still good";
                return Err(Refusal::malformed("grace_ms", what));
            }
            let replaced = std::mem::replace(&mut partner.key, hash);
            if grace_ms > 0 {
                let until_ms = now_ms.saturating_add(grace_ms);
                partner.old_keys.push(OldKey { until_ms, hash: replaced });
            }
            Ok(partner)
        })
    }

    /// Revokes a partner: from its record on none of its keys is good. Asking again changes nothing.
    ///
    /// # Errors
    /// When settled: `not_found`, `log_full`.
    pub fn revoke_partner(&self, name: &str, by: &str) -> Decision<PartnerEntry> {
        let revoked = self.core().tables.partners.get(name).filter(|partner| partner.revoked);
        if let Some(partner) = revoked {
            let behind = partner.last();
            return Decision::made(partner, false, behind);
        }
        self.core().change(name, PartnerDeed::Revoke, by, |before, _| {
            let partner = active(before)?;
            // The hash stays: of what use was the key, should it turn up.
            Ok(PartnerEntry { revoked: true, old_keys: Vec::new(), ..partner })
        })
    }
}

fn active(partner: Option<PartnerEntry>) -> Result<PartnerEntry, Refusal> {
    partner.filter(|partner| !partner.revoked).ok_or(Refusal::UnknownPartner)
}

fn new(name: &str, terms: Terms, key: [u8; 32], now_ms: u64) -> PartnerEntry {
    PartnerEntry {
        added_at_ms: now_ms,
        changed_at_ms: now_ms,
        changed_lsn: 0,
        name: name.to_owned(),
        changed_by: String::new(),
        terms,
        key,
        old_keys: Vec::new(),
        revoked: false,
    }
}

impl<S: Storage> Core<S> {
    /// Decides what a partner becomes, writes it down, and lets it hold.
    fn change(
        &self,
        name: &str,
        deed: PartnerDeed,
        by: &str,
        decide: impl FnOnce(Option<PartnerEntry>, u64) -> Result<PartnerEntry, Refusal>,
    ) -> Decision<PartnerEntry> {
        let _one = self.partnering.lock();
        let before = self.tables.partners.get(name);
        let behind = before.as_ref().map(PartnerEntry::last);
        let now_ms = self.now_ms();
        let written = decide(before, now_ms).and_then(|partner| {
            let partner =
                PartnerEntry { changed_at_ms: now_ms, changed_by: by.to_owned(), ..partner };
            self.write_partner(PartnerChange { partner, deed }, now_ms)
        });
        match (written, behind) {
            (Ok(partner), _) => {
                let lsn = partner.last();
                Decision::made(partner, deed == PartnerDeed::Add, lsn)
            }
            (Err(refusal), Some(behind)) => Decision::refused_behind(refusal, behind),
            (Err(refusal), None) => refusal.into(),
        }
    }

    /// Adding is new work; a key that must go goes also when the log is full, from delivery's reserve.
    fn write_partner(&self, change: PartnerChange, now_ms: u64) -> Result<PartnerEntry, Refusal> {
        let class = match change.deed {
            PartnerDeed::Add => RoomClass::New,
            PartnerDeed::Rotate | PartnerDeed::Revoke => RoomClass::Delivery,
        };
        let PartnerEntry { name, changed_by, old_keys, .. } = &change.partner;
        let texts = name.len() + changed_by.len() + size_of_val(old_keys.as_slice());
        let bytes = Draft::bytes_for(fixed_bytes::<PartnerChange>() + texts + 64);
        let ticket = self.ticket(class, bytes, 0)?;
        let lsn = self.append(ticket, &change, now_ms);
        let partner = PartnerEntry { changed_lsn: lsn.0, ..change.partner };
        self.tables.partners.put(partner.clone());
        Ok(partner)
    }
}
