//! A sink that broke is mended by other settings, and goes on from what the log says of it.

use parking_lot::Mutex;

use super::*;
use crate::{
    config::Domain,
    delivery::{Effect, Outcome, Part, Sending, start},
    engine::Options,
    feed::{Condition, Fate},
    model::{Lsn, command::SetStock},
    wal::{self, sim::SimStorage},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Remembers what it was brought, by the batch's id, and says the same of each.
struct Says(Outcome, Arc<Mutex<Vec<String>>>);

impl Partner for Says {
    fn send<'a>(&'a self, part: &'a Part) -> Sending<'a> {
        self.1.lock().push(part.id.clone());
        let outcome = self.0.clone();
        Box::pin(async move { outcome })
    }
}

fn options() -> Options {
    let wal = wal::Options {
        segment_bytes: 4 << 20,
        budget_bytes: 256 << 20,
        unsynced_bytes_max: 16 << 20,
        ..wal::Options::default()
    };
    Options { wal, positions_max: 64, reservations_max: 64, keys_max: 64, ..Options::default() }
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Its memory says of a batch that the partner has it, and the log does not: the batch goes out. With a
/// checkpoint between the seal and the break, or none.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_sink_goes_on_from_what_the_log_says() {
    for with_checkpoint in [false, true] {
        let engine = Engine::open_on(SimStorage::new(), options()).unwrap();
        let config = SinkConfig {
            window_ms_max: 1,
            retry_initial_ms: 1,
            retry_max_ms: 2,
            ..SinkConfig::new("erp", Domain::Inventory, "http://localhost/")
        };
        let brought = Arc::new(Mutex::new(Vec::new()));
        let failed =
            Outcome::Failed { reason: "away".into(), retry_after: None, effect: Effect::None };
        let says = |outcome| Box::new(Says(outcome, brought.clone()));
        let sinks: Vec<Settings> = vec![(config.clone(), says(failed))];
        let handle = start(&engine, sinks, &tokio::runtime::Handle::current()).unwrap();
        let set: SetStock = serde_json::from_str(r#"{"on_hand": 100}"#).unwrap();
        let decision = engine.set_stock(&"TEE".parse().unwrap(), &"BER".parse().unwrap(), &set);
        engine.settle(decision).await.unwrap();
        until("it is tried", || !brought.lock().is_empty()).await;
        let progress = handle.progress("erp").unwrap();
        let sealed = progress.with_state(Clone::clone);
        let [pending] = &sealed.pending[..] else { panic!("{sealed:?}") };
        if with_checkpoint {
            engine.checkpoint().unwrap();
        }
        progress.set_condition(Condition::Broken("as the test wants it".into()));
        let fate = Fate {
            number: pending.number,
            seal_lsn: Lsn(pending.seal_lsn),
            attempts: 1,
            status: 200,
            refused: false,
            answer: String::new(),
            letters: Vec::new(),
            taken: Vec::new(),
        };
        progress.acknowledged(fate, "", Lsn(pending.seal_lsn));
        assert!(progress.with_state(|state| state.pending.is_empty()));

        let mut change = Change::new(&engine, vec!["erp".to_owned()]);
        let done = Outcome::Done { status: 200, rejected: Vec::new() };
        brought.lock().clear();
        handle.make(&mut change, (config, says(done)), &Turn::Anew).unwrap();
        handle.apply(change, PATIENCE).await;
        until("the partner has it", || progress.with_state(|state| state.batches == 1)).await;
        assert_eq!(progress.condition(), Condition::Running);
        let id = brought.lock().pop().unwrap();
        assert!(id.ends_with("-000001"), "{id}");
        handle.shutdown(PATIENCE).await.unwrap();
        engine.close().unwrap();
    }
}
