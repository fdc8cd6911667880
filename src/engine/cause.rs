//! What a request is known by in the log: its key, and what it came with. The latter is good to have
//! and never a reason to refuse: where room is left for the record alone, it goes without.

use std::ops::Deref;

use crate::{
    model::{
        Lsn, ORIGIN_FLAG, Origin,
        event::{self, Encode, Event, KeyRef},
    },
    wal::{RoomClass, Storage, Ticket},
};

use super::{
    Key, Refusal,
    core::{Core, with_draft},
    counters::Count,
};

/// The key of a request, and its origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause<'a> {
    pub(super) key: KeyRef,
    pub(super) origin: Option<Origin<'a>>,
    /// Why it is shed past the log's soft mark, if it opens something; `None`: it is not.
    pub(super) sheds: Option<Shed>,
}

/// Why work is shed past the log's soft mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shed {
    LowPriority,
    BulkOrder,
    StockImport,
}

impl Shed {
    /// Of a request that says whether it can wait.
    pub(super) fn of(can_wait: bool) -> Option<Self> {
        can_wait.then_some(Self::LowPriority)
    }

    fn refusal(self) -> Refusal {
        let what = match self {
            Self::LowPriority => {
                "the log is past its soft mark, and the request says by its priority that it can wait"
            }
            Self::BulkOrder => "the log is past its soft mark, and the order's priority is bulk",
            Self::StockImport => "the log is past its soft mark; stock is imported later",
        };
        Refusal::Overloaded { what }
    }

    fn count(self) -> Count {
        match self {
            Self::LowPriority => Count::ShedLowPriority,
            Self::BulkOrder => Count::ShedBulkOrder,
            Self::StockImport => Count::ShedStockImport,
        }
    }
}

impl Deref for Cause<'_> {
    type Target = KeyRef;
    fn deref(&self) -> &KeyRef {
        &self.key
    }
}

/// Room for a record, and for its origin if there is any.
pub(super) struct Room<'a, S: Storage> {
    ticket: Ticket<'a, S>,
    origin: Option<Origin<'a>>,
}

impl<'a, S: Storage> Room<'a, S> {
    /// Room for a record alone.
    pub(super) fn without_origin(ticket: Ticket<'a, S>) -> Self {
        Self { ticket, origin: None }
    }
}

impl<S: Storage> Core<S> {
    /// A request's key and fingerprint. The key's place is being fetched while the fingerprint is taken.
    pub(super) fn key_ref(
        &self,
        key: Key<'_>,
        route: &impl serde::Serialize,
        body: &impl serde::Serialize,
    ) -> KeyRef {
        let hash = self.hasher.key(key);
        self.tables.keys.warm(hash);
        KeyRef { hash, fingerprint: self.hasher.request(route, body) }
    }

    /// A request's key and origin, for a record.
    pub(super) fn cause<'a>(
        &self,
        key: Key<'a>,
        route: &impl serde::Serialize,
        body: &impl serde::Serialize,
    ) -> Cause<'a> {
        let sheds = Shed::of(key.can_wait);
        Cause { key: self.key_ref(key, route, body), origin: key.origin, sheds }
    }

    /// Refuses what can wait while the log is past its soft mark.
    pub(super) fn shed(&self, shed: Shed) -> Result<(), Refusal> {
        if !self.log.is_past_soft_mark() {
            return Ok(());
        }
        self.counters.add(shed.count());
        Err(shed.refusal())
    }

    /// Asks for room for a record and its origin; as [`Core::ticket`].
    pub(super) fn room<'a>(
        &'a self,
        cause: &Cause<'a>,
        class: RoomClass,
        bytes: usize,
        closing: u64,
    ) -> Result<Room<'a, S>, Refusal> {
        if let Some(shed) = cause.sheds.filter(|_| class == RoomClass::New) {
            self.shed(shed)?;
        }
        let Some(origin) = cause.origin else {
            return Ok(Room { ticket: self.ticket(class, bytes, closing)?, origin: None });
        };
        let with = bytes + origin.bytes();
        if with <= self.log.record_bytes_max()
            && let Ok(ticket) = self.ticket(class, with, closing)
        {
            return Ok(Room { ticket, origin: Some(origin) });
        }
        Ok(Room { ticket: self.ticket(class, bytes, closing)?, origin: None })
    }

    /// Writes an event, and its origin in front of it, into room that was sized for it.
    pub(super) fn append_in<E>(&self, room: Room<'_, S>, event: &E, now_ms: u64) -> Lsn
    where
        E: Event + Encode,
    {
        let Some(origin) = room.origin else { return self.append(room.ticket, event, now_ms) };
        with_draft(|draft| {
            let body = draft.begin(E::KIND, E::VERSION | ORIGIN_FLAG, now_ms);
            origin.put(body);
            event::encode(event, body);
            draft.seal();
            room.ticket.append(draft)
        })
    }
}
