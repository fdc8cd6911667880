//! A sink as its operator sees it.

use std::sync::Arc;

use super::{
    Condition, Progress,
    progress::{Inner, LaneProgress},
};
use crate::model::{
    Lsn, Timestamp,
    letter::Letter,
    sink::{Lane, LaneView, LetterView, SinkState, SinkView},
};

impl Progress {
    /// Everything below here is with the partner, or was nothing to it.
    pub fn acknowledged_lsn(&self) -> Lsn {
        self.inner.lock().acknowledged_lsn(self.domain.lanes())
    }

    /// What an operator sees; `now_ms` since the epoch.
    pub fn view(&self, now_ms: u64) -> SinkView {
        let inner = self.inner.lock();
        let lanes = self.domain.lanes();
        let age = |lane: &Lane| {
            let oldest_ms = inner.lanes[lane.index()].oldest_ms();
            oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest))
        };
        let waiting = inner.state.pending.iter().map(|batch| batch.events).sum::<u64>();
        let read = inner.lanes.iter().filter_map(|lane| lane.window).map(|w| w.events).sum::<u64>();
        let parked = &inner.parked;
        SinkView {
            name: self.name.clone(),
            domain: self.domain.as_str().to_owned(),
            state: inner.state_word().to_owned(),
            reason: inner.why(),
            breaker: inner.pace.breaker.to_owned(),
            lanes: lanes
                .iter()
                .map(|lane| LaneView {
                    priority: lane.as_str().to_owned(),
                    depth: inner.depth(*lane),
                    oldest_age_ms: age(lane),
                })
                .collect(),
            acknowledged_lsn: inner.acknowledged_lsn(lanes),
            lag_records: waiting + read,
            lag_ms: lanes.iter().map(age).max().unwrap_or(0),
            concurrency: inner.pace.concurrency as u64,
            batches_delivered: inner.state.batches,
            events_delivered: inner.state.events,
            retries: inner.retries,
            attempts: inner.pace.attempts,
            dead_letters: inner.state.letters.len() as u64,
            dead_letter_records: inner.state.letter_records,
            replaying: inner.state.replay.as_ref().map_or(0, |r| 1 + r.to_number - r.next_number),
            parked: parked.count,
            oldest_parked_age_ms: parked.oldest_ms.map_or(0, |ms| now_ms.saturating_sub(ms)),
            parked_overflows: inner.parked_overflows,
            reconciliation: None,
        }
    }
}

impl Progress {
    /// What lies dead; `now_ms` since the epoch.
    pub fn letter_views(&self, now_ms: u64) -> Vec<LetterView> {
        self.with_state(|state| {
            state.letters.values().map(|letter| self.view_of(letter, state, now_ms)).collect()
        })
    }

    /// A letter by its name.
    pub fn letter_view(&self, name: &str, now_ms: u64) -> Option<(LetterView, Arc<Letter>)> {
        self.with_state(|state| {
            let letter = state.letters.get(name)?;
            Some((self.view_of(letter, state, now_ms), letter.clone()))
        })
    }

    fn view_of(&self, letter: &Letter, state: &SinkState, now_ms: u64) -> LetterView {
        LetterView {
            id: letter.id.clone(),
            sink: self.name.clone(),
            batch_id: letter.part_id.clone(),
            state: if state.is_sent_again(&letter.id) { "sending" } else { "dead" }.to_owned(),
            reason: letter.reason.clone(),
            status: (letter.status != 0).then_some(letter.status),
            uncertain: letter.uncertain,
            mended: letter.mended,
            attempts: letter.attempts,
            at: Timestamp::from_millis(letter.at_ms),
            age_ms: now_ms.saturating_sub(letter.at_ms),
            lane: Lane::of_index(letter.lane.into()).as_str().to_owned(),
            seal_lsn: Lsn(letter.seal_lsn),
        }
    }
}

impl Inner {
    fn state_word(&self) -> &'static str {
        match self.condition {
            Condition::Broken(_) => "broken",
            _ if self.state.paused.is_some() => "paused",
            Condition::Paused(_) => "paused",
            Condition::Running => "running",
        }
    }

    fn why(&self) -> Option<String> {
        match (&self.condition, &self.state.paused) {
            (Condition::Broken(why), _) => Some(why.clone()),
            (_, Some(why)) => Some(format!("paused by an operator: {why}")),
            (Condition::Paused(why), None) => Some(why.clone()),
            (Condition::Running, None) => None,
        }
    }

    /// Batches of a lane that are sealed and not acknowledged. A batch of a sink with one lane
    /// belongs to none by itself.
    fn depth(&self, lane: Lane) -> u64 {
        let other = |at: &u8| Lane::ALL.iter().any(|l| *l != lane && l.index() == usize::from(*at));
        self.state.pending.iter().filter(|batch| !other(&batch.lane)).count() as u64
    }

    fn acknowledged_lsn(&self, lanes: &[Lane]) -> Lsn {
        lanes.iter().map(|lane| self.lane_acknowledged_lsn(*lane)).min().unwrap_or_default()
    }

    fn lane_acknowledged_lsn(&self, lane: Lane) -> Lsn {
        let state = &self.state.lanes[lane.index()];
        let progress = &self.lanes[lane.index()];
        if self.depth(lane) > 0 {
            let sent = progress.in_flight.front().map_or(Lsn(0), |batch| batch.first_lsn);
            return sent.max(Lsn(state.acknowledged_lsn)).min(progress.position);
        }
        progress.window.map_or(progress.position, |window| window.first_lsn)
    }
}

impl LaneProgress {
    /// When the oldest record was written that the partner has not got.
    fn oldest_ms(&self) -> Option<u64> {
        let sent = self.in_flight.front().map(|batch| batch.oldest.millis());
        sent.or(self.window.map(|window| window.first_time_ms))
    }
}
