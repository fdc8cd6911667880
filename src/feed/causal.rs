//! The order in which a business does things to an order, and what must wait for what.
//!
//! - A settlement waits until revenue is recognised that it can pay: from the commit on, from the first
//!   shipment, or from the first invoice, as the sink is configured. Once everything of the order is
//!   called off there will be no such thing, and nothing waits for it.
//! - A refund waits for that, and for a settlement.
//! - Everything else follows from the log: goods leave after the order was placed and come back after
//!   they left.
//!
//! All of it is a function of the record at hand, which says what had happened to the order before.

use crate::model::{
    event::ArchivedHappened,
    fact::{ArchivedFact, FactKind},
    posting::Recognition,
    view::ReservationState,
};

/// What of an order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Come {
    recognised: bool,
    settled: bool,
}

/// What can be early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follower {
    Settlement,
    Refund,
}

impl Come {
    /// What had come before a record.
    fn before(record: &ArchivedHappened, when: Recognition) -> Self {
        Self::of(record.worth.before, record, when)
    }

    /// What has come with a record.
    pub fn with(record: &ArchivedHappened, when: Recognition) -> Self {
        Self::of(record.worth.before | 1 << kind_of(&record.fact) as u8, record, when)
    }

    fn of(kinds: u8, record: &ArchivedHappened, when: Recognition) -> Self {
        let has = |kind: FactKind| kinds & (1 << kind as u8) != 0;
        let over = record.state == ReservationState::Cancelled as u8;
        let recognised = over
            || match when {
                Recognition::Commit => true,
                Recognition::Shipment => has(FactKind::Shipment),
                Recognition::Invoice => has(FactKind::Invoice),
            };
        Self { recognised, settled: has(FactKind::Settlement) }
    }

    /// What a follower still waits for.
    pub fn missing(self, follower: Follower) -> Option<&'static str> {
        match follower {
            _ if !self.recognised => Some("recognition"),
            Follower::Refund if !self.settled => Some("settlement"),
            _ => None,
        }
    }
}

/// What a record is that something must come before.
pub(super) fn follower(record: &ArchivedHappened) -> Option<Follower> {
    match record.fact {
        ArchivedFact::Settlement { .. } => Some(Follower::Settlement),
        ArchivedFact::Refund { .. } => Some(Follower::Refund),
        _ => None,
    }
}

/// What a record waits for; `None` if it is not early.
pub(super) fn waits_for(record: &ArchivedHappened, when: Recognition) -> Option<&'static str> {
    Come::before(record, when).missing(follower(record)?)
}

fn kind_of(fact: &ArchivedFact) -> FactKind {
    match fact {
        ArchivedFact::Shipment { .. } => FactKind::Shipment,
        ArchivedFact::Cancellation { .. } => FactKind::Cancellation,
        ArchivedFact::Invoice { .. } => FactKind::Invoice,
        ArchivedFact::Settlement { .. } => FactKind::Settlement,
        ArchivedFact::Refund { .. } => FactKind::Refund,
        ArchivedFact::Return { .. } => FactKind::Return,
        ArchivedFact::Receipt { .. } => FactKind::Receipt,
        ArchivedFact::Note { .. } => FactKind::Note,
    }
}
