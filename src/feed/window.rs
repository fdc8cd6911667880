//! An open window of one sink: what its domain sums up, and since when.

use std::time::Instant;

use super::{
    Error,
    filter::Filter,
    finance::{Finance, Rules},
    fulfilment::Fulfilment,
    inventory::{Absorbed, Inventory, Limits, Terms},
    lookup::Lookup,
    render::{Head, Rendered, Stamp},
    stream::Stream,
};
use crate::{
    config::{Domain, SinkConfig},
    model::{
        Lsn,
        posting::Recognition,
        sink::{Lane, Parked, ParkedView, Parking},
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
    Fulfilment(Fulfilment),
    Finance(Finance),
    Stream(Stream),
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

    fn new(config: &SinkConfig, lane: Lane, parked: Vec<Parked>) -> Result<Self, Error> {
        Ok(match config.domain {
            Domain::Inventory => Self::Inventory(Inventory::default()),
            Domain::Fulfilment => Self::Fulfilment(Fulfilment::new(lane)),
            Domain::Finance => Self::Finance(Finance::new(parked)?),
            Domain::Stream => Self::Stream(Stream::new(config.schema_version)),
        })
    }

    /// What waits in it for other records, if it is of a domain where something does.
    fn finance(&self) -> Option<&Finance> {
        match self {
            Self::Finance(sums) => Some(sums),
            Self::Inventory(_) | Self::Fulfilment(_) | Self::Stream(_) => None,
        }
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

/// An open window of one lane of a sink.
#[derive(Debug)]
pub(super) struct Window {
    content: Content,
    lane: Lane,
    filter: Filter,
    span: Option<Span>,
}

impl Window {
    /// The first window of a lane of a sink that has these records parked. A sink has one for each of
    /// its domain's [lanes](Domain::lanes); each is shown every record and takes what is its own.
    pub fn new(config: &SinkConfig, lane: Lane, parked: Vec<Parked>) -> Result<Self, Error> {
        let content = Content::new(config, lane, parked)?;
        Ok(Self { content, lane, filter: Filter::new(&config.filter), span: None })
    }

    /// The window after this one, which is sealed.
    pub fn turn(&mut self) {
        self.span = None;
        self.content = match std::mem::replace(&mut self.content, Content::nothing()) {
            Content::Inventory(sums) => Content::Inventory(sums.next()),
            Content::Fulfilment(_) => Content::Fulfilment(Fulfilment::new(self.lane)),
            Content::Finance(sums) => Content::Finance(sums.next()),
            Content::Stream(events) => Content::Stream(events.next()),
        };
    }

    /// What its seal says of parked records.
    pub fn parking(&self) -> Parking {
        self.content.finance().map(Finance::parking).unwrap_or_default()
    }

    /// What is parked, in short.
    pub fn parked(&self) -> ParkedSummary {
        let summary = |sums: &Finance| ParkedSummary {
            count: sums.parked().len() as u64,
            oldest_ms: sums.parked().oldest_ms(),
            version: sums.parked().version(),
        };
        self.content.finance().map(summary).unwrap_or_default()
    }

    /// What is parked, one by one.
    pub fn parked_views(&self, when: Recognition) -> Vec<ParkedView> {
        self.content.finance().map(|sums| sums.parked().views(when)).unwrap_or_default()
    }

    /// Records that were booked before what must come first, since more may not be parked.
    pub fn overflows(&self) -> u64 {
        self.content.finance().map_or(0, Finance::overflows)
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
        lookup: &dyn Lookup,
    ) -> Result<Absorbed, Error> {
        let (filter, terms) =
            (&mut self.filter, Terms { sink: &config.name, limits: limits(config), lookup });
        let absorbed = match &mut self.content {
            Content::Inventory(sums) => sums.absorb(record, terms, filter)?,
            Content::Fulfilment(waves) => waves.absorb(record, terms, filter)?,
            Content::Finance(sums) if filter.books(record)? => {
                sums.absorb(record, rules(config))?
            }
            Content::Finance(_) => Absorbed::Nothing,
            Content::Stream(events) => events.absorb(record, terms, filter)?,
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

    /// The batches' bodies.
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
            priority: self.lane.as_str(),
            first_lsn: span.first_lsn,
            last_lsn: span.last_lsn,
            sealed_at: stamp.sealed_at,
            events: span.events,
        };
        match &self.content {
            Content::Inventory(sums) => sums.render(head, stamp),
            Content::Fulfilment(waves) => waves.render(head, stamp),
            Content::Finance(sums) => sums.render(head, stamp, &config.accounts),
            Content::Stream(events) => Ok(events.render(stamp)),
        }
    }
}
