//! Tests of recordings.

use std::convert::Infallible;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn samples(recording: &Recording) -> Vec<Sample> {
    let mut samples = Vec::new();
    let visited = recording.each(|sample| {
        samples.push(sample.clone());
        Ok::<(), Infallible>(())
    });
    let Ok(()) = visited;
    samples
}

/// The count of a series in an interval.
fn count(samples: &[Sample], second: u64, series: Series) -> u64 {
    let there = |s: &&Sample| s.begin.as_secs() == second && s.series == series;
    samples.iter().filter(there).map(|s| s.histogram.len()).sum()
}

#[test]
fn a_request_is_charged_to_the_interval_it_ended_in_and_counted_where_it_was_planned() {
    let mut recording = Recording::new(SystemTime::UNIX_EPOCH, SECOND);
    let mut recorder = recording.recorder();
    recorder.record(ms(900), Outcome::Granted, ms(50), ms(40), ms(10));
    recorder.record(ms(950), Outcome::SoldOut, ms(1_200), ms(1_100), ms(100));
    // Late: its interval was given away when the one before came.
    recorder.record(ms(100), Outcome::Granted, ms(300), ms(300), ms(0));
    recording.absorb(recorder);

    let samples = samples(&recording);
    assert_eq!(count(&samples, 0, Series::Response(Kind::Granted)), 2);
    assert_eq!(count(&samples, 0, Series::Response(Kind::SoldOut)), 0);
    assert_eq!(count(&samples, 2, Series::Response(Kind::SoldOut)), 1);
    assert_eq!(count(&samples, 2, Series::Service(Kind::SoldOut)), 1);
    assert_eq!(count(&samples, 0, Series::Lag), 2);
    assert_eq!(recording.planned(), [3]);
    let order: Vec<_> = samples.iter().map(|s| (s.begin, s.series)).collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn response_service_and_lag_are_kept_apart_to_three_digits() {
    let mut recording = Recording::new(SystemTime::UNIX_EPOCH, SECOND);
    let mut recorder = recording.recorder();
    recorder.record(ms(1), Outcome::Granted, ms(200), ms(3), ms(197));
    recording.absorb(recorder);
    let totals = recording.totals();
    let near = |histogram: &Histogram<u64>, expected: u64| {
        let off = histogram.max().abs_diff(expected * 1_000_000);
        assert!(off * 1_000 <= expected * 1_000_000, "{} for {expected} ms", histogram.max());
    };
    near(&totals.response, 200);
    near(&totals.service, 3);
    near(&totals.lag, 197);
}

#[test]
fn what_was_never_sent_is_charged_but_has_no_service_time() {
    let mut recording = Recording::new(SystemTime::UNIX_EPOCH, SECOND);
    let mut recorder = recording.recorder();
    recorder.record(ms(1), Outcome::Unsent, ms(5_000), ms(0), ms(5_000));
    recorder.record(ms(1), Outcome::TimedOut, ms(5_000), ms(4_999), ms(1));
    recording.absorb(recorder);
    let totals = recording.totals();
    assert_eq!((totals.all(), totals.count(Outcome::Unsent)), (2, 1));
    assert_eq!(totals.count(Outcome::TimedOut), 1);
    assert_eq!((totals.response.len(), totals.service.len(), totals.lag.len()), (2, 1, 2));
    assert_eq!(count(&samples(&recording), 5, Series::Response(Kind::Error)), 2);
}

#[test]
fn times_beyond_ten_minutes_are_ten_minutes_and_instants_beyond_the_last_interval_are_in_it() {
    let mut recording = Recording::new(SystemTime::UNIX_EPOCH, Duration::ZERO);
    assert_eq!(recording.interval(), INTERVAL_MIN);
    let mut recorder = recording.recorder();
    recorder.record(Duration::MAX, Outcome::Error, Duration::MAX, Duration::MAX, Duration::ZERO);
    recorder.record(ms(1), Outcome::Granted, ms(3_600_000), ms(1), ms(0));
    recording.absorb(recorder);
    let totals = recording.totals();
    assert!(totals.response.equivalent(totals.response.min(), slot::LONGEST_NS));
    assert!(totals.response.equivalent(totals.response.max(), slot::LONGEST_NS));
    let last = INTERVAL_MIN * (book::INTERVALS_MAX as u32 - 1);
    assert_eq!(samples(&recording).last().map(|s| s.begin), Some(last));
    assert_eq!(totals.all(), 2);
}

/// A thread's requests, as (planned, outcome, response), in the order of their ends but for a few: 20
/// seconds of five hundred a second, of which every seventh takes six seconds, and now and then one that
/// is recorded ten seconds late.
fn requests(thread: u64) -> Vec<(Duration, Outcome, Duration)> {
    let (mut requests, mut slow) = (Vec::new(), std::collections::VecDeque::new());
    for number in 0..10_000 {
        let planned = ms(number * 2);
        while slow.front().is_some_and(|slow| *slow + ms(6_000) <= planned) {
            requests.extend(slow.pop_front().map(|slow| (slow, Outcome::TimedOut, ms(6_000))));
        }
        match number {
            _ if number % 7 == 0 => slow.push_back(planned),
            _ if number % 1_000 == 1 => {
                requests.push((planned.saturating_sub(ms(10_000)), Outcome::Shed, ms(1)));
            }
            _ => requests.push((planned, Outcome::Granted, ms(1 + thread))),
        }
    }
    requests.extend(slow.into_iter().map(|slow| (slow, Outcome::TimedOut, ms(6_000))));
    requests
}

#[test]
fn many_recorders_and_intervals_that_are_opened_again_lose_nothing() {
    const THREADS: u64 = 4;
    let recording = Recording::new(SystemTime::UNIX_EPOCH, SECOND);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let mut recorder = recording.recorder();
            scope.spawn(move || {
                for (planned, outcome, response) in requests(thread) {
                    recorder.record(planned, outcome, response, response, ms(0));
                }
            });
        }
    });

    let (mut ended, mut planned_in) = ([[0; 30]; Series::COUNT], vec![0; 20]);
    for (planned, outcome, response) in (0..THREADS).flat_map(requests) {
        let second = (planned + response).as_secs() as usize;
        let kind = outcome.kind();
        for series in [Series::Response(kind), Series::Service(kind), Series::Lag] {
            ended[series.index()][second] += 1;
        }
        planned_in[planned.as_secs() as usize] += 1;
    }
    let samples = samples(&recording);
    for series in Series::all() {
        for (second, expected) in ended[series.index()].iter().enumerate() {
            assert_eq!(count(&samples, second as u64, series), *expected, "{series:?} {second}");
        }
    }
    assert_eq!(recording.planned(), planned_in);
    assert_eq!(recording.totals().all(), THREADS * 10_000);
}

#[test]
fn a_recorder_that_is_dropped_in_a_panic_loses_nothing() {
    let recording = Recording::new(SystemTime::UNIX_EPOCH, SECOND);
    let mut recorder = recording.recorder();
    let thread = std::thread::spawn(move || {
        recorder.record(ms(1), Outcome::Granted, ms(1), ms(1), ms(0));
        std::panic::resume_unwind(Box::new("as if something broke"));
    });
    assert!(thread.join().is_err());
    assert_eq!(recording.totals().all(), 1);
}

#[test]
fn the_latest_interval_is_one_that_every_recorder_is_through_with() {
    let recording = Recording::new(SystemTime::UNIX_EPOCH, SECOND);
    let (mut one, mut other) = (recording.recorder(), recording.recorder());
    let record = |recorder: &mut Recorder, at, response| {
        recorder.record(ms(at), Outcome::Granted, ms(response), ms(response), ms(0));
    };
    assert!(recording.latest().is_none());
    record(&mut one, 500, 1);
    record(&mut one, 1_500, 1);
    assert!(recording.latest().is_none(), "the other may still be in the first second");
    record(&mut other, 700, 2);
    record(&mut other, 1_700, 2);
    let latest = recording.latest().expect("the first second");
    assert_eq!((latest.begin, latest.totals.all()), (ms(0), 2));
    assert!(latest.totals.response.max() >= 2_000_000);
    record(&mut one, 2_500, 1);
    record(&mut other, 2_500, 1);
    assert_eq!(recording.latest().map(|l| l.begin), Some(SECOND));
}
