//! Trials of the real engine behind its real API on a loopback port: over HTTP/1.1, over HTTP/2, over the
//! batch route, and without a wire. The server as a process of its own is tried where it has been built:
//! see the last test.

mod common;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use common::scenario;
use holdfast::{
    Engine, Options,
    api::{self, NoSinks, State},
    wal,
};
use holdfast_loadtest::{
    recording::Outcome,
    run::Progress,
    scenario::Scenario,
    trial::{Place, Protocol, Setup, Trial},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};

const SALE: &str = "[catalogue]\nskus = 20\nstock = 30\nlocations = 2\n[shoppers]\nthink_ms = [5, 60]\n\
                    abandon = 0.2\npayment_failure = 0.2\none_step = 0.2\nlines = [3, 1]\n\
                    quantity = [3, 1]\n[retries]\ntwice = 0.1\ntwice_after_ms = 4\n\
                    [sending]\nconnections = 16\nlag_p999_us_max = 60000000\n";

/// A server on a runtime of its own, that goes with it.
struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

fn options() -> Options {
    Options {
        wal: wal::Options {
            segment_bytes: 1 << 20,
            budget_bytes: 128 << 20,
            ..wal::Options::default()
        },
        positions_max: 4_096,
        reservations_max: 1 << 15,
        keys_max: 1 << 16,
        orders_max: 1 << 15,
        customer_limits_max: 1 << 15,
        overdue_grace_ms: 0,
        ..Options::default()
    }
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path(), options()).unwrap();
        let state = State::new(api::Options { shutdown_grace_ms: 100, ..api::Options::default() });
        state.ready(engine, Arc::new(NoSinks));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        runtime.spawn(api::serve(listener, state, async { drop(stopped.await) }));
        Self { address, stop: Some(stop), runtime, _dir: dir }
    }

    fn setup(&self, protocol: Protocol, scenario: &Scenario) -> Setup {
        let url = format!("http://{}", self.address);
        let place = Place::Url { url, api_key: None };
        Setup { scenario: scenario.clone(), place, protocol }
    }
}

fn tried(setup: &Setup) -> Trial {
    setup.try_at(1.0, &Progress::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// That the books agree, and that there is something in them.
#[track_caller]
fn agree(trial: &Trial) {
    assert!(trial.audited(), "{:#?}", trial.checks);
    let sold = trial.checks.iter().find(|c| c.what == "units sold: shoppers = ledger").unwrap();
    assert!(sold.expected > 100, "{sold:?}");
    let totals = trial.run.recording.totals();
    assert!(totals.count(Outcome::SoldOut) > 20, "{}", totals.count(Outcome::SoldOut));
    let failed = [Outcome::Error, Outcome::TimedOut, Outcome::Unsent].map(|o| totals.count(o));
    assert_eq!(failed, [0; 3]);
}

#[test]
fn over_http_1_the_books_agree_and_again_on_what_the_first_run_left() {
    let server = Server::start();
    let setup = server.setup(Protocol::Http1, &scenario(1_000, 1.0, SALE));
    agree(&tried(&setup));
    agree(&tried(&setup));
}

#[test]
fn over_http_2_the_books_agree() {
    let server = Server::start();
    let mut scenario = scenario(1_000, 1.0, SALE);
    scenario.sending.connections = 3;
    let trial = tried(&server.setup(Protocol::Http2, &scenario));
    agree(&trial);
    assert!(trial.target.contains("HTTP/2"), "{}", trial.target);
}

#[test]
fn over_the_batch_route_the_books_agree() {
    let server = Server::start();
    let mut scenario = scenario(1_500, 1.0, SALE);
    // Few, so that reservations wait for each other.
    scenario.sending.connections = 2;
    agree(&tried(&server.setup(Protocol::Batch, &scenario)));
}

#[test]
fn without_a_wire_the_books_agree_with_the_log_too() {
    let place = Place::InProcess { data: None };
    let scenario = scenario(1_000, 1.0, SALE);
    let trial = tried(&Setup { scenario, place, protocol: Protocol::Http1 });
    agree(&trial);
    let log = trial.checks.iter().find(|c| c.what == "grants: shoppers = log").unwrap();
    assert!(log.ok && log.found > 100, "{log:?}");
}

#[test]
fn a_purchase_limit_is_a_refusal_and_no_error() {
    let server = Server::start();
    let more = "[catalogue]\nskus = 2\npurchase_limit = 1\n[shoppers]\ncustomers = 20\nabandon = 1.0\n\
                [sending]\nconnections = 8\n";
    let trial = tried(&server.setup(Protocol::Http1, &scenario(500, 0.4, more)));
    assert!(trial.audited(), "{:#?}", trial.checks);
    let totals = trial.run.recording.totals();
    let counts = [Outcome::Granted, Outcome::Refused].map(|o| totals.count(o));
    assert_eq!((counts[0] + counts[1], counts[0] <= 40), (200, true), "{counts:?}");
}

#[test]
fn holds_that_run_out_during_the_run_are_no_difference() {
    let server = Server::start();
    let more = "[catalogue]\nskus = 5\nstock = 20\n[shoppers]\nabandon = 1.0\nttl_ms = 150\n\
                [sending]\nconnections = 8\n";
    let trial = tried(&server.setup(Protocol::Http1, &scenario(500, 1.0, more)));
    assert!(trial.audited(), "{:#?}", trial.checks);
    let granted = trial.run.recording.totals().count(Outcome::Granted);
    assert!(granted > 150, "what ran out was sold again: {granted}");
}

#[test]
fn several_senders_share_one_plan() {
    let server = Server::start();
    let mut scenario = scenario(1_000, 0.7, SALE);
    scenario.sending.senders = 3;
    let trial = tried(&server.setup(Protocol::Http1, &scenario));
    assert!(trial.audited(), "{:#?}", trial.checks);
    assert_eq!(trial.plan.shoppers(), 700);
}

#[test]
fn a_server_that_goes_away_is_an_error_and_no_good_run() {
    let mut server = Server::start();
    let more = "[sending]\ntimeout_ms = 300\ndrain_ms = 500\n[shoppers]\nthink_ms = [5, 50]\n";
    let setup = server.setup(Protocol::Http1, &scenario(500, 1.0, more));
    let stop = server.stop.take().unwrap();
    let progress = Progress::default();
    let ended = &progress.ended;
    let trial = thread::scope(|scope| {
        scope.spawn(move || {
            while ended.load(Ordering::Relaxed) < 50 {
                thread::sleep(Duration::from_millis(5));
            }
            let _ = stop.send(());
            thread::sleep(Duration::from_millis(200));
            server.runtime.shutdown_background();
        });
        setup.try_at(1.0, &progress)
    });
    let said = trial.err().expect("nobody is there to be asked").to_string();
    assert!(said.contains("is it running?") || said.contains("shutting_down"), "{said}");
}

#[test]
fn nobody_there_is_told_before_anything_is_sent() {
    let place = Place::Url { url: "http://127.0.0.1:9".to_owned(), api_key: None };
    let setup = Setup { scenario: scenario(10, 0.1, ""), place, protocol: Protocol::Http1 };
    let said = setup.try_at(1.0, &Progress::default()).err().unwrap().to_string();
    assert!(said.contains("127.0.0.1:9"), "{said}");
}

/// `cargo build -p holdfast && cargo test -p loadtest --test holdfast -- --ignored`
#[test]
#[ignore = "needs the `holdfast` binary, which the tester's own tests don't build"]
fn a_server_of_its_own_delivers_what_was_sold() {
    let this = std::env::current_exe().unwrap();
    let binary: PathBuf = this.parent().unwrap().with_file_name("holdfast");
    let more = format!(
        "{SALE}[[receivers]]\nname = \"erp\"\ndomain = \"inventory\"\nlatency_ms = 5\n\
         outages = [{{ at_s = 0.2, for_s = 0.5 }}]\n[[receivers]]\nname = \"finance\"\ndomain = \"finance\"\n"
    );
    let place = Place::Own { binary: Some(binary), data: None };
    let scenario = scenario(500, 1.5, &more);
    let trial = tried(&Setup { scenario, place, protocol: Protocol::Http1 });
    agree(&trial);
    for what in [
        "units sold: shoppers = erp",
        "cents: shoppers = finance",
        "grants: shoppers = log",
        "sinks that are behind",
    ] {
        assert!(trial.checks.iter().any(|check| check.what == what), "{what} was not compared");
    }
}
