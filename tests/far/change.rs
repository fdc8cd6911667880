//! Sinks that come, go, come back and turn to other settings while a shop sells: nothing is lost, nothing has
//! its effect twice, and what a sink leaves in memory is what the log says of it.

use std::time::Duration;

use crate::far_common::{PATIENCE, Partners, Shop, options, sold, until};
use holdfast::{
    config::{Domain, SinkConfig},
    delivery::{Error, Handle},
    engine::{Engine, Options},
    model::{Lsn, sink::SinkState, worth::Recognition},
    sinks::{
        self,
        receiver::{Behaviour, Receiver},
    },
    wal::{self, sim::SimStorage},
};

const SKUS: u64 = 7;

/// A far end, and the sinks that it has.
struct Far {
    shop: Shop<SimStorage>,
    handle: Handle,
    sinks: Vec<SinkConfig>,
}

impl Far {
    fn open(storage: &SimStorage, options: Options, sinks: Vec<SinkConfig>) -> Self {
        let shop = Shop::open(Engine::open_on(storage.clone(), options).unwrap(), SKUS);
        Self::over(shop, sinks)
    }

    fn over(shop: Shop<SimStorage>, sinks: Vec<SinkConfig>) -> Self {
        let runtime = tokio::runtime::Handle::current();
        let handle = sinks::start(&shop.engine, sinks.clone(), &runtime).unwrap();
        Self { shop, handle, sinks }
    }

    async fn turn(&mut self, sinks: Vec<SinkConfig>) -> Result<(), Error> {
        let change = sinks::prepare(&self.shop.engine, &self.handle, &self.sinks, &sinks)?;
        self.handle.apply(change, PATIENCE).await;
        let names: Vec<_> = self.handle.snapshot().into_iter().map(|sink| sink.name).collect();
        assert_eq!(names, sinks.iter().map(|sink| sink.name.clone()).collect::<Vec<_>>());
        self.sinks = sinks;
        Ok(())
    }

    fn sell(&mut self, orders: std::ops::Range<u64>) {
        orders.for_each(|n| self.shop.sell(n).unwrap());
    }

    fn state(&self, sink: &str) -> SinkState {
        self.handle.progress(sink).unwrap().with_state(SinkState::clone)
    }
}

/// Letters, splits and all: what a start would make of the log is what the sinks of this life left.
fn assert_is_of_the_log(storage: &SimStorage, options: Options, left: &[(&str, SinkState)]) {
    let engine = Engine::open_on(storage.clone(), options).unwrap();
    let states = engine.sink_states();
    for (name, left) in left {
        assert_eq!(states.get(*name), Some(left), "{name}");
    }
    engine.close().unwrap();
}

/// The receivers check the numbers, the chain of digests and the bytes of what comes again.
#[tokio::test(flavor = "multi_thread")]
async fn sinks_come_go_and_turn_while_a_sale_runs() {
    let storage = SimStorage::new();
    let partners = Partners::start().await;
    let mut far = Far::open(&storage, options(), partners.configs());
    for n in 0..24_u64 {
        far.sell(n * 20..n * 20 + 10);
        partners.behave(|b| {
            *b = Behaviour { lose_answers: n % 3 == 1, outage: n % 5 == 2, ..Behaviour::default() };
        });
        let mut sinks = partners.configs();
        for sink in &mut sinks {
            sink.window_ms_max = [1, 5, 20][n as usize % 3];
            sink.lines_max = [5_000, 3][n as usize % 2];
            sink.policy.retries_per_s_min = 1_000 + n % 2;
            sink.policy.concurrency_max = 4 + n % 5;
        }
        if n % 4 == 1 {
            sinks.remove((n / 4) as usize % 2);
        }
        if n % 8 == 6 {
            sinks.swap(0, 1);
        }
        far.turn(sinks).await.unwrap();
        far.sell(n * 20 + 10..n * 20 + 20);
    }
    partners.behave(|b| *b = Behaviour::default());
    far.turn(partners.configs()).await.unwrap();
    far.handle.drain(PATIENCE).await.unwrap();
    partners.assert_told(&far.shop);
    let Far { shop, handle, .. } = far;
    let progress = ["erp", "books"].map(|name| (name, handle.progress(name).unwrap()));
    handle.shutdown(PATIENCE).await.unwrap();
    let left = progress.map(|(name, progress)| (name, progress.with_state(SinkState::clone)));
    shop.engine.close().unwrap();
    assert_is_of_the_log(&storage, options(), &left);
}

/// What an operator wanted just before his sink ended was in the log and not in memory: the next batch would
/// have got a number that a letter sent again had already.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_wants_while_a_sink_turns_is_in_memory_as_in_the_log() {
    use holdfast::model::sink::wish::{By, Wish};
    let storage = SimStorage::new();
    let partners = Partners::start().await;
    let mut far = Far::open(&storage, options(), partners.configs());
    let progress = far.handle.progress("erp").unwrap();
    partners.erp.behave(|b| b.refuse_with = Some(422));
    for n in 0..8 {
        far.sell(n..n + 1);
        until("a letter", || progress.letters().len() as u64 > n).await;
    }
    partners.erp.behave(|b| b.refuse_with = None);
    let letters: Vec<_> = progress.letters().iter().map(|letter| letter.id.clone()).collect();
    let retries = letters.into_iter().map(|letter| Wish::Retry { letter });
    let pauses = (0..4).flat_map(|_| [Wish::Pause, Wish::Resume]);
    for (n, wish) in (0..).zip(retries.chain(pauses)) {
        // It is written down while its sink ends, and not on the disk yet.
        storage.set_sync_delay(Duration::from_millis(40));
        let told = progress.wish(wish, By::default());
        tokio::time::sleep(Duration::from_millis(n % 8 * 12)).await;
        let mut sinks = partners.configs();
        sinks[0].window_events_max = 1_000 + n;
        far.turn(sinks).await.unwrap();
        drop(told.await);
        storage.set_sync_delay(Duration::ZERO);
        far.sell(8 + n..9 + n);
    }
    drop(progress.wish(Wish::Resume, By::default()).await);
    far.handle.drain(PATIENCE).await.unwrap();
    let Far { shop, handle, .. } = far;
    handle.shutdown(PATIENCE).await.unwrap();
    let left = progress.with_state(SinkState::clone);
    shop.engine.close().unwrap();
    assert_is_of_the_log(&storage, options(), &[("erp", left)]);
}

/// Small segments, so that the log lets go of what nobody needs.
fn narrow() -> Options {
    let options = options();
    let wal = wal::Options { segment_bytes: 1 << 20, unsynced_bytes_max: 4 << 20, ..options.wal };
    Options { wal, ..options }
}

/// Sells until the log begins later.
async fn outgrow(shop: &mut Shop<SimStorage>, orders: &mut u64) {
    let before = shop.engine.log().oldest();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while shop.engine.log().oldest() == before {
        for _ in 0..500 {
            shop.sell(*orders).unwrap();
            *orders += 1;
        }
        shop.engine.checkpoint().unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(tokio::time::Instant::now() < deadline, "the log lets go of nothing");
    }
}

/// A warehouse that came late and got orders of one priority was looked for at the log's first record by the
/// next start, in the lanes that had sealed nothing, and refused for not being there.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_came_late_begins_there_after_a_start_too() {
    let storage = SimStorage::new();
    let receiver = Receiver::start(Behaviour::default()).await.unwrap();
    let wms = SinkConfig {
        window_ms_max: 5,
        ..SinkConfig::new("wms", Domain::Fulfilment, receiver.url())
    };
    let mut far = Far::open(&storage, narrow(), Vec::new());
    let mut orders = 0;
    outgrow(&mut far.shop, &mut orders).await;
    let sold_before: i64 = far.shop.sold.values().sum();
    far.turn(vec![wms.clone()]).await.unwrap();
    far.handle.drain(PATIENCE).await.unwrap();
    let first: i64 = receiver.totals().to_pick.values().sum();
    assert!(0 < first && first < sold_before, "{first} of {sold_before}");
    far.shop.sell(orders).unwrap();
    far.handle.drain(PATIENCE).await.unwrap();
    far.handle.shutdown(PATIENCE).await.unwrap();
    far.shop.engine.close().unwrap();
    let engine = Engine::open_on(storage, narrow()).unwrap();
    let handle =
        sinks::start(&engine, vec![wms], &tokio::runtime::Handle::current()).expect("it begins");
    handle.drain(PATIENCE).await.unwrap();
    handle.shutdown(PATIENCE).await.unwrap();
    let later: i64 = receiver.totals().to_pick.values().sum();
    let sold: i64 = far.shop.sold.values().sum();
    assert_eq!(later - first, sold - sold_before);
    assert_eq!(receiver.totals().violations, Vec::<String>::new());
}

/// An ERP and books that have ten orders, in a log that soon lets go.
async fn sold_to_both(partners: &Partners) -> ([SinkConfig; 2], Far) {
    let sinks = <[_; 2]>::try_from(partners.configs()).unwrap();
    let mut far = Far::open(&SimStorage::new(), narrow(), sinks.to_vec());
    far.sell(0..10);
    far.handle.drain(PATIENCE).await.unwrap();
    (sinks, far)
}

/// Away for so long that the log has let go of what it needs: it is refused, nothing is changed, and the log
/// is not kept for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_was_away_for_too_long_does_not_come_back() {
    let partners = Partners::start().await;
    let ([erp, books], mut far) = sold_to_both(&partners).await;
    far.turn(vec![books.clone()]).await.unwrap();
    let mut orders = 10;
    outgrow(&mut far.shop, &mut orders).await;
    let error = far.turn(vec![books.clone(), erp.clone()]).await.unwrap_err();
    assert!(matches!(&error, Error::Feed { sink, .. } if sink == "erp"), "{error}");
    assert!(error.to_string().contains("rename the sink"), "{error}");
    assert_eq!(far.handle.snapshot().len(), 1);
    outgrow(&mut far.shop, &mut orders).await;
    let anew = SinkConfig { name: "erp2".into(), ..erp };
    far.turn(vec![books, anew]).await.unwrap();
    far.handle.drain(PATIENCE).await.unwrap();
    assert_eq!(partners.erp.totals().violations, Vec::<String>::new());
    assert_eq!(partners.books.totals().orders, far.shop.orders);
}

/// What it needs may go at any time and is still there, since somebody reads it: the sink does not come back, or
/// its batches would be gone when they are to be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_needs_what_may_go_does_not_come_back() {
    let partners = Partners::start().await;
    let ([erp, books], mut far) = sold_to_both(&partners).await;
    let needs = Lsn(far.state("erp").needs_from());
    far.turn(vec![books.clone()]).await.unwrap();
    let first = {
        let log = far.shop.engine.log();
        let first = log.reader(log.oldest()).unwrap().next().unwrap().unwrap().lsn;
        log.read_at(first).unwrap()
    };
    let mut orders = 10;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while far.shop.engine.log().released() <= needs {
        far.sell(orders..orders + 500);
        orders += 500;
        far.shop.engine.checkpoint().unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(tokio::time::Instant::now() < deadline, "the log may let go of nothing");
    }
    assert!(far.shop.engine.log().oldest() <= needs);
    let error = far.turn(vec![books.clone(), erp]).await.unwrap_err();
    assert!(error.to_string().contains("rename the sink"), "{error}");
    drop(first);
    far.turn(vec![SinkConfig { window_ms_max: 7, ..books }]).await.unwrap();
    far.handle.drain(PATIENCE).await.unwrap();
    assert_eq!(partners.books.totals().orders, far.shop.orders);
}

/// A change that is not applied leaves a sink that was to come as it was: the log is not kept for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_dropped_has_changed_nothing() {
    let storage = SimStorage::new();
    let partners = Partners::start().await;
    let mut far = Far::open(&storage, narrow(), Vec::new());
    let change = sinks::prepare(&far.shop.engine, &far.handle, &[], &partners.configs()).unwrap();
    assert!(change.progress("erp").is_some());
    drop(change);
    let mut orders = 0;
    outgrow(&mut far.shop, &mut orders).await;
    assert!(far.handle.snapshot().is_empty());
    until("nothing of it runs", || partners.erp.totals().batches == 0).await;
}

/// What speaks to the ERP panics at the first batch. The sink has letters of an earlier life and sealed what it
/// did not bring; the mended one goes on with all of it, whether its settings differ in what a running one
/// takes, in what makes it begin anew, or it goes and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_sink_is_mended_by_a_change() {
    struct Bad;
    impl holdfast::delivery::Partner for Bad {
        fn send<'a>(&'a self, _: &'a holdfast::delivery::Part) -> holdfast::delivery::Sending<'a> {
            Box::pin(async { panic!("as the test wants it") })
        }
    }
    for way in ["in place", "anew", "away and back"] {
        let storage = SimStorage::new();
        let partners = Partners::start().await;
        let mut far = Far::open(&storage, options(), partners.configs());
        partners.erp.behave(|b| b.refuse_with = Some(422));
        far.sell(0..3);
        let progress = far.handle.progress("erp").unwrap();
        until("letters", || !progress.letters().is_empty()).await;
        partners.erp.behave(|b| b.refuse_with = None);
        far.sell(3..6);
        far.handle.drain(PATIENCE).await.unwrap();
        let Far { shop, handle, mut sinks } = far;
        handle.shutdown(PATIENCE).await.unwrap();

        let parts = sinks.iter().map(|config| {
            let partner: Box<dyn holdfast::delivery::Partner> = match config.name.as_str() {
                "erp" => Box::new(Bad),
                _ => Box::new(sinks::HttpPartner::new(config, &[]).unwrap()),
            };
            (config.clone(), partner)
        });
        let Shop { engine, .. } = &shop;
        engine.close().unwrap();
        let engine = Engine::open_on(storage.clone(), options()).unwrap();
        let runtime = tokio::runtime::Handle::current();
        let handle = holdfast::delivery::start(&engine, parts.collect(), &runtime).unwrap();
        let shop = Shop { engine, ..shop };
        let mut far = Far { shop, handle, sinks: sinks.clone() };
        let state = |far: &Far| far.handle.snapshot()[0].state.clone();
        far.sell(6..9);
        until("it is broken", || state(&far) == "broken").await;
        far.sell(9..12);
        far.shop.engine.checkpoint().unwrap();
        far.sell(12..15);
        match way {
            "in place" => sinks[0].timeout_ms += 1,
            "anew" => sinks[0].window_ms_max += 1,
            _ => far.turn(vec![sinks[1].clone()]).await.unwrap(),
        }
        far.turn(sinks).await.unwrap();
        assert_eq!(state(&far), "running", "{way}");
        far.sell(15..20);
        far.handle.drain(PATIENCE).await.unwrap();

        let progress = far.handle.progress("erp").unwrap();
        let letters: Vec<_> = progress.letters().iter().map(|letter| letter.id.clone()).collect();
        assert!(!letters.is_empty(), "{way}");
        for letter in letters {
            let retry = holdfast::model::sink::wish::Wish::Retry { letter };
            let by = holdfast::model::sink::wish::By::default();
            far.handle.wish("erp", retry, by).await.unwrap().unwrap();
        }
        until("no letters", || progress.letters().is_empty()).await;
        // Halves of what it refused are no batches that the receiver would count.
        assert_eq!(sold(&partners.erp.totals()), far.shop.sold, "{way}");
        assert_eq!(partners.books.totals().violations, Vec::<String>::new());
        let Far { shop, handle, .. } = far;
        handle.shutdown(PATIENCE).await.unwrap();
        let left = progress.with_state(SinkState::clone);
        shop.engine.close().unwrap();
        assert_is_of_the_log(&storage, options(), &[("erp", left)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_takes_no_other_domain_while_the_process_lives() {
    let storage = SimStorage::new();
    let partners = Partners::start().await;
    let mut far = Far::open(&storage, options(), partners.configs());
    let mut other = partners.configs();
    other[0].domain = Domain::Fulfilment;
    let error = far.turn(other.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::OtherDomain { sink, .. } if sink == "erp"), "{error}");
    far.turn(vec![partners.configs().remove(1)]).await.unwrap();
    let error = far.turn(other).await.unwrap_err();
    assert!(matches!(&error, Error::OtherDomain { sink, .. } if sink == "erp"), "{error}");
    far.turn(partners.configs()).await.unwrap();
    assert_eq!(far.state("erp").last_number, 0);
}

/// The next life knows by the log what a sink was, whether it is configured at the start or comes back while
/// the server runs. One that sealed nothing yet begins like a new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_takes_no_other_domain_after_a_restart() {
    let storage = SimStorage::new();
    let partners = Partners::start().await;
    let [erp, books] = <[_; 2]>::try_from(partners.configs()).unwrap();
    let late = SinkConfig { window_ms_max: 60_000, ..erp.clone() };
    let late = SinkConfig { name: "late".into(), ..late };
    let all = vec![erp.clone(), books.clone(), late.clone()];
    let mut far = Far::open(&storage, options(), all);
    far.sell(0..10);
    until("two have it", || {
        let views = far.handle.snapshot();
        views[..2].iter().all(|sink| sink.batches_delivered > 0)
    })
    .await;
    assert_eq!(far.state("late").last_number, 0);
    far.handle.shutdown(PATIENCE).await.unwrap();
    far.shop.engine.checkpoint().unwrap();
    far.shop.engine.close().unwrap();

    // A life without them: the log is kept for them no longer, and still there.
    let shop = Shop { engine: Engine::open_on(storage.clone(), options()).unwrap(), ..far.shop };
    let far = Far::over(shop, vec![late]);
    far.handle.shutdown(PATIENCE).await.unwrap();
    far.shop.engine.close().unwrap();

    let engine = Engine::open_on(storage, options()).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let other = |sink: &SinkConfig, domain| SinkConfig { domain, ..sink.clone() };
    let refused = |error: Error, name: &str, had| {
        let told = error.to_string();
        assert!(
            matches!(error, Error::OtherDomain { sink, had: was } if sink == name && was == had),
            "{told}"
        );
        assert!(told.contains("domain: ") && told.contains("another name"), "{told}");
    };
    let wrong = vec![erp.clone(), other(&books, Domain::Stream)];
    let error = sinks::start(&engine, wrong, &runtime).err().unwrap();
    refused(error, "books", Domain::Finance);
    let late = other(&erp, Domain::Fulfilment);
    let late = SinkConfig { name: "late".into(), ..late };
    let shop = Shop { engine, ..far.shop };
    let mut far = Far::over(shop, vec![books.clone(), late.clone()]);
    let wrong = vec![books.clone(), other(&erp, Domain::Finance), late.clone()];
    refused(far.turn(wrong).await.unwrap_err(), "erp", Domain::Inventory);
    far.turn(vec![books, erp, late]).await.unwrap();
    far.handle.shutdown(PATIENCE).await.unwrap();
    far.shop.engine.close().unwrap();
}

/// Who recognised revenue when orders were placed would book that of an open order once more with its invoice,
/// and who did with the invoice would never book that of one that is invoiced already.
#[tokio::test(flavor = "multi_thread")]
async fn a_finance_sink_keeps_when_revenue_is_recognised() {
    let storage = SimStorage::new();
    let partners = Partners::start().await;
    let [erp, books] = <[_; 2]>::try_from(partners.configs()).unwrap();
    let at_invoice =
        |sink: &SinkConfig| SinkConfig { recognition: Recognition::Invoice, ..sink.clone() };
    // As long as nothing is sealed it is nobody's loss, nor is it with a sink that recognises nothing.
    let mut far = Far::open(&storage, options(), vec![erp.clone(), at_invoice(&books)]);
    far.turn(vec![at_invoice(&erp), books.clone()]).await.unwrap();
    far.sell(0..10);
    until("it has booked", || far.handle.snapshot()[1].batches_delivered > 0).await;
    let refused = |error: Error| {
        let told = error.to_string();
        assert!(told.starts_with("sink `books`: recognition: it was `commit`"), "{told}");
    };
    refused(far.turn(vec![erp.clone(), at_invoice(&books)]).await.unwrap_err());
    far.handle.shutdown(PATIENCE).await.unwrap();
    far.shop.engine.close().unwrap();

    let engine = Engine::open_on(storage, options()).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let error = sinks::start(&engine, vec![erp.clone(), at_invoice(&books)], &runtime);
    refused(error.err().unwrap());
    let shop = Shop { engine, ..far.shop };
    let far = Far::over(shop, vec![erp, books]);
    far.handle.drain(PATIENCE).await.unwrap();
    partners.assert_told(&far.shop);
    far.handle.shutdown(PATIENCE).await.unwrap();
    far.shop.engine.close().unwrap();
}
