//! The engine's own threads: the one that turns the timer wheel, sweeps what may be forgotten and makes
//! memory ahead of who needs it, the one that makes checkpoints, and the one that lets parked events
//! happen. All hold the core and end when the engine stops.

use std::{
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use crate::wal::Storage;

use super::{Error, checkpoint::is_known, core::Core, parked::keep_unparking, thing::made_by};
use crate::ledger::wheel::TICK_MS;

/// Slots swept between two turns of the wheel: a table of four million once a minute or so.
const SWEEP_SLOTS: u32 = 1 << 14;
/// How often it is looked whether a checkpoint is due.
const CHECKPOINT_POLL: Duration = Duration::from_millis(200);
/// After a checkpoint that failed.
const CHECKPOINT_RETRY: Duration = Duration::from_secs(10);

/// How far the thread that makes checkpoints stands behind those who serve (`nice(2)`).
const FOLD_NICE: i32 = 10;

/// Starts all.
pub(super) fn start<S: Storage>(core: &Arc<Core<S>>) -> Result<Vec<JoinHandle<()>>, Error> {
    let spawn = |name: &str, run: fn(&Core<S>)| {
        let core = core.clone();
        Builder::new()
            .name(name.into())
            .spawn(move || run(&core))
            .map_err(|source| Error::Io { what: "starting a thread", source })
    };
    Ok(vec![
        spawn("holdfast-timer", keep_time)?,
        spawn("holdfast-fold", keep_checkpoints)?,
        spawn("holdfast-parked", keep_unparking)?,
    ])
}

/// Sleeps, but not beyond the engine's stop, which unparks.
pub(super) fn sleep<S: Storage>(core: &Core<S>, time: Duration) {
    let began = Instant::now();
    while !core.is_stopping() {
        let left = time.saturating_sub(began.elapsed());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

fn keep_time<S: Storage>(core: &Core<S>) {
    let mut sweep = Sweep::default();
    while !core.is_stopping() {
        let now_ms = core.now_ms();
        core.wheel.turn(&core.tables.reservations, now_ms, |slot| core.expire(slot, now_ms));
        sweep.step(core, now_ms);
        core.tables.make_ahead(0);
        sleep(core, Duration::from_millis(TICK_MS / 2));
    }
}

/// Where sweeping has got to in each table.
#[derive(Default)]
struct Sweep {
    key: u32,
    reservation: u32,
    limit: usize,
}

impl Sweep {
    fn step<S: Storage>(&mut self, core: &Core<S>, now_ms: u64) {
        let tables = &core.tables;
        let to = self.key.saturating_add(SWEEP_SLOTS).min(tables.keys.slots());
        tables.keys.sweep(self.key..to, now_ms, |done| {
            let made = made_by(done.kind, done.lsn, done.slot);
            let over = !made.is_some_and(|id| is_known(&tables.reservations, id));
            if over {
                tables.answers.lock().remove(&done.lsn);
            }
            over
        });
        self.key = if to >= tables.keys.slots() { 0 } else { to };
        let to = self.reservation.saturating_add(SWEEP_SLOTS).min(tables.reservations.slots());
        tables.reservations.sweep(self.reservation..to, now_ms);
        self.reservation = if to >= tables.reservations.slots() { 0 } else { to };
        tables.limits.sweep(self.limit, now_ms);
        self.limit = (self.limit + 1) % tables.limits.groups();
    }
}

fn keep_checkpoints<S: Storage>(core: &Core<S>) {
    // On Linux a thread's own. Where it is not granted, checkpoints only take more from requests.
    let _ = rustix::process::setpriority_process(None, FOLD_NICE);
    while !core.is_stopping() {
        sleep(core, CHECKPOINT_POLL);
        if !core.checkpoint_is_due() {
            continue;
        }
        if let Err(error) = core.make_checkpoint() {
            tracing::error!(%error, "a checkpoint could not be made; the log is kept meanwhile");
            sleep(core, CHECKPOINT_RETRY);
        }
    }
}
