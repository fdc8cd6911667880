//! Checkpoints: a background reader folds the durable log into a sorted file, so that a start reads
//! the newest one and the tail. It never stalls or locks the ledger, and never holds a second ledger
//! in memory.
//!
//! The log from the last checkpoint's end is read in chunks; the effects of each are sorted by the
//! thing they are about and written to a *run*. Then the last checkpoint and the runs are merged,
//! thing by thing, into the next one. Memory is bounded by one chunk's effects.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{BufReader, BufWriter, Read, Write},
    sync::atomic::Ordering,
};

use rkyv::util::AlignedVec;

use crate::{
    ledger::reservations::{NotBegun, Reservations},
    model::{
        Lsn, ReservationId,
        event::{Event, Placed, Reserve},
    },
    wal::{Reader, Storage, checkpoint},
};

use super::{
    Error,
    core::Core,
    counters::Count,
    effect::{Effect, Effects, Thing},
    fold::{self, Value},
};

/// Log that is folded at a time; its effects take about twice as much memory.
const CHUNK_BYTES: u64 = 16 << 20;

/// A sorted file of effects, for the time of one merge.
struct Run<R> {
    file: BufReader<R>,
    left: u64,
    key: Vec<u8>,
    effect: AlignedVec<16>,
}

fn run_name(number: usize) -> String {
    format!("run-{number}.part")
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { what, source }
}

impl<S: Storage> Core<S> {
    /// Makes a checkpoint of everything that is durable now, if there is anything new.
    pub(super) fn make_checkpoint(&self) -> Result<(), Error> {
        let _one = self.checkpointing.lock();
        let from = Lsn(self.checkpoint.load(Ordering::Acquire));
        let to = self.log.durable();
        if to <= from {
            return self.rely_on_newest(from);
        }
        let mut reader = self.log.reader(from)?;
        let mut runs = 0;
        while reader.position() < to {
            if self.is_stopping() {
                return Ok(());
            }
            self.write_run(&mut reader, to, runs)?;
            runs += 1;
        }
        self.merge(reader.position(), runs)?;
        for run in 0..runs {
            self.storage.remove(&run_name(run)).map_err(io("removing a checkpoint's run"))?;
        }
        self.counters.add(Count::Checkpoints);
        // The log stays as far back as the checkpoint before this one, in case this one rots.
        self.checkpoint.store(reader.position().0, Ordering::Release);
        self.checkpoint_before.store(from.0, Ordering::Release);
        self.release_log();
        Ok(())
    }

    /// A full log that has nothing new would stay full: it is kept back to the checkpoint before the
    /// newest, in case that one rots, and no next one will come. So the newest is read through once
    /// more, and then what it covers may go.
    fn rely_on_newest(&self, covers: Lsn) -> Result<(), Error> {
        if self.waits_for_checkpoint()
            && checkpoint::newest(&self.storage)?.is_some_and(|c| c.covers() == covers)
        {
            self.checkpoint_before.store(covers.0, Ordering::Release);
            self.release_log();
        }
        Ok(())
    }

    fn write_run(&self, reader: &mut Reader<S>, to: Lsn, number: usize) -> Result<(), Error> {
        let until = reader.position().0 + CHUNK_BYTES;
        let positions = &self.tables.positions;
        let effects = Effects {
            retention_ms: self.options.retention_ms,
            sku_of: &|number| positions.get(number).map_or(u32::MAX, |p| p.sku_number()),
        };
        let mut all: Vec<(Thing, Effect)> = Vec::new();
        while reader.position() < to && reader.position().0 < until {
            let Some(record) = reader.next()? else { break };
            effects.of(&record, |thing, effect| all.push((thing, effect)))?;
        }
        // Stable: the effects on one thing stay in the order of the log.
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        let file =
            self.storage.create(&run_name(number)).map_err(io("making a checkpoint's run"))?;
        let mut file = BufWriter::with_capacity(256 << 10, file);
        let mut bytes = Vec::new();
        for (thing, effect) in &all {
            let key = thing.key();
            fold::to_bytes(effect, &mut bytes);
            let head = [key.len() as u32, bytes.len() as u32].map(u32::to_le_bytes).concat();
            let parts = [&head[..], &key, &bytes];
            for part in parts {
                file.write_all(part).map_err(io("writing a checkpoint's run"))?;
            }
        }
        file.flush().map_err(io("writing a checkpoint's run"))
    }

    fn merge(&self, covers: Lsn, runs: usize) -> Result<(), Error> {
        let mut merge = Merge {
            writer: checkpoint::Writer::create(&self.storage, self.log.incarnation(), covers)?,
            bytes: Vec::new(),
            written: 0,
            now_ms: self.now_ms(),
            limit_period_ms: self.options.limit_period_ms,
            reservations: &self.tables.reservations,
        };
        let mut open = Vec::with_capacity(runs);
        let mut next = BinaryHeap::with_capacity(runs);
        for number in 0..runs {
            let mut run = Run::open(&self.storage, number)?;
            if run.advance()? {
                next.push(Reverse((run.key.clone(), number)));
            }
            open.push(run);
        }
        let before = checkpoint::newest(&self.storage)?;
        let mut entries = before.as_ref().map(|b| b.iter()).transpose()?;
        let mut old = entries.as_mut().map(|e| e.next()).transpose()?.flatten().map(owned);
        while old.is_some() || !next.is_empty() {
            let key = match (&old, next.peek()) {
                (Some((a, _)), Some(Reverse((b, _)))) => a.min(b).clone(),
                (Some((a, _)), None) => a.clone(),
                (None, Some(Reverse((b, _)))) => b.clone(),
                (None, None) => break,
            };
            let mut value = None;
            if old.as_ref().is_some_and(|(k, _)| *k == key) {
                let (_, bytes) = old.take().unwrap_or_default();
                value = Some(fold::from_bytes::<Value>(&bytes)?);
                old = entries.as_mut().map(|e| e.next()).transpose()?.flatten().map(owned);
            }
            // Runs are numbered in the order of the log, and the heap hands out the lowest first.
            while let Some(Reverse((k, number))) = next.peek()
                && *k == key
            {
                let number = *number;
                next.pop();
                let run = &mut open[number];
                let effect = fold::from_bytes::<Effect>(&run.effect)?;
                value = fold::apply(value, effect, merge.limit_period_ms)?;
                if run.advance()? {
                    next.push(Reverse((run.key.clone(), number)));
                }
            }
            merge.write(&key, value)?;
        }
        drop(entries);
        merge.writer.finish()?;
        self.checkpoint_bytes.store(merge.written, Ordering::Release);
        Ok(())
    }
}

fn owned((key, value): (&[u8], &[u8])) -> (Vec<u8>, AlignedVec<16>) {
    let mut aligned = AlignedVec::with_capacity(value.len());
    aligned.extend_from_slice(value);
    (key.to_vec(), aligned)
}

struct Merge<'a, S: Storage> {
    writer: checkpoint::Writer<S>,
    bytes: Vec<u8>,
    written: u64,
    now_ms: u64,
    limit_period_ms: u64,
    reservations: &'a Reservations,
}

impl<S: Storage> Merge<'_, S> {
    fn write(&mut self, key: &[u8], value: Option<Value>) -> Result<(), Error> {
        let reservations = self.reservations;
        let known = |id| is_known(reservations, id);
        let Some(value) =
            value.filter(|v| !v.is_over(key, self.now_ms, self.limit_period_ms, known))
        else {
            return Ok(());
        };
        fold::to_bytes(&value, &mut self.bytes);
        self.written += (key.len() + self.bytes.len()) as u64;
        Ok(self.writer.push(key, &self.bytes)?)
    }
}

/// Whether a reservation is still in the table, in whatever state: it can be asked for, and an
/// expired one sold after all. One that is busy is there.
pub(super) fn is_known(reservations: &Reservations, id: ReservationId) -> bool {
    !matches!(reservations.read(id), Err(NotBegun::Unknown))
}

/// The reservation that a key made, if it made one.
pub(super) fn made_by(kind: u8, lsn: u64, slot: u32) -> Option<ReservationId> {
    let makes = kind == Reserve::KIND || kind == Placed::KIND;
    makes.then_some(ReservationId { lsn: Lsn(lsn), slot })
}

impl<R: Read> Run<R> {
    fn open<S: Storage<Reader = R>>(storage: &S, number: usize) -> Result<Self, Error> {
        let name = run_name(number);
        let what = "reading a checkpoint's run";
        let left = storage.len(&name).map_err(io(what))?;
        let file = storage.open(&name).map_err(io(what))?;
        let file = BufReader::with_capacity(128 << 10, file);
        Ok(Self { file, left, key: Vec::new(), effect: AlignedVec::new() })
    }

    /// Reads the next effect; false at the end.
    fn advance(&mut self) -> Result<bool, Error> {
        if self.left == 0 {
            return Ok(false);
        }
        let what = "reading a checkpoint's run";
        let mut head = [0; 8];
        self.file.read_exact(&mut head).map_err(io(what))?;
        let [a, b, c, d, e, f, g, h] = head;
        let key = u32::from_le_bytes([a, b, c, d]) as usize;
        let effect = u32::from_le_bytes([e, f, g, h]) as usize;
        self.key.resize(key, 0);
        self.effect.resize(effect, 0);
        self.file.read_exact(&mut self.key).map_err(io(what))?;
        self.file.read_exact(&mut self.effect).map_err(io(what))?;
        self.left = self.left.saturating_sub((8 + key + effect) as u64);
        Ok(true)
    }
}
