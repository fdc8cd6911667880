//! A run that nobody made, for tests: a rising tide, a stall of the target, errors after it.

use std::time::{Duration, UNIX_EPOCH};

use super::{Bound, Check, Machine, Run};
use crate::recording::{Outcome, Recorder, Recording};

/// Dice with a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    /// From 0 up to and without 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// When the run started, in seconds since the epoch.
pub const STARTED_S: u64 = 1_790_000_000;

/// A run of so many seconds and so many requests a second, in intervals of a second. In the middle the
/// target stalls for this long.
pub fn recording(seed: u64, seconds: u64, per_s: u64, stall_ms: u64) -> Recording {
    let started = UNIX_EPOCH + Duration::from_secs(STARTED_S);
    let mut recording = Recording::new(started, Duration::from_secs(1));
    let mut recorder = recording.recorder();
    let mut dice = Dice(seed);
    for number in 0..seconds * per_s {
        let share = number as f64 / per_s as f64;
        // Three times as many in the second third: what is planned there is planned thrice.
        let third = (share / seconds as f64 * 3.0) as u64;
        for _ in 0..if third == 1 { 3 } else { 1 } {
            request(&mut recorder, &mut dice, share, seconds as f64, stall_ms as f64 / 1e3);
        }
    }
    recording.absorb(recorder);
    recording
}

/// A request that was planned then, in seconds.
fn request(recorder: &mut Recorder, dice: &mut Dice, at: f64, seconds: f64, stall_s: f64) {
    // Log-normal, roughly: most take a few hundred microseconds, some a few milliseconds.
    let normal: f64 = (0..12).map(|_| dice.share()).sum::<f64>() - 6.0;
    let service = 300e-6 * (0.45 * normal).exp() * if dice.share() < 0.002 { 12.0 } else { 1.0 };
    let lag = 4e-6 + 30e-6 * dice.share().powi(8);
    let stalled =
        (seconds / 2.0 + stall_s - at).clamp(0.0, stall_s) * f64::from(at >= seconds / 2.0);
    // One of them is on its way when the stall begins; the others wait to be sent.
    let (lag, service) = if stalled > 0.0 { (lag + stalled, service) } else { (lag, service) };
    let outcome = match dice.share() {
        _ if stalled > stall_s * 0.98 => Outcome::TimedOut,
        share if share < 0.001 * f64::from(stalled > 0.0) => Outcome::Unsent,
        share if share < 0.002 => Outcome::Error,
        share if at > seconds * 0.7 && share < 0.75 => Outcome::SoldOut,
        share if share < 0.03 => Outcome::Refused,
        share if stalled > 0.0 && share < 0.2 => Outcome::Shed,
        _ => Outcome::Granted,
    };
    let of = Duration::from_secs_f64;
    recorder.record(of(at), outcome, of(lag + service), of(service), of(lag));
}

/// What would be known of such a run.
pub fn run() -> Run {
    let check = |name: &str, expected: &str, found: &str| Check {
        name: name.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        held: expected == found,
    };
    Run {
        scenario: "flash-drop".to_owned(),
        about: "A drop of few units that many want <at once> & now".to_owned(),
        scenario_toml: "name = \"flash-drop\"\n\n[[stages]]\nshape = \"spike\"\nrate = 2000\n"
            .to_owned(),
        seed: 7,
        target: "HTTP/1.1, 64 connections, 127.0.0.1:8080".to_owned(),
        command_line: ["loadtest", "run", "flash-drop", "--rate", "2 k"]
            .map(str::to_owned)
            .to_vec(),
        version: "0.1.0".to_owned(),
        objectives: vec![
            check("response p99.9 in ms", "at most 50", "1,770"),
            check("share of errors", "0", "0"),
        ],
        bounds: [(0.5, 500_000), (0.99, 20_000_000), (0.999, 50_000_000)]
            .map(|(quantile, ns_max)| Bound { quantile, ns_max })
            .to_vec(),
        lag_p999_ns_max: Some(5_000_000),
        audit: vec![
            check("acknowledged reservations in the ledger", "5,000", "5,000"),
            check("oversold units", "0", "0"),
            check("duplicates delivered", "0", "0"),
        ],
        machine: Machine::read(std::path::Path::new("/")),
        ..Run::default()
    }
}
