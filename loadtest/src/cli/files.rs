//! The files of a trial: what was measured, with everything that is known of it.

use std::path::{Path, PathBuf};

use super::{Error, text};
use crate::{
    audit,
    report::{self, Bound, Check, Machine},
    run::Run,
    scenario::{Scenario, Slo},
    slo::Verdict,
    trial::{Place, Setup, Trial},
};

/// What the files of a run are named by.
const STEM: &str = "run";

/// Writes the files of a trial into a folder; tells where its page is.
pub(super) fn write(
    folder: &Path,
    setup: &Setup,
    trial: &Trial,
    machine: Machine,
) -> Result<PathBuf, Error> {
    text::write(folder, "run.json", &text::json(&setup.scenario, trial))?;
    let known = known(&setup.scenario, trial, machine)?;
    Ok(report::write_all(folder, STEM, &trial.run.recording, known)?.html)
}

/// The machine, with the filesystem that the log of the tester's own server is on. To be asked before a
/// trial: afterwards the trial is part of its load.
pub(super) fn machine(setup: &Setup) -> Machine {
    let data = match &setup.place {
        Place::Own { data, .. } | Place::InProcess { data } | Place::Peer { data, .. } => {
            data.clone()
        }
        Place::Url { .. } | Place::Gateway { .. } => None,
    };
    Machine::read(&data.unwrap_or_else(std::env::temp_dir))
}

fn known(scenario: &Scenario, trial: &Trial, machine: Machine) -> Result<report::Run, Error> {
    let toml = toml::to_string(scenario);
    let toml = toml.map_err(|error| report::Error::Serialise(error.to_string()))?;
    let sending = &scenario.sending;
    let lag = std::time::Duration::from_micros(trial.run.lag_p999_us());
    let void =
        || format!("Void: one request in a thousand was sent {lag:?} late, by the tester's fault.");
    Ok(report::Run {
        scenario: scenario.name.clone(),
        about: scenario.about.clone(),
        scenario_toml: toml,
        seed: scenario.seed,
        target: format!(
            "{}; connections {}, senders {}",
            trial.target, sending.connections, sending.senders
        ),
        command_line: std::env::args().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        objectives: trial.verdicts.iter().map(objective).collect(),
        bounds: bounds(&scenario.slo),
        lag_p999_ns_max: Some(sending.lag_p999_us_max.saturating_mul(1_000)),
        void: trial.void.then(void),
        audit: trial.checks.iter().map(check).collect(),
        notes: notes(&trial.run, trial.delivery.map(|took| took.as_secs_f64())),
        machine,
        ..report::Run::default()
    })
}

fn objective(verdict: &Verdict) -> Check {
    Check {
        name: verdict.what.to_owned(),
        expected: format!("at most {}", verdict.limit),
        found: format!("{:.3}", verdict.found),
        held: verdict.ok,
    }
}

fn check(check: &audit::Check) -> Check {
    let differences = match check.differences.is_empty() {
        true => String::new(),
        false => format!(" ({})", check.differences.join("; ")),
    };
    Check {
        name: check.what.clone(),
        expected: check.expected.to_string(),
        found: format!("{}{differences}", check.found),
        held: check.ok,
    }
}

/// The demands on times, as lines.
fn bounds(slo: &Slo) -> Vec<Bound> {
    let bound =
        |(quantile, ms): (f64, Option<f64>)| Some(Bound { quantile, ns_max: (ms? * 1e6) as u64 });
    [(0.5, slo.p50_ms), (0.99, slo.p99_ms), (0.999, slo.p999_ms), (1.0, slo.max_ms)]
        .into_iter()
        .filter_map(bound)
        .collect()
}

fn notes(run: &Run, delivered_after_s: Option<f64>) -> Vec<String> {
    let mut notes = Vec::new();
    if run.warm_up > 0 {
        notes.push(format!(
            "{} requests of the warm-up were sent and audited, and are not in the figures.",
            run.warm_up
        ));
    }
    if let Some(seconds) = delivered_after_s {
        notes.push(format!("Everything was delivered {seconds:.2} s after the last answer."));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demands_on_times_are_lines_at_their_quantiles() {
        let slo = Slo { p99_ms: Some(0.25), max_ms: Some(3.0), ..Slo::default() };
        let expected = [(0.99, 250_000), (1.0, 3_000_000)];
        let expected = expected.map(|(quantile, ns_max)| Bound { quantile, ns_max });
        assert_eq!(bounds(&slo), expected);
        assert!(bounds(&Slo { shed_share: Some(0.0), ..Slo::default() }).is_empty());
    }

    #[test]
    fn what_differs_is_told_with_its_first_differences() {
        let mut differing = audit::Check::number("units", 5, 4);
        differing.differences = vec!["a: 4 instead of 5".to_owned()];
        let told = check(&differing);
        assert!(!told.held);
        assert_eq!([told.expected, told.found], ["5", "4 (a: 4 instead of 5)"]);
        let told = check(&audit::Check::number("units", 5, 5));
        assert_eq!((told.held, told.found.as_str()), (true, "5"));
    }
}
