//! A histogram of ages, from milliseconds to weeks: how long something took that others do, partners
//! and people. Recorded seldom and by one thread at a time.

use super::Exposition;

/// Upper bounds of the buckets in milliseconds, inclusive; one more bucket takes what lies beyond.
const BOUNDS_MS: [u64; 20] = [
    10,
    25,
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    30_000,
    60_000,
    300_000,
    900_000,
    3_600_000,
    14_400_000,
    43_200_000,
    86_400_000,
    259_200_000,
    604_800_000,
];

/// How many ages lie in each bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ages {
    buckets: [u64; BOUNDS_MS.len() + 1],
    sum_ms: u64,
}

impl Ages {
    /// Adds the same age so many times.
    pub fn record(&mut self, ms: u64, count: u64) {
        self.buckets[BOUNDS_MS.partition_point(|bound| *bound < ms)] += count;
        self.sum_ms = self.sum_ms.saturating_add(ms.saturating_mul(count));
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Writes the samples of a histogram's family.
    pub fn expose(&self, name: &str, labels: &[(&str, &str)], text: &mut Exposition) {
        let mut cumulated = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            cumulated += count;
            let bound = BOUNDS_MS.get(index);
            let bound = bound.map_or("+Inf".to_owned(), |ms| (*ms as f64 / 1e3).to_string());
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            text.sample(&format!("{name}_bucket"), &labels, cumulated);
        }
        text.sample(&format!("{name}_count"), labels, cumulated);
        text.sample(&format!("{name}_sum"), labels, self.sum_ms as f64 / 1e3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_falls_into_the_bucket_whose_bound_includes_it() {
        let mut ages = Ages::default();
        ages.record(10, 2);
        ages.record(11, 1);
        ages.record(u64::MAX, 1);
        assert_eq!((ages.buckets[0], ages.buckets[1], ages.buckets[20]), (2, 1, 1));
        assert_eq!(ages.count(), 4);
        let mut text = Exposition::default();
        ages.expose("x_seconds", &[("stage", "shipped")], &mut text);
        let text = text.finish();
        for line in [
            r#"x_seconds_bucket{stage="shipped",le="0.025"} 3"#,
            r#"x_seconds_bucket{stage="shipped",le="604800"} 3"#,
            r#"x_seconds_bucket{stage="shipped",le="+Inf"} 4"#,
            r#"x_seconds_count{stage="shipped"} 4"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
