//! Opening: the newest checkpoint, the tail of the log, and what follows from them: free slots,
//! timers, and the room set aside for what is open.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};

use crate::{
    ledger::wheel::Wheel,
    model::{
        Lsn,
        event::{self, Event, Genesis},
        sink::SinkState,
        view::ReservationState,
    },
    wal::{Draft, Log, NoRoom, RoomClass, Storage, Ticket, checkpoint},
};

use super::{
    Error, Options,
    clock::Clock,
    configuration::SERVER,
    core::{Core, Tables, closing_bytes},
    counters::Counting,
    effect::Effects,
    hash::Hasher,
    life::owed_room,
    load,
    replay::Replay,
    replay_keys::KeyQueue,
    seals::Seals,
    tallies::Tallies,
};

/// How long a new log's first record waits for its segment.
const FIRST_TICKET_WAIT: Duration = Duration::from_secs(10);

/// The name under which a sink holds the log, from the moment it is opened.
pub(crate) fn sink_reader(sink: &str) -> String {
    format!("sink/{sink}")
}

/// What of the log a sink needs: what is not acknowledged, and what a replay under way has still to send.
fn needs_from(name: &str, sink: &SinkState, seals: &Seals) -> Lsn {
    let replayed = sink.replay.as_ref().and_then(|replay| seals.replays_from(name, replay));
    let needs = Lsn(sink.needs_from());
    replayed.map_or(needs, |from| from.min(needs))
}

pub(super) fn open<S: Storage>(storage: S, options: Options) -> Result<Core<S>, Error> {
    let snapshot = checkpoint::newest(&storage)?;
    let covers = snapshot.as_ref().map_or(Lsn(0), |s| s.covers());
    let log = Log::open(storage.clone(), options.wal.clone(), covers)?;
    let tables = Tables::new(&options);
    tables.make_ahead(options.reservations_prepared);
    let replayed = std::thread::scope(|scope| {
        let replay = Replay {
            tables: &tables,
            sinks: HashMap::new(),
            seals: Seals::default(),
            tallies: Tallies::default(),
            secret: None,
            time_ms: 0,
            keys: KeyQueue::start(scope, &tables)?,
            limits_swept: Cell::new(0),
        };
        fill(replay, snapshot.as_ref(), &log, &options)
    })?;
    let secret = match replayed.secret {
        Some(secret) => secret,
        None => begin(&log)?,
    };
    let clock = Clock::new(replayed.time_ms);
    let (now_ms, mut sinks) = (clock.now_ms(), replayed.sinks);
    // The server's own are no sink's: nothing holds the log for it.
    let own = sinks.remove(SERVER).map(|own| own.configurations).unwrap_or_default();
    let needs = |(name, sink): (&String, &SinkState)| {
        (sink_reader(name), needs_from(name, sink, &replayed.seals))
    };
    let holds = sinks.iter().map(needs).collect();
    let mut core = Core {
        hasher: Hasher::new(secret),
        wheel: Wheel::new(now_ms),
        grace_until_ms: now_ms + options.overdue_grace_ms,
        options,
        storage,
        log,
        clock,
        tables,
        counters: Counting::default(),
        defining: Mutex::new(()),
        sinks,
        tax_codes: RwLock::default(),
        configurations: Mutex::new(own),
        seals: Mutex::new(replayed.seals),
        tallies: Mutex::new(replayed.tallies),
        holds: Mutex::new(holds),
        checkpoint: AtomicU64::new(covers.0),
        checkpoint_before: AtomicU64::new(0),
        checkpoint_bytes: AtomicU64::new(replayed.snapshot_bytes),
        checkpointing: Mutex::new(()),
        parking: Mutex::new(()),
        partnering: Mutex::new(()),
        stopping: AtomicBool::new(false),
        owed_bytes: AtomicU64::new(0),
        held_at_open: 0,
    };
    core.held_at_open = resume(&core);
    Ok(core)
}

/// What the log says besides what is in the tables.
struct Replayed {
    sinks: HashMap<String, SinkState>,
    seals: Seals,
    tallies: Tallies,
    secret: Option<[u64; 2]>,
    time_ms: u64,
    snapshot_bytes: u64,
}

/// Fills the tables from the checkpoint and the log's tail.
fn fill<S: Storage>(
    mut replay: Replay<'_>,
    snapshot: Option<&checkpoint::Snapshot<S>>,
    log: &Log<S>,
    options: &Options,
) -> Result<Replayed, Error> {
    let mut snapshot_bytes = 0;
    if let Some(snapshot) = snapshot {
        if snapshot.incarnation() != log.incarnation() {
            return Err(Error::Checkpoint { reason: "it is of another life of the log".into() });
        }
        snapshot_bytes = load_all(snapshot, &mut replay)?;
    }
    let covers = snapshot.map_or(Lsn(0), |s| s.covers());
    replay_tail(log, covers, options, &mut replay)?;
    let Replay { sinks, seals, tallies, secret, time_ms, keys, .. } = replay;
    keys.finish()?;
    Ok(Replayed { sinks, seals, tallies, secret, time_ms, snapshot_bytes })
}

fn load_all<S: Storage>(
    snapshot: &checkpoint::Snapshot<S>,
    replay: &mut Replay<'_>,
) -> Result<u64, Error> {
    let mut entries = snapshot.iter()?;
    let mut bytes = 0;
    while let Some((key, value)) = entries.next()? {
        load::load(replay, key, value)?;
        bytes += (key.len() + value.len()) as u64;
    }
    Ok(bytes)
}

fn replay_tail<S: Storage>(
    log: &Log<S>,
    covers: Lsn,
    options: &Options,
    replay: &mut Replay<'_>,
) -> Result<(), Error> {
    let positions = &replay.tables.positions;
    let sku_of = |number| positions.get(number).map_or(u32::MAX, |p| p.sku_number());
    let effects = Effects { retention_ms: options.retention_ms, sku_of: &sku_of };
    let mut reader = log.reader(covers)?;
    while let Some(record) = reader.next()? {
        replay.time_ms = replay.time_ms.max(record.time_ms);
        let mut failed = None;
        effects.of(&record, |thing, effect| {
            if failed.is_none() {
                failed = replay.apply(record.lsn, thing, effect).err();
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(())
}

/// Writes the first record of a new log: the data directory's secret.
fn begin<S: Storage>(log: &Log<S>) -> Result<[u64; 2], Error> {
    let random = || getrandom::u64().map_err(|e| std::io::Error::other(e.to_string()));
    let io = |source| Error::Io { what: "getting random bytes", source };
    let genesis = Genesis { hash_secret: [random().map_err(io)?, random().map_err(io)?] };
    let mut draft = Draft::new();
    event::encode(&genesis, draft.begin(Genesis::KIND, Genesis::VERSION, Clock::new(0).now_ms()));
    draft.seal();
    let ticket = first_ticket(log, draft.bytes())?;
    let lsn = ticket.append(&draft);
    log.wait_durable_blocking(lsn)?;
    Ok(genesis.hash_secret)
}

/// Room for a record of a log that was just opened. On a busy machine the first segment may take longer to be ready than a
/// request would wait for one.
pub(super) fn first_ticket<S: Storage>(log: &Log<S>, bytes: usize) -> Result<Ticket<'_, S>, Error> {
    let end = Instant::now() + FIRST_TICKET_WAIT;
    loop {
        match log.ticket(RoomClass::Upkeep, bytes, 0) {
            Ok(ticket) => return Ok(ticket),
            Err(NoRoom::Busy) if Instant::now() < end => {}
            Err(_) => return Err(Error::NoRoom),
        }
    }
}

/// After replay: frees slots, sets timers, sets room aside. Returns how many are held.
fn resume<S: Storage>(core: &Core<S>) -> u64 {
    let table = &core.tables.reservations;
    table.rebuild();
    let (mut held, mut aside) = (0, 0);
    for slot in 0..table.slots() {
        let Ok(seen) = table.read_any(slot) else { continue };
        if seen.state == ReservationState::Held {
            held += 1;
            aside += closing_bytes(seen.lines.len());
            core.wheel.insert(table, slot, seen.deadline_ms.max(core.grace_until_ms));
        }
    }
    core.log.set_aside(aside);
    core.set_all_owed_aside(|order| owed_room(order));
    held
}
