//! A sealed batch, as its seal and the record of its fate say it: which records it sums up or names, and what
//! its partner took of it.

use std::{borrow::Cow, collections::HashSet};

use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::{
    model::{
        Incarnation, Lsn, Timestamp,
        event::{Acknowledge, ArchivedSeal, Event, Happened, Placed, decode},
        fact::Fact,
        lineage::{BatchState, TraceBatch, TraceRecord},
        posting::{self, Recognition},
        sink::batch_name,
    },
    wal::{Record, Storage},
};

use super::{
    super::{core::Core, say},
    content::Names,
    items::{self, Aside, Wanted},
};

/// What a record can be carried as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carried {
    /// Whether it moves stock that an ERP hears of.
    stock: bool,
    /// Whether it says that an order is to be picked.
    picks: bool,
}

impl Carried {
    /// Nothing for records that concern no partner: what is held, and notes.
    pub(super) fn of(record: &Record<'_>) -> Option<Self> {
        match record.kind {
            Placed::KIND => Some(Self { stock: true, picks: true }),
            Happened::KIND => match say::owned::<Happened>(record).ok()?.fact {
                Fact::Note { .. } => None,
                Fact::Shipment { .. }
                | Fact::Cancellation { .. }
                | Fact::Receipt { restock: true, .. } => Some(Self { stock: true, picks: false }),
                _ => Some(Self { stock: false, picks: false }),
            },
            _ => None,
        }
    }
}

/// A sealed batch, and which records it sums up.
pub(super) struct Batch {
    pub(super) view: TraceBatch,
    head: Head,
    /// First and last record of the window; nothing if it summed up none.
    span: Option<(u64, u64)>,
    recognition: Recognition,
    /// Records that it left for a later one.
    pub(super) parked: Vec<u64>,
    /// What it names.
    names: Names,
    /// The seal of the batch whose content it sends again, as a letter, and the ids of that.
    pub(super) origin: Option<u64>,
    pub(super) ids: HashSet<String>,
    /// What the partner took of it, if that is not all.
    pub(super) aside: Option<Aside>,
}

/// The body of a batch; nothing if the seal has none of that number.
pub(super) fn body_of(seal: &ArchivedSeal, number: u64) -> Option<Cow<'_, [u8]>> {
    seal.body_of(usize::try_from(number.checked_sub(seal.number.to_native())?).ok()?)
}

impl Batch {
    /// The batch of a number; nothing if the seal has none of it.
    pub(super) fn of(
        lsn: Lsn,
        seal: &ArchivedSeal,
        number: u64,
        life_at: impl Fn(Lsn) -> Incarnation,
    ) -> Option<Self> {
        let body = body_of(seal, number)?;
        let names = Names::of(seal.lane, &body, &life_at);
        let mut head = Head::of(&body);
        if !seal.part_id.is_empty() {
            head.batch_id = Some(seal.part_id.as_str().to_owned());
        } else if matches!(names, Names::Events(_)) {
            head.batch_id = Some(batch_name(seal.sink.as_str(), life_at(lsn), number));
        }
        let span = (seal.first_lsn.to_native(), seal.last_lsn.to_native());
        let span = (seal.events.to_native() > 0).then_some(span);
        let recognition = Recognition::of_number(seal.recognition).unwrap_or_default();
        let view = TraceBatch {
            sink: seal.sink.as_str().to_owned(),
            batch_id: head.batch_id.clone(),
            letter: (!seal.letter.is_empty()).then(|| seal.letter.as_str().to_owned()),
            seal_lsn: lsn,
            sealed_at: Timestamp::from_millis(seal.sealed_at_ms.to_native()),
            waited_ms: 0,
            state: BatchState::Sealed,
            attempts: None,
            answered_at: None,
            delivery_ms: None,
            status: None,
            answer: None,
        };
        let parked = seal.parking.parked.iter().map(|parked| parked.lsn.to_native()).collect();
        let origin = (!seal.letter.is_empty()).then(|| seal.first_lsn.to_native());
        let ids = origin.map(|_| items::items(&body)).unwrap_or_default();
        let ids = ids.into_iter().map(|item| item.id).collect();
        Some(Self { view, head, span, recognition, parked, names, origin, ids, aside: None })
    }

    pub(super) fn answered(&mut self, record: &Record<'_>, body: &[u8]) {
        let (lsn, kind, version) = (record.lsn, record.kind, record.version);
        let Ok(fate) = decode::<Acknowledge>(lsn, kind, version, record.body) else { return };
        let at = Timestamp::from_millis(record.time_ms);
        let status = fate.status.to_native();
        self.aside = Aside::of(fate, body);
        let view = &mut self.view;
        view.state = if fate.refused { BatchState::Refused } else { BatchState::Delivered };
        view.attempts = Some(fate.attempts.to_native());
        view.answered_at = Some(at);
        view.delivery_ms = Some(at.millis().saturating_sub(view.sealed_at.millis()));
        view.status = (status != 0).then_some(status);
        view.answer = (!fate.answer.is_empty()).then(|| fate.answer.as_str().to_owned());
    }

    /// The batch as one that carried this record.
    pub(super) fn view_for(&self, record: &TraceRecord) -> TraceBatch {
        let waited_ms = self.view.sealed_at.millis().saturating_sub(record.at.millis());
        TraceBatch { waited_ms, ..self.view.clone() }
    }

    /// What its items have to name to be of a record.
    pub(super) fn wanted<'a, S: Storage>(
        &self,
        record: &Record<'_>,
        carried: Carried,
        order: &'a str,
        core: &Core<S>,
    ) -> Wanted<'a> {
        let lsn = record.lsn;
        match &self.names {
            Names::Orders { .. } => Wanted::Order { id: order, picks: carried.picks },
            Names::Events(_) => {
                Wanted::Event { id: format!("{}-{lsn}", core.log.incarnation_at(lsn)) }
            }
            Names::Nothing => {
                let kind = (record.kind, record.version);
                let booking = posting::of(lsn, kind, record.body, self.recognition).ok().flatten();
                let entry = booking.filter(|_| self.head.domain.as_deref() == Some("finance"));
                if let Some(entry) = entry {
                    return Wanted::Entry { kind: entry.kind, currency: entry.currency };
                }
                let (movement, positions) = items::moves(record).unwrap_or_default();
                let name = |number| say::Names::position(core, number);
                let positions = positions.into_iter().filter_map(name).collect();
                Wanted::Moves { movement, positions }
            }
        }
    }

    /// Whether the window summed a record of an order up that it read and did not park; of a batch that
    /// names what it brings, whether it names that.
    pub(super) fn carried(&self, record: &Record<'_>, carried: Carried, order: &str) -> bool {
        let concerns = || match self.head.domain.as_deref() {
            _ if self.names != Names::Nothing => self.names.tells(record.lsn, order, carried.picks),
            Some("inventory") => carried.stock,
            Some("finance") => {
                let kind = (record.kind, record.version);
                posting::of(record.lsn, kind, record.body, self.recognition)
                    .is_ok_and(|booking| booking.is_some())
            }
            _ => true,
        };
        self.span.is_some_and(|(first, last)| (first..=last).contains(&record.lsn.0)) && concerns()
    }
}

/// What a batch's body begins with. The rest, which may be large, is not read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Head {
    batch_id: Option<String>,
    domain: Option<String>,
}

impl Head {
    fn of(body: &[u8]) -> Self {
        let mut head = Self::default();
        // It ends with an error as soon as both are there: the object goes on.
        let _ = serde_json::Deserializer::from_slice(body).deserialize_map(Heading(&mut head));
        head
    }
}

struct Heading<'a>(&'a mut Head);

impl<'de> Visitor<'de> for Heading<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a batch")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while self.0.batch_id.is_none() || self.0.domain.is_none() {
            match map.next_key::<String>()?.as_deref() {
                Some("batch_id") => self.0.batch_id = Some(map.next_value()?),
                Some("domain") => self.0.domain = Some(map.next_value()?),
                Some(_) => drop(map.next_value::<IgnoredAny>()?),
                None => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_batch_is_read_without_the_rest() {
        let head = Head::of(br#"{"batch_id":"erp-3f9c-000001","sink":"erp","domain":"inventory","#);
        assert_eq!(head.batch_id.as_deref(), Some("erp-3f9c-000001"));
        assert_eq!(head.domain.as_deref(), Some("inventory"));
        assert_eq!(Head::of(b""), Head::default());
        assert_eq!(Head::of(b"[1]"), Head::default());
    }
}
