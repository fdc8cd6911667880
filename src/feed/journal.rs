//! A log's journal without a sink: the same windows, entries and digests as a finance sink's, rendered
//! and counted, and neither sealed nor sent. For measurements, and for a look at what a sink would get.

use super::{BatchId, Error, inventory::Absorbed, render::Stamp, window::Window};
use crate::{
    config::{Domain, SinkConfig},
    model::{Incarnation, Timestamp},
    wal::Record,
};

/// What a journal comes to so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Records summed up.
    pub events: u64,
    /// Batches rendered.
    pub batches: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Folds records, which come in the order of the log.
#[derive(Debug)]
pub struct Journal<'a> {
    config: &'a SinkConfig,
    incarnation: Incarnation,
    window: Window,
    chain: [u8; 32],
    sums: Sums,
}

impl<'a> Journal<'a> {
    /// The journal that a new finance sink with this configuration would get.
    ///
    /// # Errors
    /// Never for a finance sink.
    pub fn new(config: &'a SinkConfig, incarnation: Incarnation) -> Result<Self, Error> {
        let window = Window::new(Domain::Finance, Vec::new())?;
        Ok(Self { config, incarnation, window, chain: [0; 32], sums: Sums::default() })
    }

    /// Adds a record; a window that is large enough, or too full for it, is rendered.
    ///
    /// # Errors
    /// If the record does not decode or can't be booked.
    pub fn record(&mut self, record: &Record<'_>) -> Result<(), Error> {
        if self.window.absorb(record, self.config, &|_| None)? == Absorbed::Full {
            self.turn()?;
            self.window.absorb(record, self.config, &|_| None)?;
        }
        let large = |events| events >= self.config.window_events_max;
        if self.window.span().is_some_and(|span| large(span.events)) { self.turn() } else { Ok(()) }
    }

    /// Renders what is left, and says what all of it came to.
    ///
    /// # Errors
    /// If it can't be rendered.
    pub fn end(mut self) -> Result<Sums, Error> {
        self.turn()?;
        Ok(self.sums)
    }

    fn turn(&mut self) -> Result<(), Error> {
        let Some(span) = self.window.span() else { return Ok(()) };
        let id = BatchId::new(&self.config.name, self.incarnation, self.sums.batches + 1);
        let sealed_at = Timestamp::from_millis(span.first_time_ms);
        let stamp = Stamp { id: &id, sink: &self.config.name, sealed_at, chain: self.chain };
        let rendered = self.window.render(span, stamp, self.config)?;
        self.chain = rendered.chain;
        self.sums.events += span.events;
        self.sums.batches += 1;
        self.sums.bytes += rendered.body.len() as u64;
        self.window.turn();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::test_records::{order, placed, priced};

    #[test]
    fn windows_turn_when_they_are_large_enough_and_the_rest_is_rendered() {
        let mut config = SinkConfig::new("books", Domain::Finance, "http://localhost/");
        config.window_events_max = 2;
        let mut journal = Journal::new(&config, Incarnation(7)).unwrap();
        let mut sale = order(&[(0, 2)]);
        sale.prices = vec![priced(1_000, 2, 319, 0, "DE-19")].into();
        for n in 0..5 {
            journal.record(&placed(64 * n, sale.clone()).record()).unwrap();
        }
        let sums = journal.end().unwrap();
        assert_eq!((sums.events, sums.batches), (5, 3));
        assert!(sums.bytes > 0);
        assert_eq!(Journal::new(&config, Incarnation(7)).unwrap().end().unwrap(), Sums::default());
    }
}
