//! How long appends take: one in 64 is timed, since reading the clock twice costs a part of what an
//! append does.
//!
//! Which one is told by the log's end before it, mixed, so that no counter is shared and no pattern of
//! record sizes is missed or always hit. The last one that a thread timed is kept for it, so that who
//! made a decision can tell what of its time was the append.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use crate::telemetry::{DurationCounts, Durations};

/// One append in so many is timed.
pub const APPENDS_A_SAMPLE: u64 = 64;

thread_local! {
    static LAST: Cell<Option<AppendSample>> = const { Cell::new(None) };
}

/// An append that was timed.
#[derive(Debug, Clone, Copy)]
pub struct AppendSample {
    /// When it began.
    pub began: Instant,
    /// Claim, copy and publish together.
    pub took: Duration,
}

impl AppendSample {
    /// The last append that this thread timed; each is told once. Whoever asks compares
    /// [`AppendSample::began`] with when its own work began: the thread may have appended for others.
    pub fn take() -> Option<Self> {
        LAST.take()
    }
}

/// How long the log's work takes.
#[derive(Debug, Clone)]
pub struct Timings {
    /// Appends: claim, copy and publish; one in [`APPENDS_A_SAMPLE`].
    pub append: DurationCounts,
    /// Syncs of a group.
    pub sync: DurationCounts,
}

/// Whether the append after `tail` is timed. The mixing is SplitMix64's: a multiplication alone would
/// let the ends of records of some sizes wander through all values so slowly that thousands in a row are
/// missed.
pub(super) fn is_due(tail: u64) -> bool {
    let mixed = (tail ^ (tail >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) < u64::MAX / APPENDS_A_SAMPLE
}

/// Appends, and times it.
#[cold]
pub(super) fn timed<T>(durations: &Durations, append: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let appended = append();
    let took = began.elapsed();
    durations.record(took);
    LAST.set(Some(AppendSample { began, took }));
    appended
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;
    use crate::{
        model::Lsn,
        wal::{Draft, Log, Options, RoomClass, sim::SimStorage},
    };

    #[test]
    fn one_in_64_whatever_the_records_sizes() {
        for bytes in (8..=4_096).step_by(8) {
            let due = |from: u64, to| (from..to).filter(|n| is_due(4_096 + n * bytes)).count();
            let (first, all) = (due(0, 2_000), due(0, 64_000));
            assert!((5..80).contains(&first), "{first} of 2,000 records of {bytes} bytes");
            assert!((840..1_160).contains(&all), "{all} of 64,000 records of {bytes} bytes");
        }
    }

    #[test]
    fn appends_and_syncs_are_timed() {
        let options = Options { segment_bytes: 65_536, ..Options::default() };
        let log = Log::open(SimStorage::new(), options, Lsn(0)).unwrap();
        let mut draft = Draft::new();
        draft.begin(1, 1, 1).extend([1; 8]);
        draft.seal();
        let begun = Instant::now();
        let _ = AppendSample::take();
        let mut samples = 0;
        for _ in 0..2_000 {
            let lsn = log.ticket(RoomClass::New, 24, 0).unwrap().append(&draft);
            log.wait_blocking(lsn).unwrap();
            let sample = AppendSample::take();
            assert!(sample.is_none_or(|s| s.began >= begun && s.took < begun.elapsed()));
            samples += u64::from(sample.is_some());
        }
        let timings = log.timings();
        assert_eq!(timings.append.count(), samples);
        assert!((5..80).contains(&samples), "{samples} of 2,000");
        // The last sync is counted after those who waited for it were told.
        assert!(log.stats().syncs.abs_diff(timings.sync.count()) <= 1 && timings.sync.count() > 0);
    }
}
