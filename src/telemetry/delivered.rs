//! How long records took from the log to a sink's partner, as the sink tells it.

use std::time::Duration;

use super::{Ages, DurationCounts, Exposition, Kind};

/// The name of its family.
const NAME: &str = "holdfast_sink_delivery_seconds";

/// What a sink says of it.
#[derive(Debug, Clone, Default)]
pub struct Delivered {
    /// The sink.
    pub sink: String,
    /// What it gets.
    pub domain: &'static str,
    /// What is measured: `order`, `shipment`, `posting` or `event`.
    pub what: &'static str,
    /// From a record's time until it was known that the partner has it.
    pub ages: Ages,
    /// The same in fine buckets.
    pub fine: DurationCounts,
    /// Records of batches of which the partner took nothing.
    pub refused: u64,
    /// Ages in milliseconds of what the partner has not got yet, and how many records have each.
    pub waiting: Vec<(u64, u64)>,
}

impl Delivered {
    /// Records that were with the partner in time, and all whose time is over: those that wait longer are
    /// among them.
    pub fn judged(&self, within: Duration) -> (u64, u64) {
        let total = self.fine.count() + self.refused + self.late(within);
        (self.fine.count_within(within), total)
    }

    /// Records that are late and wait still.
    pub fn late(&self, within: Duration) -> u64 {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let late = self.waiting.iter().filter(|(age_ms, _)| *age_ms > within_ms);
        late.map(|(_, count)| count).sum()
    }

    /// Writes all of them.
    pub fn expose(all: &[Self], text: &mut Exposition) {
        let help = "From a record's time until the partner has it: an order's at a warehouse, a \
                    shipment's at an ERP, a posting's at finance, any event's of a stream.";
        text.family(NAME, Kind::Histogram, Some("seconds"), help);
        for of in all {
            let labels = [("sink", of.sink.as_str()), ("domain", of.domain), ("what", of.what)];
            of.ages.expose(NAME, &labels, text);
        }
        let help = "Records in batches of which the partner took nothing.";
        text.family("holdfast_sink_refused_records", Kind::Counter, None, help);
        for of in all {
            let labels = [("sink", of.sink.as_str()), ("domain", of.domain)];
            text.sample("holdfast_sink_refused_records_total", &labels, of.refused);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_too_long_is_late_before_it_arrives() {
        let fine = [(1_000_000, 7), (9_000_000_000, 2)].into_iter().collect();
        let waiting = vec![(10, 5), (6_000, 3)];
        let of = Delivered { fine, waiting, refused: 1, ..Delivered::default() };
        assert_eq!(of.judged(Duration::from_secs(5)), (7, 13));
        assert_eq!(of.judged(Duration::from_secs(10)), (9, 10));
    }
}
