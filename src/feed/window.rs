//! An open window of one sink: what its domain sums up, and since when.

use std::time::Instant;

use super::{
    Error,
    finance::Finance,
    inventory::{Absorbed, Inventory, Limits, Names},
    render::{Head, Rendered, Stamp},
};
use crate::{
    config::{Domain, SinkConfig},
    model::Lsn,
    wal::Record,
};

/// What the window's records span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub first_lsn: Lsn,
    pub last_lsn: Lsn,
    pub events: u64,
    /// When the first was written.
    pub first_time_ms: u64,
    /// When the first was read.
    pub since: Instant,
}

#[derive(Debug)]
enum Content {
    Inventory(Inventory),
    Finance(Finance),
}

impl Content {
    fn new(domain: Domain) -> Self {
        match domain {
            Domain::Inventory => Self::Inventory(Inventory::default()),
            Domain::Finance => Self::Finance(Finance::default()),
        }
    }
}

/// An open window.
#[derive(Debug)]
pub(super) struct Window {
    content: Content,
    span: Option<Span>,
}

impl Window {
    pub fn new(domain: Domain) -> Self {
        Self { content: Content::new(domain), span: None }
    }

    pub fn span(&self) -> Option<Span> {
        self.span
    }

    /// Adds a record; [`Absorbed::Full`] changed nothing.
    pub fn absorb(
        &mut self,
        record: &Record<'_>,
        config: &SinkConfig,
        names: Names<'_>,
    ) -> Result<Absorbed, Error> {
        let limits = Limits { lines: config.lines_max, bytes: config.batch_bytes_max };
        let absorbed = match &mut self.content {
            Content::Inventory(sums) => sums.absorb(record, &config.name, limits, names)?,
            Content::Finance(sums) => {
                sums.absorb(record, &config.name, &config.accounts, limits)?
            }
        };
        if absorbed == Absorbed::Taken {
            self.extend(record);
        }
        Ok(absorbed)
    }

    fn extend(&mut self, record: &Record<'_>) {
        let span = self.span.get_or_insert_with(|| Span {
            first_lsn: record.lsn,
            last_lsn: record.lsn,
            events: 0,
            first_time_ms: record.time_ms,
            since: Instant::now(),
        });
        span.last_lsn = record.lsn;
        span.events += 1;
    }

    /// Whether it is old enough or large enough to be sealed.
    pub fn is_ripe(&self, config: &SinkConfig) -> bool {
        self.span.is_some_and(|span| {
            span.events >= config.window_events_max
                || span.since.elapsed().as_millis() >= u128::from(config.window_ms_max)
        })
    }

    /// The batch's body.
    pub fn render(
        &self,
        span: Span,
        stamp: Stamp<'_>,
        config: &SinkConfig,
    ) -> Result<Rendered, Error> {
        let head = Head {
            batch_id: stamp.id.as_str(),
            sink: stamp.sink,
            domain: config.domain.as_str(),
            priority: "standard",
            first_lsn: span.first_lsn,
            last_lsn: span.last_lsn,
            sealed_at: stamp.sealed_at,
            events: span.events,
        };
        match &self.content {
            Content::Inventory(sums) => sums.render(head, stamp),
            Content::Finance(sums) => sums.render(head, stamp, &config.accounts),
        }
    }
}
