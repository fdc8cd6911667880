//! An ERP's stock against the ledger's, over the real engine, the real delivery and real HTTP: what is on
//! its way or lies dead is explained, a lost unit is found and named, a sale that runs makes no false
//! alarm, and a partner that lies makes an error and no figure.

#[path = "../far_reconcile/erp.rs"]
mod erp;

use std::{sync::Arc, time::Duration};

use crate::far_common::{PATIENCE, Shop, location, options, sku, until};
use erp::{Erp, Lie};
use holdfast::{
    config::{Dedupe, Domain, Reconcile, SinkConfig},
    delivery::Handle,
    engine::{Engine, Key},
    model::{
        Quantity,
        command::{Ship, ShipLine},
        sink::reconciliation::{Reconciliation, Unreconciled},
    },
    sinks::{self, reconcile::Reconcilers},
    wal::sim::SimStorage,
};

const SKUS: u64 = 20;

struct House {
    shop: Shop<SimStorage>,
    erp: Erp,
    far_end: Handle,
    reconcilers: Arc<Reconcilers<SimStorage>>,
}

impl House {
    async fn open(change: impl Fn(&mut SinkConfig)) -> Self {
        let engine = Engine::open_on(SimStorage::new(), options()).unwrap();
        let shop = Shop::open(engine, SKUS);
        let erp = Erp::start().await;
        let url = format!("http://127.0.0.1:{}/batches", erp.port);
        let mut config = SinkConfig::new("erp", Domain::Inventory, url);
        config.window_ms_max = 10;
        config.retry_max_ms = 100;
        config.dedupe = Dedupe::Line;
        let reconcile = Reconcile { page_max: 7, page_ms_max: 2_000, ..Reconcile::at("stock") };
        config.reconcile = Some(reconcile);
        change(&mut config);
        let sinks = vec![config, SinkConfig::new("other", Domain::Inventory, "http://127.0.0.1:9")];
        let runtime = tokio::runtime::Handle::current();
        let far_end = sinks::start(&shop.engine, sinks.clone(), &runtime).unwrap();
        let reconcilers =
            sinks::reconcile::start(&shop.engine, &sinks, &far_end, &runtime).unwrap();
        Self { shop, erp, far_end, reconcilers: Arc::new(reconcilers) }
    }

    fn sell(&mut self, orders: std::ops::Range<u64>) {
        orders.for_each(|n| self.shop.sell(n).unwrap());
    }

    /// Everything of the ERP's sink is acknowledged.
    async fn settle(&self) {
        let end = self.shop.engine.log().durable();
        until("all is with the ERP", || {
            let views = self.far_end.snapshot();
            let erp = &views[0];
            erp.acknowledged_lsn >= end && erp.lag_records == 0
        })
        .await;
    }

    async fn reconcile(&self) -> Arc<Reconciliation> {
        self.reconcilers.run("erp").await.unwrap()
    }
}

/// The causes of every drift, summed up: in flight, dead-lettered, unexplained.
fn causes(report: &Arc<Reconciliation>) -> (i64, i64, i64) {
    report.drifts.iter().fold((0, 0, 0), |(a, b, c), drift| {
        assert_eq!(
            drift.partner - drift.ledger,
            drift.in_flight + drift.dead_lettered + drift.unexplained,
            "{drift:?}"
        );
        (a + drift.in_flight, b + drift.dead_lettered, c + drift.unexplained)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agrees_agrees_over_pages_and_a_lost_unit_is_named() {
    let mut house = House::open(|_| {}).await;
    assert_eq!(house.reconcilers.last("erp").unwrap_err(), Unreconciled::None);
    assert_eq!(house.reconcilers.run("other").await.unwrap_err(), Unreconciled::NotConfigured);
    assert_eq!(house.reconcilers.run("none").await.unwrap_err(), Unreconciled::NoSink);
    house.sell(0..200);
    house.settle().await;
    let report = house.reconcile().await;
    assert_eq!((report.state.as_str(), report.positions, report.drifts.len()), ("agrees", 40, 0));
    assert_eq!((report.pages, report.readings, report.committed_compared), (6, 1, true));
    assert_eq!(house.reconcilers.last("erp").unwrap(), report);
    // From a checkpoint as from the log alone.
    house.shop.engine.checkpoint().unwrap();
    assert_eq!(house.reconcile().await.state, "agrees");

    let lost = (sku(3).to_string(), location(0).to_string());
    house.erp.with(|erp| {
        erp.stock.get_mut(&lost).unwrap().0 -= 1;
        erp.stock.insert(("NOT-OURS".into(), "BER".into()), (5, 0));
    });
    let report = house.reconcile().await;
    assert_eq!((report.state.as_str(), report.unexplained_positions), ("drift", 1));
    assert_eq!((causes(&report), report.positions_elsewhere), ((0, 0, -1), 1));
    let drift = &report.drifts[0];
    assert_eq!((drift.sku.clone(), drift.location.clone()), (sku(3), Some(location(0))));
    assert_eq!((drift.figure.as_str(), drift.partner), ("on_hand", drift.ledger - 1));
    house.erp.with(|erp| {
        let here = erp.stock.get_mut(&lost).unwrap();
        *here = (here.0 + 1, here.1 + 2);
    });
    let report = house.reconcile().await;
    assert_eq!((causes(&report), report.drifts.len()), ((0, 0, 2), 1));
    assert_eq!(
        (report.drifts[0].figure.as_str(), &report.drifts[0].location),
        ("committed", &None)
    );
    let mut views = house.far_end.snapshot();
    house.reconcilers.fill(&mut views, house.shop.engine.now().millis());
    let last = views[0].reconciliation.as_ref().unwrap();
    assert_eq!((last.state.as_str(), last.unexplained_positions), ("drift", 1));
    assert!(views[1].reconciliation.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_explained_and_a_loss_beside_it_is_not() {
    let mut house = House::open(|_| {}).await;
    house.settle().await;
    house.erp.with(|erp| erp.outage = true);
    house.sell(0..50);
    until("a batch is sealed", || house.far_end.snapshot()[0].lanes[0].depth == 1).await;
    house.sell(50..100);
    until("more is read", || house.far_end.snapshot()[0].lag_records == 100).await;
    let sold: i64 = house.shop.sold.values().sum();
    let report = house.reconcile().await;
    assert_eq!((report.state.as_str(), causes(&report)), ("agrees", (-sold, 0, 0)));
    assert!(report.in_flight_positions > 0 && report.lsn > report.compared_lsn, "{report:?}");
    house.erp.with(|erp| {
        erp.stock.get_mut(&(sku(5).to_string(), location(1).to_string())).unwrap().0 -= 3;
    });
    let report = house.reconcile().await;
    assert_eq!((report.state.as_str(), causes(&report)), ("drift", (-sold, 0, -3)));
    let first = &report.drifts[0];
    assert_eq!((&first.sku, &first.location), (&sku(5), &Some(location(1))));
    // A checkpoint that lies beyond what is sealed.
    house.shop.engine.checkpoint().unwrap();
    assert_eq!(causes(&house.reconcile().await), (-sold, 0, -3));
    house.erp.with(|erp| erp.outage = false);
    house.settle().await;
    assert_eq!(causes(&house.reconcile().await), (0, 0, -3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_and_not_answered_is_no_drift() {
    let mut house = House::open(|_| {}).await;
    house.settle().await;
    house.erp.with(|erp| erp.latency = Duration::from_millis(1_500));
    house.sell(0..30);
    let sold: i64 = house.shop.sold.values().sum();
    let has = || house.erp.with(|erp| erp.stock.values().map(|(_, sold)| sold).sum::<i64>()) > 0;
    until("a batch is applied", has).await;
    let report = house.reconcile().await;
    assert_eq!(house.far_end.snapshot()[0].lanes[0].depth, 1, "its answer is still open");
    assert_eq!(report.state, "agrees", "{report:?}");
    let (in_flight, dead, unexplained) = causes(&report);
    assert!(in_flight > -sold && (dead, unexplained) == (0, 0), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_dead_is_explained_by_that() {
    let mut house = House::open(|_| {}).await;
    house.settle().await;
    house.erp.with(|erp| erp.refused = Some(sku(2).to_string()));
    house.sell(0..120);
    house.settle().await;
    assert!(house.far_end.snapshot()[0].dead_letters > 0);
    let of_two = house.shop.sold.iter().filter(|((sold, _), _)| *sold == sku(2).to_string());
    let sold: i64 = of_two.map(|(_, units)| units).sum();
    let report = house.reconcile().await;
    assert!(sold > 0);
    assert_eq!((report.state.as_str(), causes(&report)), ("agrees", (0, -sold, 0)));
    assert_eq!((report.dead_lettered_positions, &report.drifts[0].sku), (1, &sku(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_that_runs_makes_no_false_alarm() {
    let mut house = House::open(|config| {
        config.reconcile.as_mut().unwrap().readings_max = 100;
        // Its pages are of different moments, and it has no word for that.
        config.reconcile.as_mut().unwrap().revision = String::new();
    })
    .await;
    house.settle().await;
    house.erp.with(|erp| erp.latency = Duration::from_millis(20));
    let reconcilers = house.reconcilers.clone();
    let watching = tokio::spawn(async move {
        let mut reports = Vec::new();
        for _ in 0..60 {
            reports.push(reconcilers.run("erp").await.unwrap());
        }
        reports
    });
    let mut n = 0;
    while !watching.is_finished() {
        house.shop.sell(n).unwrap();
        if n.is_multiple_of(3) {
            ship(&house.shop, n);
        }
        n += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let reports = watching.await.unwrap();
    for report in &reports {
        assert_eq!(report.state, "agrees", "{report:?}");
        assert_eq!(causes(report).2, 0);
    }
    assert!(n > 50 && reports.iter().any(|report| report.in_flight_positions > 0));
    house.settle().await;
    assert_eq!(house.reconcile().await.drifts, []);
}

fn ship(shop: &Shop<SimStorage>, n: u64) {
    let order = crate::far_common::order_id(n);
    let view = shop.engine.settle_blocking(shop.engine.order(&order)).unwrap().value;
    let line = &view.allocations[0];
    let lines = vec![ShipLine {
        sku: line.sku.clone(),
        // From the other one, whatever was sold where.
        location: Some(location(n + 1)),
        quantity: Quantity::new(1).unwrap(),
    }];
    let shipment_id = format!("S-{n}").parse().unwrap();
    let ship = Ship { shipment_id, lines, carrier: None, tracking: None };
    let key = format!("ship-{n}").parse().unwrap();
    let shipped = shop.engine.ship(Key::new("", &key), &order, &ship);
    shop.engine.settle_blocking(shipped).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_lies_makes_an_error_and_no_figure() {
    let mut house = House::open(|config| {
        let reconcile = config.reconcile.as_mut().unwrap();
        (reconcile.page_ms_max, reconcile.page_bytes_max) = (300, 64 << 10);
    })
    .await;
    house.sell(0..40);
    house.settle().await;
    for (lie, told) in [
        (Lie::Garbage, "no JSON"),
        (Lie::Hangs, "within 300 ms"),
        (Lie::Large, "65536 bytes"),
        (Lie::Overlaps, "twice"),
        (Lie::Halves, "no whole number at `/on_hand` of position 0"),
        (Lie::Broken, "answered 500"),
        (Lie::Round, "go round"),
        (Lie::Restless(u32::MAX), "changed under 5 readings"),
    ] {
        house.erp.with(|erp| erp.lie = lie);
        let report = house.reconcile().await;
        assert_eq!((report.state.as_str(), report.drifts.len()), ("failed", 0), "{lie:?}");
        let reason = report.reason.clone().unwrap();
        assert!(reason.contains(told), "{lie:?}: {reason}");
    }
    // It came to rest: read again, and all is well.
    house.erp.with(|erp| erp.lie = Lie::Restless(2));
    let report = house.reconcile().await;
    assert_eq!((report.state.as_str(), report.readings), ("agrees", 2), "{report:?}");
    house.erp.with(|erp| (erp.lie, erp.stock) = (Lie::None, Default::default()));
    let empty = house.reconcile().await;
    assert_eq!((empty.state.as_str(), empty.unexplained_positions), ("drift", 40 + SKUS));
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_bounded_one_runs_at_a_time_and_a_schedule_runs_by_itself() {
    let house = House::open(|config| {
        config.reconcile.as_mut().unwrap().positions_max = 39;
    })
    .await;
    house.settle().await;
    let report = house.reconcile().await;
    assert!(report.reason.as_ref().unwrap().contains("more than 39 positions"), "{report:?}");
    house.erp.with(|erp| erp.lie = Lie::Hangs);
    let reconcilers = house.reconcilers.clone();
    let pages = house.erp.with(|erp| erp.pages);
    let first = tokio::spawn(async move { reconcilers.run("erp").await });
    until("it is under way", || house.erp.with(|erp| erp.pages) > pages).await;
    assert_eq!(house.reconcilers.run("erp").await.unwrap_err(), Unreconciled::UnderWay);
    // Who asked goes away; it goes on.
    first.abort();
    house.erp.with(|erp| erp.lie = Lie::None);
    until("it is told", || {
        let last = house.reconcilers.last("erp").unwrap();
        last.reason.as_ref().is_some_and(|reason| reason.contains("within 2000 ms"))
    })
    .await;

    let scheduled = House::open(|config| {
        config.reconcile.as_mut().unwrap().every_ms = Some(100);
    })
    .await;
    scheduled.settle().await;
    until("it is compared", || {
        scheduled.reconcilers.last("erp").is_ok_and(|report| report.state == "agrees")
    })
    .await;
    drop(scheduled.reconcilers);
    scheduled.far_end.shutdown(PATIENCE).await.unwrap();
}
