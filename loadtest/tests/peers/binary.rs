//! The binary protocol as a target: over TCP, over a Unix socket, and when its connections break.

use std::{sync::atomic::Ordering, thread, time::Duration};

use holdfast::client::Address;
use holdfast_loadtest::{
    run::Progress,
    trial::{Place, Protocol, Setup},
};

use super::{
    common::scenario,
    support::{SALE, Server, agree, tried},
};

#[test]
fn over_tcp_and_over_a_unix_socket_the_books_agree() {
    let server = Server::start();
    let mut scenario = scenario(1_000, 0.8, SALE);
    scenario.sending.connections = 2;
    let tcp = Address::Tcp(server.gateway.as_ref().unwrap().address().unwrap());
    let trial = tried(&server.setup(tcp, &scenario));
    agree(&trial);
    assert!(trial.target.contains("binary protocol over TCP"), "{}", trial.target);
    agree(&tried(&server.setup(Address::Unix(server.socket.clone()), &scenario)));
}

#[test]
fn connections_that_break_are_opened_again_and_nothing_is_lost_or_doubled() {
    let mut server = Server::start();
    let more = "[catalogue]\nskus = 20\nstock = 100000\n[shoppers]\nthink_ms = [5, 60]\n\
                [retries]\nattempts_max = 20\nbackoff_ms = 20\n\
                [sending]\nconnections = 2\nlag_p999_us_max = 60000000\n";
    let scenario = scenario(1_000, 1.0, more);
    let setup = server.setup(Address::Unix(server.socket.clone()), &scenario);
    let progress = Progress::default();
    let trial = thread::scope(|scope| {
        let ended = &progress.ended;
        scope.spawn(|| {
            while ended.load(Ordering::Relaxed) < 300 {
                thread::sleep(Duration::from_millis(2));
            }
            server.restart_gateway();
        });
        setup.try_at(1.0, &progress)
    });
    let trial = trial.unwrap_or_else(|error| panic!("{error}"));
    assert!(trial.audited(), "{:#?}", trial.checks);
    let sold = trial.checks.iter().find(|c| c.what == "units sold: shoppers = ledger").unwrap();
    assert!(sold.found > 900, "{sold:?}");
}

#[test]
fn nobody_there_and_no_gateway_named_are_told() {
    let server = Server::start();
    let nobody = Address::Unix(server.dir.path().join("nobody"));
    let setup = server.setup(nobody, &scenario(10, 0.1, ""));
    let said = setup.try_at(1.0, &Progress::default()).err().unwrap().to_string();
    assert!(said.contains("nobody") && said.contains("is it running?"), "{said}");
    let place = Place::Url { url: server.url(), api_key: None };
    let setup = Setup { place, protocol: Protocol::Binary, ..setup };
    let said = setup.try_at(1.0, &Progress::default()).err().unwrap().to_string();
    assert!(said.contains("--gateway"), "{said}");
}
