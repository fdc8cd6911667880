//! Every operation, and that a request means the same here as anywhere else.

use std::sync::{Arc, Mutex};

use holdfast::{
    Key,
    client::{Address, Client, Error, Options as ClientOptions, Reply},
    gateway::{Call, Done, House, Options, Reply as HouseReply},
    model::{
        Currency, ReservationId, TaxCodes,
        command::{ChangeLines, Extend, PlaceOrder, Release},
        view::ReservationState,
    },
    protocol::{Code, Request},
};

use super::{common::*, support::*};

#[test]
fn a_reservation_lives_its_life_over_both_sockets() {
    let served = serve();
    for address in [served.tcp.clone(), Address::Unix(served.socket.clone())] {
        let client = Client::connect(&address, &ClientOptions::default()).unwrap();
        let name = |what: &str| key(&format!("{what}-{address}").replace('/', "_"));
        let before = client.stock(&id("A")).unwrap();
        let held = client.reserve(&name("r"), &one("A", 3)).unwrap();
        assert!(held.created && !held.replayed);
        assert_eq!(held.value.state, ReservationState::Held);
        assert_eq!(held.value.lines[0].quantity, 3);
        let stock = client.stock(&id("A")).unwrap();
        assert_eq!((stock.held - before.held, before.available - stock.available), (3, 3));
        let rid = held.value.id;
        let longer = client.extend(&name("e"), rid, &Extend { ttl_ms: 7_200_000 }).unwrap();
        assert!(longer.value.expires_at > held.value.expires_at);
        let change = ChangeLines { lines: vec![line("A", 5)] };
        assert_eq!(client.change_lines(rid, &change).unwrap().value.lines[0].quantity, 5);
        let less = client.release(&name("p"), rid, &part("A", 1)).unwrap();
        assert_eq!(less.value.lines[0].quantity, 4);
        let order = format!("O{}", rid.lsn);
        let sold = client.commit(&name("c"), rid, &sale(&order, &["A"])).unwrap();
        assert_eq!(sold.value.state, ReservationState::Committed);
        assert_eq!(sold.value.order_id, Some(id(&order)));
        assert_eq!(client.reservation(rid).unwrap().value, sold.value);
        let wrong = client.release(&name("q"), rid, &Release::default());
        let Err(Error::Refused(problem)) = wrong else { panic!("{wrong:?}") };
        assert_eq!(problem.code, Code::WRONG_STATE);
        assert_eq!(problem.state, Some(ReservationState::Committed));
        let place = order_now(&format!("P{}", rid.lsn), &[line("A", 2)]);
        let placed = client.place_order(&name("o"), &place).unwrap();
        assert_eq!((placed.value.order_id.clone(), placed.created), (place.order_id.clone(), true));
        let (order, engine) = (place.order_id, &served.engine);
        let read = engine.settle_blocking(engine.order(&order)).unwrap().value;
        assert_eq!((placed.value.total, placed.value.total_tax), (read.total, read.total_tax));
        assert_eq!(placed.value.allocations, read.allocations);
        assert_eq!(placed.value.reservations, read.reservations);
    }
}

#[test]
fn an_order_is_in_a_currency_that_is_in_force_and_has_tax_codes_that_the_books_know() {
    let served = serve();
    let client = served.client();
    let field = |place: &PlaceOrder| match client.place_order(&key("o"), place) {
        Err(Error::Refused(problem)) if problem.code == Code::MALFORMED => problem.field.unwrap(),
        other => panic!("{other:?}"),
    };
    let mut place = order_now("O-1", &[line("A", 1)]);
    place.currency = Currency::from_bytes(*b"XXZ");
    assert_eq!(field(&place), "currency");
    let mut codes = TaxCodes::default();
    codes.add(&[], &[id("DE-7")]);
    served.engine.set_tax_codes(codes);
    place.currency = Currency::new("EUR").unwrap();
    assert_eq!(field(&place), "lines[0].tax_code");
    place.lines[0].tax_code = Some(id("DE-7"));
    assert!(client.place_order(&key("o"), &place).unwrap().created);
}

#[test]
fn held_reservations_become_one_order() {
    let served = serve();
    let client = served.client();
    let ids = ["a", "b"].map(|k| client.reserve(&key(k), &one("A", 1)).unwrap().value.id);
    let mut place = order_now("O-1", &[line("A", 1)]);
    place.lines[0].quantity = None;
    place.reservations = Some(ids.to_vec());
    let placed = client.place_order(&key("o"), &place).unwrap();
    assert_eq!(placed.value.reservations, ids);
    let again = client.place_order(&key("o"), &place).unwrap();
    assert!(again.replayed && again.created);
}

#[test]
fn a_key_is_the_same_key_here_and_there() {
    let served = serve();
    let (client, engine) = (served.client(), &served.engine);
    let (mine, theirs) = (key("mine"), key("theirs"));
    let reserve = one("A", 2);
    let first = client.reserve(&mine, &reserve).unwrap();
    let there = engine.settle_blocking(engine.reserve(Key::new("", &mine), &reserve)).unwrap();
    assert!(there.replayed);
    assert_eq!(there.value, first.value);
    let there = engine.settle_blocking(engine.reserve(Key::new("", &theirs), &reserve)).unwrap();
    let here = client.reserve(&theirs, &reserve).unwrap();
    assert!(here.replayed && here.created);
    assert_eq!(here.value, there.value);
    client.release(&key("x"), first.value.id, &Release::default()).unwrap();
    let again = client.reserve(&mine, &reserve).unwrap();
    assert_eq!(again.value.state, ReservationState::Held);
    assert_eq!(again.current_state, Some(ReservationState::Released));
    assert_eq!(code(client.reserve(&mine, &one("A", 3))), "idempotency_key_reused");
    let commit = sale("O-1", &["A"]);
    let rid = here.value.id;
    let there = engine.commit(Key::new("", &key("c")), rid, &commit);
    engine.settle_blocking(there).unwrap();
    assert!(client.commit(&key("c"), rid, &commit).unwrap().replayed);
}

#[test]
fn refusals_say_what_the_http_api_says() {
    let served = serve();
    let client = served.client();
    let Err(Error::Refused(short)) = client.reserve(&key("s"), &one("GONE", 2)) else { panic!() };
    assert_eq!(short.code, Code::INSUFFICIENT_STOCK);
    let [line] = &short.lines[..] else { panic!("{short:?}") };
    assert_eq!((line.sku.as_str(), line.requested, line.available), ("GONE", 2, 0));
    assert_eq!(code(client.reserve(&key("u"), &one("NONE", 1))), "unknown_sku");
    let nobody = ReservationId { lsn: holdfast::model::Lsn(8), slot: 77 };
    assert_eq!(code(client.reservation(nobody)), "unknown_reservation");
    assert_eq!(code(client.stock(&id("NONE"))), "unknown_sku");
    let twice = cart(&[]);
    let Err(Error::Refused(empty)) = client.reserve(&key("e"), &twice) else { panic!() };
    assert_eq!((empty.code, empty.field.as_deref()), (Code::MALFORMED, Some("lines")));
    let engine = &served.engine;
    engine.settle_blocking(engine.set_stock(&id("L"), &id("X"), &limited(50, 2))).unwrap();
    let mut reserve = one("L", 3);
    reserve.customer = Some(id("C"));
    let Err(Error::Refused(beyond)) = client.reserve(&key("l"), &reserve) else { panic!() };
    assert_eq!(beyond.code, Code::PURCHASE_LIMIT);
    assert_eq!((beyond.lines[0].available, beyond.lines[0].taken), (2, 0));
}

#[test]
fn many_callers_share_a_connection() {
    let served = serve();
    let client = served.client();
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let client = &client;
            scope.spawn(move || {
                for n in 0..25 {
                    let held = client.reserve(&key(&format!("{caller}-{n}")), &one("A", 1));
                    assert_eq!(held.unwrap().value.lines[0].quantity, 1);
                }
            });
        }
    });
    assert_eq!(client.stock(&id("A")).unwrap().held, 400);
    let (said, heard) = std::sync::mpsc::channel();
    for n in 0..100 {
        let said = said.clone();
        let name = key(&format!("then-{n}"));
        let then = move |reply: Result<Reply, Error>| said.send(reply.is_ok()).unwrap();
        client.submit_then(&Request::Reserve(&name, &one("A", 1)), then).unwrap();
    }
    client.flush().unwrap();
    assert!((0..100).all(|_| heard.recv_timeout(LONG).unwrap()));
    assert_eq!(served.engine.stock(&id("A")).unwrap().held, 500);
}

#[test]
fn what_can_wait_says_so() {
    use holdfast::client::{Answer, Connection, Handler};
    struct Codes(std::sync::mpsc::Sender<bool>);
    impl Handler for Codes {
        fn answer(&mut self, _: u64, answer: Answer<'_>) {
            self.0.send(matches!(answer, Answer::Reservation(..))).unwrap();
        }
        fn closed(&mut self, _: &Error) {}
    }
    let served = serve();
    let (said, heard) = std::sync::mpsc::channel();
    let open = Connection::open(&served.tcp, &ClientOptions::default(), |_| Codes(said)).unwrap();
    let (name, reserve) = (key("w"), one("A", 1));
    let zero = open.sender().send(0, &Request::Reserve(&name, &reserve));
    assert!(matches!(zero, Err(Error::Protocol(_))), "{zero:?}");
    open.sender().send_with(1, &Request::Reserve(&name, &reserve), true).unwrap();
    open.sender().flush().unwrap();
    assert!(heard.recv_timeout(LONG).unwrap());
}

/// A house with one partner, which notes what it is asked.
#[derive(Default)]
struct Shop(Mutex<Vec<Call>>);

impl House for Shop {
    fn needs_keys(&self) -> bool {
        true
    }
    fn partner(&self, api_key: &str) -> Option<Arc<str>> {
        (api_key == "sesame").then(|| "shop".into())
    }
    fn call(&self, call: Call, done: Done) {
        if call.path == "/lost" {
            return;
        }
        self.0.lock().unwrap().push(call);
        std::thread::spawn(move || {
            done(HouseReply { status: 201, replayed: true, body: b"{}".to_vec() });
        });
    }
}

#[test]
fn calls_reach_the_routes_and_their_answers_come_back() {
    let shop = Arc::new(Shop::default());
    let served = serve_with(Options::default(), shop.clone());
    let options = ClientOptions { api_key: "sesame".to_owned(), ..ClientOptions::default() };
    let client = Client::connect(&served.tcp, &options).unwrap();
    let said = client.call(("POST", "/v1/orders/O/notes"), Some(&key("n")), b"{\"a\":1}").unwrap();
    assert_eq!(said, (201, b"{}".to_vec()));
    let call = shop.0.lock().unwrap().pop().unwrap();
    assert_eq!((call.method.as_str(), call.path.as_str()), ("POST", "/v1/orders/O/notes"));
    assert_eq!((call.key.as_str(), &*call.api_key), ("n", "sesame"));
    assert_eq!(call.body, b"{\"a\":1}");
    let (status, _) = client.call(("GET", "/lost"), None, b"").unwrap();
    assert_eq!(status, 504);
    // The partner is the scope of the keys.
    let held = client.reserve(&key("k"), &one("A", 1)).unwrap();
    let engine = &served.engine;
    let same = engine.reserve(Key::new("shop", &key("k")), &one("A", 1));
    assert_eq!(engine.settle_blocking(same).unwrap().value.id, held.value.id);
}
