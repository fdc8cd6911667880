//! Opening a log that may have been left in any state.
//!
//! 1. The directory is synced, so that what is seen of it stays. Every segment that is there must be
//!    whole: a valid header under its name, no gap between two.
//! 2. From the position of the newest checkpoint on, every record is read up to the first that is
//!    absent or bad: the damage.
//! 3. Behind the damage, marks are looked for at every aligned place as far as anything may have been
//!    written. If one says that the damaged place was on the disk, or if there are records further away
//!    than anything unsynced can be, then it is rot: the log is refused with the place named, and
//!    nothing has been touched. If not, it is a tear. How far that is, the headers say: it is the
//!    length of the ring, since a segment is made only while the durable position is less than a ring
//!    behind it. The options' unsynced window is no bound, since tickets are asked one by one.
//! 4. A tear is cut: the segments behind it are removed, the newest first, and the rest of its own is
//!    zeroed. What lies before it and was not known to be durable is rewritten, because the page cache
//!    may hold clean what the disk never got; then all of it is synced, and the directory too.
//!
//! A second crash anywhere in step 4 finds the same damage at the same place or a log that ends there:
//! nothing before it changes, and what is behind it only becomes less.

use std::sync::{Arc, atomic::AtomicUsize};

use super::{
    error::Error,
    lives::{self, Life, Lives},
    mark::{MARK_BYTES, Mark},
    options::Options,
    read::{rotted, view},
    record::{self, KIND_MARK},
    ring::{Memory, Segment},
    segment::{self, Header},
    storage::{SEGMENT_HEADER_BYTES, SegmentMemory, Storage},
    sync::Ordering,
};
use crate::model::{Incarnation, Lsn};

type Found<S> = Vec<(Header, Segment<<S as Storage>::Segment>)>;
type Segments<S> = Vec<Arc<Segment<<S as Storage>::Segment>>>;

/// Threads that read at a time, at most; a start has the machine to itself.
const READERS_MAX: usize = 4;

/// Where reading a segment ended, and the last mark before that.
type Scanned = (u64, Option<Mark>);

/// Segments that several threads read from a position on.
struct Scan<'a, S: Storage> {
    segments: &'a [Arc<Segment<S::Segment>>],
    from: u64,
    /// The next that nobody reads yet.
    next: AtomicUsize,
    /// The first that was not whole.
    damaged: AtomicUsize,
}

/// What was found.
pub struct Recovered<S: Storage> {
    /// The life that goes on.
    pub life: Life,
    /// All whose segments are there.
    pub lives: Lives,
    /// The key of its marks.
    pub mark_key: u64,
    /// The segments that hold records, oldest first.
    pub segments: Segments<S>,
    /// The end of the log.
    pub end: u64,
}

/// Finds the end of the log, cuts what is torn, makes the rest durable.
pub fn recover<S: Storage>(
    storage: &S,
    options: &Options,
    replay_from: Lsn,
) -> Result<Recovered<S>, Error> {
    let found = find(storage, options)?;
    let (Some((first, _)), Some((last, _))) = (found.first(), found.last()) else {
        return begin(storage, options, replay_from);
    };
    let recovery = Recovery {
        storage,
        bytes: options.segment_bytes,
        window: found.iter().map(|(header, _)| header.window_bytes).max().unwrap_or(0),
        mark_key: first.mark_key,
        life: last.life,
        lives: Lives::of(found.iter().map(|(header, _)| header)),
        segments: found.into_iter().map(|(_, segment)| Arc::new(segment)).collect(),
    };
    recovery.run(replay_from.0)
}

/// A new log.
fn begin<S: Storage>(
    storage: &S,
    options: &Options,
    replay_from: Lsn,
) -> Result<Recovered<S>, Error> {
    if replay_from.0 > 0 {
        let index = replay_from.0 / options.segment_bytes;
        let segment = storage.place(&segment::name(index));
        return Err(Error::Missing { segment, lsn: replay_from });
    }
    let random = || getrandom::u64().map_err(std::io::Error::other);
    let said = Error::io("drawing a random number");
    let (incarnation, mark_key) =
        random().and_then(|incarnation| Ok((incarnation, random()?))).map_err(said)?;
    let life = Life::begin(Incarnation(incarnation));
    let lives = Lives::new(life.incarnation);
    Ok(Recovered { life, lives, mark_key, segments: Vec::new(), end: 0 })
}

/// All segments, oldest first, without a gap. Removes spares.
fn find<S: Storage>(storage: &S, options: &Options) -> Result<Found<S>, Error> {
    // Names that are seen and not on the disk could go in any order later, and leave a gap.
    storage.sync_dir().map_err(Error::io("syncing the data directory"))?;
    let names = storage.list().map_err(Error::io("listing the data directory"))?;
    for spare in names.iter().filter(|name| segment::is_spare_name(name)) {
        let what = || format!("removing {}", storage.place(spare));
        storage.remove(spare).map_err(|error| Error::io(what())(error))?;
    }
    let mut indices: Vec<u64> =
        names.iter().filter_map(|name| segment::index_of_name(name)).collect();
    indices.sort_unstable();
    let mut found: Found<S> = Vec::with_capacity(indices.len());
    for index in indices {
        let mapping = options.ack.into();
        let (header, segment) = segment::open(storage, index, options.segment_bytes, mapping)?;
        if let Some((before, _)) = found.last() {
            if !lives::is_one_log(before, &header) {
                let file = storage.place(&segment::name(index));
                let what = "it belongs to another life of the log".to_owned();
                return Err(Error::Format { file, what });
            }
            if let Some(missing) = lives::missing_between(before, &header) {
                let segment = storage.place(&segment::name(missing));
                let lsn = Lsn(missing.saturating_mul(header.segment_bytes));
                return Err(Error::Missing { segment, lsn });
            }
        }
        found.push((header, segment));
    }
    Ok(found)
}

struct Recovery<'a, S: Storage> {
    storage: &'a S,
    bytes: u64,
    window: u64,
    mark_key: u64,
    life: Life,
    lives: Lives,
    segments: Segments<S>,
}

impl<S: Storage> Recovery<'_, S> {
    fn run(mut self, replay_from: u64) -> Result<Recovered<S>, Error> {
        let replay_from = self.lives.behind_gap(replay_from);
        self.check_reach(replay_from)?;
        let (end, before) = self.scan(replay_from);
        let behind = self.newest_mark_behind(end);
        // Without any mark: nothing is known to be durable beyond where replay begins, and what is
        // there is all that is needed.
        let none = Mark { durable: replay_from, oldest: self.first_base() };
        let known = before.into_iter().chain(behind).fold(none, |known, mark| Mark {
            durable: known.durable.max(mark.durable),
            oldest: mark.oldest,
        });
        self.check_rot(end, known)?;
        self.cut(end)?;
        self.make_durable(known.durable.min(end), end)?;
        Ok(Recovered {
            life: self.life,
            lives: self.lives,
            mark_key: self.mark_key,
            segments: self.segments,
            end,
        })
    }

    fn first_base(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.base)
    }

    fn past_end(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.base + self.bytes)
    }

    fn segment(&self, position: u64) -> Option<&Arc<Segment<S::Segment>>> {
        let segment = self.segments.get(self.place_of(position))?;
        (segment.base <= position).then_some(segment)
    }

    /// Which segment has a position; if none has, the next.
    fn place_of(&self, position: u64) -> usize {
        self.segments.partition_point(|segment| segment.base + self.bytes <= position)
    }

    /// Where no record can stand if what is damaged at `end` was never durable.
    fn reach(&self, end: u64) -> u64 {
        segment::reach(end, self.window, self.bytes)
    }

    fn check_reach(&self, replay_from: u64) -> Result<(), Error> {
        let lsn = Lsn(replay_from);
        if replay_from < self.first_base() {
            return Err(Error::Archived { lsn, oldest: Lsn(self.first_base()) });
        }
        if !replay_from.is_multiple_of(8) || replay_from > self.past_end() {
            let segment = self.storage.place(&segment::name(replay_from / self.bytes));
            return Err(Error::Missing { segment, lsn });
        }
        Ok(())
    }

    /// Reads on to the first absent or bad record; returns its place and the last mark before it. A
    /// segment begins with a record, so several are read at a time.
    fn scan(&self, from: u64) -> (u64, Option<Mark>) {
        let segments = self.segments.get(self.place_of(from)..).unwrap_or_default();
        let scan = Scan {
            segments,
            from,
            next: AtomicUsize::new(0),
            damaged: AtomicUsize::new(usize::MAX),
        };
        let (mut position, mut last) = (from, None);
        for (number, (end, mark)) in self.scan_all(&scan) {
            (position, last) = (end, mark.or(last));
            if end < segments[number].base + self.bytes {
                break;
            }
        }
        (position, last)
    }

    /// What each segment came to, in their order, up to the first damaged one at least.
    fn scan_all(&self, scan: &Scan<'_, S>) -> Vec<(usize, Scanned)> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let others = cores.min(READERS_MAX).min(scan.segments.len()).saturating_sub(1);
        let mut all = std::thread::scope(|scope| {
            let start =
                |_| std::thread::Builder::new().spawn_scoped(scope, || self.scan_some(scan));
            // A thread that can't be started leaves its share to the others.
            let threads: Vec<_> = (0..others).map_while(|n| start(n).ok()).collect();
            let mut all = self.scan_some(scan);
            for thread in threads {
                match thread.join() {
                    Ok(some) => all.extend(some),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            all
        });
        all.sort_unstable_by_key(|(number, _)| *number);
        all
    }

    /// Reads one segment after the other that nobody else reads, until one is damaged.
    fn scan_some(&self, scan: &Scan<'_, S>) -> Vec<(usize, Scanned)> {
        let mut some = Vec::new();
        loop {
            let number = scan.next.fetch_add(1, Ordering::Relaxed);
            let Some(segment) = scan.segments.get(number) else { return some };
            if number > scan.damaged.load(Ordering::Relaxed) {
                return some;
            }
            let scanned = self.scan_segment(segment, scan.from.max(segment.base));
            if scanned.0 < segment.base + self.bytes {
                scan.damaged.fetch_min(number, Ordering::Relaxed);
            }
            some.push((number, scanned));
        }
    }

    /// As [`Self::scan`], in one segment.
    fn scan_segment(&self, segment: &Segment<S::Segment>, from: u64) -> Scanned {
        let (mut position, mut last) = (from, None);
        while position < segment.base + self.bytes
            && let Some(record) = view(segment, position - segment.base)
        {
            if record.kind == KIND_MARK {
                last = Mark::read(&record, self.mark_key).or(last);
            }
            position = record.end.0;
        }
        (position, last)
    }

    /// The mark with the highest durable position at any aligned place behind a damage.
    fn newest_mark_behind(&self, end: u64) -> Option<Mark> {
        let to = self.reach(end).min(self.past_end());
        let marks = self.segments.iter().flat_map(|segment| self.marks_in(segment, end, to));
        marks.max_by_key(|mark| mark.durable)
    }

    /// The marks of a segment within `[from, to)`, at any aligned place.
    fn marks_in(
        &self,
        segment: &Segment<S::Segment>,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = Mark> {
        let words = segment.memory.payload();
        let word_of = |position: u64| (position.saturating_sub(segment.base) / 8) as usize;
        let to = word_of(to).min(words.len());
        let from = word_of(from).min(to);
        let is_mark = |word: &super::sync::AtomicU64| {
            u64::from(record::length_of(word.load(Ordering::Acquire))) == MARK_BYTES
        };
        let places = words[from..to].iter().enumerate().filter(move |(_, word)| is_mark(word));
        places.filter_map(move |(at, _)| {
            Mark::read(&view(segment, (from + at) as u64 * 8)?, self.mark_key)
        })
    }

    fn check_rot(&self, end: u64, known: Mark) -> Result<(), Error> {
        let reach = self.reach(end);
        let mut beyond = self.segments.iter().filter(|segment| segment.base >= reach);
        if known.durable > end || beyond.any(|segment| view(segment, 0).is_some()) {
            let index = end / self.bytes;
            return Err(rotted(self.storage, index, end % self.bytes, index * self.bytes));
        }
        let oldest_index = self.lives.behind_gap(known.oldest) / self.bytes;
        if oldest_index < self.first_base() / self.bytes {
            let segment = self.storage.place(&segment::name(oldest_index));
            return Err(Error::Missing { segment, lsn: Lsn(known.oldest) });
        }
        Ok(())
    }

    /// Removes the segments behind the one of the end, and zeroes the rest of that one.
    fn cut(&mut self, end: u64) -> Result<(), Error> {
        let io = |what: &str, name: &str| Error::io(format!("{what} {}", self.storage.place(name)));
        while let Some(last) = self.segments.last()
            && last.base >= end.max(1)
        {
            let name = segment::name(last.index);
            self.storage.remove(&name).map_err(io("removing", &name))?;
            self.storage.sync_dir().map_err(io("syncing the directory of", &name))?;
            self.segments.pop();
        }
        let Some(segment) = self.segment(end) else { return Ok(()) };
        let words = &segment.memory.payload()[(end - segment.base) as usize / 8..];
        let stale = |word: &&super::sync::AtomicU64| word.load(Ordering::Relaxed) != 0;
        let mut cut = 0u64;
        for word in words.iter().filter(stale) {
            word.store(0, Ordering::Relaxed);
            cut += 8;
        }
        let name = segment::name(segment.index);
        if cut > 0 {
            tracing::info!(
                segment = self.storage.place(&name),
                offset = SEGMENT_HEADER_BYTES + (end - segment.base),
                bytes = cut,
                "what stood behind the log's end was cut, torn or of an earlier use of the file; nothing \
                 acknowledged was in it"
            );
        }
        segment.memory.rewrite(end - segment.base, self.bytes);
        segment.memory.sync(end - segment.base, self.bytes).map_err(io("syncing", &name))
    }

    /// Rewrites and syncs `[from, end)`, and syncs the directory.
    fn make_durable(&self, from: u64, end: u64) -> Result<(), Error> {
        for segment in &self.segments {
            let name = segment::name(segment.index);
            let io = |what: &str| Error::io(format!("{what} {}", self.storage.place(&name)));
            let (from, to) = (from.max(segment.base), end.min(segment.base + self.bytes));
            if from < to {
                segment.memory.rewrite(from - segment.base, to - segment.base);
                let synced = segment.memory.sync(from - segment.base, to - segment.base);
                synced.map_err(io("syncing"))?;
            }
        }
        self.storage.sync_dir().map_err(Error::io("syncing the data directory"))
    }
}
