//! The log's lock-free core under loom: the very files of `src/wal/`, compiled against loom's atomics,
//! locks and threads.
//!
//! Run: `cargo test --release -p model-checks --test wal_loom`. `LOOM_MAX_PREEMPTIONS` bounds the
//! search (default here: 2).
#![allow(missing_docs, dead_code)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering as StdOrdering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use loom::thread;

#[path = "../../src/wal/append.rs"]
mod append;
#[path = "../../src/wal/record.rs"]
mod record;
#[path = "../../src/wal/ring.rs"]
mod ring;
#[path = "../../src/wal/room.rs"]
mod room;
#[path = "../../src/wal/signal.rs"]
mod signal;
#[path = "../../src/wal/wait.rs"]
mod wait;

/// What `src/wal/sync.rs` names, loom's way.
mod sync {
    use loom::sync::{Arc, Condvar};
    pub use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU64, Ordering, fence},
    };

    pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }

    /// A thread that can be woken. Loom's own `unpark` also wakes a thread that waits for a lock, which
    /// its locks do not bear, so this is the token of `std` spelled out.
    #[derive(Clone)]
    pub struct Thread(Arc<(Mutex<bool>, Condvar)>);

    loom::thread_local! {
        static ME: Thread = Thread(Arc::new((Mutex::new(false), Condvar::new())));
    }

    pub fn current() -> Thread {
        ME.with(Clone::clone)
    }

    impl Thread {
        pub fn unpark(&self) {
            *lock(&self.0.0) = true;
            self.0.1.notify_one();
        }
    }

    pub fn park() {
        let Thread(me) = current();
        let mut token = lock(&me.0);
        while !*token {
            token = me.1.wait(token).unwrap();
        }
        *token = false;
    }

    /// Never wakes by itself, so that a wake that is lost is a deadlock, which loom finds.
    pub fn park_timeout(_: std::time::Duration) {
        park();
    }
}

mod model {
    pub use holdfast::model::*;
}

use append::{Ack, Core, Shape};
use record::{Draft, Record};
use ring::{Memory, Segment};
use room::{LAST_BYTES, Lack, Room, RoomClass};
use sync::{AtomicBool, AtomicU64, Ordering};

const SEGMENT_BYTES: u64 = 64;
const RECORD_BYTES: u64 = 24;

/// A segment's memory that knows whether it has been given back.
struct Words {
    words: Vec<AtomicU64>,
    given_back: AtomicBool,
}

impl Memory for Words {
    fn payload(&self) -> &[AtomicU64] {
        assert!(!self.given_back.load(Ordering::Relaxed), "touched after it was given back");
        &self.words
    }
}

fn segment(index: u64) -> Arc<Segment<Words>> {
    let words = (0..SEGMENT_BYTES / 8).map(|_| AtomicU64::new(0)).collect();
    let memory = Words { words, given_back: AtomicBool::new(false) };
    Arc::new(Segment { index, base: index * SEGMENT_BYTES, nonce: 100 + index, memory })
}

fn core(segments: u64, ring_segments: u64) -> (Arc<Core<Words>>, Vec<Arc<Segment<Words>>>) {
    let shape = Shape {
        segment_bytes: SEGMENT_BYTES,
        ring_segments,
        unsynced_bytes_max: 1 << 20,
        order_reserve_bytes: 0,
        delivery_reserve_bytes: 0,
        record_bytes_max: RECORD_BYTES,
        blocks_low: 0,
        waiter_shards: 1,
    };
    let core = Arc::new(Core::new(shape, 0));
    core.room.give(LAST_BYTES, 0);
    let segments: Vec<_> = (0..segments).map(segment).collect();
    for segment in &segments {
        core.room.add_blocks(SEGMENT_BYTES);
        core.put_ready(segment.clone(), SEGMENT_BYTES);
    }
    (core, segments)
}

fn append(core: &Core<Words>, kind: u8) -> u64 {
    let mut draft = Draft::new();
    draft.begin(kind, 1, 7).extend([kind; 8]);
    draft.seal();
    core.ticket(RoomClass::New, RECORD_BYTES, 0).expect("room").append(&draft)
}

/// Reads the record at a position that the walk has passed; it must be whole.
fn whole(segments: &[Arc<Segment<Words>>], position: u64) -> (u8, u64) {
    let segment = &segments[(position / SEGMENT_BYTES) as usize];
    let words = &segment.memory.words[(position % SEGMENT_BYTES) as usize / 8..];
    let bytes: Vec<u8> =
        words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
    let rest = bytes.len() as u64;
    let record: Record = record::decode(&bytes, rest, position, segment.nonce).expect("whole");
    (record.kind, record.end.0)
}

fn all(segments: &[Arc<Segment<Words>>], end: u64) -> Vec<u8> {
    let (mut position, mut kinds) = (0, Vec::new());
    while position < end {
        let (kind, next) = whole(segments, position);
        if kind < record::KIND_OWN_MIN {
            kinds.push(kind);
        }
        position = next;
    }
    kinds
}

struct Unpark(sync::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block(core: &Core<Words>, ack: Ack, position: u64) -> bool {
    let waker: Waker = Arc::new(Unpark(sync::current())).into();
    let mut registered = None;
    loop {
        let mut cx = Context::from_waker(&waker);
        match core.poll_passed(ack, position, &mut registered, &mut cx) {
            Poll::Ready(result) => return result.is_ok(),
            Poll::Pending => sync::park(),
        }
    }
}

/// The thread that syncs, without a disk: until everything up to `end` is durable.
fn commit(core: &Core<Words>, end: u64) {
    core.committer.belongs_to_me();
    while core.durable() < end {
        let walked = core.walk(&mut Vec::new());
        if walked > core.durable() {
            core.set_durable(walked, &mut Vec::new());
        } else {
            core.committer.sleep(Duration::MAX, || core.has_unsynced());
        }
    }
}

fn check(run: impl Fn() + Send + Sync + 'static) {
    let runs = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.max_branches = 10_000;
    let counted = runs.clone();
    builder.check(move || {
        counted.fetch_add(1, StdOrdering::Relaxed);
        run();
    });
    println!("{} executions", runs.load(StdOrdering::Relaxed));
}

#[test]
fn what_the_walk_passes_is_whole_across_a_segments_end() {
    check(|| {
        let (core, segments) = core(2, 2);
        append(&core, 1);
        let threads: Vec<_> = [2u8, 3]
            .map(|kind| {
                let core = core.clone();
                thread::spawn(move || append(&core, kind))
            })
            .into();
        let end = core.walk(&mut Vec::new());
        let seen = all(&segments, end);
        assert!(seen.starts_with(&[1]));
        for thread in threads {
            thread.join().unwrap();
        }
        let end = core.walk(&mut Vec::new());
        assert_eq!(end, SEGMENT_BYTES + RECORD_BYTES);
        let mut seen = all(&segments, end);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
        // Two segments, less what is used, less the padding that the second one's end may need.
        assert_eq!(core.room.near(), (SEGMENT_BYTES - RECORD_BYTES - RECORD_BYTES) as i64);
        assert_eq!(core.room.free(), core.room.near());
    });
}

#[test]
fn nobody_who_waits_for_the_disk_is_forgotten() {
    check(|| {
        let (core, _segments) = core(2, 2);
        let committer = thread::spawn({
            let core = core.clone();
            move || commit(&core, 2 * RECORD_BYTES)
        });
        let other = thread::spawn({
            let core = core.clone();
            move || {
                let lsn = append(&core, 1);
                assert!(block(&core, Ack::Disk, lsn));
                assert!(lsn < core.durable());
            }
        });
        let waiter = thread::spawn(move || {
            let lsn = append(&core, 2);
            assert!(block(&core, Ack::Disk, lsn));
        });
        waiter.join().unwrap();
        other.join().unwrap();
        committer.join().unwrap();
    });
}

#[test]
fn nobody_who_waits_for_memory_is_forgotten() {
    check(|| {
        let (core, segments) = core(2, 2);
        let committer = thread::spawn({
            let core = core.clone();
            move || commit(&core, 2 * RECORD_BYTES)
        });
        let other = thread::spawn({
            let core = core.clone();
            move || {
                let lsn = append(&core, 1);
                assert!(block(&core, Ack::Memory, lsn));
                assert!(lsn < core.published());
            }
        });
        let waiter = thread::spawn(move || {
            let lsn = append(&core, 2);
            assert!(block(&core, Ack::Memory, lsn));
            assert!(all(&segments, core.published()).contains(&2));
        });
        waiter.join().unwrap();
        other.join().unwrap();
        committer.join().unwrap();
    });
}

#[test]
fn nothing_is_acknowledged_after_the_stop_and_everybody_is_told() {
    check(|| {
        let (core, _segments) = core(2, 2);
        let stopper = thread::spawn({
            let core = core.clone();
            move || {
                core.stop();
                core.published()
            }
        });
        let waiter = thread::spawn({
            let core = core.clone();
            move || {
                let ticket = core.ticket(RoomClass::New, RECORD_BYTES, 0);
                let Ok(ticket) = ticket else {
                    assert_eq!(ticket.err(), Some(Lack::Poisoned));
                    return None;
                };
                let mut draft = Draft::new();
                draft.begin(1, 1, 7).extend([1; 8]);
                draft.seal();
                let lsn = ticket.append(&draft);
                Some((lsn, block(&core, Ack::Memory, lsn), block(&core, Ack::Disk, lsn)))
            }
        });
        let told = waiter.join().unwrap();
        let frozen = stopper.join().unwrap();
        if let Some((lsn, memory, disk)) = told {
            assert!(!disk, "nobody synced");
            assert_eq!(memory, lsn < frozen, "told after the stop");
        }
        core.walk(&mut Vec::new());
        assert_eq!(core.published(), frozen);
    });
}

#[test]
fn a_segment_that_is_given_back_is_not_walked() {
    check(|| {
        let (core, segments) = core(2, 2);
        core.room.add_blocks(SEGMENT_BYTES);
        core.room.add_ready(SEGMENT_BYTES);
        for kind in 1..4 {
            append(&core, kind);
        }
        let follower = thread::spawn({
            let core = core.clone();
            move || core.walk(&mut Vec::new())
        });
        let walked = core.walk(&mut Vec::new());
        core.set_durable(walked, &mut Vec::new());
        assert!(core.retire(0));
        segments[0].memory.given_back.store(true, Ordering::Relaxed);
        core.put_ready(segment(2), SEGMENT_BYTES);
        assert_eq!(follower.join().unwrap(), SEGMENT_BYTES + RECORD_BYTES);
    });
}

#[test]
fn room_is_never_granted_twice_and_nobody_is_refused_wrongly() {
    check(|| {
        let room = Arc::new(Room::new(0, 8, 0));
        room.give(LAST_BYTES, 0);
        room.add_blocks(108);
        room.add_ready(1000);
        let take = |class, bytes| {
            let room = room.clone();
            thread::spawn(move || {
                let got = room.take(class, bytes, 0).is_ok() || room.take(class, bytes, 0).is_ok();
                u64::from(got) * bytes
            })
        };
        let (first, second) = (take(RoomClass::New, 60), take(RoomClass::New, 60));
        let delivery = room.take(RoomClass::Delivery, 8, 0).is_ok();
        let granted = first.join().unwrap() + second.join().unwrap();
        assert!(granted == 60 && delivery, "{granted}");
        assert_eq!(room.free(), 100 - 8 - granted as i64);
        assert_eq!(room.near(), 1000 - 8 - granted as i64);
    });
    check(|| {
        let room = Arc::new(Room::new(0, 0, 16));
        room.give(LAST_BYTES, 0);
        room.add_blocks(116);
        room.add_ready(116);
        let other = thread::spawn({
            let room = room.clone();
            move || {
                room.take(RoomClass::New, 40, 10).unwrap();
                room.give(8, 10);
                room.settle(16);
            }
        });
        room.take(RoomClass::New, 50, 0).unwrap();
        other.join().unwrap();
        assert_eq!((room.near(), room.free()), (18, 18));
    });
}
