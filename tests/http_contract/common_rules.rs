//! Ids, paths, headers, problems.

use holdfast::api::{Options, codes};
use serde_json::json;

use crate::support::{Server, cart};

#[tokio::test]
async fn ids_are_one_to_sixty_four_printable_ascii_characters() {
    let s = Server::start().await;
    for good in ["a", "~", "a%20b", "a%2Fb", "a%2fb%25", "a+b", "a:b@c", "...", &"x".repeat(64)] {
        let target = format!("/v1/stock/{good}/BER");
        s.put(&target, json!({"on_hand": 1})).await.is(200);
    }
    for bad in ["%20a", "a%20", "%C3%A4", "a%0Ab", "%7F", "a%00", &"x".repeat(65)] {
        s.put(&format!("/v1/stock/{bad}/BER"), json!({"on_hand": 1})).await.is_malformed("sku");
        s.put(&format!("/v1/stock/A/{bad}"), json!({"on_hand": 1})).await.is_malformed("location");
        s.get(&format!("/v1/stock?sku={bad}")).await.is_malformed("sku");
        s.get(&format!("/v1/orders/{bad}")).await.is_malformed("order_id");
    }
    s.get("/v1/stock/%FF").await.is_problem(400, "malformed");
    for bad in ["", " a", "a ", "ä", "a\n", &"x".repeat(65)] {
        s.post("/v1/reservations", "k", cart(bad, 1)).await.is_malformed("lines[0].sku");
        let mut body = cart("a", 1);
        body["customer"] = json!(bad);
        s.post("/v1/reservations", "k", body.clone()).await.is_malformed("customer");
        body["customer"] = json!("c");
        body["order_id"] = json!(bad);
        s.post("/v1/reservations", "k", body).await.is_malformed("order_id");
    }
}

#[tokio::test]
async fn an_id_in_a_path_is_percent_decoded_once() {
    let s = Server::start().await;
    let set = s.put("/v1/stock/a%2Fb%2525/x%20y", json!({"on_hand": 3})).await;
    assert_eq!((&set.json["sku"], &set.json["location"]), (&json!("a/b%25"), &json!("x y")));
    assert_eq!(s.get("/v1/stock/a%2Fb%2525").await.json["on_hand"], 3);
    assert_eq!(s.get("/v1/stock?sku=a%2Fb%2525").await.json["on_hand"], 3);
    assert_eq!(s.get("/v1/stock?sku=a/b%2525").await.json["on_hand"], 3);
}

#[tokio::test]
async fn dots_alone_are_refused_in_a_path() {
    let s = Server::start().await;
    for dots in [".", "..", "%2E", "%2e%2E", ".%2e"] {
        s.get(&format!("/v1/stock/{dots}")).await.is_malformed("sku");
        s.get(&format!("/v1/orders/{dots}")).await.is_malformed("order_id");
        s.put(&format!("/v1/stock/A/{dots}"), json!({"on_hand": 1})).await.is_malformed("location");
        s.get(&format!("/v1/reservations/{dots}")).await.is_malformed("id");
    }
}

#[tokio::test]
async fn every_get_by_id_is_offered_with_the_id_in_the_query() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let id = s.hold("k", "A", 1).await;
    let order = json!({"order_id": "O/1", "currency": "EUR",
        "lines": [{"sku": "A", "quantity": 1, "unit_price": 100}]});
    s.post("/v1/orders", "k2", order).await.is(201);
    for (path, query) in [
        ("/v1/stock/A".to_owned(), "/v1/stock?sku=A".to_owned()),
        (format!("/v1/reservations/{id}"), format!("/v1/reservations?id={id}")),
        ("/v1/orders/O%2F1".to_owned(), "/v1/orders?order_id=O/1".to_owned()),
    ] {
        let (by_path, by_query) = (s.get(&path).await, s.get(&query).await);
        assert_eq!((by_path.status, by_query.status), (200, 200), "{by_path:?} {by_query:?}");
        let mut jsons = [by_path.json, by_query.json];
        // How far the log went is a moment's figure.
        jsons.iter_mut().for_each(|json| json["lsn"] = json!(0));
        if path.starts_with("/v1/stock") {
            jsons.iter_mut().for_each(|json| json["positions"][0]["lsn"] = json!(0));
        }
        assert_eq!(jsons[0], jsons[1]);
    }
}

#[tokio::test]
async fn wrong_query_parameters_are_named() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    s.get("/v1/stock?sku=A&x=1").await.is_malformed("x");
    s.get("/v1/stock?sku=A&sku=A").await.is_malformed("sku");
    s.get("/v1/stock").await.is_malformed("sku");
    s.get("/v1/stock?sku=A&skus=A").await.is_malformed("sku");
    s.get("/v1/stock?skus=A,,B").await.is_malformed("skus");
    s.get("/v1/stock?skus=").await.is_malformed("skus");
    s.get("/v1/orders").await.is_malformed("order_id");
    s.get("/v1/reservations").await.is_malformed("id");
    s.get("/v1/reservations?id=x").await.is_malformed("id");
    s.get("/v1/reservations?customer=c&order_id=o").await.is_malformed("id");
    for limit in ["0", "-1", "x", "1001", ""] {
        s.get(&format!("/v1/reservations?customer=c&limit={limit}")).await.is_malformed("limit");
    }
    s.get("/v1/reservations?customer=c&cursor=zzz").await.is_malformed("cursor");
}

#[tokio::test]
async fn what_is_not_known_is_404() {
    let s = Server::start().await;
    s.get("/v1/stock/NONE").await.is_problem(404, "unknown_sku");
    s.get("/v1/orders/NONE").await.is_problem(404, "unknown_order");
    let nobody = "r000000000000000000000000";
    s.get(&format!("/v1/reservations/{nobody}")).await.is_problem(404, "unknown_reservation");
    for action in ["release", "extend", "commit"] {
        let body = match action {
            "release" => json!({}),
            "extend" => json!({"ttl_ms": 1000}),
            _ => json!({"order_id": "O", "currency": "EUR", "lines": []}),
        };
        let target = format!("/v1/reservations/{nobody}/{action}");
        let reply = s.post(&target, action, body).await;
        reply.is_problem(404, "unknown_reservation");
    }
    s.post("/v1/reservations", "k", cart("NONE", 1)).await.is_problem(404, "unknown_sku");
    for target in ["/nothing", "/v1", "/v1/", "/v1/stock/A/B/C", "/v1/stock/", "//", "/v2/stock"] {
        s.get(target).await.is_problem(404, "unknown_route");
    }
    s.get("/problems/nothing").await.is_problem(404, "not_found");
}

#[tokio::test]
async fn another_method_is_405_and_says_which_are_allowed() {
    let s = Server::start().await;
    for (line, allow) in [
        ("GET /v1/stock/A/BER", "PUT"),
        ("DELETE /v1/reservations", "POST,GET,HEAD"),
        ("PATCH /v1/stock", "GET,HEAD"),
        ("GET /v1/stock/adjustments", "POST"),
        ("POST /metrics", "GET,HEAD"),
    ] {
        let reply = s.call(line).send().await;
        if line == "GET /v1/stock/adjustments" && reply.status == 404 {
            panic!("a fixed path must win over a parameter: {reply:?}");
        }
        reply.is_problem(405, "method_not_allowed");
        assert_eq!(sorted(reply.header("allow").unwrap()), sorted(allow), "{line}");
    }
}

fn sorted(list: &str) -> Vec<&str> {
    let mut list: Vec<_> = list.split(',').map(str::trim).collect();
    list.sort_unstable();
    list
}

#[tokio::test]
async fn head_and_options_behave() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let get = s.get("/v1/stock/A").await;
    let head = {
        // The body that the length speaks of does not follow.
        let call = s.call("HEAD /v1/stock/A").header("Connection", "close");
        let mut stream = call.begin(None).await;
        crate::support::Reply::read(&mut stream).await
    };
    assert_eq!(head.status, 200);
    assert!(head.body.is_empty());
    assert_eq!(head.header("content-length"), get.header("content-length"));
    let options = s.call("OPTIONS /v1/stock/A").send().await;
    options.is(204);
    assert_eq!(sorted(options.header("allow").unwrap()), ["GET", "HEAD"]);
    assert!(options.body.is_empty());
}

#[tokio::test]
async fn every_answer_carries_the_request_id() {
    let s = Server::start().await;
    let id = format!("a-{}", "x".repeat(126));
    for line in
        ["GET /livez", "GET /nothing", "DELETE /livez", "POST /v1/orders", "GET /v1/stock/X"]
    {
        let reply = s.call(line).header("X-Request-Id", &id).send().await;
        assert_eq!(reply.header("x-request-id"), Some(id.as_str()), "{line}");
    }
    let first = s.get("/livez").await;
    let second = s.get("/livez").await;
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    for bad in ["a b", &"x".repeat(129), "ä"] {
        let reply = s.call("GET /livez").header("X-Request-Id", bad).send().await;
        let answered = reply.header("x-request-id").unwrap();
        assert!(answered != bad && answered.bytes().all(|b| b.is_ascii_graphic()), "{answered}");
    }
}

#[tokio::test]
async fn a_traceparent_is_taken_over() {
    let s = Server::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let reply = s.call("GET /nothing").header("traceparent", trace).send().await;
    assert_eq!(reply.header("traceparent"), Some(trace));
    let reply = s.call("GET /livez").header("traceparent", "nonsense").send().await;
    assert_eq!(reply.header("traceparent"), None);
}

#[tokio::test]
async fn every_code_has_a_page() {
    let s = Server::starting(Options::default()).await;
    let list = s.get("/problems").await.text();
    for code in codes::ALL {
        let page = s.get(&format!("/problems/{}", code.code)).await;
        page.is(200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(page.text().contains(code.action), "{}", code.code);
        assert!(list.contains(&format!("/problems/{}", code.code)));
    }
}

#[tokio::test]
async fn times_are_rfc_3339_in_utc_with_milliseconds() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let held = s.post("/v1/reservations", "k", cart("A", 1)).await;
    let expires = held.json["expires_at"].as_str().unwrap();
    assert_eq!(expires.len(), "2025-11-24T16:00:00.120Z".len(), "{expires}");
    assert!(expires.ends_with('Z') && expires.as_bytes()[19] == b'.', "{expires}");
    let ttl = expires.parse::<holdfast::model::Timestamp>().unwrap().millis() as i64
        - std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    assert!((590_000..=600_000).contains(&ttl), "{ttl}");
}
