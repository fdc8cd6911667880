//! Parked events by the position of their record, and by what they are: whose, of which order, of
//! what kind, with which id. There are at most so many; one that is being decided on is busy, so that
//! of a thread that applies it and a person who discards it, one does.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::model::{
    Lsn, OrderId,
    inbound::{OrderEvent, ParkedEvent, Unparked},
};

/// What a parked event is known by besides its record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    partner: String,
    order_id: String,
    id: String,
    kind: u8,
}

impl Name {
    fn of(event: &ParkedEvent) -> Self {
        let ParkedEvent { partner, order_id, id, kind, .. } = event.clone();
        Self { partner, order_id, id, kind }
    }
}

#[derive(Debug)]
struct Entry {
    event: Arc<ParkedEvent>,
    busy: bool,
}

#[derive(Debug, Default)]
struct Tables {
    events: BTreeMap<u64, Entry>,
    names: HashMap<Name, u64>,
}

impl Tables {
    fn insert(&mut self, event: ParkedEvent) {
        self.names.insert(Name::of(&event), event.lsn);
        self.events.insert(event.lsn, Entry { event: Arc::new(event), busy: false });
    }

    fn unpark(&mut self, lsn: u64, unparked: Unparked) -> bool {
        let Some(entry) = self.events.get_mut(&lsn) else { return false };
        let mut event = (*entry.event).clone();
        event.unpark(unparked);
        if event.over {
            self.names.remove(&Name::of(&event));
            self.events.remove(&lsn);
        } else {
            entry.event = Arc::new(event);
        }
        true
    }
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// That wait for their order.
    pub waiting: u64,
    /// That their order would not have.
    pub refused: u64,
    /// When the oldest of them all was parked; `None` if there is none.
    pub oldest_at_ms: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct ParkedEvents {
    tables: Mutex<Tables>,
    events_max: usize,
}

impl ParkedEvents {
    /// Room for at most `events_max`.
    pub fn new(events_max: u32) -> Self {
        Self { tables: Mutex::default(), events_max: events_max as usize }
    }

    /// Whether there is no room for another one.
    pub fn is_full(&self) -> bool {
        self.tables.lock().events.len() >= self.events_max
    }

    /// Puts one there. Who asks has looked that there is room, and lets nobody else in meanwhile.
    /// Replay: whatever there is, since it was there before.
    pub fn insert(&self, event: ParkedEvent) {
        self.tables.lock().insert(event);
    }

    /// Replay: what became of one. `false`: there is no such one.
    pub fn restore_outcome(&self, parked: Lsn, unparked: Unparked) -> bool {
        self.tables.lock().unpark(parked.0, unparked)
    }

    /// The one of a record.
    pub fn get(&self, parked: Lsn) -> Option<Arc<ParkedEvent>> {
        self.tables.lock().events.get(&parked.0).map(|entry| entry.event.clone())
    }

    /// The one that a partner has reported already.
    pub fn find(
        &self,
        partner: &str,
        order: &OrderId,
        event: &OrderEvent,
    ) -> Option<Arc<ParkedEvent>> {
        let name = Name {
            partner: partner.to_owned(),
            order_id: order.as_str().to_owned(),
            id: event.id().as_str().to_owned(),
            kind: event.kind() as u8,
        };
        let tables = self.tables.lock();
        let lsn = tables.names.get(&name)?;
        tables.events.get(lsn).map(|entry| entry.event.clone())
    }

    /// Begins to decide on one; `None` if there is no such one. Busy: somebody else is at it.
    pub fn begin(&self, parked: Lsn) -> Option<Begin<'_>> {
        let mut tables = self.tables.lock();
        let entry = tables.events.get_mut(&parked.0)?;
        if std::mem::replace(&mut entry.busy, true) {
            return Some(Begin::Busy);
        }
        Some(Begin::Begun(Deciding { parked: self, event: entry.event.clone() }))
    }

    /// Those behind a record, oldest first, as long as `wanted` says so and at most so many.
    pub fn after(
        &self,
        parked: Lsn,
        events_max: usize,
        wanted: impl Fn(&ParkedEvent) -> bool,
    ) -> Vec<Arc<ParkedEvent>> {
        let tables = self.tables.lock();
        let from = (std::ops::Bound::Excluded(parked.0), std::ops::Bound::Unbounded);
        let events = tables.events.range(from).map(|(_, entry)| &entry.event);
        events.filter(|event| wanted(event)).take(events_max).cloned().collect()
    }

    /// How many there are. Walks all of them.
    pub fn counts(&self) -> Counts {
        let tables = self.tables.lock();
        let events = tables.events.values().map(|entry| &entry.event);
        let refused = events.filter(|event| event.refused.is_some()).count() as u64;
        let oldest = tables.events.first_key_value();
        Counts {
            waiting: tables.events.len() as u64 - refused,
            refused,
            oldest_at_ms: oldest.map(|(_, entry)| entry.event.at_ms),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tables.lock().events.is_empty()
    }
}

/// What beginning finds.
#[derive(Debug)]
pub enum Begin<'a> {
    /// It is this caller's.
    Begun(Deciding<'a>),
    /// Somebody else is deciding on it.
    Busy,
}

/// The right to decide on a parked event. Dropped, it leaves the event as it was.
#[derive(Debug)]
pub struct Deciding<'a> {
    parked: &'a ParkedEvents,
    event: Arc<ParkedEvent>,
}

impl Deciding<'_> {
    /// The event.
    pub fn event(&self) -> &ParkedEvent {
        &self.event
    }

    /// What became of it, which has its record.
    pub fn finish(self, unparked: Unparked) {
        self.parked.tables.lock().unpark(self.event.lsn, unparked);
    }
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.parked.tables.lock().events.get_mut(&self.event.lsn) {
            entry.busy = false;
        }
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;
    use crate::model::inbound::{ParkedOutcome, Why};

    fn event(lsn: u64, id: &str) -> ParkedEvent {
        ParkedEvent {
            lsn,
            at_ms: lsn * 10,
            content: 1,
            partner: "psp".to_owned(),
            order_id: "O-1".to_owned(),
            id: id.to_owned(),
            event: String::new(),
            request_id: String::new(),
            traceparent: String::new(),
            refused: None,
            kind: 7,
            over: false,
        }
    }

    fn begun(parked: &ParkedEvents, lsn: u64) -> Deciding<'_> {
        match parked.begin(Lsn(lsn)) {
            Some(Begin::Begun(deciding)) => deciding,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_at_a_time_decides_and_what_is_refused_stays() {
        let parked = ParkedEvents::new(2);
        parked.insert(event(8, "N-1"));
        assert!(!parked.is_full());
        parked.insert(event(16, "N-2"));
        assert!(parked.is_full());
        let deciding = begun(&parked, 8);
        assert!(matches!(parked.begin(Lsn(8)), Some(Begin::Busy)));
        drop(deciding);
        let why = Why { code: "c".to_owned(), detail: "d".to_owned() };
        let outcome = ParkedOutcome::Refused(why);
        begun(&parked, 8).finish(Unparked { lsn: 24, at_ms: 9, outcome });
        let counts = Counts { waiting: 1, refused: 1, oldest_at_ms: Some(80) };
        assert_eq!(parked.counts(), counts);
        assert_eq!(parked.get(Lsn(8)).unwrap().last(), Lsn(24));
        let outcome = ParkedOutcome::Applied;
        begun(&parked, 8).finish(Unparked { lsn: 32, at_ms: 9, outcome });
        assert!(parked.begin(Lsn(8)).is_none());
        assert!(!parked.is_full());
    }

    #[test]
    fn an_event_is_known_by_whose_and_what_it_is() {
        let parked = ParkedEvents::new(2);
        parked.insert(event(8, "N-1"));
        let note = r#"{"note": {"note_id": "N-1", "text": "x"}}"#;
        let note: OrderEvent = serde_json::from_str(note).unwrap();
        let (order, other) = ("O-1".parse().unwrap(), "O-2".parse().unwrap());
        assert_eq!(parked.find("psp", &order, &note).unwrap().lsn, 8);
        assert!(parked.find("wms", &order, &note).is_none());
        assert!(parked.find("psp", &other, &note).is_none());
        let outcome = ParkedOutcome::Discarded(String::new());
        assert!(parked.restore_outcome(Lsn(8), Unparked { lsn: 16, at_ms: 1, outcome }));
        assert!(parked.find("psp", &order, &note).is_none());
        assert!(parked.is_empty());
    }

    #[test]
    fn a_list_goes_on_behind_what_was_listed() {
        let parked = ParkedEvents::new(9);
        [8, 16, 24].into_iter().for_each(|lsn| parked.insert(event(lsn, &lsn.to_string())));
        let ids = |after, most| -> Vec<u64> {
            parked.after(Lsn(after), most, |event| event.id != "16").iter().map(|e| e.lsn).collect()
        };
        assert_eq!(ids(0, 9), [8, 24]);
        assert_eq!(ids(0, 1), [8]);
        assert_eq!(ids(8, 1), [24]);
    }
}
