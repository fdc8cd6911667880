//! What an operator does to a sink, over the real engine: pause, resume, skip, replay; dead letters
//! listed, mended, sent again and dropped. All of it outlives restarts, and leaves every line applied once.

use std::{sync::Arc, time::Duration};

use crate::far_common::{
    PATIENCE, Shop,
    link::{Erp, Link, lines},
    options, order, order_id, until,
};
use holdfast::{
    config::{Domain, Freeze, SinkConfig},
    delivery::Handle,
    engine::{Engine, Key, Options},
    model::{
        Lsn, Timestamp,
        command::Priority,
        event::{self, Event, Operate},
        letter::Letter,
        sink::{
            SinkView,
            wish::{By, Denied, From, Granted, Wish},
        },
    },
    wal::{self, sim::SimStorage},
};
use parking_lot::Mutex;
use serde_json::{Value, json};

const SKUS: u64 = 8;

fn erp(domain: Domain) -> SinkConfig {
    SinkConfig::new("erp", domain, "http://127.0.0.1:1/")
}

fn link(erp: Erp) -> Link {
    Link(Arc::new(Mutex::new(erp)))
}

fn by(reason: &str) -> By {
    By { who: "ops".into(), reason: reason.into(), forced: false }
}

async fn wish(handle: &Handle, wish: Wish) -> Result<Granted, Denied> {
    handle.wish("erp", wish, by("for a test")).await.unwrap()
}

fn view(handle: &Handle) -> SinkView {
    handle.snapshot().remove(0)
}

fn letter(handle: &Handle) -> Arc<Letter> {
    let mut letters = handle.letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    letters.remove(0).1
}

/// A shop whose stock is with the partner already.
async fn shop(storage: &SimStorage, link: &Link, config: SinkConfig) -> (Shop<SimStorage>, Handle) {
    let shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), SKUS);
    let handle = link.deliver(&shop.engine, config);
    handle.drain(PATIENCE).await.unwrap();
    (shop, handle)
}

/// The process ends in good order, and begins again.
async fn again(
    shop: &mut Shop<SimStorage>,
    handle: Handle,
    link: &Link,
    storage: SimStorage,
) -> Handle {
    handle.shutdown(Duration::from_millis(50)).await.ok();
    shop.engine.close().unwrap();
    shop.engine = Engine::open_on(storage, options()).unwrap();
    link.deliver(&shop.engine, erp(Domain::Inventory))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_sink_makes_no_attempt_over_a_restart_too_until_it_is_resumed() {
    let storage = SimStorage::new();
    let link = link(Erp::default());
    let (mut shop, handle) = shop(&storage, &link, erp(Domain::Inventory)).await;
    wish(&handle, Wish::Pause).await.unwrap();
    let sent = link.erp().sent.len();
    (0..20).for_each(|n| shop.sell(n).unwrap());
    tokio::time::sleep(Duration::from_millis(150)).await;
    let paused = view(&handle);
    assert_eq!(paused.state, "paused");
    assert_eq!(paused.reason.as_deref(), Some("paused by an operator: for a test"));
    assert!(paused.lag_records >= 1, "it is sealed and waits");
    let handle = again(&mut shop, handle, &link, storage.clone()).await;
    (20..40).for_each(|n| shop.sell(n).unwrap());
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!((link.erp().sent.len(), view(&handle).state.as_str()), (sent, "paused"));
    wish(&handle, Wish::Resume).await.unwrap();
    handle.drain(PATIENCE).await.unwrap();
    assert_eq!(view(&handle).state, "running");
    assert_eq!(link.erp().sold(), shop.committed());
    link.erp().audit(&handle.letters());
    handle.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_batch_is_skipped_as_a_letter_and_the_next_goes() {
    let storage = SimStorage::new();
    let link = link(Erp::default());
    let (mut shop, handle) = shop(&storage, &link, erp(Domain::Inventory)).await;
    let nothing = wish(&handle, Wish::Skip).await.unwrap_err();
    assert_eq!(nothing, Denied::Nothing("no batch is under way"));
    // Paused, so that it is not under way, and failing, so that it is: both are skipped.
    for paused in [true, false] {
        let before = handle.letters().len();
        match paused {
            true => drop(wish(&handle, Wish::Pause).await.unwrap()),
            false => link.erp().down = Some(""),
        }
        shop.sell(before as u64).unwrap();
        until("it is sealed", || view(&handle).lanes[0].depth == 1).await;
        wish(&handle, Wish::Skip).await.unwrap();
        until("a letter", || handle.letters().len() == before + 1).await;
        if paused {
            wish(&handle, Wish::Resume).await.unwrap();
        }
        link.erp().down = None;
        shop.sell(before as u64 + 10).unwrap();
        handle.drain(PATIENCE).await.unwrap();
    }
    assert_ne!(link.erp().sold(), shop.committed());
    for (_, letter) in handle.letters() {
        assert!(letter.reason.starts_with("skipped by an operator: for a test"), "{letter:?}");
        wish(&handle, Wish::Retry { letter: letter.id.clone() }).await.unwrap();
    }
    until("all are sent", || handle.letters().is_empty()).await;
    assert_eq!(link.erp().sold(), shop.committed());
    link.erp().audit(&[]);
    handle.shutdown(PATIENCE).await.unwrap();
}

/// The attempt under way is given up with the process; what was to be skipped is not sent again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_skipped_stays_so_over_a_crash_before_its_fate() {
    for checkpoint in [false, true] {
        let storage = SimStorage::new();
        let link = link(Erp::default());
        let (mut shop, handle) = shop(&storage, &link, erp(Domain::Inventory)).await;
        let sent = link.erp().sent.len();
        link.erp().hangs_at = Some((sent + 1, true));
        shop.sell(0).unwrap();
        until("it hangs", || link.erp().sent.len() == sent + 1).await;
        wish(&handle, Wish::Skip).await.unwrap();
        if checkpoint {
            shop.engine.checkpoint().unwrap();
        }
        let disk = storage.crash(7);
        let handle = again(&mut shop, handle, &link, disk).await;
        handle.drain(PATIENCE).await.unwrap();
        assert_eq!(link.erp().sent.len(), sent + 1, "it was not sent again");
        let letter = letter(&handle);
        assert!(letter.reason.starts_with("skipped by an operator: for a test"), "{letter:?}");
        assert!(letter.uncertain, "it had been sent");
        // The next is not skipped.
        shop.sell(1).unwrap();
        handle.drain(PATIENCE).await.unwrap();
        assert_eq!((link.erp().sent.len(), handle.letters().len()), (sent + 2, 1));
        wish(&handle, Wish::Retry { letter: letter.id.clone() }).await.unwrap();
        until("the partner says that it has it", || handle.letters().is_empty()).await;
        let told = deeds(&shop.engine).pop().unwrap();
        assert_eq!(told, ("retry".into(), "ops".into(), "for a test".into(), false));
        assert_eq!(link.erp().sold(), shop.committed());
        link.erp().audit(&[]);
        handle.shutdown(PATIENCE).await.unwrap();
    }
}

/// Sells orders of which some have lines that the partner does not know, until there are letters.
async fn refused(shop: &mut Shop<SimStorage>, handle: &Handle, link: &Link, letters: usize) {
    link.erp().bad = Some("\"SKU-3\"");
    let mut orders = shop.orders..;
    while handle.letters().len() < letters {
        shop.sell(orders.next().unwrap()).unwrap();
        handle.drain(PATIENCE).await.unwrap();
    }
    link.erp().audit(&handle.letters());
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_outlive_a_checkpoint_restarts_and_the_log_that_they_came_from() {
    let storage = SimStorage::new();
    let small = Options {
        wal: wal::Options { segment_bytes: 512 << 10, budget_bytes: 64 << 20, ..options().wal },
        ..options()
    };
    let link = link(Erp::default());
    let open = |storage: &SimStorage| Engine::open_on(storage.clone(), small.clone()).unwrap();
    let mut shop = Shop::open(open(&storage), SKUS);
    let handle = link.deliver(&shop.engine, erp(Domain::Inventory));
    handle.drain(PATIENCE).await.unwrap();
    refused(&mut shop, &handle, &link, 2).await;
    let letters = handle.letters();
    let last = letters.iter().map(|(_, letter)| letter.seal_lsn).max().unwrap();
    link.erp().bad = None;
    let mut n = 1_000;
    while shop.engine.log().oldest() <= Lsn(last) {
        (n..n + 200).for_each(|n| shop.sell(n).unwrap());
        n += 200;
        handle.drain(PATIENCE).await.unwrap();
        shop.engine.checkpoint().unwrap();
        assert!(n < 50_000, "the log is never recycled");
    }
    for _ in 0..2 {
        assert!(letters.iter().all(|kept| handle.letters().contains(kept)));
    }
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
    shop.engine = open(&storage);
    let handle = link.deliver(&shop.engine, erp(Domain::Inventory));
    assert_eq!(handle.letters(), letters);
    for (_, letter) in letters {
        wish(&handle, Wish::Retry { letter: letter.id.clone() }).await.unwrap();
    }
    until("all are sent", || handle.letters().is_empty()).await;
    assert_eq!(link.erp().sold(), shop.committed());
    link.erp().audit(&[]);
    handle.shutdown(PATIENCE).await.unwrap();
}

/// However often it is sent again, a letter has its name, its line has its id, and while nobody changed it
/// the part has its bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_keeps_its_name_and_its_lines_theirs_through_retries_and_mending() {
    for knows_lines in [false, true] {
        let storage = SimStorage::new();
        let link = link(Erp { knows_lines, ..Erp::default() });
        let (mut shop, handle) = shop(&storage, &link, erp(Domain::Inventory)).await;
        refused(&mut shop, &handle, &link, 1).await;
        let first = letter(&handle);
        let retry = || Wish::Retry { letter: first.id.clone() };
        let from = link.erp().sent.len();
        for times in 1..=2 {
            wish(&handle, retry()).await.unwrap();
            until("refused again", || {
                link.erp().sent.len() == from + times && letter(&handle).attempts > times as u64
            })
            .await;
            let now = letter(&handle);
            assert_eq!(
                (&now.id, &now.part_id, &now.body),
                (&first.id, &first.part_id, &first.body)
            );
            assert_eq!(link.erp().sent[from + times - 1].1, first.body);
            assert_eq!(
                (now.number, now.seal_lsn),
                (first.number, first.seal_lsn),
                "where it began"
            );
        }
        let mut content: Value = serde_json::from_slice(&first.body).unwrap();
        let mend = |content: Value| Wish::Mend { letter: first.id.clone(), content };
        content["lines"][0]["line_id"] = "erp-0000-000001.1".into();
        let wrong = wish(&handle, mend(content.clone())).await.unwrap_err();
        assert!(matches!(&wrong, Denied::Content(why) if why.contains("line_id")), "{wrong:?}");
        content["lines"][0]["line_id"] = lines(&first.body).1[0].0.clone().into();
        content["lines"][0]["sku"] = "SKU-3X".into();
        wish(&handle, mend(json!({"lines": content["lines"]}))).await.unwrap();
        assert!(letter(&handle).mended);
        // Refused once more, as a batch of its own, it is the same letter still.
        link.erp().bad = Some("SKU-3X");
        let from = link.erp().sent.len();
        wish(&handle, retry()).await.unwrap();
        until("refused again", || link.erp().sent.len() > from && !letter(&handle).mended).await;
        assert_eq!(letter(&handle).id, first.id);
        link.erp().bad = None;
        wish(&handle, retry()).await.unwrap();
        until("it is taken", || handle.letters().is_empty()).await;
        let ids = link.erp().ids_since(from);
        assert_eq!(ids[0], ids[1], "as it was when it was refused");
        assert_ne!(ids[0], first.part_id);
        assert_eq!(link.erp().applied.get(&lines(&first.body).1[0].0), Some(&1));
        link.erp().audit(&[]);
        handle.shutdown(PATIENCE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_does_not_balance_is_not_taken_for_a_mended_one() {
    let link = link(Erp::default());
    let (mut shop, handle) = shop(&SimStorage::new(), &link, erp(Domain::Finance)).await;
    link.erp().bad = Some("\"receivable\"");
    shop.sell(0).unwrap();
    handle.drain(PATIENCE).await.unwrap();
    let letter = letter(&handle);
    let mut content: Value = serde_json::from_slice(&letter.body).unwrap();
    let debit = content["entries"][0]["postings"][0]["debit"].as_i64().unwrap();
    content["entries"][0]["postings"][0]["debit"] = (debit + 1).into();
    let wrong = wish(&handle, Wish::Mend { letter: letter.id.clone(), content }).await;
    let wrong = wrong.unwrap_err().to_string();
    assert!(wrong.contains("does not balance"), "{wrong}");
    link.erp().bad = None;
    wish(&handle, Wish::Retry { letter: letter.id.clone() }).await.unwrap();
    until("it is taken", || handle.letters().is_empty()).await;
    assert_eq!(link.erp().balance("receivable"), shop.paid);
    handle.shutdown(PATIENCE).await.unwrap();
}

/// The deeds that stand in the log: word, who, why, whether forced.
fn deeds(engine: &Engine<SimStorage>) -> Vec<(String, String, String, bool)> {
    let mut reader = engine.log().reader(engine.log().oldest()).unwrap();
    let mut deeds = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        if record.kind == Operate::KIND {
            let (lsn, version) = (record.lsn, record.version);
            let operate = event::decode::<Operate>(lsn, record.kind, version, record.body).unwrap();
            let operate: Operate = event::to_owned::<Operate>(operate);
            let Operate { by, reason, forced, deed, .. } = operate;
            deeds.push((deed.as_str().to_owned(), by, reason, forced));
        }
    }
    deeds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_dropped_in_a_freeze_window_by_force_and_with_a_reason_alone() {
    let storage = SimStorage::new();
    let link = link(Erp::default());
    let (mut shop, handle) = shop(&storage, &link, erp(Domain::Inventory)).await;
    refused(&mut shop, &handle, &link, 1).await;
    let id = letter(&handle).id.clone();
    let now_ms = shop.engine.now().millis();
    handle.set_freezes(vec![Freeze {
        from: Timestamp::from_millis(now_ms - 1_000),
        until: Timestamp::from_millis(now_ms + 3_600_000),
        reason: "the sale".into(),
    }]);
    let discard = || Wish::Discard { letter: id.clone() };
    let asked = |reason: &str, forced| handle.wish("erp", discard(), By { forced, ..by(reason) });
    for (reason, forced) in [("", false), ("why not", false), ("  ", true)] {
        let denied = asked(reason, forced).await.unwrap().unwrap_err();
        assert!(matches!(&denied, Denied::Frozen { reason, .. } if reason == "the sale"));
    }
    let replay = wish(&handle, Wish::Replay { from: From::Lsn(Lsn(0)) }).await.unwrap_err();
    assert!(matches!(replay, Denied::Frozen { .. }), "{replay}");
    wish(&handle, Wish::Pause).await.unwrap();
    wish(&handle, Wish::Resume).await.unwrap();
    asked("it was sold by hand", true).await.unwrap().unwrap();
    assert_eq!(handle.letters(), []);
    let told = deeds(&shop.engine).pop().unwrap();
    let expected = ("discard", "ops", "it was sold by hand", true);
    assert_eq!((told.0.as_str(), told.1.as_str(), told.2.as_str(), told.3), expected);
    let gone = asked("again", true).await.unwrap().unwrap_err();
    assert_eq!(gone, Denied::NoLetter(id.clone()));
    let handle = again(&mut shop, handle, &link, storage.clone()).await;
    assert_eq!(handle.letters(), []);
    handle.shutdown(PATIENCE).await.unwrap();
}

/// A partner that refuses one line more than may lie there gets nothing new, until a letter is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_with_as_many_letters_as_may_be_seals_nothing_more_but_sends_them_again() {
    let link = link(Erp::default());
    let config = SinkConfig { letters_max: 1, ..erp(Domain::Inventory) };
    let (mut shop, handle) = shop(&SimStorage::new(), &link, config).await;
    refused(&mut shop, &handle, &link, 1).await;
    let (sent, orders) = (link.erp().sent.len(), shop.orders);
    (orders..orders + 30).for_each(|n| shop.sell(n).unwrap());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((link.erp().sent.len(), view(&handle).lanes[0].depth), (sent, 0));
    link.erp().bad = None;
    let id = letter(&handle).id.clone();
    wish(&handle, Wish::Retry { letter: id }).await.unwrap();
    until("it is taken", || handle.letters().is_empty()).await;
    handle.drain(PATIENCE).await.unwrap();
    assert_eq!(link.erp().sold(), shop.committed());
    link.erp().audit(&[]);
    handle.shutdown(PATIENCE).await.unwrap();
}

/// Sells in so many batches.
async fn batches(shop: &mut Shop<SimStorage>, handle: &Handle, count: u64) {
    for _ in 0..count {
        shop.sell(shop.orders).unwrap();
        handle.drain(PATIENCE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_sends_the_same_batches_in_order_before_anything_new() {
    let link = link(Erp::default());
    let (mut shop, handle) = shop(&SimStorage::new(), &link, erp(Domain::Inventory)).await;
    batches(&mut shop, &handle, 3).await;
    let (middle, at) = (shop.engine.log().durable(), link.erp().sent.len());
    tokio::time::sleep(Duration::from_millis(5)).await;
    let time = shop.engine.now();
    batches(&mut shop, &handle, 4).await;
    let sent = link.erp().sent.clone();
    assert_eq!(sent.len(), at + 4, "a batch for each");
    let mut expected = sent[at..].to_vec();
    for from in [From::Lsn(middle), From::Time(time)] {
        // The partner is down meanwhile, so that what is sold wants to go while the replay is under way.
        link.erp().down = Some("");
        let before = link.erp().sent.len();
        let count = expected.len();
        let granted = wish(&handle, Wish::Replay { from }).await.unwrap();
        assert_eq!(granted.count, count as u64);
        let denied = wish(&handle, Wish::Replay { from }).await.unwrap_err();
        assert_eq!(denied, Denied::Nothing("a replay is under way"));
        assert_eq!(view(&handle).replaying, count as u64);
        shop.sell(shop.orders).unwrap();
        until("it is tried", || link.erp().sent.len() > before + 1).await;
        link.erp().down = None;
        handle.drain(PATIENCE).await.unwrap();
        assert_eq!(view(&handle).replaying, 0);
        let mut again = link.erp().sent[before..].to_vec();
        again.dedup();
        assert_eq!(again[..count], expected);
        assert_eq!(again.len(), count + 1, "and then what is new");
        expected = again;
    }
    let none = wish(&handle, Wish::Replay { from: From::Lsn(shop.engine.log().durable()) }).await;
    assert!(matches!(none, Err(Denied::Nothing(_))), "{none:?}");
    assert_eq!(link.erp().sold(), shop.committed());
    link.erp().audit(&[]);
    handle.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_after_a_crash_wherever_it_was() {
    let storage = SimStorage::new();
    let link = link(Erp::default());
    let (mut shop, handle) = shop(&storage, &link, erp(Domain::Inventory)).await;
    batches(&mut shop, &handle, 5).await;
    let sent = link.erp().sent.clone();
    let total = sent.len();
    assert_eq!(total, 6, "stock, and a batch an order");
    link.erp().hangs_at = Some((total + 4, true));
    wish(&handle, Wish::Replay { from: From::Lsn(Lsn(0)) }).await.unwrap();
    until("it hangs", || link.erp().sent.len() == total + 4).await;
    let disk = storage.crash(3);
    let handle = again(&mut shop, handle, &link, disk).await;
    handle.drain(PATIENCE).await.unwrap();
    until("it is done", || view(&handle).replaying == 0).await;
    let again: Vec<_> = link.erp().sent[total + 4..].to_vec();
    // What is not durable of the fates is sent once more.
    assert!(again.len() >= 3 && sent.ends_with(&again), "{:?}", link.erp().ids_since(total));
    batches(&mut shop, &handle, 1).await;
    assert_eq!(link.erp().sold(), shop.committed());
    link.erp().audit(&[]);
    handle.shutdown(PATIENCE).await.unwrap();
}

/// The log is kept for it, however long the partner makes it wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_waits_keeps_its_batches_in_the_log() {
    let storage = SimStorage::new();
    let link = link(Erp::default());
    let small = Options {
        wal: wal::Options { segment_bytes: 512 << 10, budget_bytes: 64 << 20, ..options().wal },
        ..options()
    };
    let mut shop = Shop::open(Engine::open_on(storage, small).unwrap(), SKUS);
    let handle = link.deliver(&shop.engine, erp(Domain::Inventory));
    handle.drain(PATIENCE).await.unwrap();
    batches(&mut shop, &handle, 4).await;
    let (sent, first) = (link.erp().sent.clone(), shop.engine.log().durable());
    link.erp().down = Some("");
    wish(&handle, Wish::Replay { from: From::Lsn(Lsn(0)) }).await.unwrap();
    while shop.engine.log().durable().0 < first.0 + (4 << 20) {
        (0..200).for_each(|_| shop.sell(shop.orders).unwrap());
        shop.engine.checkpoint().unwrap();
    }
    let before = link.erp().sent.len();
    link.erp().down = None;
    handle.drain(PATIENCE).await.unwrap();
    until("it is done", || view(&handle).replaying == 0).await;
    assert_eq!(view(&handle).state, "running");
    let mut again: Vec<_> = link.erp().sent[before..].to_vec();
    again.dedup();
    assert!(again.len() > sent.len() && again.iter().any(|b| *b == sent[4]), "{}", again.len());
    assert_eq!(link.erp().sold(), shop.committed());
    // What is past may go now.
    batches(&mut shop, &handle, 1).await;
    until("the log goes on", || {
        shop.engine.checkpoint().unwrap();
        shop.engine.log().oldest() > first
    })
    .await;
    handle.shutdown(PATIENCE).await.unwrap();
}

fn place(shop: &mut Shop<SimStorage>, n: u64, priority: Priority) {
    let key = format!("order-{n}").parse().unwrap();
    let place = holdfast::model::command::PlaceOrder { priority, ..order(n, SKUS) };
    let placed = shop.engine.place_order(Key::new("", &key), &place);
    shop.engine.settle_blocking(placed).unwrap();
}

/// A lane that is stuck keeps nothing of the others from being sent again, over a crash too.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_several_lanes_leaves_out_what_is_under_way_and_nothing_else() {
    let storage = SimStorage::new();
    let link = link(Erp::default());
    let (mut shop, handle) = shop(&storage, &link, erp(Domain::Fulfilment)).await;
    let mut n = 0;
    let mut sell = |shop: &mut Shop<SimStorage>, priority| {
        place(shop, n, priority);
        n += 1;
    };
    sell(&mut shop, Priority::Bulk);
    handle.drain(PATIENCE).await.unwrap();
    link.erp().down = Some("\"priority\":\"bulk\"");
    sell(&mut shop, Priority::Bulk);
    until("the bulk lane is stuck", || view(&handle).lanes[2].depth == 1).await;
    for _ in 0..3 {
        let before = link.erp().taken.len();
        sell(&mut shop, Priority::Express);
        until("taken", || link.erp().taken.len() > before).await;
        until("acknowledged", || view(&handle).lanes[0].depth == 0).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    let taken: Vec<_> = link.erp().taken.keys().cloned().collect();
    let from = link.erp().sent.len();
    let granted = wish(&handle, Wish::Replay { from: From::Lsn(Lsn(0)) }).await.unwrap();
    assert!(granted.count >= taken.len() as u64, "{granted:?} of {taken:?}");
    // It begins when the lane is free; what was stuck is none of it.
    handle.shutdown(Duration::from_millis(50)).await.ok();
    shop.engine.close().unwrap();
    shop.engine = Engine::open_on(storage, options()).unwrap();
    let handle = link.deliver(&shop.engine, erp(Domain::Fulfilment));
    link.erp().down = None;
    handle.drain(PATIENCE).await.unwrap();
    until("it is done", || view(&handle).replaying == 0).await;
    let mut again = link.erp().ids_since(from);
    again.retain(|id| taken.contains(id));
    again.dedup();
    assert_eq!(again, taken);
    assert_eq!(link.erp().to_pick(), shop.committed());
    link.erp().audit(&[]);
    assert!(shop.engine.settle_blocking(shop.engine.order(&order_id(0))).is_ok());
    handle.shutdown(PATIENCE).await.unwrap();
}

/// A batch that was under way when a replay was asked for goes out once, also when the process ends in the
/// middle of the replay.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_is_no_part_of_a_replay_over_a_crash_either() {
    for checkpoint in [false, true] {
        let storage = SimStorage::new();
        let link = link(Erp::default());
        let (mut shop, handle) = shop(&storage, &link, erp(Domain::Fulfilment)).await;
        place(&mut shop, 0, Priority::Express);
        handle.drain(PATIENCE).await.unwrap();
        link.erp().down = Some("\"priority\":\"bulk\"");
        place(&mut shop, 1, Priority::Bulk);
        until("the bulk lane is stuck", || view(&handle).lanes[2].depth == 1).await;
        place(&mut shop, 2, Priority::Express);
        let numbered = || view(&handle).lanes[0].depth == 0 && link.erp().taken.len() == 2;
        until("what comes after it is taken", numbered).await;
        wish(&handle, Wish::Replay { from: From::Lsn(Lsn(0)) }).await.unwrap();
        // It goes out, and then the replay's first is under way when the process ends.
        let sent = link.erp().taken.clone();
        link.erp().down = Some("\"priority\":\"express\"");
        until("the stuck one is taken", || link.erp().taken.len() == 3).await;
        until("it is acknowledged", || view(&handle).lanes[2].depth == 0).await;
        let from = link.erp().sent.len();
        until("the replay is under way", || link.erp().sent.len() > from).await;
        if checkpoint {
            shop.engine.checkpoint().unwrap();
        }
        handle.shutdown(Duration::from_millis(50)).await.ok();
        shop.engine.close().unwrap();
        shop.engine = Engine::open_on(storage, options()).unwrap();
        let from = link.erp().sent.len();
        link.erp().down = None;
        let handle = link.deliver(&shop.engine, erp(Domain::Fulfilment));
        handle.drain(PATIENCE).await.unwrap();
        until("it is done", || view(&handle).replaying == 0).await;
        assert_eq!(link.erp().ids_since(from), sent.keys().cloned().collect::<Vec<_>>());
        link.erp().audit(&[]);
        handle.shutdown(PATIENCE).await.unwrap();
    }
}

/// From the moment the engine is opened, before its sinks begin.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_was_under_way_keeps_its_batches_in_the_log_while_the_engine_starts() {
    let storage = SimStorage::new();
    let link = link(Erp::default());
    let small = Options {
        wal: wal::Options { segment_bytes: 512 << 10, budget_bytes: 64 << 20, ..options().wal },
        ..options()
    };
    let open = |storage: &SimStorage| Engine::open_on(storage.clone(), small.clone()).unwrap();
    let mut shop = Shop::open(open(&storage), SKUS);
    let handle = link.deliver(&shop.engine, erp(Domain::Inventory));
    handle.drain(PATIENCE).await.unwrap();
    batches(&mut shop, &handle, 4).await;
    let sent = link.erp().sent.clone();
    while shop.engine.log().durable().0 < 4 << 20 {
        (0..200).for_each(|_| shop.sell(shop.orders).unwrap());
    }
    handle.drain(PATIENCE).await.unwrap();
    link.erp().down = Some("");
    wish(&handle, Wish::Replay { from: From::Lsn(Lsn(0)) }).await.unwrap();
    handle.shutdown(Duration::from_millis(50)).await.ok();
    shop.engine.close().unwrap();
    shop.engine = open(&storage);
    for _ in 0..3 {
        shop.sell(shop.orders).unwrap();
        shop.engine.checkpoint().unwrap();
    }
    let before = link.erp().sent.len();
    link.erp().down = None;
    let handle = link.deliver(&shop.engine, erp(Domain::Inventory));
    until("it is done", || view(&handle).replaying == 0).await;
    let again: Vec<_> = link.erp().sent[before..].to_vec();
    assert_eq!(again[..sent.len()], sent);
    handle.drain(PATIENCE).await.unwrap();
    assert_eq!(link.erp().sold(), shop.committed());
    handle.shutdown(PATIENCE).await.unwrap();
}

/// A sink whose delivery panicked answers an operator at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_sink_answers_at_once() {
    #[derive(Debug)]
    struct Bad;
    impl holdfast::delivery::Partner for Bad {
        fn send<'a>(&'a self, _: &'a holdfast::delivery::Part) -> holdfast::delivery::Sending<'a> {
            Box::pin(async { panic!("as the test wants it") })
        }
    }
    let shop = Shop::open(Engine::open_on(SimStorage::new(), options()).unwrap(), SKUS);
    let partner: Box<dyn holdfast::delivery::Partner> = Box::new(Bad);
    let config = SinkConfig { window_ms_max: 1, ..erp(Domain::Inventory) };
    let runtime = tokio::runtime::Handle::current();
    let sinks = vec![(config, partner)];
    let handle = holdfast::delivery::start(&shop.engine, sinks, &runtime).unwrap();
    until("it is broken", || view(&handle).state == "broken").await;
    for wished in [Wish::Pause, Wish::Skip, Wish::Retry { letter: "x".into() }] {
        let told = tokio::time::timeout(Duration::from_secs(5), wish(&handle, wished)).await;
        assert_eq!(told.unwrap(), Err(Denied::Stopped));
    }
    assert!(handle.wish("nobody", Wish::Pause, By::default()).await.is_none());
}
