//! An open window of one sink: what its domain sums up, and since when.

use std::time::Instant;

use super::{
    Error,
    finance::{Finance, Rules},
    inventory::{Absorbed, Inventory, Limits, Names},
    render::{Head, Rendered, Stamp},
};
use crate::{
    config::{Domain, SinkConfig},
    model::{
        Lsn,
        posting::Recognition,
        sink::{Parked, ParkedView, Parking},
    },
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
    /// When the last was written.
    pub last_time_ms: u64,
    /// When the first was read.
    pub since: Instant,
}

#[derive(Debug)]
enum Content {
    Inventory(Inventory),
    Finance(Finance),
}

fn limits(config: &SinkConfig) -> Limits {
    Limits { lines: config.lines_max, bytes: config.batch_bytes_max }
}

fn rules(config: &SinkConfig) -> Rules<'_> {
    Rules {
        sink: &config.name,
        accounts: &config.accounts,
        recognition: config.recognition,
        parked_max: config.parked_max,
        limits: limits(config),
    }
}

impl Content {
    fn nothing() -> Self {
        Self::Inventory(Inventory::default())
    }

    fn new(domain: Domain, parked: Vec<Parked>) -> Result<Self, Error> {
        Ok(match domain {
            Domain::Inventory => Self::Inventory(Inventory::default()),
            Domain::Finance => Self::Finance(Finance::new(parked)?),
        })
    }
}

/// What of a sink is parked, in short.
#[derive(Debug, Clone, Default)]
pub(super) struct ParkedSummary {
    pub count: u64,
    pub oldest_ms: Option<u64>,
    /// Grows with every change.
    pub version: u64,
}

/// An open window.
#[derive(Debug)]
pub(super) struct Window {
    content: Content,
    span: Option<Span>,
}

impl Window {
    /// The first window of a sink that has these records parked.
    pub fn new(domain: Domain, parked: Vec<Parked>) -> Result<Self, Error> {
        Ok(Self { content: Content::new(domain, parked)?, span: None })
    }

    /// The window after this one, which is sealed.
    pub fn turn(&mut self) {
        self.span = None;
        self.content = match std::mem::replace(&mut self.content, Content::nothing()) {
            Content::Inventory(_) => Content::nothing(),
            Content::Finance(sums) => Content::Finance(sums.next()),
        };
    }

    /// What its seal says of parked records.
    pub fn parking(&self) -> Parking {
        match &self.content {
            Content::Inventory(_) => Parking::default(),
            Content::Finance(sums) => sums.parking(),
        }
    }

    /// What is parked, in short.
    pub fn parked(&self) -> ParkedSummary {
        match &self.content {
            Content::Inventory(_) => ParkedSummary::default(),
            Content::Finance(sums) => ParkedSummary {
                count: sums.parked().len() as u64,
                oldest_ms: sums.parked().oldest_ms(),
                version: sums.parked().version(),
            },
        }
    }

    /// What is parked, one by one.
    pub fn parked_views(&self, when: Recognition) -> Vec<ParkedView> {
        match &self.content {
            Content::Inventory(_) => Vec::new(),
            Content::Finance(sums) => sums.parked().views(when),
        }
    }

    /// Records that were booked before what must come first, since more may not be parked.
    pub fn overflows(&self) -> u64 {
        match &self.content {
            Content::Inventory(_) => 0,
            Content::Finance(sums) => sums.overflows(),
        }
    }

    /// Releases what is parked of an order, by hand; whether all of it fitted. The window stands at
    /// `position`.
    pub fn release(
        &mut self,
        order_id: &str,
        config: &SinkConfig,
        (position, now_ms): (Lsn, u64),
    ) -> Result<bool, Error> {
        let Content::Finance(sums) = &mut self.content else { return Ok(true) };
        let (released, absorbed) = sums.release(order_id, rules(config))?;
        if released > 0 {
            self.extend((position, now_ms), released);
        }
        Ok(absorbed != Absorbed::Full)
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
        let absorbed = match &mut self.content {
            Content::Inventory(sums) => sums.absorb(record, &config.name, limits(config), names)?,
            Content::Finance(sums) => sums.absorb(record, rules(config))?,
        };
        if matches!(absorbed, Absorbed::Taken | Absorbed::Changed { .. }) {
            self.extend((record.lsn, record.time_ms), absorbed.events());
        }
        Ok(absorbed)
    }

    fn extend(&mut self, (lsn, time_ms): (Lsn, u64), events: u64) {
        let span = self.span.get_or_insert_with(|| Span {
            first_lsn: lsn,
            last_lsn: lsn,
            events: 0,
            first_time_ms: time_ms,
            last_time_ms: time_ms,
            since: Instant::now(),
        });
        span.last_lsn = lsn;
        span.last_time_ms = span.last_time_ms.max(time_ms);
        span.events += events;
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
