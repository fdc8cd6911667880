//! A sink's delivery on a clock of the tests, against partners that answer as told.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::*;
use crate::{
    config::{Dedupe, Domain, Ordering, Policy},
    delivery::{
        Effect, Part, Sending,
        testing::{Seeded, batch, batch_of_lines},
    },
    feed::{Fate, Rejected},
    model::{
        Lsn,
        sink::{Lane, SinkState},
    },
};

/// One attempt as the partner saw it: what, when it began in milliseconds, how many were under way then.
type Seen = (String, u64, usize);

/// What a partner does with an attempt: how long it takes, and its answer.
type Plays = Box<dyn FnMut(&Part, u64) -> (Duration, Outcome) + Send>;

#[derive(Clone)]
struct Script {
    plays: Arc<Mutex<Plays>>,
    sent: Arc<Mutex<Vec<Seen>>>,
    under_way: Arc<Mutex<usize>>,
    began: Instant,
}

impl Partner for Script {
    fn send<'a>(&'a self, part: &'a Part) -> Sending<'a> {
        Box::pin(async move {
            let at = self.began.elapsed().as_millis() as u64;
            *self.under_way.lock() += 1;
            self.sent.lock().push((part.id.clone(), at, *self.under_way.lock()));
            let (took, outcome) = (self.plays.lock())(part, at);
            tokio::time::sleep(took).await;
            *self.under_way.lock() -= 1;
            outcome
        })
    }
}

struct Rig {
    script: Script,
    progress: Arc<Progress>,
    out: mpsc::Sender<Batch>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

const RTT: Duration = Duration::from_millis(100);

fn rig(change: impl FnOnce(&mut SinkConfig), plays: Plays) -> Rig {
    let mut config = SinkConfig::new("erp", Domain::Inventory, "http://127.0.0.1:1/");
    (config.retry_initial_ms, config.retry_max_ms) = (100, 1_000);
    change(&mut config);
    let progress = Arc::new(Progress::new("erp", Domain::Inventory, 100, SinkState::default()));
    let (out, inbox) = mpsc::channel(64);
    let stop = watch::Sender::new(false);
    let began = Instant::now();
    let script = Script {
        plays: Arc::new(Mutex::new(plays)),
        sent: Arc::default(),
        under_way: Arc::default(),
        began,
    };
    let mut seeded = Seeded(7);
    let delivery = Delivery {
        settings: watch::Sender::new(config.clone()).subscribe(),
        config,
        partner: Arc::new(script.clone()),
        progress: progress.clone(),
        inbox,
        stop: stop.subscribe(),
        now: Arc::new(|| Timestamp::from_millis(10_000_000)),
        dice: Box::new(move || seeded.next()),
        spans: None,
    };
    Rig { script, progress, out, stop, task: tokio::spawn(delivery.run()) }
}

/// Takes everything, a round trip each.
fn takes() -> Plays {
    Box::new(|_, _| (RTT, done()))
}

/// Answers in turn, then takes everything.
fn answers(outcomes: impl IntoIterator<Item = Outcome>) -> Plays {
    let mut outcomes: VecDeque<_> = outcomes.into_iter().collect();
    Box::new(move |_, _| (RTT, outcomes.pop_front().unwrap_or_else(done)))
}

fn done() -> Outcome {
    Outcome::Done { status: 200, rejected: Vec::new() }
}

fn failed() -> Outcome {
    Outcome::Failed { reason: "down".into(), retry_after: None, effect: Effect::None }
}

fn later(seconds: u64) -> Outcome {
    let retry_after = Some(Duration::from_secs(seconds));
    Outcome::Failed { reason: "429".into(), retry_after, effect: Effect::None }
}

fn refused() -> Outcome {
    Outcome::Refused { status: 422, rejected: Vec::new(), answer: "no".into() }
}

impl Rig {
    /// Hands over a batch as the feed does.
    async fn send(&self, number: u64, lane: Lane) {
        self.out.send(Batch { lane, ..batch(number, "{}") }).await.unwrap();
    }

    /// The next fate, written down.
    async fn fate(&self) -> Fate {
        for _ in 0..1_000_000 {
            if let Some(fate) = self.progress.next_fate() {
                self.progress.acknowledged(fate.clone(), "", Lsn(0));
                return fate;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("no fate");
    }

    async fn fates(&self, n: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..n {
            numbers.push(self.fate().await.number);
        }
        numbers
    }

    fn sent(&self) -> Vec<Seen> {
        self.script.sent.lock().clone()
    }

    /// The numbers of the batches in the order of their attempts.
    fn order(&self) -> Vec<u64> {
        let number = |(id, ..): &Seen| id.rsplit('-').next().unwrap().parse().unwrap();
        self.sent().iter().map(number).collect()
    }

    /// When attempts were made.
    fn times(&self) -> Vec<u64> {
        self.sent().iter().map(|(_, at, _)| *at).collect()
    }

    fn view(&self) -> crate::model::sink::SinkView {
        self.progress.view(0)
    }
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn order_within_a_lane_survives_every_retry() {
    let mut dice = Seeded(3);
    let plays: Plays =
        Box::new(move |_, _| (RTT, if dice.next().is_multiple_of(3) { done() } else { failed() }));
    let rig = rig(|c| c.policy.breaker_failures = 1_000, plays);
    for number in 1..=9 {
        rig.send(number, Lane::Standard).await;
    }
    assert_eq!(rig.fates(9).await, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let order = rig.order();
    assert!(order.is_sorted() && order.len() > 15, "{order:?}");
    assert!(rig.sent().iter().all(|(_, _, under_way)| *under_way == 1));
    assert_eq!(rig.view().retries, order.len() as u64 - 9);
}

#[tokio::test(start_paused = true)]
async fn without_an_order_as_many_as_the_limit_allows_are_under_way_and_a_slow_one_is_overtaken() {
    let slow = |part: &Part, _| (if part.id.ends_with("01") { 30 * RTT } else { RTT }, done());
    let change = |c: &mut SinkConfig| {
        c.policy = Policy { ordering: Ordering::None, concurrency_max: 4, ..Policy::default() };
    };
    let rig = rig(change, Box::new(slow));
    for number in 1..=4 {
        rig.send(number, Lane::Standard).await;
    }
    let mut fates = Vec::new();
    for number in 5..=40 {
        rig.send(number, Lane::Standard).await;
        fates.push(rig.fate().await.number);
    }
    fates.extend(rig.fates(4).await);
    fates.sort_unstable();
    assert_eq!(fates, (1..=40).collect::<Vec<_>>());
    let most = rig.sent().iter().map(|(_, _, under_way)| *under_way).max();
    assert!(most > Some(1) && most <= Some(4), "{most:?}");
}

#[tokio::test(start_paused = true)]
async fn a_critical_batch_waits_for_what_is_under_way_and_nothing_else() {
    let rig = rig(|c| c.policy.concurrency_max = 1, takes());
    rig.send(1, Lane::Bulk).await;
    rig.send(2, Lane::Standard).await;
    pass(50).await;
    rig.send(3, Lane::Critical).await;
    assert_eq!(rig.fates(3).await, [1, 3, 2]);
    assert_eq!(rig.order(), [1, 3, 2]);
    assert!(rig.times()[1] <= 101, "{:?}", rig.times());
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_backs_off_keeps_no_other_waiting() {
    let only_critical_fails: Plays = Box::new(|part, at| {
        (RTT, if part.id.ends_with("1") && at < 5_000 { failed() } else { done() })
    });
    let rig = rig(|c| c.policy.breaker_failures = 1_000, only_critical_fails);
    rig.send(1, Lane::Critical).await;
    pass(150).await;
    rig.send(2, Lane::Bulk).await;
    assert_eq!(rig.fates(2).await, [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn the_breaker_opens_probes_once_at_a_time_and_closes() {
    let change = |c: &mut SinkConfig| {
        c.policy.ordering = Ordering::None;
        (c.retry_initial_ms, c.retry_max_ms) = (1, 30_000);
    };
    let down_until_a_minute: Plays =
        Box::new(|_, at| (RTT, if at < 60_000 { failed() } else { done() }));
    let rig = rig(change, down_until_a_minute);
    for number in 1..=4 {
        rig.send(number, Lane::Standard).await;
    }
    pass(3_000).await;
    assert_ne!(rig.view().breaker, "closed");
    let fates = rig.fates(4).await;
    assert_eq!(fates.len(), 4);
    assert_eq!(rig.view().breaker, "closed");
    let attempts = rig.view().attempts;
    // Opened by five failures, then by each failed probe; full jitter under a doubling bound.
    assert!((2..40).contains(&attempts.breaker_opens), "{attempts:?}");
    let down: Vec<_> = rig.sent().into_iter().filter(|(_, at, _)| *at < 60_000).collect();
    assert_eq!(down.len() as u64, attempts.failed);
    assert!(down.len() as u64 <= 5 + attempts.breaker_opens, "{down:?}");
    assert!(down[5..].iter().all(|(_, _, under_way)| *under_way == 1), "{down:?}");
}

#[tokio::test(start_paused = true)]
async fn the_budget_keeps_a_retry_storm_small() {
    let change = |c: &mut SinkConfig| {
        c.policy.ordering = Ordering::None;
        (c.policy.breaker_failures, c.retry_initial_ms, c.retry_max_ms) = (1_000_000, 1, 1);
    };
    let down: Plays =
        Box::new(|_, at| (Duration::ZERO, if at < 20_000 { failed() } else { done() }));
    let rig = rig(change, down);
    for number in 1..=8 {
        rig.send(number, Lane::Standard).await;
    }
    rig.fates(8).await;
    // Ten a second at the least, and a fifth of the eight first attempts; not the thousands of 1 ms waits.
    let down = rig.times().iter().filter(|at| **at < 20_000).count();
    assert!((100..=240).contains(&down), "{down}");
    assert!(rig.view().attempts.waits.budget > 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_partner_asks_for_is_waited_for_by_every_lane() {
    let rig = rig(|_| {}, answers([later(7)]));
    rig.send(1, Lane::Standard).await;
    pass(150).await;
    rig.send(2, Lane::Critical).await;
    rig.fates(2).await;
    assert!(rig.times()[1] >= 7_100, "{:?}", rig.times());
    assert_eq!(rig.order()[1], 2, "and then the most urgent goes first");
    assert!(rig.view().attempts.waits.retry_after > 0);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_counts_for_the_rate() {
    let rig = rig(
        |c| (c.rate_per_s, c.retry_initial_ms, c.retry_max_ms) = (Some(2.0), 1, 1),
        Box::new(|_, at| (Duration::ZERO, if at < 1_900 { failed() } else { done() })),
    );
    rig.send(1, Lane::Standard).await;
    rig.send(2, Lane::Bulk).await;
    rig.fates(2).await;
    assert!(rig.times().windows(2).all(|two| two[1] - two[0] >= 500), "{:?}", rig.times());
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_brought_at_the_factor_and_fresh_records_at_once() {
    let rig = rig(|_| {}, takes());
    let at = |s: u64| Timestamp::from_millis(s * 1_000);
    // Ten seconds of arrivals each, an hour before the time of the tests.
    for number in 1..=4 {
        let (oldest, newest) = (at(5_000 + 10 * number), at(5_010 + 10 * number));
        let old = Batch { oldest, newest, ..batch(number, "{}") };
        rig.out.send(old).await.unwrap();
    }
    rig.out.send(Batch { oldest: at(9_990), newest: at(10_000), ..batch(5, "{}") }).await.unwrap();
    rig.out.send(Batch { oldest: at(9_990), newest: at(10_000), ..batch(6, "{}") }).await.unwrap();
    assert_eq!(rig.fates(6).await, [1, 2, 3, 4, 5, 6]);
    let gaps: Vec<_> = rig.times().windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps[..4].iter().all(|gap| (5_000..5_010).contains(gap)), "{gaps:?}");
    assert!(gaps[4] <= 110, "{gaps:?}");
    assert!(rig.view().attempts.waits.recovery > 0);
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_refuses_us_pauses_the_sink_and_nothing_is_set_aside() {
    let denied = || Outcome::Denied { status: 401, retry_after: None };
    let rig = rig(|_| {}, answers([denied(), denied()]));
    rig.send(1, Lane::Standard).await;
    pass(200).await;
    rig.send(2, Lane::Critical).await;
    pass(500).await;
    assert_eq!((rig.view().state.as_str(), rig.order().len()), ("paused", 1));
    assert_eq!(rig.fates(2).await.len(), 2);
    assert_eq!((rig.view().state.as_str(), rig.view().dead_letters), ("running", 0));
    assert!(rig.times().windows(2).take(2).all(|two| two[1] - two[0] >= 1_000));
}

#[tokio::test(start_paused = true)]
async fn bad_lines_are_found_while_the_lane_keeps_its_order() {
    let bad: Plays = Box::new(|part, _| {
        let bad = String::from_utf8_lossy(&part.body).contains("-000001.3\"");
        (RTT, if bad { refused() } else { done() })
    });
    let rig = rig(|c| c.dedupe = Dedupe::Line, bad);
    rig.out.send(batch_of_lines(1, 4)).await.unwrap();
    rig.out.send(batch_of_lines(2, 4)).await.unwrap();
    let fate = rig.fate().await;
    let letters: Vec<_> = fate.letters.iter().map(|letter| letter.id.as_str()).collect();
    assert_eq!((letters, fate.refused, fate.attempts), (vec!["erp-0000-000001.3"], false, 5));
    assert_eq!(rig.fate().await.letters, []);
    let ids: Vec<_> = rig.sent().into_iter().map(|(id, ..)| id[12..].to_owned()).collect();
    assert_eq!(ids, ["001", "001.a", "001.b", "001.b.a", "001.b.b", "002"]);
}

#[tokio::test(start_paused = true)]
async fn lines_named_with_a_success_are_set_aside_and_the_batch_counts() {
    let named = Rejected { line_id: "erp-0000-000001.2".into(), reason: "unknown SKU".into() };
    let rig = rig(|_| {}, answers([Outcome::Done { status: 200, rejected: vec![named] }]));
    rig.out.send(batch_of_lines(1, 4)).await.unwrap();
    let fate = rig.fate().await;
    assert_eq!((fate.letters.len(), fate.refused, fate.status), (1, false, 200));
    assert!(fate.answer.contains("unknown SKU"));
    assert_eq!(fate.letters[0].at_ms, 10_000_000);
}

#[tokio::test(start_paused = true)]
async fn half_a_batch_leaves_only_after_that_is_written_down() {
    let rig = rig(|_| {}, answers([refused()]));
    rig.out.send(batch_of_lines(1, 4)).await.unwrap();
    pass(60_000).await;
    assert_eq!(rig.order().len(), 1, "no feed is there to write it");
    assert_eq!(rig.progress.next_fate(), None);
    rig.stop.send_replace(true);
    drop(rig.out);
    pass(1_000).await;
    assert_eq!(rig.script.sent.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_refuses_everything_is_left_alone() {
    let everything: Plays = Box::new(|_, _| (RTT, refused()));
    let rig = rig(|c| c.policy.refused_batches_max = 3, everything);
    for number in 1..=5 {
        rig.send(number, Lane::Standard).await;
    }
    let fates = rig.fates(3).await;
    pass(3_600_000).await;
    assert_eq!((fates, rig.order().len()), (vec![1, 2, 3], 3));
    let view = rig.view();
    assert_eq!((view.state.as_str(), view.dead_letters), ("paused", 3));
    assert!(view.reason.unwrap().contains("3 batches in a row"));
    assert_eq!(rig.progress.next_fate(), None);
}

#[tokio::test(start_paused = true)]
async fn one_taken_batch_begins_the_row_of_refusals_anew() {
    let two_of_three: Plays =
        Box::new(|part, _| (RTT, if part.id.ends_with(['3', '6']) { done() } else { refused() }));
    let rig = rig(|c| c.policy.refused_batches_max = 3, two_of_three);
    for number in 1..=8 {
        rig.send(number, Lane::Standard).await;
    }
    assert_eq!(rig.fates(8).await, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(rig.view().state, "running");
}

#[tokio::test(start_paused = true)]
async fn what_has_an_unknown_effect_is_not_repeated_where_nothing_is_recognised() {
    let unknown =
        || Outcome::Failed { reason: "cut".into(), retry_after: None, effect: Effect::Unknown };
    let rig = rig(|c| c.dedupe = Dedupe::None, answers([unknown()]));
    rig.send(1, Lane::Standard).await;
    let fate = rig.fate().await;
    assert!(fate.letters[0].uncertain && fate.refused);
    rig.out.send(Batch { fresh: false, ..batch(2, "{}") }).await.unwrap();
    let fate = rig.fate().await;
    assert!(fate.letters[0].uncertain && fate.attempts == 0);
    rig.send(3, Lane::Standard).await;
    assert_eq!(rig.fate().await.letters, []);
    assert_eq!(rig.order(), [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_every_wait_at_once_lets_attempts_finish_and_loses_nothing() {
    type Change = fn(&mut SinkConfig);
    let none: Change = |_| {};
    let slow: Change = |c| c.rate_per_s = Some(0.01);
    let cases: [(&str, Change, Outcome, usize); 6] = [
        ("backs off", none, failed(), 0),
        ("was asked to wait", none, later(200), 0),
        ("is denied", none, Outcome::Denied { status: 401, retry_after: None }, 0),
        ("waits for a record", none, refused(), 0),
        ("is at its rate", slow, done(), 1),
        ("has nothing to do", none, done(), 3),
    ];
    for (state, change, outcome, fates) in cases {
        let rig = rig(
            |c| {
                (c.retry_initial_ms, c.retry_max_ms) = (3_600_000, 3_600_000);
                change(c);
            },
            answers([outcome]),
        );
        for number in 1..=3 {
            rig.out.send(batch_of_lines(number, 2)).await.unwrap();
        }
        pass(5_000).await;
        let stopped = Instant::now();
        rig.stop.send_replace(true);
        assert!(join(vec![rig.task], Duration::from_secs(60)).await, "{state}");
        assert!(stopped.elapsed() < RTT, "{state}");
        let mut told = 0;
        while let Some(fate) = rig.progress.next_fate() {
            rig.progress.acknowledged(fate, "", Lsn(0));
            told += 1;
        }
        assert_eq!(told, fates, "{state}: a fate is told where it is known, and only there");
    }
    let rig = rig(|_| {}, takes());
    rig.send(1, Lane::Standard).await;
    pass(50).await;
    rig.stop.send_replace(true);
    assert!(join(vec![rig.task], Duration::from_secs(60)).await);
    assert_eq!(
        rig.progress.next_fate().map(|fate| fate.number),
        Some(1),
        "its attempt was let finish"
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_that_hang_are_given_up_when_the_time_is_over() {
    let rig = rig(|_| {}, Box::new(|_, _| (Duration::from_secs(86_400), done())));
    rig.send(1, Lane::Standard).await;
    pass(50).await;
    rig.stop.send_replace(true);
    assert!(!join(vec![rig.task], Duration::from_secs(5)).await);
    assert_eq!(rig.progress.next_fate(), None);
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_breaks_its_sink() {
    let rig = rig(|_| {}, Box::new(|_, _| panic!("a fault of the connector")));
    rig.send(1, Lane::Standard).await;
    pass(50).await;
    assert!(matches!(rig.progress.condition(), Condition::Broken(_)));
    assert_eq!(rig.progress.next_fate(), None);
}

#[tokio::test(start_paused = true)]
async fn the_limit_grows_while_the_partner_bears_it_and_shrinks_when_it_does_not() {
    let change = |c: &mut SinkConfig| {
        c.policy =
            Policy { ordering: Ordering::None, breaker_failures: 1_000_000, ..Policy::default() };
    };
    let overloaded: Plays = Box::new(|_, at| (RTT, if at > 20_000 { failed() } else { done() }));
    let rig = rig(change, overloaded);
    for number in 1..=8 {
        rig.send(number, Lane::Standard).await;
    }
    for number in 9..=100 {
        rig.fate().await;
        rig.send(number, Lane::Standard).await;
    }
    assert_eq!(rig.view().concurrency, 8);
    while rig.script.began.elapsed().as_millis() < 40_000 {
        if let Some(fate) = rig.progress.next_fate() {
            rig.progress.acknowledged(fate, "", Lsn(0));
            rig.send(200, Lane::Standard).await;
        }
        pass(10).await;
    }
    assert_eq!(rig.view().concurrency, 1);
}
