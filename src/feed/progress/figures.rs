//! What is counted of a sink: how long records took to the partner, what is parked, what was tried again.

use std::sync::Arc;

use super::{InFlight, Inner, LaneProgress, Progress};
use crate::{
    feed::{Fate, carried, window::Window},
    model::{posting::Recognition, sink::ParkedView},
    telemetry::Delivered,
};

impl Progress {
    /// The fate of a batch is known: how long its records took is counted.
    pub(in crate::feed) fn count_ages(&self, fate: &Fate, now_ms: u64) {
        let mut inner = self.inner.lock();
        let Inner { lanes, ages, refused, .. } = &mut *inner;
        let is_it = |batch: &&InFlight| batch.number == fate.number;
        let Some(batch) = lanes.iter().find_map(|lane| lane.in_flight.iter().find(is_it)) else {
            return;
        };
        for (age_ms, count) in batch.carried.ages(now_ms) {
            if fate.refused {
                *refused += count;
            } else {
                ages.record(age_ms, count);
                self.fine.record_many_ns(age_ms.saturating_mul(1_000_000), count);
            }
        }
    }

    /// How long records took to the partner, and how long others have been waiting; `now_ms` since the
    /// epoch.
    pub fn delivered(&self, now_ms: u64) -> Delivered {
        let fine = self.fine.counts();
        let inner = self.inner.lock();
        let of_lane = |lane: &LaneProgress| {
            let batches = lane.in_flight.iter().map(|batch| &batch.carried);
            let all = batches.chain([&lane.carried]);
            all.flat_map(|carried| carried.ages(now_ms).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        Delivered {
            sink: self.name.clone(),
            domain: self.domain.as_str(),
            what: carried::measured(self.domain),
            ages: inner.ages.clone(),
            fine,
            refused: inner.refused,
            waiting: inner.lanes.iter().flat_map(of_lane).collect(),
        }
    }

    /// What is parked now.
    pub(in crate::feed) fn parking(&self, window: &Window, when: Recognition) {
        let parked = window.parked();
        let mut inner = self.inner.lock();
        let before = &inner.parked;
        // Records are parked and released one by one far less often than they are read.
        if (parked.count, parked.oldest_ms, parked.version)
            == (before.count, before.oldest_ms, before.version)
        {
            return;
        }
        inner.parked_views = Arc::new(window.parked_views(when));
        inner.parked = parked;
    }

    /// Records of a window were booked before what must come first, since more may not be parked.
    pub(in crate::feed) fn count_overflows(&self, records: u64) {
        if records > 0 {
            tracing::warn!(
                sink = self.name,
                records,
                "more records are early than may be parked: the oldest were booked as they are"
            );
        }
        self.inner.lock().parked_overflows += records;
    }

    /// The records that wait for what must be booked first, oldest first; `now_ms` since the epoch.
    pub fn parked(&self, now_ms: u64) -> Vec<ParkedView> {
        let views = self.inner.lock().parked_views.clone();
        let aged = |view: &ParkedView| {
            let age_ms = now_ms.saturating_sub(view.age_ms);
            ParkedView { age_ms, ..view.clone() }
        };
        views.iter().map(aged).collect()
    }

    /// An attempt beyond a batch's first is made.
    pub fn count_retry(&self) {
        self.inner.lock().retries += 1;
    }
}
