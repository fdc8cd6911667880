//! A sink's thread: reads the durable log, keeps the window, seals, and writes fates down.
//!
//! The loop never waits longer than `PAUSE` at a time, so it can be stopped at once, sees fates
//! soon, and needs no second thing to wake it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    Batch, BatchId, Condition, Error, Fate, Progress,
    inventory::Absorbed,
    render::{Rendered, Stamp},
    seal,
    window::Window,
};
use crate::{
    config::SinkConfig,
    engine::Engine,
    model::{
        Location, Lsn, Sku, Timestamp,
        event::{Acknowledge, Seal},
    },
    wal::{Reader, Storage},
};

/// The longest wait while a window is open or a batch is under way.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest wait while there is nothing to do.
const IDLE_PAUSE: Duration = Duration::from_millis(50);
/// Records read before fates and windows are looked at again.
const READ_MAX: usize = 1_024;
/// A sink to which so much of the log was nothing writes down that it is past it, so that it does
/// not keep that part from being recycled; a sixteenth of the log's budget, if that is less.
const SKIP_BYTES: u64 = 16 << 20;

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// There may be more.
    More,
    /// Nothing more is durable.
    All,
    /// The next record does not fit into the window.
    Full,
}

/// A sink's feed.
pub struct Worker<S: Storage> {
    engine: Engine<S>,
    config: SinkConfig,
    progress: Arc<Progress>,
    out: mpsc::Sender<Batch>,
    reader: Reader<S>,
    window: Window,
    /// Where the window ends: everything below is in it or in a seal.
    position: Lsn,
    /// Seals of an earlier life that are not acknowledged: number and position.
    recovered: VecDeque<(u64, Lsn)>,
    skip_bytes: u64,
}

impl<S: Storage> Worker<S> {
    /// A feed that goes on where the log says that the sink was, and keeps the log from being
    /// recycled beyond that. Sealed batches go to `out`, which must have room for one.
    pub fn new(
        engine: Engine<S>,
        mut config: SinkConfig,
        progress: Arc<Progress>,
        out: mpsc::Sender<Batch>,
    ) -> Result<Self, Error> {
        config.batch_bytes_max =
            config.batch_bytes_max.min(seal::body_bytes_max(engine.log(), &config.name));
        let start = start_of(&engine, &progress)?;
        progress.begin(start);
        let state = progress.state();
        let reader =
            engine.log().reader(start).map_err(|source| Error::Log { at: start, source })?;
        let recovered = state.pending.iter().map(|&(n, lsn)| (n, Lsn(lsn))).collect();
        let skip_bytes = SKIP_BYTES.min(engine.log().stats().budget_bytes / 16);
        let needs_from = Lsn(state.needs_from());
        let window = Window::new(config.domain, state.parked)?;
        engine.hold_log(&Engine::<S>::sink_reader(&config.name), needs_from);
        progress.parking(&window, config.recognition);
        Ok(Self {
            engine,
            config,
            progress,
            out,
            reader,
            window,
            position: start,
            recovered,
            skip_bytes,
        })
    }

    /// Works until it is stopped or can't go on; then the sink is `broken`.
    pub fn run(mut self) {
        let _guard = self.progress.broken_by_panic("its feed");
        if let Err(error) = self.drive() {
            tracing::error!(sink = self.config.name, %error, "the sink's feed stopped");
            self.progress.set_condition(Condition::Broken(error.to_string()));
        }
    }

    fn drive(&mut self) -> Result<(), Error> {
        loop {
            self.write_fates()?;
            if self.progress.is_stopping() {
                return Ok(());
            }
            self.hold_log();
            let room = self.progress.has_room();
            if room && let Some((number, lsn)) = self.recovered.pop_front() {
                self.send_again(number, lsn)?;
                continue;
            }
            let read = match self.release()? {
                Some(full) => full,
                None => self.read()?,
            };
            if room && self.must_close(read) {
                self.close()?;
                continue;
            }
            self.wait(read, room)?;
        }
    }

    /// Releases parked records of the orders that an operator named. `Full` if the window must be
    /// closed first; the rest goes into the next.
    fn release(&mut self) -> Result<Option<Read>, Error> {
        while let Some(order_id) = self.progress.next_release() {
            let at = (self.position, self.engine.now().millis());
            if !self.window.release(&order_id, &self.config, at)? {
                return Ok(Some(Read::Full));
            }
            self.progress.released(&order_id);
            self.tell();
        }
        Ok(None)
    }

    /// Tells where the window stands.
    fn tell(&self) {
        self.progress.read_to(self.position, self.window.span());
        self.progress.parking(&self.window, self.config.recognition);
    }

    fn read(&mut self) -> Result<Read, Error> {
        let mut read = Read::More;
        let engine = &self.engine;
        let names = |number| -> Option<(Sku, Location)> { engine.position_name(number) };
        for _ in 0..READ_MAX {
            let at = self.position;
            let Some(record) = self.reader.next().map_err(|source| Error::Log { at, source })?
            else {
                self.position = self.reader.position();
                read = Read::All;
                break;
            };
            if self.window.absorb(&record, &self.config, &names)? == Absorbed::Full {
                self.position = record.lsn;
                read = Read::Full;
                break;
            }
            self.position = record.end;
        }
        if read == Read::Full {
            self.seek(self.position)?;
        }
        self.tell();
        Ok(read)
    }

    fn seek(&mut self, to: Lsn) -> Result<(), Error> {
        self.reader =
            self.engine.log().reader(to).map_err(|source| Error::Log { at: to, source })?;
        Ok(())
    }

    fn must_close(&self, read: Read) -> bool {
        match self.window.span() {
            Some(_) => {
                read == Read::Full
                    || self.window.is_ripe(&self.config)
                    || (read == Read::All && self.progress.is_draining())
            }
            None => self.position.0 - self.covered().0 >= self.skip_bytes,
        }
    }

    /// Everything below is sealed.
    fn covered(&self) -> Lsn {
        self.progress.covers().min(self.position)
    }

    /// Seals the window, waits until the seal is durable, hands the batch over. A window without
    /// records becomes a seal without content, which only says that the sink is past them.
    fn close(&mut self) -> Result<(), Error> {
        let state = self.progress.state();
        let number = state.last_number + 1;
        let id = BatchId::new(&self.config.name, self.engine.log().incarnation(), number);
        let sealed_at = self.engine.now();
        let stamp = Stamp { id: &id, sink: &self.config.name, sealed_at, chain: state.chain };
        let span = self.window.span();
        let rendered = match span {
            Some(span) => self.window.render(span, stamp, &self.config)?,
            None => Rendered { body: Vec::new(), chain: state.chain },
        };
        let first_lsn = span.map_or(self.covered(), |span| span.first_lsn);
        let events = span.map_or(0, |span| span.events);
        let seal = Seal {
            number,
            first_lsn: first_lsn.0,
            last_lsn: span.map_or(self.position, |span| span.last_lsn).0,
            covers_lsn: self.position.0,
            sealed_at_ms: sealed_at.millis(),
            events,
            config_version: self.config.render_version(),
            digest: *blake3::hash(&rendered.body).as_bytes(),
            chain: rendered.chain,
            sink: self.config.name.clone(),
            body: rendered.body,
            parking: self.window.parking(),
            recognition: self.config.recognition as u8,
        };
        let appended = seal::append_seal(self.engine.log(), &seal, &self.progress)?;
        let Some(seal_lsn) = appended else { return Ok(()) };
        self.engine.sealed(&seal, seal_lsn);
        let oldest = span.map_or(sealed_at, |span| Timestamp::from_millis(span.first_time_ms));
        let body = seal.body.into();
        let batch = Batch { id, number, seal_lsn, first_lsn, oldest, events, body };
        self.progress.sealed(&batch, self.position, rendered.chain, seal.parking);
        self.progress.count_overflows(self.window.overflows());
        self.window.turn();
        if self.wait_durable(seal_lsn)? {
            self.hand_over(batch);
        }
        Ok(())
    }

    /// Hands over a batch that was sealed in an earlier life.
    fn send_again(&mut self, number: u64, lsn: Lsn) -> Result<(), Error> {
        let batch = seal::read_seal(self.engine.log(), &self.config.name, number, lsn)?;
        self.progress.sent(&batch);
        self.hand_over(batch);
        Ok(())
    }

    fn hand_over(&self, batch: Batch) {
        if batch.body.is_empty() {
            self.progress.report(Fate::of_nothing(&batch));
        } else if self.out.try_send(batch).is_err() {
            // The delivery ended, or is so far behind that there was no room, which can't be: the
            // batch is sent after the next start.
            tracing::debug!(sink = self.config.name, "the delivery has ended");
        }
    }

    fn write_fates(&mut self) -> Result<(), Error> {
        while let Some(fate) = self.progress.next_fate() {
            let acknowledge = Acknowledge {
                number: fate.number,
                seal_lsn: fate.seal_lsn.0,
                attempts: fate.attempts,
                status: fate.status,
                refused: fate.refused,
                sink: self.config.name.clone(),
                answer: fate.answer.clone(),
            };
            let time_ms = self.engine.now().millis();
            let log = self.engine.log();
            let appended = seal::append_acknowledge(log, &acknowledge, time_ms, &self.progress)?;
            let Some(lsn) = appended else { return Ok(()) };
            self.engine.acknowledged(&self.config.name, fate.number, lsn);
            self.progress.acknowledged(fate, lsn);
        }
        Ok(())
    }

    /// Lets the log recycle what the sink is past, as far as that is durable.
    fn hold_log(&self) {
        if let Some(from) = self.progress.needs_from(self.engine.log().durable()) {
            self.engine.hold_log(&Engine::<S>::sink_reader(&self.config.name), from);
        }
    }

    /// Waits until a record is durable; `false` if the sink is stopping.
    fn wait_durable(&self, lsn: Lsn) -> Result<bool, Error> {
        while !self.engine.log().wait_durable_timeout(lsn, PAUSE)? {
            if self.progress.is_stopping() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for more to do.
    fn wait(&self, read: Read, room: bool) -> Result<(), Error> {
        let idle = room && self.window.span().is_none();
        let pause = if idle { IDLE_PAUSE } else { PAUSE };
        match read {
            Read::More => {}
            Read::Full => self.progress.pause(pause),
            Read::All => {
                let next = self.reader.position();
                if self.engine.log().wait_durable_timeout(next, pause)? {
                    // More is durable, or what is may be no record at all: either way not at once.
                    self.progress.pause(Duration::from_micros(200));
                }
            }
        }
        Ok(())
    }
}

/// Where the sink goes on: where its last seal says, or, for a sink that has none, where the log
/// begins.
fn start_of<S: Storage>(engine: &Engine<S>, progress: &Progress) -> Result<Lsn, Error> {
    let state = progress.state();
    let (needed, oldest) = (Lsn(state.covers_lsn), engine.log().oldest());
    if needed >= oldest {
        return Ok(needed);
    }
    if state.last_number > 0 {
        return Err(Error::Gone { oldest, needed });
    }
    tracing::warn!(sink = progress.name(), %oldest, "a new sink gets nothing from before the log's beginning");
    Ok(oldest)
}
