//! Group commit: the one thread that syncs.
//!
//! It walks over what is published, writes a mark, syncs the whole of it with one call, moves the
//! durable position and wakes all who waited. It does not wait for a group to grow: what is published
//! while it syncs is the next group. With nothing to do it sleeps until an appender wakes it; an idle
//! log gets one more mark, so that the last group is covered too.
//!
//! A failed sync poisons the log; the durable position does not move any more, whatever a later sync
//! would say. So does a record that is claimed and not published for too long, since everything after
//! it could never be acknowledged.

use std::{
    io,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use super::{
    error::Poisoned,
    log::Inner,
    mark::{MARK_BYTES, Mark},
    record::Draft,
    slice,
    storage::{SegmentMemory, Storage},
    sync::Ordering,
};

const SLEEP_MAX: Duration = Duration::from_millis(100);
const HOLE_LOOK: Duration = Duration::from_millis(1);
/// A group of so many bytes says that the log is under load: the next one may grow.
const BUSY_GROUP_BYTES: u64 = 16 << 10;
/// A group of so many bytes says that several wait at once: the log then syncs half of the time at most.
const SHARED_GROUP_BYTES: u64 = 512;

/// A group that has not grown for so long will not grow any more.
const LULL: Duration = Duration::from_micros(50);

/// What the thread that syncs knows.
pub struct Committer<S: Storage> {
    inner: Arc<Inner<S>>,
    draft: Draft,
    scratch: Vec<Waker>,
    /// What the last durable mark says.
    marked: Mark,
    /// The end of the last group that held more than a mark.
    worth_marking: u64,
    last_group: Instant,
    /// Under load, when the next group may begin.
    next_group: Option<Instant>,
    hole: Option<(u64, Instant)>,
}

impl<S: Storage> Committer<S> {
    /// Begins at the durable position, of which no mark speaks yet.
    pub fn new(inner: Arc<Inner<S>>) -> Self {
        let worth_marking = inner.core.durable();
        Self {
            inner,
            draft: Draft::new(),
            scratch: Vec::new(),
            marked: Mark::default(),
            worth_marking,
            last_group: Instant::now(),
            next_group: None,
            hole: None,
        }
    }

    /// Works until the log stops or closes.
    pub fn run(mut self) {
        let inner = self.inner.clone();
        inner.core.committer.belongs_to_me();
        slice::shorten();
        loop {
            let closing = inner.core.is_closing();
            self.let_group_grow();
            let end = inner.core.walk(&mut self.scratch);
            if inner.core.is_stopped() {
                return;
            }
            let worked = match self.round(end) {
                Ok(worked) => worked,
                Err(poisoned) => return inner.poison(poisoned),
            };
            if !worked {
                if closing && inner.core.tail() == inner.core.durable() {
                    return inner.poison(Poisoned::Closed);
                }
                let core = &inner.core;
                let news =
                    || core.has_unsynced() || core.is_stopped() || core.is_closing() != closing;
                core.committer.sleep(self.sleep_max(), news);
            }
        }
    }

    fn round(&mut self, end: u64) -> Result<bool, Poisoned> {
        self.look_for_hole(end)?;
        let core = &self.inner.core;
        if end > core.durable() {
            let mark = self.append_mark(false);
            self.group(mark).map_err(|error| Poisoned::Sync(error.to_string()))?;
            return Ok(true);
        }
        if self.mark_is_due()
            && let Some(mark) = self.append_mark(true)
        {
            self.group(Some(mark)).map_err(|error| Poisoned::Sync(error.to_string()))?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Under load, waits until the next group may begin: a sync costs nearly the same for many records
    /// as for few, and more than it costs to write them. Not longer than records keep coming: once all
    /// callers wait for this group, nobody is left who could make it grow.
    fn let_group_grow(&mut self) {
        let Some(begin) = self.next_group.take() else { return };
        let core = &self.inner.core;
        let mut seen = core.tail();
        loop {
            let left = begin.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LULL));
            let tail = core.tail();
            if tail == seen && tail > core.durable() {
                return;
            }
            seen = tail;
        }
    }

    fn idle_time(&self) -> Duration {
        Duration::from_millis(self.inner.options.idle_mark_ms)
    }

    fn has_to_mark(&self) -> bool {
        self.marked.durable < self.worth_marking || self.marked.oldest < self.inner.released_floor()
    }

    fn mark_is_due(&self) -> bool {
        let waited = self.inner.core.is_closing() || self.last_group.elapsed() >= self.idle_time();
        waited && self.has_to_mark()
    }

    fn sleep_max(&self) -> Duration {
        if self.hole.is_some() {
            return HOLE_LOOK;
        }
        if self.has_to_mark() {
            let left = self.idle_time().saturating_sub(self.last_group.elapsed());
            return left.clamp(HOLE_LOOK, SLEEP_MAX);
        }
        SLEEP_MAX
    }

    /// Writes a mark that names what is durable now; none if there is no room even for that.
    fn append_mark(&mut self, last: bool) -> Option<(u64, Mark)> {
        let core = &self.inner.core;
        let mark = Mark { durable: core.durable(), oldest: self.inner.released_floor() };
        let ticket = core.own_ticket(MARK_BYTES, last)?;
        mark.draft(&mut self.draft, self.inner.mark_key, super::now_ms());
        let lsn = ticket.append(&self.draft);
        self.inner.counters.own_records.fetch_add(1, Ordering::Relaxed);
        Some((lsn, mark))
    }

    /// Syncs everything that is published, and says so.
    fn group(&mut self, mark: Option<(u64, Mark)>) -> io::Result<()> {
        let inner = self.inner.clone();
        let begin = inner.core.durable();
        let end = inner.core.walk(&mut self.scratch);
        let started = Instant::now();
        self.sync(begin, end)?;
        if !inner.core.is_closing() {
            self.next_group = self.pause(end - begin, started.elapsed()).map(|p| started + p);
        }
        if inner.core.is_stopped() {
            return Ok(());
        }
        inner.core.set_durable(end, &mut self.scratch);
        self.last_group = Instant::now();
        let mut alone = false;
        if let Some((lsn, mark)) = mark.filter(|(lsn, _)| *lsn < end) {
            alone = lsn == begin && lsn + MARK_BYTES == end;
            self.marked = mark;
            inner.name_released(mark.oldest);
            inner.name_durable(mark.durable);
        }
        if !alone {
            self.worth_marking = end;
        }
        inner.window_moved();
        Ok(())
    }

    /// How long after the beginning of a group of so many bytes, whose sync took so long, the next one
    /// may begin. A sync takes about as much of a processor as ten requests over HTTP do; what saturates
    /// the processors makes it take longer, and so rarer.
    fn pause(&self, bytes: u64, took: Duration) -> Option<Duration> {
        let longest = Duration::from_micros(self.inner.options.group_us);
        match bytes {
            BUSY_GROUP_BYTES.. => Some(longest),
            SHARED_GROUP_BYTES.. => Some((took * 2).min(longest)),
            _ => None,
        }
    }

    fn sync(&self, begin: u64, end: u64) -> io::Result<()> {
        let inner = &self.inner;
        let started = Instant::now();
        let mut at = begin;
        while at < end {
            let segment = inner.segment_of(at).ok_or(io::ErrorKind::NotFound)?;
            let next = (segment.base + inner.core.segment_bytes()).min(end);
            segment.memory.sync(at - segment.base, next - segment.base)?;
            at = next;
        }
        inner.counters.synced(started.elapsed(), end - begin);
        Ok(())
    }

    /// Remembers since when the walk is stuck at a claimed record.
    fn look_for_hole(&mut self, end: u64) -> Result<(), Poisoned> {
        if end == self.inner.core.tail() {
            self.hole = None;
            return Ok(());
        }
        let since = match self.hole {
            Some((at, since)) if at == end => since,
            _ => {
                self.inner.counters.stalls.fetch_add(1, Ordering::Relaxed);
                self.hole = Some((end, Instant::now()));
                return Ok(());
            }
        };
        let waited_ms = since.elapsed().as_millis() as u64;
        if waited_ms < self.inner.options.hole_ms_max {
            return Ok(());
        }
        Err(Poisoned::Hole { lsn: crate::model::Lsn(end), waited_ms })
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;
    use crate::{
        model::Lsn,
        wal::{Log, Options, RoomClass, sim::SimStorage},
    };

    fn append(log: &Log<SimStorage>) -> Lsn {
        let mut draft = Draft::new();
        draft.begin(1, 1, 1).extend([1; 8]);
        draft.seal();
        log.ticket(RoomClass::New, 24, 0).unwrap().append(&draft)
    }

    #[test]
    fn a_hole_that_stays_open_poisons_the_log_and_nothing_behind_it_is_acknowledged() {
        let options = Options { segment_bytes: 65536, hole_ms_max: 100, ..Options::default() };
        let log = Log::open(SimStorage::new(), options, Lsn(0)).unwrap();
        let before = append(&log);
        log.wait_blocking(before).unwrap();
        let hole = log.inner().core.leave_hole(64);
        let behind = append(&log);
        let begun = Instant::now();
        let poisoned = log.wait_blocking(behind).unwrap_err();
        assert!(matches!(poisoned, Poisoned::Hole { lsn, .. } if lsn.0 <= hole), "{poisoned}");
        assert!(begun.elapsed() >= Duration::from_millis(100));
        assert!(log.is_acked(before) && !log.is_acked(behind));
    }

    #[test]
    fn an_idle_log_is_marked_once() {
        let options = Options { segment_bytes: 65536, idle_mark_ms: 1, ..Options::default() };
        let log = Log::open(SimStorage::new(), options, Lsn(0)).unwrap();
        log.wait_blocking(append(&log)).unwrap();
        std::thread::sleep(Duration::from_millis(150));
        let marks = log.stats().marks;
        assert_eq!(marks, 2, "one with the group and one that covers it");
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(log.stats().marks, marks);
    }
}
