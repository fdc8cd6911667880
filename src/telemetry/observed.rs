//! What is observed beside requests, in the words of the business: service levels, incidents, the age at
//! which orders reached a stage, what sells through, and what became of alerts and spans.
//!
//! The observer ([`crate::observe`]) writes it, `/metrics` and `/v1/service-levels` read it. What has a
//! name in it is bounded by the configuration: service levels, sinks, the SKUs that sell most.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::{Mutex, RwLock};

use super::{
    Ages, Exposition, Incidents, Kind, Promise, ServiceLevel, ServiceLevelView, Spans,
    service_level,
};
use crate::model::{Lsn, fact::FactKind, sink::SinkView};

/// The stages of an order that something happening to it makes, by the kind of what happens.
const STAGES: [(FactKind, &str); 6] = [
    (FactKind::Shipment, "shipped"),
    (FactKind::Cancellation, "cancelled"),
    (FactKind::Invoice, "invoiced"),
    (FactKind::Settlement, "settled"),
    (FactKind::Refund, "refunded"),
    (FactKind::Receipt, "returned"),
];

/// Orders that have not come to a stage yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrdersWaiting {
    /// What makes them come to it.
    pub stage: FactKind,
    /// How many there are.
    pub orders: u64,
    /// The age of the oldest; 0 without any.
    pub age_ms_max: u64,
}

/// What sold of a SKU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkuSales {
    /// The SKU.
    pub sku: String,
    /// Units sold, less those called off.
    pub sold: u64,
    /// Units that can still be sold.
    pub available: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Observed {
    levels: RwLock<Vec<Arc<ServiceLevel>>>,
    spans: Option<Arc<Spans>>,
    incidents: Mutex<BTreeMap<String, Incidents>>,
    stages: Mutex<[Ages; STAGES.len()]>,
    waiting: Mutex<Vec<OrdersWaiting>>,
    skus: Mutex<Vec<SkuSales>>,
    sold_units: Mutex<Arc<[u64]>>,
    /// Records of the log that were gone before the observer had read them: times that this was so.
    pub skips: AtomicU64,
    /// What became of alerts.
    pub alerts: AlertCounts,
}

/// What became of alerts.
#[derive(Debug, Default)]
pub struct AlertCounts {
    /// Taken by whoever gets them.
    pub sent: AtomicU64,
    /// Given up after as many attempts as may be.
    pub failed: AtomicU64,
    /// Dropped since too many waited.
    pub dropped: AtomicU64,
}

impl Observed {
    /// Nothing seen yet of what is promised; spans are kept where there is a place for them.
    pub fn new(promises: Vec<Promise>, spans: Option<Arc<Spans>>) -> Self {
        let observed = Self { spans, ..Self::default() };
        observed.promise(promises);
        observed
    }

    /// From here on this is promised, and nothing else. A promise that is as it was keeps what was seen of
    /// it.
    pub fn promise(&self, promises: Vec<Promise>) {
        let mut levels = self.levels.write();
        let level = |promise: Promise| {
            let same = levels.iter().find(|level| *level.promise() == promise).cloned();
            same.unwrap_or_else(|| Arc::new(ServiceLevel::new(promise)))
        };
        *levels = promises.into_iter().map(level).collect();
    }

    /// The service levels, in the order of the configuration.
    pub fn levels(&self) -> Vec<Arc<ServiceLevel>> {
        self.levels.read().clone()
    }

    /// How each of them stands.
    pub fn level_views(&self) -> Vec<ServiceLevelView> {
        self.levels.read().iter().map(|level| level.view()).collect()
    }

    /// Where finished spans go; nothing if traces are off.
    pub fn spans(&self) -> Option<&Arc<Spans>> {
        self.spans.as_ref()
    }

    /// Looks at the sinks for incidents; `durable` is the log's end.
    pub fn look_at(&self, sinks: &[SinkView], durable: Lsn, now_s: f64) {
        let mut incidents = self.incidents.lock();
        incidents.retain(|name, _| sinks.iter().any(|sink| sink.name == *name));
        for sink in sinks {
            if let Some(known) = incidents.get_mut(&sink.name) {
                known.look(sink, durable, now_s);
            } else {
                let mut first = Incidents::default();
                first.look(sink, durable, now_s);
                incidents.insert(sink.name.clone(), first);
            }
        }
    }

    /// Something happened to an order of this age.
    pub fn order_reached(&self, kind: FactKind, age_ms: u64) {
        let stage = STAGES.iter().position(|(of, _)| *of == kind);
        if let Some(stage) = stage {
            self.stages.lock()[stage].record(age_ms, 1);
        }
    }

    /// Orders that wait, by the stage that they have not come to.
    pub fn set_waiting(&self, waiting: Vec<OrdersWaiting>) {
        *self.waiting.lock() = waiting;
    }

    /// The SKUs that sold most, and how they stand.
    pub fn set_skus(&self, skus: Vec<SkuSales>) {
        *self.skus.lock() = skus;
    }

    /// By the number of a SKU, units sold of it.
    pub fn set_sold_units(&self, sold_units: Vec<u64>) {
        *self.sold_units.lock() = sold_units.into();
    }

    /// By the number of a SKU, units sold of it as of the last look; SKUs beyond its end were not sold.
    pub fn sold_units(&self) -> Arc<[u64]> {
        self.sold_units.lock().clone()
    }

    /// Writes all of it.
    pub fn expose(&self, text: &mut Exposition) {
        service_level::expose(&self.levels(), text);
        self.expose_incidents(text);
        let name = "holdfast_order_stage_seconds";
        let help = "The age of orders when they reached a stage, each time that they did.";
        text.family(name, Kind::Histogram, Some("seconds"), help);
        for ((_, stage), ages) in STAGES.iter().zip(&*self.stages.lock()) {
            ages.expose(name, &[("stage", stage)], text);
        }
        self.expose_waiting(text);
        self.expose_skus(text);
        self.expose_own(text);
        if let Some(spans) = &self.spans {
            spans.expose(text);
        }
    }

    fn expose_incidents(&self, text: &mut Exposition) {
        type Read = fn(&Incidents) -> f64;
        let families: [(&str, Kind, &str, Read); 5] = [
            (
                "holdfast_sink_incident_open",
                Kind::Gauge,
                "1 from a partner's outage until it has \
              all that had waited.",
                |i| f64::from(u8::from(i.is_open())),
            ),
            ("holdfast_sink_incidents", Kind::Counter, "Incidents that are over.", |i| {
                i.count as f64
            }),
            (
                "holdfast_sink_incident_seconds",
                Kind::Counter,
                "How long they took, recovery \
              included.",
                |i| i.seconds,
            ),
            (
                "holdfast_sink_last_recovery_seconds",
                Kind::Gauge,
                "How long the last incident took \
              until the partner had all that had waited.",
                |i| i.last_s,
            ),
            (
                "holdfast_sink_last_catch_up_seconds",
                Kind::Gauge,
                "How much of that it took once the \
              partner was back.",
                |i| i.last_catch_up_s,
            ),
        ];
        let incidents = self.incidents.lock();
        for (name, kind, help, read) in families {
            let unit = name.ends_with("seconds").then_some("seconds");
            text.family(name, kind, unit, help);
            let suffix = if kind == Kind::Counter { "_total" } else { "" };
            for (sink, of) in incidents.iter() {
                text.sample(&format!("{name}{suffix}"), &[("sink", sink)], read(of));
            }
        }
        let name = "holdfast_sink_recovery_seconds";
        let help = "How long each incident took until the partner had all that had waited.";
        text.family(name, Kind::Histogram, Some("seconds"), help);
        for (sink, of) in incidents.iter() {
            of.recoveries.expose(name, &[("sink", sink)], text);
        }
    }

    fn expose_waiting(&self, text: &mut Exposition) {
        let waiting = self.waiting.lock();
        type Read = fn(&OrdersWaiting) -> f64;
        let families: [(&str, Option<&str>, &str, Read); 2] = [
            (
                "holdfast_orders_waiting",
                None,
                "Orders that have not come to a stage yet, of those that are not cancelled.",
                |w| w.orders as f64,
            ),
            (
                "holdfast_orders_waiting_age_seconds",
                Some("seconds"),
                "The age of the oldest of them.",
                |w| w.age_ms_max as f64 / 1e3,
            ),
        ];
        for (name, unit, help, read) in families {
            text.family(name, Kind::Gauge, unit, help);
            for of in waiting.iter() {
                let stage = STAGES.iter().find(|(kind, _)| *kind == of.stage);
                let stage = stage.map_or("other", |(_, stage)| stage);
                text.sample(name, &[("stage", stage)], read(of));
            }
        }
    }

    fn expose_skus(&self, text: &mut Exposition) {
        let skus = self.skus.lock();
        type Read = fn(&SkuSales) -> f64;
        let families: [(&str, &str, Read); 2] = [
            (
                "holdfast_sku_sold_units",
                "Units sold and not called off, of the SKUs that sold most.",
                |s| s.sold as f64,
            ),
            (
                "holdfast_sku_sell_through_ratio",
                "The share of what was sold or could be that was sold.",
                |s| s.sold as f64 / (s.sold + s.available).max(1) as f64,
            ),
        ];
        for (name, help, read) in families {
            text.family(name, Kind::Gauge, None, help);
            for sales in skus.iter() {
                text.sample(name, &[("sku", &sales.sku)], read(sales));
            }
        }
    }

    fn expose_own(&self, text: &mut Exposition) {
        let help = "Times that the observer came too late for a part of the log.";
        text.counter("holdfast_observer_skips", help, self.skips.load(Relaxed));
        text.family("holdfast_alerts", Kind::Counter, None, "Alerts, by what became of them.");
        let AlertCounts { sent, failed, dropped } = &self.alerts;
        for (outcome, count) in [("sent", sent), ("failed", failed), ("dropped", dropped)] {
            text.sample("holdfast_alerts_total", &[("outcome", outcome)], count.load(Relaxed));
        }
    }
}
