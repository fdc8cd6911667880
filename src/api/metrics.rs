//! `GET /metrics`: the counters of requests, engine, log and sinks, and what is observed beside them, as
//! OpenMetrics, or in the older text format for who asks for `text/plain`.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use axum::{
    extract,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use super::{State, directory::Counts, partners::Outcomes, tls::TlsCounts};
use crate::{
    engine::{Counters, Engine, Status},
    model::sink::{Attempts, LaneView, SinkView, reconciliation::ReconciliationSummary},
    telemetry::{Delivered, Exposition, Format, Kind},
    wal::{Stats, archive::ArchiveStats},
};

/// Reads the metrics.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "OpenMetrics 1.0.0.", body = String,
        content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    ([(header::CONTENT_TYPE, format.content_type())], text(&state, format)).into_response()
}

fn text(state: &State, format: Format) -> String {
    let mut text = Exposition::new(format);
    state.requests().expose("http", &mut text);
    text.gauge("holdfast_http_in_flight", "Requests under way.", state.in_flight());
    text.counter("holdfast_http_shed", "Requests refused at the limit.", state.shed());
    let live = state.live();
    text.gauge("holdfast_live_listeners", "Who follows the live view.", live.listeners());
    text.counter("holdfast_live_refused", "Refused to follow it at the limit.", live.refused());
    expose_partners(state, &mut text);
    expose_hooks(state, &mut text);
    if let Some(tls) = state.tls() {
        expose_tls(&tls.counts, &mut text);
    }
    state.gateway().expose(&mut text);
    state.backups().expose(&mut text);
    let ready = state.engine().ok();
    text.gauge("holdfast_ready", "1 once requests are served.", u8::from(ready.is_some()));
    if let Some(engine) = ready {
        expose_engine(engine, &mut text);
    }
    expose_sinks(&state.sinks(), &mut text);
    Delivered::expose(&state.delivered(), &mut text);
    expose_outcomes(state, &mut text);
    if let Some(observed) = state.observed() {
        observed.expose(&mut text);
    }
    text.finish()
}

/// What partners ask for, over HTTP and through the gateway.
fn expose_partners(state: &State, text: &mut Exposition) {
    let unauthenticated = "Requests without a key that is good.";
    text.counter("holdfast_unauthenticated", unauthenticated, state.unauthenticated());
    let accounts = state.accounts();
    let help = "Requests let in, over HTTP and through the gateway, by partner.";
    text.family("holdfast_partner_taken", Kind::Counter, None, help);
    for account in &accounts {
        let taken = account.counts.taken.load(Relaxed);
        text.sample("holdfast_partner_taken_total", &[("partner", &account.name)], taken);
    }
    let help = "Requests not taken, by partner and reason.";
    text.family("holdfast_partner_refused", Kind::Counter, None, help);
    for account in &accounts {
        let Counts { forbidden, rate, quota, .. } = &account.counts;
        for (reason, count) in [("scope", forbidden), ("rate", rate), ("quota", quota)] {
            let labels = [("partner", &*account.name), ("reason", reason)];
            text.sample("holdfast_partner_refused_total", &labels, count.load(Relaxed));
        }
    }
}

/// Messages to hooks that were too many.
fn expose_hooks(state: &State, text: &mut Exposition) {
    let help = "Messages that a hook did not take since they were too many; signed: its partner's.";
    text.family("holdfast_hook_refused", Kind::Counter, None, help);
    for hooked in state.partners().hooks() {
        for (signed, count) in ["true", "false"].into_iter().zip(&hooked.door.refused) {
            let labels = [("partner", hooked.name), ("signed", signed)];
            text.sample("holdfast_hook_refused_total", &labels, count.load(Relaxed));
        }
    }
}

/// What became of requests and of signed messages, by partner.
fn expose_outcomes(state: &State, text: &mut Exposition) {
    let mut by_partner: BTreeMap<String, [u64; Outcomes::NAMES.len()]> = BTreeMap::new();
    let mut add = |partner: &str, counted: [u64; Outcomes::NAMES.len()]| {
        let sums = by_partner.entry(partner.to_owned()).or_default();
        sums.iter_mut().zip(counted).for_each(|(sum, count)| *sum += count);
    };
    for account in state.accounts() {
        add(&account.name, account.counts.outcomes.counted());
    }
    state.partners().messages().for_each(|(partner, counted)| add(partner, counted));
    let help = "Requests and messages of a partner, by what became of them.";
    text.family("holdfast_partner_requests", Kind::Counter, None, help);
    for (partner, counted) in &by_partner {
        for (outcome, count) in Outcomes::NAMES.iter().zip(counted) {
            let labels = [("partner", partner.as_str()), ("outcome", *outcome)];
            text.sample("holdfast_partner_requests_total", &labels, *count);
        }
    }
}

fn expose_tls(counts: &TlsCounts, text: &mut Exposition) {
    for (name, help, count) in [
        ("holdfast_tls_handshakes", "Handshakes done.", &counts.handshakes),
        ("holdfast_tls_handshakes_failed", "Handshakes not done.", &counts.failed),
        ("holdfast_tls_reloads", "Times the files were read again.", &counts.reloads),
        (
            "holdfast_tls_reloads_failed",
            "Times they could not be used, and those before stayed.",
            &counts.reloads_failed,
        ),
    ] {
        text.counter(name, help, count.load(Relaxed));
    }
}

fn expose_engine(engine: &Engine, text: &mut Exposition) {
    let status = engine.status();
    expose_status(&status, text);
    expose_counters(&status.counters, text);
    expose_shed(&status.counters, text);
    expose_log(&engine.log().stats(), text);
    let poisoned = u8::from(engine.log().poisoned().is_some());
    text.gauge("holdfast_log_poisoned", "1 once the log could not be written.", poisoned);
}

fn expose_status(status: &Status, text: &mut Exposition) {
    text.family("holdfast_build", Kind::Info, None, "The version and the life of the data.");
    let labels = [("version", status.version), ("incarnation", status.incarnation.as_str())];
    text.sample("holdfast_build_info", &labels, 1);
    for (name, help, value) in [
        ("holdfast_log_appended_lsn", "End of the log.", status.appended.0),
        ("holdfast_log_durable_lsn", "All below is durable.", status.durable.0),
        ("holdfast_log_checkpoint_lsn", "All below is in a checkpoint.", status.checkpoint.0),
        ("holdfast_reservations_open", "Reservations held.", status.open_reservations),
        ("holdfast_reservations", "Reservations kept.", status.reservations),
        ("holdfast_reservations_max", "Reservations that fit.", status.reservations_max),
        ("holdfast_idempotency_keys", "Keys kept.", status.keys),
        ("holdfast_idempotency_keys_max", "Keys that fit.", status.keys_max),
        ("holdfast_orders", "Orders kept.", status.orders),
        ("holdfast_orders_max", "Orders that fit.", status.orders_max),
        (
            "holdfast_orders_set_aside_bytes",
            "Of the log, for orders' goods and payment.",
            status.orders_set_aside_bytes,
        ),
        (
            "holdfast_orders_set_aside_bytes_max",
            "The most that is set aside for them.",
            status.orders_set_aside_bytes_max,
        ),
        ("holdfast_positions", "Positions known.", status.positions),
        ("holdfast_parked_events", "Reports that wait for their order.", status.parked_events),
        (
            "holdfast_parked_events_refused",
            "Reports that their order would not have.",
            status.parked_events_refused,
        ),
        ("holdfast_parked_events_max", "Parked reports that fit.", status.parked_events_max),
        ("holdfast_oversold_units", "Units oversold; always 0.", status.oversold),
        ("holdfast_shortfall_units", "Units missing after forced corrections.", status.shortfall),
    ] {
        text.gauge(name, help, value);
    }
    let age_seconds = "holdfast_parked_events_age_seconds";
    text.family(age_seconds, Kind::Gauge, Some("seconds"), "Age of the oldest parked report.");
    text.sample(age_seconds, &[], status.parked_events_oldest_age_ms as f64 / 1e3);
}

fn expose_counters(counters: &Counters, text: &mut Exposition) {
    for (name, help, value) in [
        ("holdfast_reservations_granted", "Reservations granted.", counters.granted),
        ("holdfast_refused_stock", "Refused for lack of stock.", counters.refused_stock),
        ("holdfast_refused_limit", "Refused at a customer's limit.", counters.refused_limit),
        ("holdfast_refused_other", "Refused for another reason.", counters.refused_other),
        ("holdfast_replayed", "Repeats answered with the first answer.", counters.replayed),
        ("holdfast_reservations_committed", "Reservations committed.", counters.committed),
        ("holdfast_reservations_released", "Reservations released.", counters.released),
        ("holdfast_reservations_expired", "Reservations expired.", counters.expired),
        ("holdfast_reservations_extended", "Reservations extended.", counters.extended),
        ("holdfast_orders_placed", "Orders placed in one step.", counters.orders_placed),
        (
            "holdfast_events_parked",
            "Reports parked for want of their order.",
            counters.events_parked,
        ),
        ("holdfast_events_unparked", "Parked reports that happened.", counters.events_unparked),
        ("holdfast_checkpoints", "Checkpoints written.", counters.checkpoints),
    ] {
        text.counter(name, help, value);
    }
}

/// With so little left no reservation is granted any more.
const HARD_BYTES: i64 = 1_024;

fn expose_shed(counters: &Counters, text: &mut Exposition) {
    let help = "Work that can wait, refused past the log's soft mark.";
    text.family("holdfast_log_shed", Kind::Counter, None, help);
    for (reason, count) in [
        ("low_priority", counters.shed_low_priority),
        ("bulk_order", counters.shed_bulk_order),
        ("stock_import", counters.shed_stock_import),
    ] {
        text.sample("holdfast_log_shed_total", &[("reason", reason)], count);
    }
}

fn expose_log(log: &Stats, text: &mut Exposition) {
    text.counter("holdfast_log_records", "Records appended.", log.records);
    text.counter("holdfast_log_appended_bytes", "Bytes appended.", log.bytes);
    text.counter("holdfast_log_syncs", "Syncs of the log.", log.syncs);
    let sync_seconds = "holdfast_log_sync_seconds";
    text.family(sync_seconds, Kind::Counter, Some("seconds"), "Time spent in syncs.");
    text.sample("holdfast_log_sync_seconds_total", &[], log.sync_us_sum as f64 / 1e6);
    let max = log.sync_us_max as f64 / 1e6;
    text.gauge("holdfast_log_sync_max_seconds", "The longest sync.", max);
    text.counter("holdfast_log_stalls", "Times the log had to be waited for.", log.stalls);
    text.counter("holdfast_log_room_waits", "Times room had to be waited for.", log.room_waits);
    text.counter("holdfast_log_segments_made", "Segments made.", log.segments_made);
    text.counter("holdfast_log_segments_recycled", "Segments recycled.", log.segments_recycled);
    text.gauge("holdfast_log_used_bytes", "Of the disk budget.", log.used_bytes);
    text.gauge("holdfast_log_budget_bytes", "The disk budget.", log.budget_bytes);
    text.family("holdfast_log_mark", Kind::Gauge, None, "1 while a mark of the budget is passed.");
    let hard = log.exhausted && log.free_bytes <= HARD_BYTES;
    for (mark, passed) in [("soft", log.past_soft_mark), ("hard", hard)] {
        text.sample("holdfast_log_mark", &[("mark", mark)], u8::from(passed));
    }
    text.gauge("holdfast_log_closing_bytes", "Set aside to close what is open.", log.closing_bytes);
    if let Some(archive) = &log.archive {
        expose_archive(archive, text);
    }
}

fn expose_archive(archive: &ArchiveStats, text: &mut Exposition) {
    text.counter("holdfast_archive_archived", "Segments archived.", archive.archived);
    text.counter("holdfast_archive_in_bytes", "Bytes of segments archived.", archive.bytes_in);
    text.counter("holdfast_archive_out_bytes", "Bytes that they took.", archive.bytes_out);
    let busy_seconds = "holdfast_archive_busy_seconds";
    text.family(busy_seconds, Kind::Counter, Some("seconds"), "Time spent archiving.");
    text.sample("holdfast_archive_busy_seconds_total", &[], archive.busy_ms as f64 / 1e3);
    text.counter("holdfast_archive_failures", "Attempts that failed.", archive.failures);
    text.gauge(
        "holdfast_archive_failing",
        "1 after a failed attempt, until one succeeds.",
        archive.failing,
    );
    text.gauge("holdfast_archive_waiting_segments", "Full and not archived.", archive.waiting);
    text.counter("holdfast_archive_removed", "Files removed, old or for room.", archive.removed);
    text.gauge("holdfast_archive_segments", "Files in the archive.", archive.segments);
    text.gauge("holdfast_archive_used_bytes", "What they take.", archive.bytes);
    text.gauge("holdfast_archive_max_bytes", "What they may take.", archive.bytes_max);
    text.gauge("holdfast_archive_begin_lsn", "Where what joins the log begins.", archive.begin.0);
    text.gauge("holdfast_archive_end_lsn", "All below is archived.", archive.end.0);
}

/// A number of a sink: name, help, how to read it.
type Reading = (&'static str, &'static str, fn(&SinkView) -> f64);

const SINK_GAUGES: [Reading; 8] = [
    ("holdfast_sink_running", "1 while it runs.", |s| f64::from(u8::from(s.state == "running"))),
    ("holdfast_sink_acknowledged_lsn", "All below is with the partner.", |s| {
        s.acknowledged_lsn.0 as f64
    }),
    ("holdfast_sink_lag_records", "Records not with the partner.", |s| s.lag_records as f64),
    ("holdfast_sink_lag_seconds", "Age of the oldest of them.", |s| s.lag_ms as f64 / 1e3),
    ("holdfast_sink_concurrency", "Requests allowed at once.", |s| s.concurrency as f64),
    ("holdfast_sink_dead_letters", "Lines set aside.", |s| s.dead_letters as f64),
    ("holdfast_sink_parked", "Records waiting for others.", |s| s.parked as f64),
    ("holdfast_sink_parked_age_seconds", "Age of the oldest of them.", |s| {
        s.oldest_parked_age_ms as f64 / 1e3
    }),
];

const SINK_COUNTERS: [Reading; 5] = [
    ("holdfast_sink_batches_delivered", "Batches taken.", |s| s.batches_delivered as f64),
    ("holdfast_sink_events_delivered", "Records in them.", |s| s.events_delivered as f64),
    ("holdfast_sink_retries", "Attempts after the first.", |s| s.retries as f64),
    ("holdfast_sink_breaker_opens", "How often the breaker opened.", |s| {
        s.attempts.breaker_opens as f64
    }),
    ("holdfast_sink_parked_overflows", "Booked early for lack of room to wait.", |s| {
        s.parked_overflows as f64
    }),
];

fn expose_sinks(sinks: &[SinkView], text: &mut Exposition) {
    for (name, help, read) in SINK_GAUGES {
        let unit = name.ends_with("seconds").then_some("seconds");
        text.family(name, Kind::Gauge, unit, help);
        for sink in sinks {
            text.sample(name, &labels(sink), read(sink));
        }
    }
    for (name, help, read) in SINK_COUNTERS {
        text.family(name, Kind::Counter, None, help);
        for sink in sinks {
            text.sample(&format!("{name}_total"), &labels(sink), read(sink));
        }
    }
    expose_lanes(sinks, text);
    expose_attempts(sinks, text);
    expose_books(sinks, text);
    expose_reconciliations(sinks, text);
}

fn expose_attempts(sinks: &[SinkView], text: &mut Exposition) {
    text.family("holdfast_sink_attempts", Kind::Counter, None, "Attempts by how they ended.");
    for sink in sinks {
        let Attempts { done, refused, denied, failed, .. } = sink.attempts;
        let ends = [("done", done), ("refused", refused), ("denied", denied), ("failed", failed)];
        for (outcome, count) in ends {
            let labels = [("sink", sink.name.as_str()), ("outcome", outcome)];
            text.sample("holdfast_sink_attempts_total", &labels, count);
        }
    }
    text.family("holdfast_sink_waits", Kind::Counter, None, "Waits to be sent, by reason.");
    for sink in sinks {
        for (reason, count) in sink.attempts.waits.by_reason() {
            let labels = [("sink", sink.name.as_str()), ("reason", reason)];
            text.sample("holdfast_sink_waits_total", &labels, count);
        }
    }
}

fn expose_reconciliations(sinks: &[SinkView], text: &mut Exposition) {
    type Of = fn(&ReconciliationSummary) -> f64;
    let gauges: [(&str, &str, Of); 3] = [
        (
            "holdfast_reconciliation_unexplained_positions",
            "Figures of the partner that nothing explains.",
            |last| last.unexplained_positions as f64,
        ),
        (
            "holdfast_reconciliation_failed",
            "1 if the last comparison with the partner's stock failed.",
            |last| f64::from(u8::from(last.state == "failed")),
        ),
        (
            "holdfast_reconciliation_age_seconds",
            "Time since the last comparison with the partner's stock.",
            |last| last.age_ms as f64 / 1e3,
        ),
    ];
    for (name, help, read) in gauges {
        let unit = name.ends_with("seconds").then_some("seconds");
        text.family(name, Kind::Gauge, unit, help);
        for sink in sinks {
            if let Some(last) = &sink.reconciliation {
                text.sample(name, &[("sink", sink.name.as_str())], read(last));
            }
        }
    }
}

fn labels(sink: &SinkView) -> [(&str, &str); 2] {
    [("sink", &sink.name), ("domain", &sink.domain)]
}

fn expose_lanes(sinks: &[SinkView], text: &mut Exposition) {
    type Read = fn(&LaneView) -> f64;
    let gauges: [(&str, &str, Read); 2] = [
        ("holdfast_sink_lane_depth", "Batches that wait in a lane.", |lane| lane.depth as f64),
        ("holdfast_sink_lane_age_seconds", "Age of the oldest record that waits in a lane.", |l| {
            l.oldest_age_ms as f64 / 1e3
        }),
    ];
    for (name, help, read) in gauges {
        let unit = name.ends_with("seconds").then_some("seconds");
        text.family(name, Kind::Gauge, unit, help);
        let lanes = sinks.iter().flat_map(|sink| sink.lanes.iter().map(move |l| (sink, l)));
        for (sink, lane) in lanes {
            let [name_label, domain] = labels(sink);
            let labels = [name_label, domain, ("priority", lane.priority.as_str())];
            text.sample(name, &labels, read(lane));
        }
    }
}

/// What finance was owed, and what of it is posted: not what dead letters sum up.
fn expose_books(sinks: &[SinkView], text: &mut Exposition) {
    let owed = |s: &SinkView| s.events_delivered + s.lag_records + s.parked;
    let posted = |s: &SinkView| s.events_delivered.saturating_sub(s.dead_letter_records);
    let failed = |s: &SinkView| s.attempts.refused + s.attempts.denied + s.attempts.failed;
    let of_finance = || sinks.iter().filter(|sink| sink.domain == "finance");
    let name = "holdfast_finance_failed_postings";
    text.family(name, Kind::Counter, None, "Attempts to post a batch that did not succeed.");
    for sink in of_finance() {
        let labels = [("sink", sink.name.as_str())];
        text.sample("holdfast_finance_failed_postings_total", &labels, failed(sink));
    }
    type Read<'a> = &'a dyn Fn(&SinkView) -> f64;
    let gauges: [(&str, &str, Read<'_>); 3] = [
        ("holdfast_finance_owed_records", "Records that finance is to have.", &|s| owed(s) as f64),
        ("holdfast_finance_posted_records", "Those of them that it has.", &|s| posted(s) as f64),
        ("holdfast_finance_completeness_ratio", "Posted of owed.", &|sink| {
            if owed(sink) == 0 { 1.0 } else { posted(sink) as f64 / owed(sink) as f64 }
        }),
    ];
    for (name, help, read) in gauges {
        text.family(name, Kind::Gauge, None, help);
        for sink in of_finance() {
            text.sample(name, &[("sink", sink.name.as_str())], read(sink));
        }
    }
}
