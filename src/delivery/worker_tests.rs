//! The worker of one sink: order, retries, refusals, pauses, on a clock of the tests.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;

use super::*;
use crate::{
    config::Domain,
    delivery::Sending,
    feed::{BatchId, Rejected},
    model::{
        Incarnation, Lsn, Timestamp,
        sink::{Lane, SinkState},
    },
};

/// Answers as told, then takes everything; keeps what it was sent.
#[derive(Clone, Default)]
struct Script {
    outcomes: Arc<Mutex<VecDeque<Outcome>>>,
    sent: Arc<Mutex<Vec<(String, std::time::Instant)>>>,
    hang: bool,
}

impl Partner for Script {
    fn send<'a>(&'a self, part: &'a Part) -> Sending<'a> {
        self.sent.lock().push((part.id.clone(), std::time::Instant::now()));
        let done = Outcome::Done { status: 200, rejected: Vec::new() };
        let outcome = self.outcomes.lock().pop_front().unwrap_or(done);
        Box::pin(async move {
            if self.hang {
                std::future::pending::<()>().await;
            }
            outcome
        })
    }
}

struct Rig {
    script: Script,
    progress: Arc<Progress>,
    out: mpsc::Sender<Batch>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

fn rig(script: Script, change: impl FnOnce(&mut SinkConfig)) -> Rig {
    let mut config = SinkConfig::new("erp", Domain::Inventory, "http://127.0.0.1:1/");
    (config.retry_initial_ms, config.retry_max_ms) = (1, 20);
    change(&mut config);
    let progress = Arc::new(Progress::new("erp", Domain::Inventory, 100, SinkState::default()));
    let (out, inbox) = mpsc::channel(8);
    let stop = watch::Sender::new(false);
    let worker = Worker {
        config,
        partner: Box::new(script.clone()),
        progress: progress.clone(),
        inbox,
        stop: stop.subscribe(),
    };
    let task = tokio::spawn(worker.run());
    Rig { script, progress, out, stop, task }
}

impl Rig {
    async fn send(&self, number: u64) {
        let batch = Batch {
            id: BatchId::new("erp", Incarnation(0), number),
            number,
            lane: Lane::Standard,
            fresh: true,
            config_version: 0,
            seal_lsn: Lsn(8 * number),
            first_lsn: Lsn(0),
            oldest: Timestamp::default(),
            newest: Timestamp::default(),
            events: 1,
            body: "{}".into(),
            split: None,
        };
        self.out.send(batch).await.unwrap();
    }

    async fn fate(&self) -> Fate {
        for _ in 0..2_000 {
            if let Some(fate) = self.progress.next_fate() {
                self.progress.acknowledged(fate.clone(), "", Lsn(0));
                return fate;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no fate within ten seconds");
    }

    fn sent(&self) -> Vec<String> {
        self.script.sent.lock().iter().map(|(id, _)| id.clone()).collect()
    }
}

fn script(outcomes: impl IntoIterator<Item = Outcome>) -> Script {
    Script { outcomes: Arc::new(Mutex::new(outcomes.into_iter().collect())), ..Script::default() }
}

fn failed() -> Outcome {
    Outcome::Failed { reason: "down".into(), retry_after: None, effect: Effect::None }
}

#[tokio::test]
async fn a_failed_batch_is_repeated_before_the_next_one_goes_out() {
    let rig = rig(script([failed(), failed()]), |_| {});
    rig.send(1).await;
    rig.send(2).await;
    let first = rig.fate().await;
    assert_eq!((first.number, first.attempts, first.refused), (1, 3, false));
    assert_eq!(rig.fate().await.number, 2);
    assert_eq!(rig.sent()[..3], ["erp-0000-000001"; 3]);
    assert_eq!(rig.sent()[3..], ["erp-0000-000002"]);
    assert_eq!(rig.progress.view(0).retries, 2);
}

#[tokio::test]
async fn refused_content_is_set_aside_and_the_sink_goes_on() {
    let answer = "x".repeat(5_000);
    let rejected = vec![Rejected { line_id: "erp-0000-000002.1".into(), reason: "no".into() }];
    let rig = rig(
        script([
            Outcome::Refused { status: 422, rejected: Vec::new(), answer },
            Outcome::Done { status: 200, rejected: rejected.clone() },
        ]),
        |_| {},
    );
    rig.send(1).await;
    let fate = rig.fate().await;
    assert!(fate.refused);
    assert_eq!((fate.status, fate.answer.len()), (422, 1_000));
    rig.send(2).await;
    let fate = rig.fate().await;
    assert!(!fate.refused && fate.answer.contains("erp-0000-000002.1"));
    let letters = rig.progress.letters();
    assert_eq!(letters.iter().map(|l| l.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((letters[0].seal_lsn, letters[0].id.as_str()), (8, "erp-0000-000001"));
    assert_eq!(letters[1].id, rejected[0].line_id);
    assert_eq!(rig.progress.condition(), Condition::Running);
}

#[tokio::test]
async fn a_partner_that_refuses_us_pauses_the_sink_until_it_no_longer_does() {
    let denied = Outcome::Denied { status: 401, retry_after: None };
    let rig = rig(script([denied]), |c| c.retry_max_ms = 300);
    rig.send(1).await;
    while rig.sent().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(matches!(rig.progress.condition(), Condition::Paused(_)));
    assert_eq!(rig.progress.view(0).state, "paused");
    let fate = rig.fate().await;
    assert_eq!((fate.refused, fate.attempts), (false, 2));
    assert_eq!(rig.progress.condition(), Condition::Running);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let wait = Duration::from_millis(250);
    let outcome =
        Outcome::Failed { reason: "429".into(), retry_after: Some(wait), effect: Effect::None };
    let rig = rig(script([outcome]), |_| {});
    rig.send(1).await;
    rig.fate().await;
    let sent = rig.script.sent.lock();
    assert!(sent[1].1.duration_since(sent[0].1) >= wait);
}

#[tokio::test]
async fn a_stop_ends_waits_at_once_and_hung_attempts_in_time() {
    let outcome = Outcome::Failed {
        reason: "429".into(),
        retry_after: Some(Duration::MAX),
        effect: Effect::None,
    };
    let waiting = rig(script([outcome]), |_| {});
    waiting.send(1).await;
    while waiting.sent().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    waiting.stop.send_replace(true);
    assert!(join(vec![waiting.task], Duration::from_secs(10)).await);
    assert_eq!(waiting.progress.next_fate(), None);

    let hung = rig(Script { hang: true, ..Script::default() }, |_| {});
    hung.send(1).await;
    while hung.sent().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    hung.stop.send_replace(true);
    assert!(!join(vec![hung.task], Duration::from_millis(50)).await);
    assert_eq!(hung.progress.next_fate(), None);
}
