//! What of the log a sink gets: `[sinks.filter]`.
//!
//! Every list that is empty lets everything through; lists that are not must all agree. What a domain
//! has not is refused rather than ignored: a filter that does nothing would be taken for one that does.
//!
//! | domain | lists |
//! |---|---|
//! | `inventory` | `skus`, `locations`, `movements` |
//! | `fulfilment` | `skus`, `locations`, `priorities` |
//! | `finance` | `currencies` |
//! | `stream` | `skus`, `locations`, `priorities`, `events` |
//!
//! The books can only be parted by currency: an order has one, and so have its invoice, its settlement
//! and its refund, so that every entry still balances and nothing waits for what never comes.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::Domain;
use crate::model::{Currency, ID_CHARS_MAX, Location, command::Priority};

/// The most entries of a list.
pub const FILTER_ENTRIES_MAX: usize = 1_000;

/// What a line of an inventory sink changes.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Movement {
    /// Orders took it.
    Sold,
    /// It left.
    Shipped,
    /// It was called off before it left.
    Cancelled,
    /// It came back and is sold again.
    Returned,
    /// It came in.
    Receipt,
    /// Any other correction of what is on hand.
    Adjustment,
}

impl Movement {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sold => "sold",
            Self::Shipped => "shipped",
            Self::Cancelled => "cancelled",
            Self::Returned => "returned",
            Self::Receipt => "receipt",
            Self::Adjustment => "adjustment",
        }
    }
}

/// The events of a stream sink. In a CloudEvent's `type` each stands between `holdfast.` and `.v1`.
pub const STREAM_EVENTS: [&str; 16] = [
    "stock.set",
    "stock.adjusted",
    "reservation.held",
    "reservation.released",
    "reservation.extended",
    "reservation.changed",
    "reservation.expired",
    "order.placed",
    "order.shipped",
    "order.cancelled",
    "order.invoiced",
    "order.settled",
    "order.refunded",
    "order.return_authorized",
    "order.return_received",
    "order.noted",
];

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterConfig {
    /// SKUs, or the beginnings of some: `TEE-M`, `TEE-*`. Default all.
    pub skus: Vec<String>,
    /// Locations. Default all.
    pub locations: Vec<Location>,
    /// Movements of an inventory sink: `sold`, `shipped`, `cancelled`, `returned`, `receipt`,
    /// `adjustment`. Default all.
    pub movements: Vec<Movement>,
    /// Priorities of orders: `express`, `standard`, `bulk`. A stream's events that belong to no order
    /// are left out as soon as one is named. Default all.
    pub priorities: Vec<Priority>,
    /// Events of a stream sink, or the beginnings of some: `order.placed`, `reservation.*`. Default all.
    pub events: Vec<String>,
    /// Currencies of a finance sink, also of orders from before one was withdrawn. Default all.
    #[serde(deserialize_with = "of_any_time")]
    pub currencies: Vec<Currency>,
}

fn of_any_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Currency>, D::Error> {
    let codes = Vec::<String>::deserialize(deserializer)?;
    let all = codes.iter().map(|code| Currency::of_any_time(code).map_err(D::Error::custom));
    all.collect()
}

impl FilterConfig {
    /// Whether it lets everything through.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Checks it for a sink of a domain.
    ///
    /// # Errors
    /// What is wrong, beginning with the field's name.
    pub fn validate(&self, domain: Domain) -> Result<(), String> {
        for (field, entries, domains) in [
            ("skus", self.skus.len(), &[Domain::Inventory, Domain::Fulfilment, Domain::Stream][..]),
            (
                "locations",
                self.locations.len(),
                &[Domain::Inventory, Domain::Fulfilment, Domain::Stream],
            ),
            ("movements", self.movements.len(), &[Domain::Inventory]),
            ("priorities", self.priorities.len(), &[Domain::Fulfilment, Domain::Stream]),
            ("events", self.events.len(), &[Domain::Stream]),
            ("currencies", self.currencies.len(), &[Domain::Finance]),
        ] {
            if entries > FILTER_ENTRIES_MAX {
                return Err(format!("filter.{field}: must have at most {FILTER_ENTRIES_MAX}"));
            }
            if entries > 0 && !domains.contains(&domain) {
                return Err(format!("filter.{field}: {}", why_not(domain)));
            }
        }
        self.skus.iter().try_for_each(|pattern| check_sku(pattern))?;
        self.events.iter().try_for_each(|pattern| check_event(pattern))
    }

    /// What it says, for the version of what renders a batch: nothing if it lets everything through.
    pub(super) fn parts(&self) -> Vec<String> {
        if self.is_open() {
            return Vec::new();
        }
        let list = |field: &str, entries: Vec<String>| {
            let head = format!("{field} {}", entries.len());
            [head].into_iter().chain(entries)
        };
        let words = |entries: &[Movement]| entries.iter().map(|m| format!("{m:?}")).collect();
        list("skus", self.skus.clone())
            .chain(list("locations", self.locations.iter().map(Location::to_string).collect()))
            .chain(list("movements", words(&self.movements)))
            .chain(list("priorities", self.priorities.iter().map(|p| format!("{p:?}")).collect()))
            .chain(list("events", self.events.clone()))
            .chain(list("currencies", self.currencies.iter().map(Currency::to_string).collect()))
            .collect()
    }
}

/// Whether a text is what a pattern says: the same, or of the same beginning if that ends in `*`.
pub fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => text.starts_with(beginning),
        None => pattern == text,
    }
}

fn why_not(domain: Domain) -> String {
    let what = match domain {
        Domain::Inventory => "`skus`, `locations` and `movements`",
        Domain::Fulfilment => "`skus`, `locations` and `priorities`",
        Domain::Stream => "`skus`, `locations`, `priorities` and `events`",
        Domain::Finance => {
            return "a finance sink can be filtered by `currencies` only: a part of an order would \
                    not balance, and what waits for the other part would wait for ever"
                .into();
        }
    };
    format!("a sink of the domain `{}` can be filtered by {what} only", domain.as_str())
}

fn check_sku(pattern: &str) -> Result<(), String> {
    let printable = pattern.bytes().all(|b| (0x20..=0x7e).contains(&b));
    if pattern.is_empty() || pattern.len() > ID_CHARS_MAX + 1 || !printable {
        return Err("filter.skus: each must be a SKU, or the beginning of some and `*`".into());
    }
    Ok(())
}

fn check_event(pattern: &str) -> Result<(), String> {
    if STREAM_EVENTS.iter().any(|event| matches(pattern, event)) {
        return Ok(());
    }
    let all = STREAM_EVENTS.join("`, `");
    Err(format!("filter.events: one of them is none of `{all}`, nor the beginning of some and `*`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_domain_has_not_is_refused() {
        let one = |text: &str| vec![text.to_owned()];
        let skus = FilterConfig { skus: one("TEE-*"), ..FilterConfig::default() };
        let events = FilterConfig { events: one("order.*"), ..FilterConfig::default() };
        let priorities =
            FilterConfig { priorities: vec![Priority::Express], ..FilterConfig::default() };
        let movements = FilterConfig { movements: vec![Movement::Sold], ..FilterConfig::default() };
        let euro = Currency::new("EUR").unwrap();
        let currencies = FilterConfig { currencies: vec![euro], ..FilterConfig::default() };
        let all = [Domain::Inventory, Domain::Fulfilment, Domain::Stream, Domain::Finance];
        for (filter, allowed) in [
            (FilterConfig::default(), &all[..]),
            (skus, &all[..3]),
            (movements, &all[..1]),
            (priorities, &all[1..3]),
            (events, &all[2..3]),
            (currencies, &all[3..]),
        ] {
            for domain in all {
                let valid = filter.validate(domain);
                assert_eq!(valid.is_ok(), allowed.contains(&domain), "{filter:?}: {valid:?}");
            }
        }
    }

    #[test]
    fn a_filter_that_can_let_nothing_through_is_refused() {
        for wrong in ["order.sold", "orders.*", "", "Order.*"] {
            let filter = FilterConfig { events: vec![wrong.to_owned()], ..FilterConfig::default() };
            assert!(filter.validate(Domain::Stream).unwrap_err().starts_with("filter.events: "));
        }
        for wrong in ["", "TÉE", &"x".repeat(66)] {
            let filter = FilterConfig { skus: vec![wrong.to_owned()], ..FilterConfig::default() };
            assert!(filter.validate(Domain::Stream).unwrap_err().starts_with("filter.skus: "));
        }
        let skus = vec!["A".to_owned(); FILTER_ENTRIES_MAX + 1];
        let long = FilterConfig { skus, ..FilterConfig::default() };
        assert!(long.validate(Domain::Stream).unwrap_err().contains("at most 1000"));
    }

    #[test]
    fn a_pattern_is_a_text_or_a_beginning() {
        assert!(matches("TEE-M", "TEE-M") && !matches("TEE-M", "TEE-MM"));
        assert!(matches("TEE-*", "TEE-MM") && !matches("TEE-*", "TEE"));
        assert!(matches("*", "") && !matches("", "x"));
    }
}
