//! How a sink's batches are delivered: `[sinks.policy]`.
//!
//! The time limit of an attempt, the rate limit and the waits between attempts stand in the sink itself
//! ([`SinkConfig`](super::SinkConfig)); what is here says what may be under way at once, when the partner is
//! left alone, and what becomes of content that it refuses. It promises what that module promises: every
//! default and unit stands at its field, and what is wrong is named.

use serde::{Deserialize, Serialize};

use super::sink::{MS_MAX, between};

/// Whether batches of one lane keep their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// One batch of a lane is under way at a time: they reach the partner in the order of their seals,
    /// through every retry.
    #[default]
    Strict,
    /// As many as the concurrency limit allows: one that is retried is overtaken by later ones.
    None,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Whether batches of one lane keep their order: `strict` or `none`. Default `strict`.
    pub ordering: Ordering,
    /// The most batches under way at once. Within it the limit adapts itself to how fast the partner
    /// answers. Default 8.
    pub concurrency_max: u64,
    /// After so many failed attempts in a row the partner is left alone (the breaker opens) and then
    /// asked with one attempt at a time. Default 5.
    pub breaker_failures: u64,
    /// The first such wait is random, up to so many milliseconds; the bound doubles with each failed
    /// probe. Default 1,000.
    pub breaker_open_ms: u64,
    /// The longest of these waits, in milliseconds; none is longer than the sink's `retry_max_ms`.
    /// Default 30,000.
    pub breaker_open_ms_max: u64,
    /// Repeated attempts a second, as a share of the first attempts: 0 to 10. Default 0.2.
    pub retry_budget_ratio: f64,
    /// Repeated attempts a second that are always allowed. Default 10.
    pub retries_per_s_min: u64,
    /// A batch whose newest record was already so many milliseconds old when it was sealed belongs to a
    /// backlog. Default 60,000.
    pub recovery_lag_ms: u64,
    /// A backlog is brought so many times as fast as it arrived: 1 to 1,000. Default 2.0.
    pub recovery_factor: f64,
    /// The longest pause for that between two batches, in milliseconds. Default 30,000.
    pub recovery_pause_ms_max: u64,
    /// The most attempts to find the bad lines of a refused batch; then what is not told apart is set
    /// aside as it is. Default 128.
    pub poison_parts_max: u64,
    /// After so many batches in a row of which the partner refused everything the sink pauses until it is
    /// resumed by hand: then not the content is wrong but the configuration. Default 10.
    pub refused_batches_max: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ordering: Ordering::Strict,
            concurrency_max: 8,
            breaker_failures: 5,
            breaker_open_ms: 1_000,
            breaker_open_ms_max: 30_000,
            retry_budget_ratio: 0.2,
            retries_per_s_min: 10,
            recovery_lag_ms: 60_000,
            recovery_factor: 2.0,
            recovery_pause_ms_max: 30_000,
            poison_parts_max: 128,
            refused_batches_max: 10,
        }
    }
}

impl Policy {
    /// The most batches of one lane that the feed may have sealed and not seen the fate of.
    pub fn lane_batches_max(&self) -> u64 {
        match self.ordering {
            Ordering::Strict => 1,
            Ordering::None => self.concurrency_max,
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// What is wrong, beginning with the field's name.
    pub fn validate(&self) -> Result<(), String> {
        let waits_max = self.breaker_open_ms_max;
        between("policy.concurrency_max", self.concurrency_max, 1, 256)?;
        between("policy.breaker_failures", self.breaker_failures, 1, 1_000_000)?;
        between("policy.breaker_open_ms", self.breaker_open_ms, 1, MS_MAX)?;
        between("policy.breaker_open_ms_max", waits_max, self.breaker_open_ms, MS_MAX)?;
        between("policy.retries_per_s_min", self.retries_per_s_min, 1, 100_000)?;
        between("policy.recovery_lag_ms", self.recovery_lag_ms, 1, MS_MAX)?;
        between("policy.recovery_pause_ms_max", self.recovery_pause_ms_max, 0, MS_MAX)?;
        between("policy.poison_parts_max", self.poison_parts_max, 1, 100_000)?;
        between("policy.refused_batches_max", self.refused_batches_max, 1, 1_000_000)?;
        between("policy.retry_budget_ratio", self.retry_budget_ratio, 0.0, 10.0)?;
        between("policy.recovery_factor", self.recovery_factor, 1.0, 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(Policy::default().validate(), Ok(()));
        type Spoil = fn(&mut Policy);
        let wrong: [(&str, Spoil); 14] = [
            ("concurrency_max", |p| p.concurrency_max = 0),
            ("concurrency_max", |p| p.concurrency_max = 257),
            ("breaker_failures", |p| p.breaker_failures = 0),
            ("breaker_open_ms", |p| p.breaker_open_ms = 0),
            ("breaker_open_ms_max", |p| p.breaker_open_ms_max = 999),
            ("retries_per_s_min", |p| p.retries_per_s_min = 0),
            ("recovery_lag_ms", |p| p.recovery_lag_ms = 0),
            ("recovery_pause_ms_max", |p| p.recovery_pause_ms_max = MS_MAX + 1),
            ("poison_parts_max", |p| p.poison_parts_max = 0),
            ("refused_batches_max", |p| p.refused_batches_max = 0),
            ("retry_budget_ratio", |p| p.retry_budget_ratio = f64::NAN),
            ("retry_budget_ratio", |p| p.retry_budget_ratio = -0.1),
            ("recovery_factor", |p| p.recovery_factor = 0.9),
            ("recovery_factor", |p| p.recovery_factor = f64::INFINITY),
        ];
        for (field, spoil) in wrong {
            let mut policy = Policy::default();
            spoil(&mut policy);
            let error = policy.validate().unwrap_err();
            assert!(error.starts_with(&format!("policy.{field}: ")), "{field}: {error}");
        }
    }

    #[test]
    fn what_a_file_leaves_out_is_at_its_default_and_what_it_misspells_is_refused() {
        let policy: Policy = toml::from_str("ordering = \"none\"\nconcurrency_max = 4").unwrap();
        assert_eq!(policy.lane_batches_max(), 4);
        let expected = Policy { ordering: Ordering::None, concurrency_max: 4, ..Policy::default() };
        assert_eq!(policy, expected);
        assert_eq!(Policy::default().lane_batches_max(), 1);
        assert!(toml::from_str::<Policy>("concurency_max = 4").is_err());
    }

    #[test]
    fn the_example_names_every_key() {
        let example = include_str!("../../holdfast.example.toml");
        for (key, value) in &toml::Table::try_from(Policy::default()).unwrap() {
            assert!(example.contains(&format!("# {key} = {value}\n")), "{key}");
        }
    }
}
