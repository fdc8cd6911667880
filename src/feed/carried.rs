//! What a window carries beside its content: when the records in it were written, so that it is known how
//! long they took to their partner, and which traces led to it. Both are bounded, and no part of what is
//! sealed: all of a batch of an earlier life of the process is as old as its first record, and of no trace.
//!
//! What is measured is what its domain is about: at a warehouse orders, at an ERP shipments, at finance
//! whatever is booked, of a stream every event.

use super::inventory::Absorbed;
use crate::{
    config::Domain,
    model::{
        OriginView,
        event::{self, Event, Happened, Placed},
        fact::ArchivedFact,
    },
    telemetry::TraceContext,
    wal::Record,
};

/// Times that are told apart; beyond, neighbours are taken together.
const TIMES_MAX: usize = 256;
/// Traces that a batch names as its causes.
const LINKS_MAX: usize = 32;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Carried {
    /// When, in milliseconds since the epoch, and how many records. Of neighbours that are taken
    /// together the oldest time counts, so that nothing seems faster than it was.
    times: Vec<(u64, u64)>,
    /// Times that lie within so many milliseconds are one.
    grain_ms: u64,
    links: Vec<TraceContext>,
}

/// What is measured of a domain.
pub(super) fn measured(domain: Domain) -> &'static str {
    match domain {
        Domain::Fulfilment => "order",
        Domain::Inventory => "shipment",
        Domain::Finance => "posting",
        Domain::Stream => "event",
    }
}

fn is_measured(domain: Domain, record: &Record<'_>) -> bool {
    match domain {
        Domain::Fulfilment => record.kind == Placed::KIND,
        Domain::Inventory => {
            let (lsn, kind, version) = (record.lsn, record.kind, record.version);
            kind == Happened::KIND
                && event::decode::<Happened>(lsn, kind, version, record.body)
                    .is_ok_and(|of| matches!(of.fact, ArchivedFact::Shipment { .. }))
        }
        Domain::Finance | Domain::Stream => true,
    }
}

impl Carried {
    /// Records of a time.
    pub(super) fn of(time_ms: u64, count: u64) -> Self {
        let mut carried = Self::default();
        carried.add(time_ms, count);
        carried
    }

    /// A record was taken into the window, or not.
    pub(super) fn take(
        &mut self,
        record: &Record<'_>,
        absorbed: Absorbed,
        domain: Domain,
        traces: bool,
    ) {
        if absorbed.events() == 0 {
            return;
        }
        if is_measured(domain, record) {
            self.add(record.time_ms, 1);
        }
        if traces && self.links.len() < LINKS_MAX {
            self.links.extend(trace_of(record));
        }
    }

    fn add(&mut self, time_ms: u64, count: u64) {
        if count == 0 {
            return;
        }
        if let Some((last, records)) = self.times.last_mut()
            && time_ms.saturating_sub(*last) <= self.grain_ms
        {
            (*last, *records) = ((*last).min(time_ms), *records + count);
            return;
        }
        self.times.push((time_ms, count));
        if self.times.len() > TIMES_MAX {
            self.coarsen();
        }
    }

    /// Takes neighbours together until half of the places are free.
    fn coarsen(&mut self) {
        while self.times.len() > TIMES_MAX / 2 {
            self.grain_ms = (2 * self.grain_ms).max(1);
            let times = std::mem::take(&mut self.times);
            times.into_iter().for_each(|(time_ms, count)| self.add(time_ms, count));
        }
    }

    /// Adds what another one has, which then has nothing.
    pub(super) fn append(&mut self, other: &mut Self) {
        let Self { times, links, .. } = std::mem::take(other);
        times.into_iter().for_each(|(time_ms, count)| self.add(time_ms, count));
        let room = LINKS_MAX - self.links.len();
        self.links.extend(links.into_iter().take(room));
    }

    /// How old its records are, and how many have that age; `now_ms` since the epoch.
    pub(super) fn ages(&self, now_ms: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.times.iter().map(move |(time_ms, count)| (now_ms.saturating_sub(*time_ms), *count))
    }

    /// Its traces without its times.
    pub(super) fn links_alone(&self) -> Self {
        Self { links: self.links.clone(), ..Self::default() }
    }

    /// Requests that led to it, as far as they were traced and there was room.
    pub fn links(&self) -> &[TraceContext] {
        &self.links
    }
}

/// The request that caused a record, if its trace is kept.
fn trace_of(record: &Record<'_>) -> Option<TraceContext> {
    let traceparent = OriginView::of(record.version, record.body)?.traceparent?;
    TraceContext::parse(&traceparent).filter(|context| context.sampled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_bounded_and_none_gets_younger_or_lost() {
        let mut carried = Carried::default();
        for time_ms in 0..10_000_u64 {
            carried.add(1_000_000 + 7 * time_ms, 1);
        }
        assert!(carried.times.len() <= TIMES_MAX);
        let ages: Vec<_> = carried.ages(1_070_000).collect();
        assert_eq!(ages.iter().map(|(_, count)| count).sum::<u64>(), 10_000);
        assert_eq!(ages[0].0, 70_000);
        let ages_sum: u64 = ages.iter().map(|(age, count)| age * count).sum();
        let true_sum: u64 = (0..10_000_u64).map(|n| 70_000 - 7 * n).sum();
        assert!(ages_sum >= true_sum, "nothing is younger than it was");
        assert!(ages_sum < true_sum * 102 / 100, "{ages_sum} for {true_sum}");
    }

    #[test]
    fn what_is_told_late_keeps_its_age() {
        let mut carried = Carried::of(1_000, 2);
        carried.append(&mut Carried::of(990, 1));
        carried.append(&mut Carried::of(5_000, 0));
        assert_eq!(carried.ages(2_000).collect::<Vec<_>>(), [(1_010, 3)]);
    }

    #[test]
    fn as_many_traces_are_named_as_there_is_room_for() {
        let mut carried = Carried::default();
        for _ in 0..LINKS_MAX {
            let links = vec![TraceContext::fresh(true); 3];
            let mut more = Carried { links, ..Carried::default() };
            carried.append(&mut more);
            assert!(more.links().is_empty());
        }
        assert_eq!(carried.links().len(), LINKS_MAX);
    }
}
