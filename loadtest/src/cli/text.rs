//! What is printed and written of trials and ladders.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{Error, ladder::Figures};
use crate::{
    ladder::{Ladder, Rung},
    recording::Outcome,
    scenario::Scenario,
    trial::Trial,
};

/// The quantiles that are told.
const QUANTILES: [f64; 4] = [0.5, 0.99, 0.999, 1.0];

/// Values at p50, p99, p99.9 and the largest, in microseconds.
pub(super) fn quantiles(histogram: &Histogram<u64>) -> [f64; 4] {
    QUANTILES.map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1e3)
}

/// The tester's processor time, in microseconds a request.
pub(super) fn cpu_us(trial: &Trial) -> f64 {
    let requests = trial.run.recording.totals().all() + trial.run.warm_up;
    trial.run.cpu.as_secs_f64() * 1e6 / requests.max(1) as f64
}

/// Tells a trial.
pub(super) fn trial(out: &mut impl Write, scenario: &Scenario, trial: &Trial) -> io::Result<()> {
    let totals = trial.run.recording.totals();
    writeln!(out, "{}: {}", scenario.name, scenario.about)?;
    writeln!(out, "target       {}", trial.target)?;
    writeln!(out, "seed         {}", scenario.seed)?;
    let seconds = trial.plan.schedule.end as f64 / 1e9;
    let (shoppers, all) = (trial.planned, totals.all() + trial.run.warm_up);
    writeln!(out, "planned      {shoppers} shoppers in {seconds:.1} s; {all} requests in all")?;
    let counts: Vec<String> = Outcome::ALL
        .into_iter()
        .filter(|outcome| totals.count(*outcome) > 0)
        .map(|outcome| format!("{} {}", outcome.as_str(), totals.count(outcome)))
        .collect();
    writeln!(out, "outcomes     {}", counts.join(", "))?;
    writeln!(
        out,
        "             {:>10} {:>10} {:>10} {:>10}",
        "p50 ms", "p99 ms", "p99.9 ms", "max ms"
    )?;
    for (name, histogram) in
        [("response", &totals.response), ("service", &totals.service), ("lag", &totals.lag)]
    {
        let [p50, p99, p999, max] = quantiles(histogram).map(|us| us / 1e3);
        writeln!(out, "{name:<12} {p50:>10.3} {p99:>10.3} {p999:>10.3} {max:>10.3}")?;
    }
    writeln!(out, "tester       {:.2} us of processor time a request", cpu_us(trial))?;
    if let Some(took) = trial.delivery {
        writeln!(out, "delivered    {:.2} s after the last answer", took.as_secs_f64())?;
    }
    writeln!(out, "audit")?;
    for check in &trial.checks {
        let mark = if check.ok { "ok  " } else { "FAIL" };
        writeln!(out, "  {mark} {}: {} = {}", check.what, check.expected, check.found)?;
        for difference in &check.differences {
            writeln!(out, "       {difference}")?;
        }
    }
    for verdict in &trial.verdicts {
        let mark = if verdict.ok { "met   " } else { "MISSED" };
        writeln!(
            out,
            "{mark}       {} {:.3}, asked for {}",
            verdict.what, verdict.found, verdict.limit
        )?;
    }
    if trial.void {
        writeln!(
            out,
            "VOID         the tester itself was too late: p99.9 of its lag is {} us, allowed are {}",
            trial.run.lag_p999_us(),
            scenario.sending.lag_p999_us_max
        )?;
    }
    Ok(())
}

/// A trial's figures.
pub(super) fn json(scenario: &Scenario, trial: &Trial) -> Value {
    let totals = trial.run.recording.totals();
    let counts: serde_json::Map<String, Value> = Outcome::ALL
        .into_iter()
        .map(|outcome| (outcome.as_str().to_owned(), totals.count(outcome).into()))
        .collect();
    let us = |histogram| {
        let [p50, p99, p999, max] = quantiles(histogram);
        json!({"p50": p50, "p99": p99, "p999": p999, "max": max})
    };
    json!({
        "scenario": scenario.name,
        "seed": scenario.seed,
        "target": trial.target,
        "shoppers": trial.planned,
        "planned_s": trial.plan.schedule.end as f64 / 1e9,
        "elapsed_s": trial.run.elapsed.as_secs_f64(),
        "warm_up_requests": trial.run.warm_up,
        "outcomes": counts,
        "response_us": us(&totals.response),
        "service_us": us(&totals.service),
        "lag_us": us(&totals.lag),
        "tester_cpu_us_per_request": cpu_us(trial),
        "delivered_after_s": trial.delivery.map(|took| took.as_secs_f64()),
        "audit": trial.checks,
        "slo": trial.verdicts,
        "audited": trial.audited(),
        "slo_met": trial.met(),
        "void": trial.void,
    })
}

/// Tells a rung as soon as it was tried.
pub(super) fn rung(
    out: &mut impl Write,
    rate: f64,
    (rung, figures): &(Rung, Figures),
) -> io::Result<()> {
    let [p50, p99, p999, max] = figures.response_us.map(|us| us / 1e3);
    let mark = match rung {
        Rung::Held => "held  ",
        Rung::Missed => "missed",
        Rung::Void => "void  ",
        Rung::Failed => "FAILED",
    };
    writeln!(
        out,
        "{mark} {rate:>10.0}/s planned {:>10.0}/s decided  p50 {p50:.3} p99 {p99:.3} p99.9 {p999:.3} \
         max {max:.3} ms  lag p99.9 {} us  {}",
        figures.decided_per_s,
        figures.lag_p999_us,
        figures.why.join("; ")
    )
}

/// Tells what a climb came to.
pub(super) fn knee(out: &mut impl Write, ladder: &Ladder<Figures>) -> io::Result<()> {
    if ladder.failed() {
        return writeln!(out, "the books differ: there is no knee");
    }
    match ladder.knee() {
        Some(knee) => {
            let p999 = knee.measured.response_us[2] / 1e3;
            writeln!(out, "knee {:.0} requests a second, p99.9 {p999:.3} ms", knee.rate)?;
        }
        None => writeln!(out, "no rate met the demands, not even the first")?,
    }
    if ladder.ended_by_tester() {
        writeln!(out, "beyond it the tester was too late: the target may carry more than that")?;
    }
    Ok(())
}

/// A ladder's figures.
pub(super) fn ladder_json(scenario: &Scenario, ladder: &Ladder<Figures>) -> Value {
    json!({
        "scenario": scenario.name,
        "seed": scenario.seed,
        "slo": scenario.slo,
        "tried": ladder.tried,
        "knee": ladder.knee(),
        "ended_by_tester": ladder.ended_by_tester(),
    })
}

/// Writes figures to a file of a folder, which is made if need be.
pub(super) fn write(folder: &Path, file: &str, value: &Value) -> Result<(), Error> {
    let path = folder.join(file);
    let failed = |source| Error::Write { path: path.clone(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    fs::write(&path, format!("{value:#}\n")).map_err(failed)
}
