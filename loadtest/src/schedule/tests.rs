//! Schedules have the rates, the shapes and the chance that they promise, and come out the same again.

use super::*;

const SECOND: u64 = 1_000_000_000;

fn made(stages: &[Stage], arrivals: Arrivals, seed: u64) -> Schedule {
    Schedule::new(stages, arrivals, 1.0, seed, Path::new(".")).unwrap()
}

fn within(schedule: &Schedule, from_s: f64, to_s: f64) -> usize {
    let (from, to) = (nanos(from_s), nanos(to_s));
    schedule.instants.iter().filter(|i| (from..to).contains(i)).count()
}

#[test]
fn the_same_seed_makes_the_same_schedule() {
    let stages = [Stage::Steady { rate: 1_000.0, for_s: 2.0 }];
    let first = made(&stages, Arrivals::Poisson, 7);
    assert_eq!(first, made(&stages, Arrivals::Poisson, 7));
    assert_ne!(first, made(&stages, Arrivals::Poisson, 8));
}

#[test]
fn constant_arrivals_have_even_distances() {
    let schedule = made(&[Stage::Steady { rate: 1_000.0, for_s: 1.0 }], Arrivals::Constant, 1);
    assert_eq!(schedule.instants.len(), 1_000);
    assert!(schedule.instants.iter().enumerate().all(|(n, at)| *at == n as u64 * 1_000_000));
    assert_eq!(schedule.end, SECOND);
}

#[test]
fn poisson_arrivals_have_their_mean_and_their_spread() {
    let rate = 20_000.0;
    let schedule = made(&[Stage::Steady { rate, for_s: 5.0 }], Arrivals::Poisson, 3);
    let count = schedule.instants.len() as f64;
    assert!((count - 100_000.0).abs() < 6.0 * 100_000f64.sqrt(), "{count}");
    // The gaps are exponential: their deviation is their mean, and e^-1 of them are longer than it.
    let gaps: Vec<f64> = schedule.instants.windows(2).map(|w| (w[1] - w[0]) as f64 / 1e9).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "{}", variance.sqrt() / mean);
    let longer = gaps.iter().filter(|g| **g > mean).count() as f64 / gaps.len() as f64;
    assert!((longer - (-1f64).exp()).abs() < 0.01, "{longer}");
    // The counts of equal stretches vary as much as their mean: the index of dispersion is 1.
    let counts: Vec<f64> = (0..500)
        .map(|n| within(&schedule, n as f64 * 0.01, (n + 1) as f64 * 0.01) as f64)
        .collect();
    let mean = counts.iter().sum::<f64>() / 500.0;
    let dispersion = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 500.0 / mean;
    assert!((dispersion - 1.0).abs() < 0.3, "{dispersion}");
}

#[test]
fn instants_rise_and_stay_within_the_stages() {
    let stages = [
        Stage::Ramp { from: 0.0, to: 5_000.0, for_s: 1.0 },
        Stage::Surge { rate: 100.0, percent: 400.0, before_s: 1.0, for_s: 1.0, after_s: 1.0 },
    ];
    let schedule = made(&stages, Arrivals::Poisson, 5);
    assert!(schedule.instants.is_sorted());
    assert_eq!(schedule.end, 4 * SECOND);
    assert!(schedule.instants.iter().all(|at| *at < schedule.end));
}

#[test]
fn a_ramp_has_more_behind_than_in_front() {
    let schedule =
        made(&[Stage::Ramp { from: 0.0, to: 1_000.0, for_s: 10.0 }], Arrivals::Constant, 1);
    assert_eq!(schedule.instants.len(), 5_000);
    assert!(within(&schedule, 0.0, 5.0).abs_diff(1_250) <= 1);
}

#[test]
fn four_hundred_percent_more_is_five_times_as_much() {
    let surge =
        Stage::Surge { rate: 200.0, percent: 400.0, before_s: 2.0, for_s: 2.0, after_s: 2.0 };
    let schedule = made(&[surge], Arrivals::Constant, 1);
    assert_eq!(within(&schedule, 0.0, 2.0), 400);
    assert_eq!(within(&schedule, 2.0, 4.0), 2_000);
    assert_eq!(within(&schedule, 4.0, 6.0), 400);
}

#[test]
fn a_spike_is_where_it_was_put() {
    let spike = Stage::Spike {
        base: 100.0,
        peak: 10_000.0,
        at_s: 1.0,
        rise_s: 0.1,
        hold_s: 1.0,
        fall_s: 0.4,
        for_s: 4.0,
    };
    let schedule = made(std::slice::from_ref(&spike), Arrivals::Constant, 1);
    assert_eq!(within(&schedule, 0.0, 1.0), 100);
    assert!(within(&schedule, 1.1, 2.1).abs_diff(10_000) <= 1);
    assert!(within(&schedule, 2.5, 4.0).abs_diff(150) <= 1);
    assert_eq!(schedule.end, 4 * SECOND);
    assert_eq!(peak(&[spike]), 10_000.0);
}

#[test]
fn a_scale_multiplies_the_rates_and_not_the_time() {
    let stages = [Stage::Steady { rate: 10.0, for_s: 3.0 }];
    let schedule = Schedule::new(&stages, Arrivals::Constant, 4.0, 1, Path::new(".")).unwrap();
    assert_eq!((schedule.instants.len(), schedule.end), (120, 3 * SECOND));
}

#[test]
fn a_trace_is_played_at_its_speed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t.txt"), "# seconds\n10.0\n10.5\n\n12.0\n").unwrap();
    let stages = [
        Stage::Steady { rate: 1.0, for_s: 1.0 },
        Stage::Trace { file: "t.txt".into(), speed: 4.0 },
    ];
    let schedule = Schedule::new(&stages, Arrivals::Constant, 1.0, 1, dir.path()).unwrap();
    assert_eq!(schedule.instants, [0, SECOND, SECOND + 125_000_000, SECOND + 500_000_000]);
}

#[test]
fn a_bad_trace_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let stages = [Stage::Trace { file: "t.txt".into(), speed: 1.0 }];
    let made = || Schedule::new(&stages, Arrivals::Constant, 1.0, 1, dir.path());
    let said = made().unwrap_err().to_string();
    assert!(said.starts_with("`stages[0].file`: reading"), "{said}");
    for bad in ["1.0\n0.5\n", "1\nx\n", "1\nNaN\n"] {
        std::fs::write(dir.path().join("t.txt"), bad).unwrap();
        let said = made().unwrap_err().to_string();
        assert!(said.contains("t.txt, line 2"), "{said}");
    }
}

#[test]
fn too_many_and_none_are_refused() {
    let made = |rate, for_s| {
        let stages = [Stage::Steady { rate, for_s }];
        Schedule::new(&stages, Arrivals::Constant, 1.0, 1, Path::new("."))
    };
    assert!(matches!(made(0.0, 10.0), Err(Error::Empty)));
    let said = made(1e9, 3_600.0).unwrap_err().to_string();
    assert!(said.starts_with("`stages[0]`"), "{said}");
}
