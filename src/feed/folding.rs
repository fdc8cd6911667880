//! A window by itself, to measure how fast records are folded into it: no log, no thread, no seal.

use super::{
    BatchId, Error,
    inventory::Absorbed,
    lookup::Lookup,
    render::Stamp,
    window::{Span, Window},
};
use crate::{
    config::SinkConfig,
    model::{Incarnation, Location, Lsn, Sku, Timestamp, command::Priority, sink::Lane},
    wal::Record,
};

const LIFE: Incarnation = Incarnation(0x3f9c << 48);

/// The names that the records refer to, by number.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Of positions.
    pub positions: Vec<(Sku, Location)>,
    /// Of SKUs.
    pub skus: Vec<Sku>,
}

impl Lookup for Names {
    fn position(&self, number: u32) -> Option<(Sku, Location)> {
        self.positions.get(number as usize).cloned()
    }

    fn sku(&self, number: u32) -> Option<Sku> {
        self.skus.get(number as usize).cloned()
    }

    fn priority(&self, _: &str) -> Option<Priority> {
        Some(Priority::Standard)
    }

    fn incarnation_at(&self, _: Lsn) -> Incarnation {
        LIFE
    }
}

/// The window of a sink's standard lane, which turns whenever it is full.
#[derive(Debug)]
pub struct Folding {
    config: SinkConfig,
    window: Window,
    names: Names,
    sums: Sums,
}

/// What was rendered so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Records summed up.
    pub events: u64,
    /// Windows.
    pub windows: u64,
    /// Bytes of all bodies.
    pub bytes: u64,
}

impl Folding {
    /// An empty window.
    ///
    /// # Errors
    /// None, so far.
    pub fn new(config: SinkConfig, names: Names) -> Result<Self, Error> {
        let window = Window::new(&config, Lane::Standard, Vec::new())?;
        Ok(Self { config, window, names, sums: Sums::default() })
    }

    /// Adds a record, rendering the window first if it is full or has all the records that it may.
    ///
    /// # Errors
    /// If the record can't be read.
    pub fn fold(&mut self, record: &Record<'_>) -> Result<(), Error> {
        if self.window.absorb(record, &self.config, &self.names)? == Absorbed::Full {
            self.turn()?;
            self.window.absorb(record, &self.config, &self.names)?;
        }
        if self.window.span().is_some_and(|span| span.events >= self.config.window_events_max) {
            self.turn()?;
        }
        Ok(())
    }

    /// Renders what is open, and says what was rendered so far.
    ///
    /// # Errors
    /// If it can't be rendered.
    pub fn turn(&mut self) -> Result<Sums, Error> {
        if let Some(span) = self.window.span() {
            self.sums.bytes += self.render(span)?;
            self.sums.windows += 1;
            self.sums.events += span.events;
            self.window.turn();
        }
        Ok(self.sums)
    }

    fn render(&self, span: Span) -> Result<u64, Error> {
        let id = BatchId::new(&self.config.name, LIFE, self.sums.windows + 1);
        let sealed_at = Timestamp::from_millis(span.last_time_ms);
        let stamp = Stamp { id: &id, sink: &self.config.name, sealed_at, chain: [0; 32] };
        let rendered = self.window.render(span, stamp, &self.config)?;
        Ok(rendered.bodies.iter().map(|body| body.len() as u64).sum())
    }
}
