//! Whether a run was served as well as its scenario asks.

use serde::Serialize;

use crate::{
    recording::{Outcome, Totals},
    scenario::Slo,
};

/// One demand, and what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What was asked for.
    pub what: &'static str,
    /// The most that it may be.
    pub limit: f64,
    /// What it was.
    pub found: f64,
    /// Whether it was met.
    pub ok: bool,
}

/// Everything that a scenario asks for, and how it was met.
pub fn judge(slo: &Slo, totals: &Totals) -> Vec<Verdict> {
    let ms = |quantile: f64| totals.response.value_at_quantile(quantile) as f64 / 1e6;
    let share = |outcomes: &[Outcome]| {
        let sum: u64 = outcomes.iter().map(|outcome| totals.count(*outcome)).sum();
        sum as f64 / totals.all().max(1) as f64
    };
    let errors = share(&[Outcome::Error, Outcome::TimedOut, Outcome::Unsent]);
    let demands = [
        ("p50 ms", slo.p50_ms, ms(0.5)),
        ("p99 ms", slo.p99_ms, ms(0.99)),
        ("p99.9 ms", slo.p999_ms, ms(0.999)),
        ("max ms", slo.max_ms, ms(1.0)),
        ("share of errors", slo.errors_share, errors),
        ("share turned away", slo.shed_share, share(&[Outcome::Shed])),
    ];
    let judged = |(what, limit, found): (_, Option<f64>, f64)| {
        limit.map(|limit| Verdict { what, limit, found, ok: found <= limit })
    };
    demands.into_iter().filter_map(judged).collect()
}

/// Whether all was met.
pub fn met(verdicts: &[Verdict]) -> bool {
    verdicts.iter().all(|verdict| verdict.ok)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::recording::Recording;

    fn judged(slo: Slo) -> Vec<Verdict> {
        let mut recording = Recording::new(SystemTime::now(), Duration::from_secs(1));
        let mut recorder = recording.recorder();
        let ms = Duration::from_millis;
        for n in 1..=1_000 {
            let outcome = match n {
                1..=10 => Outcome::TimedOut,
                11..=20 => Outcome::Unsent,
                21..=50 => Outcome::Shed,
                _ => Outcome::Granted,
            };
            recorder.record(ms(n), outcome, ms(n), ms(1), ms(0));
        }
        recording.absorb(recorder);
        judge(&slo, &recording.totals())
    }

    #[test]
    fn times_are_response_times_of_everything_that_was_planned() {
        let verdicts = judged(Slo { p50_ms: Some(501.0), p99_ms: Some(900.0), ..Slo::default() });
        assert_eq!(verdicts.len(), 2);
        assert!(verdicts[0].ok && (verdicts[0].found - 500.0).abs() < 1.0, "{verdicts:?}");
        assert!(!verdicts[1].ok && (verdicts[1].found - 990.0).abs() < 1.0, "{verdicts:?}");
        assert!(!met(&verdicts) && met(&verdicts[..1]));
    }

    #[test]
    fn what_was_not_answered_in_time_or_never_sent_is_an_error() {
        let slo = Slo { errors_share: Some(0.02), shed_share: Some(0.02), ..Slo::default() };
        let verdicts = judged(slo);
        assert_eq!((verdicts[0].found, verdicts[0].ok), (0.02, true));
        assert_eq!((verdicts[1].found, verdicts[1].ok), (0.03, false));
    }
}
