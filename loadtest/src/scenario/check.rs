//! The ranges of a scenario's fields. What is wrong is told as the field's path and what it must be.

use super::{Catalogue, Outage, ReceiverSpec, Retries, Scenario, Sending, Shoppers, Slo};
use crate::schedule::Stage;

/// The field, and what it must be.
type Wrong = (String, String);

/// The longest stage, in seconds: two days.
const STAGE_S_MAX: f64 = 172_800.0;
/// The highest rate, in requests a second.
const RATE_MAX: f64 = 100e6;

impl Scenario {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if self.stages.is_empty() {
            return Err(("stages".to_owned(), "must have at least one stage".to_owned()));
        }
        for (at, stage) in self.stages.iter().enumerate() {
            check_stage(stage).map_err(|(f, why)| (format!("stages[{at}].{f}"), why))?;
        }
        within("catalogue", self.catalogue.check())?;
        within("shoppers", self.shoppers.check())?;
        within("retries", self.retries.check())?;
        within("sending", self.sending.check())?;
        within("slo", self.slo.check())?;
        self.check_receivers()
    }

    fn check_receivers(&self) -> Result<(), Wrong> {
        for (at, receiver) in self.receivers.iter().enumerate() {
            let field = format!("receivers[{at}]");
            within(&field, receiver.check())?;
            if self.receivers[..at].iter().any(|other| other.name == receiver.name) {
                return Err((format!("{field}.name"), "must not be there twice".to_owned()));
            }
        }
        Ok(())
    }
}

fn within(parent: &str, checked: Result<(), Wrong>) -> Result<(), Wrong> {
    checked.map_err(|(field, reason)| (format!("{parent}.{field}"), reason))
}

fn between(field: &str, value: f64, min: f64, max: f64) -> Result<(), Wrong> {
    if value.is_finite() && (min..=max).contains(&value) {
        return Ok(());
    }
    Err((field.to_owned(), format!("must be {min} to {max}, not {value}")))
}

fn share(field: &str, value: f64) -> Result<(), Wrong> {
    between(field, value, 0.0, 1.0)
}

fn weights(field: &str, weights: &[f64], most: usize) -> Result<(), Wrong> {
    let sound = weights.iter().all(|w| w.is_finite() && *w >= 0.0);
    if sound && weights.len() <= most && weights.iter().sum::<f64>() > 0.0 {
        return Ok(());
    }
    Err((field.to_owned(), format!("must be 1 to {most} weights that aren't negative nor all 0")))
}

fn check_stage(stage: &Stage) -> Result<(), Wrong> {
    for (field, value) in stage.numbers() {
        match field {
            "speed" => between(field, value, 0.001, 1_000.0)?,
            "percent" => between(field, value, -100.0, 1e6)?,
            _ if field.ends_with("_s") => between(field, value, 0.0, STAGE_S_MAX)?,
            _ => between(field, value, 0.0, RATE_MAX)?,
        }
    }
    if let Stage::Spike { at_s, rise_s, hold_s, fall_s, for_s, .. } = *stage {
        let parts = at_s + rise_s + hold_s + fall_s;
        if for_s < parts {
            let reason = format!("must be at least {parts}, the sum of the parts, not {for_s}");
            return Err(("for_s".to_owned(), reason));
        }
    }
    Ok(())
}

impl Catalogue {
    fn check(&self) -> Result<(), Wrong> {
        between("skus", self.skus.into(), 1.0, 1e6)?;
        between("stock", self.stock.into(), 0.0, 1e9)?;
        between("locations", self.locations.into(), 1.0, 16.0)?;
        between("zipf", self.zipf, 0.0, 4.0)?;
        let limit = self.purchase_limit.unwrap_or(1);
        between("purchase_limit", limit.into(), 1.0, 1e6)
    }
}

impl Shoppers {
    fn check(&self) -> Result<(), Wrong> {
        between("customers", self.customers.into(), 1.0, 1e9)?;
        weights("lines", &self.lines, 16)?;
        weights("quantity", &self.quantity, 100)?;
        share("abandon", self.abandon)?;
        share("payment_failure", self.payment_failure)?;
        share("one_step", self.one_step)?;
        share("abandon", self.abandon + self.payment_failure).map_err(|(field, _)| {
            (field, "and `payment_failure` must be at most 1 together".to_owned())
        })?;
        let [least, most] = self.think_ms;
        between("think_ms", most as f64, least as f64, 3_600_000.0)?;
        between("ttl_ms", self.ttl_ms as f64, 1.0, 86_400_000.0)
    }
}

impl Retries {
    fn check(&self) -> Result<(), Wrong> {
        between("attempts_max", self.attempts_max.into(), 1.0, 20.0)?;
        between("patience_ms", self.patience_ms.unwrap_or(1) as f64, 1.0, 3_600_000.0)?;
        between("backoff_ms", self.backoff_ms as f64, 0.0, 3_600_000.0)?;
        share("twice", self.twice)?;
        between("twice_after_ms", self.twice_after_ms as f64, 0.0, 3_600_000.0)
    }
}

impl Sending {
    fn check(&self) -> Result<(), Wrong> {
        between("connections", self.connections.into(), 1.0, 20_000.0)?;
        between("senders", self.senders.into(), 1.0, 64.0)?;
        if self.connections < self.senders {
            return Err(("connections".to_owned(), "must be at least `senders`".to_owned()));
        }
        between("timeout_ms", self.timeout_ms as f64, 1.0, 600_000.0)?;
        between("drain_ms", self.drain_ms as f64, 0.0, 3_600_000.0)?;
        between("warm_up_s", self.warm_up_s, 0.0, 86_400.0)?;
        between("spin_us", self.spin_us as f64, 0.0, 10_000.0)?;
        between("lag_p999_us_max", self.lag_p999_us_max as f64, 1.0, 60e6)?;
        between("batch_max", self.batch_max.into(), 1.0, 1_000.0)
    }
}

impl Slo {
    fn check(&self) -> Result<(), Wrong> {
        let times = [
            ("p50_ms", self.p50_ms),
            ("p99_ms", self.p99_ms),
            ("p999_ms", self.p999_ms),
            ("max_ms", self.max_ms),
        ];
        for (field, value) in times {
            value.map_or(Ok(()), |value| between(field, value, 0.001, 60_000.0))?;
        }
        self.errors_share.map_or(Ok(()), |value| share("errors_share", value))?;
        self.shed_share.map_or(Ok(()), |value| share("shed_share", value))
    }
}

impl ReceiverSpec {
    fn check(&self) -> Result<(), Wrong> {
        let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        if !(1..=32).contains(&self.name.len()) || !self.name.chars().all(sound) {
            let reason = "must be 1 to 32 lower-case letters, digits, `-` and `_`";
            return Err(("name".to_owned(), reason.to_owned()));
        }
        between("rate_per_s", self.rate_per_s.unwrap_or(1).into(), 1.0, 1e6)?;
        between("latency_ms", self.latency_ms as f64, 0.0, 60_000.0)?;
        for (at, Outage { at_s, for_s }) in self.outages.iter().enumerate() {
            between(&format!("outages[{at}].at_s"), *at_s, 0.0, STAGE_S_MAX)?;
            between(&format!("outages[{at}].for_s"), *for_s, 0.0, STAGE_S_MAX)?;
        }
        Ok(())
    }
}
