//! Partners that do what none should, over the real engine and real HTTP: they talk nonsense, hang, break
//! off, send elsewhere, never stop talking, do not know us, show an old certificate, have a wrong clock.
//!
//! While one does so nothing is lost and nothing of it becomes a dead letter, its neighbour gets all that
//! is sold, and once it behaves it has everything, each line once. What one attempt comes to is tested
//! beside the connector (`src/sinks/http_tests.rs`, `rules_tests.rs`, `tls_tests.rs`).

mod tls;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::far_common::{
    PATIENCE, Shop,
    link::{Erp, Link, lines},
    options,
    port::{Does, Port},
    until,
};
use holdfast::{
    config::{Dedupe, Domain, Overlay, SinkConfig},
    delivery::Handle,
    engine::Engine,
    model::letter::Letter,
    sinks,
    wal::sim::SimStorage,
};

const SKUS: u64 = 8;
/// Attempts that are looked at.
const ATTEMPTS: u64 = 3;
/// What the systems of both sides may keep of an answer that nobody reads, in bytes.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// A shop, a partner that misbehaves, and a neighbour that does not.
struct House {
    shop: Shop<SimStorage>,
    erp: Port,
    books: Port,
    handle: Handle,
}

impl House {
    async fn open(url: Option<String>, change: impl FnOnce(&mut SinkConfig)) -> Self {
        let shop = Shop::open(Engine::open_on(SimStorage::new(), options()).unwrap(), SKUS);
        let (erp, books) = (Port::open(Link::default()).await, Port::open(Link::default()).await);
        Self::on(shop, erp, books, url, change).await
    }

    async fn on(
        shop: Shop<SimStorage>,
        erp: Port,
        books: Port,
        url: Option<String>,
        change: impl FnOnce(&mut SinkConfig),
    ) -> Self {
        let quick = |name, domain, url| SinkConfig {
            window_ms_max: 5,
            retry_initial_ms: 2,
            retry_max_ms: 20,
            ..SinkConfig::new(name, domain, url)
        };
        let mut config = quick("erp", Domain::Inventory, url.unwrap_or_else(|| erp.url()));
        change(&mut config);
        let configs = vec![config, quick("books", Domain::Finance, books.url())];
        let runtime = tokio::runtime::Handle::current();
        let handle = sinks::start(&shop.engine, configs, &runtime).unwrap();
        Self { shop, erp, books, handle }
    }

    /// Attempts at the partner that came to nothing.
    fn failures(&self) -> u64 {
        let attempts = self.handle.snapshot()[0].attempts;
        attempts.failed + attempts.denied
    }

    fn sell(&mut self) {
        let first = self.shop.orders;
        (first..first + 10).for_each(|n| self.shop.sell(n).unwrap());
    }

    /// Sells to a partner that names the lines of one location as bad, with so many words of padding; what it had
    /// been sent before, and the letters that came of it.
    async fn sell_to_one_that_names_bad_lines(
        &mut self,
        dedupe: Dedupe,
        words: usize,
    ) -> (usize, Vec<(String, Arc<Letter>)>) {
        let sent = {
            let mut erp = self.erp.link().erp();
            (erp.bad, erp.names_bad, erp.words) = (Some("\"BER\""), true, words);
            erp.knows_lines = dedupe == Dedupe::Line;
            erp.sent.len()
        };
        self.sell();
        self.handle.drain(PATIENCE).await.unwrap();
        let letters = self.handle.letters().into_iter().filter(|(sink, _)| sink == "erp");
        (sent, letters.collect())
    }

    /// The partner does something for some attempts; how its sink is then.
    async fn suffer(&mut self, does: Does) -> String {
        self.erp.does(does);
        let before = self.failures();
        self.sell();
        until("it is tried again and again", || self.failures() >= before + ATTEMPTS).await;
        let paid = self.shop.paid;
        let told = || self.books.link().erp().balance("receivable") == paid;
        until("the neighbour has all", told).await;
        let erp = self.handle.snapshot().remove(0);
        assert_eq!((erp.dead_letters, self.handle.letters().len()), (0, 0));
        assert!(erp.lag_records >= 10, "{erp:?}");
        erp.state
    }

    /// The partner behaves, and has everything.
    async fn heal(&self, what: &str) {
        self.erp.does(Does::Answers);
        self.handle.drain(PATIENCE).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let erp = self.erp.link().erp();
        assert_eq!(erp.sold(), self.shop.committed(), "{what}");
        erp.audit(&[]);
        self.books.link().erp().audit(&[]);
        let sinks = self.handle.snapshot();
        assert!(sinks.iter().all(|sink| sink.state == "running" && sink.dead_letters == 0));
    }

    async fn close(self) {
        self.handle.shutdown(PATIENCE).await.unwrap();
        self.shop.engine.close().unwrap();
    }
}

/// The answers of a partner whose clock is an hour fast, which wants to be asked again at once.
fn an_hour_off() -> Does {
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3_600));
    Does::status(503, &format!("date: {date}\r\nretry-after: {date}\r\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_repeated_until_there_is_one() {
    let mut house = House::open(None, |config| config.timeout_ms = 500).await;
    let many = |first: &'static str, then: &'static str| Does::Says {
        first: first.into(),
        then: then.into(),
        times: 1 << 16,
    };
    for (what, does) in [
        ("another protocol", Does::says("SSH-2.0-OpenSSH_9.9\r\n")),
        ("half a head", Does::says("HTTP/1.1 200 OK\r\ncontent-le")),
        ("half a body", Does::Breaks),
        (
            "a chunk that is none",
            Does::says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz"),
        ),
        (
            "two lengths",
            Does::says("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        ),
        ("no end of headers", many("HTTP/1.1 200 OK\r\n", "x-more: and more and more\r\n")),
        ("no end of continuing", many("", "HTTP/1.1 100 Continue\r\n\r\n")),
        ("a cut after the effect", Does::Cuts { effect: true }),
        ("a cut before it", Does::Cuts { effect: false }),
        ("silence after the effect", Does::Hangs { effect: true }),
        ("silence before it", Does::Hangs { effect: false }),
        ("a status that means nothing", Does::status(299 + 700, "")),
        ("a clock that is an hour off", an_hour_off()),
    ] {
        assert_eq!(house.suffer(does).await, "running", "{what}");
        house.heal(what).await;
    }
    house.close().await;
}

/// Wrong credentials and addresses are for a person: the sink is paused, and tried slowly.
#[tokio::test(flavor = "multi_thread")]
async fn who_refuses_us_or_sends_us_elsewhere_pauses_the_sink_and_gets_nothing_there() {
    let mut house = House::open(None, |_| {}).await;
    let elsewhere = format!("location: {}\r\n", house.books.url());
    for status in [401, 403, 301, 302, 303, 307, 308] {
        let headers =
            if status < 400 { elsewhere.as_str() } else { "www-authenticate: Bearer\r\n" };
        assert_eq!(house.suffer(Does::status(status, headers)).await, "paused", "{status}");
        let reason = house.handle.snapshot().remove(0).reason.unwrap();
        assert!(reason.contains(&status.to_string()), "{reason}");
        house.heal(&status.to_string()).await;
    }
    let books = house.books.link().erp().ids_since(0);
    assert!(books.iter().all(|id| id.starts_with("books-")), "a redirect was followed: {books:?}");
    house.close().await;
}

/// A gigabyte for an answer: as much of it is taken as systems buffer, and the attempt is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_is_not_read() {
    let mut house = House::open(None, |_| {}).await;
    let mib = 1 << 20;
    for head in ["content-length: 1073741824", "transfer-encoding: chunked"] {
        let chunked = head.starts_with("transfer");
        let mut then = if chunked { b"100000\r\n".to_vec() } else { Vec::new() };
        then.resize(then.len() + mib, b'x');
        then.extend_from_slice(if chunked { b"\r\n" } else { b"" });
        let first = format!("HTTP/1.1 500 No\r\n{head}\r\n\r\n");
        let before = (house.erp.said(), house.failures());
        let says = Does::Says { first: first.into(), then: then.into(), times: 1_024 };
        assert_eq!(house.suffer(says).await, "running");
        house.heal(head).await;
        let attempts = usize::try_from(house.failures() - before.1).unwrap();
        let said = (house.erp.said() - before.0) / attempts;
        assert!(said < KEPT_BYTES_MAX, "{said} bytes of an answer were taken");
    }
    house.close().await;
}

/// 200, and half of the lines are refused by name: these lie dead, each with what was said of it, the
/// others are there, and nothing is sent twice.
#[tokio::test(flavor = "multi_thread")]
async fn half_the_lines_of_a_batch_that_is_taken_lie_dead_and_the_others_are_there() {
    for dedupe in [Dedupe::Line, Dedupe::Batch] {
        let mut house = House::open(None, |config| config.dedupe = dedupe).await;
        house.handle.drain(PATIENCE).await.unwrap();
        let (sent, letters) = house.sell_to_one_that_names_bad_lines(dedupe, 0).await;
        let dead = letters.iter().flat_map(|(_, letter)| lines(&letter.body).1);
        let mut dead: Vec<_> = dead.map(|(_, line)| line).collect();
        assert!(dead.iter().all(|line| line["location"] == "BER"), "{dead:?}");
        assert!(letters.iter().all(|(_, letter)| letter.reason.contains("no such article")));
        let mut all = {
            let erp = house.erp.link().erp();
            erp.audit(&letters);
            let ids = erp.ids_since(sent);
            assert!(ids.iter().all(|id| !id.contains('.')), "{ids:?}");
            Erp { effect: erp.effect.clone(), ..Erp::default() }
        };
        assert!(!all.sold().is_empty() && !dead.is_empty());
        all.effect.extend(dead.drain(..).map(|line| (serde_json::Value::Null, line)));
        assert_eq!(all.sold(), house.shop.committed());
        house.close().await;
    }
}

/// 200, and so much is said of the lines that are refused that it can't be read. Who knows lines is asked in
/// halves until each is told; at any other a person has to look; and nobody is taken to have it all.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_whose_refused_lines_fill_more_than_is_read_no_line_is_lost() {
    for (dedupe, words) in [
        (Dedupe::Line, 40_000),
        (Dedupe::Line, 80_000),
        (Dedupe::Batch, 80_000),
        (Dedupe::None, 80_000),
    ] {
        let mut house = House::open(None, |config| {
            (config.dedupe, config.window_ms_max) = (dedupe, 300);
        })
        .await;
        house.handle.drain(PATIENCE).await.unwrap();
        let (sent, letters) = house.sell_to_one_that_names_bad_lines(dedupe, words).await;
        // What says too much of a single line is no surer than what says too much of many.
        let is_told = dedupe == Dedupe::Line && words < 65_536;
        assert!(letters.iter().all(|(_, letter)| letter.uncertain != is_told), "{letters:?}");
        assert!(letters.iter().all(|(_, letter)| letter.reason.contains("no such article")));
        let dead = letters.iter().flat_map(|(_, letter)| lines(&letter.body).1);
        let dead: BTreeMap<_, _> = dead.collect();
        let all = {
            let erp = house.erp.link().erp();
            erp.audit(&letters);
            let halved = erp.ids_since(sent).iter().any(|id| id.contains('.'));
            assert_eq!(halved, dedupe == Dedupe::Line, "{:?}", erp.ids_since(sent));
            let there = erp.effect.iter().map(|(_, line)| line);
            let all = there.chain(dead.values()).map(|line| (line["line_id"].to_string(), line));
            let all: BTreeMap<_, _> = all.collect();
            let effect = all.into_values().map(|line| (serde_json::Value::Null, line.clone()));
            Erp { effect: effect.collect(), ..Erp::default() }
        };
        assert_eq!(all.sold(), house.shop.committed(), "{dedupe:?}");
        let bad = dead.values().filter(|line| line["location"] == "BER").count();
        assert!(bad > 1 && (bad == dead.len()) == (dedupe == Dedupe::Line), "{dead:?}");
        house.close().await;
    }
}

/// The certificate has expired: nothing is sent to who shows it, and all of it once there is a new one.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_behind_an_expired_certificate_and_all_of_it_behind_a_new_one() {
    let erp = Port::open(Link::default()).await;
    let gate = tls::Gate::open(erp.address()).await;
    let shop = Shop::open(Engine::open_on(SimStorage::new(), options()).unwrap(), SKUS);
    let books = Port::open(Link::default()).await;
    let connector = format!("ca_file = {:?}", gate.trusted());
    let mut house = House::on(shop, erp, books, Some(gate.url()), |config| {
        config.connector = Overlay::parse(&connector).unwrap();
    })
    .await;
    house.handle.drain(PATIENCE).await.unwrap();
    gate.shows_the_expired(true);
    let sent = house.erp.link().erp().sent.len();
    assert_eq!(house.suffer(Does::Answers).await, "running");
    assert_eq!(house.erp.link().erp().sent.len(), sent);
    until("it is left alone", || house.handle.snapshot()[0].breaker != "closed").await;
    gate.shows_the_expired(false);
    house.heal("a new certificate").await;
    house.close().await;
}
