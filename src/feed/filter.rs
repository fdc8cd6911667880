//! What of the log a sink gets, decided for each record: a [`FilterConfig`] at work.
//!
//! What a filter says of a position never changes, so it is decided once for each: one byte a position.

use super::{Error, lookup::Lookup};
use crate::{
    config::{self, FilterConfig, Movement},
    model::{
        Currency, Lsn,
        command::Priority,
        event::{self, Event, Happened, Placed},
    },
    wal::Record,
};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    config: FilterConfig,
    /// By position: not decided yet, or whether it is let through.
    positions: Vec<Option<bool>>,
}

impl Filter {
    pub fn new(config: &FilterConfig) -> Self {
        Self { config: config.clone(), positions: Vec::new() }
    }

    /// Whether positions make a difference.
    pub fn asks_for_positions(&self) -> bool {
        !self.config.skus.is_empty() || !self.config.locations.is_empty()
    }

    /// Whether priorities make a difference.
    pub fn asks_for_priorities(&self) -> bool {
        !self.config.priorities.is_empty()
    }

    /// Whether it lets a position of a record through.
    pub fn position(
        &mut self,
        lsn: Lsn,
        position: u32,
        lookup: &dyn Lookup,
    ) -> Result<bool, Error> {
        if !self.asks_for_positions() {
            return Ok(true);
        }
        let at = position as usize;
        if let Some(Some(known)) = self.positions.get(at) {
            return Ok(*known);
        }
        let (sku, location) =
            lookup.position(position).ok_or(Error::UnknownPosition { lsn, position })?;
        let through = self.place(sku.as_str(), Some(location.as_str()));
        // It has a name, so there are at least as many positions as its number.
        if at >= self.positions.len() {
            self.positions.resize(at + 1, None);
        }
        self.positions[at] = Some(through);
        Ok(through)
    }

    /// Whether it lets a SKU at a location through, or a SKU without one.
    pub fn place(&self, sku: &str, location: Option<&str>) -> bool {
        let FilterConfig { skus, locations, .. } = &self.config;
        let here = |at: &str| locations.iter().any(|location| location.as_str() == at);
        (skus.is_empty() || skus.iter().any(|pattern| config::matches(pattern, sku)))
            && (locations.is_empty() || location.is_some_and(here))
    }

    pub fn movement(&self, movement: Movement) -> bool {
        let movements = &self.config.movements;
        movements.is_empty() || movements.contains(&movement)
    }

    pub fn priority(&self, priority: Priority) -> bool {
        let priorities = &self.config.priorities;
        priorities.is_empty() || priorities.contains(&priority)
    }

    /// Whether it lets an event of a stream through, by its name.
    pub fn event(&self, name: &str) -> bool {
        let events = &self.config.events;
        events.is_empty() || events.iter().any(|pattern| config::matches(pattern, name))
    }

    /// Whether it lets a record through to the books: by the currency of its order.
    pub fn books(&self, record: &Record<'_>) -> Result<bool, Error> {
        let currencies = &self.config.currencies;
        if currencies.is_empty() {
            return Ok(true);
        }
        let (lsn, version, body) = (record.lsn, record.version, record.body);
        let currency = match record.kind {
            Placed::KIND => {
                event::decode::<Placed>(lsn, record.kind, version, body)?.order.currency
            }
            Happened::KIND => {
                event::decode::<Happened>(lsn, record.kind, version, body)?.worth.currency
            }
            _ => return Ok(false),
        };
        Ok(currencies.contains(&Currency::from_bytes(currency)))
    }
}
