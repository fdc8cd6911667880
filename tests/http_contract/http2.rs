//! HTTP/2 by prior knowledge, on the port of HTTP/1.1: the same routes, many requests at a time on one
//! connection, the same limits.

use std::time::Duration;

use holdfast::api::Options;
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Reply, Server, cart, wait_until};

async fn connect(server: &Server) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

fn reserve(key: &str, body: &Value) -> Request<Full<Bytes>> {
    Request::post("http://shop/v1/reservations")
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap()
}

async fn answer(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> (u16, Value) {
    sender.ready().await.unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert!(answer.headers().contains_key("x-request-id"));
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn many_requests_of_one_connection_are_answered_at_once() {
    let s = Server::start().await;
    s.stock("A", 40).await;
    let sender = connect(&s).await;
    let calls = (0..60).map(|n| {
        let mut sender = sender.clone();
        tokio::spawn(
            async move { answer(&mut sender, reserve(&format!("k-{n}"), &cart("A", 1))).await },
        )
    });
    let mut statuses = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        let (status, body) = call.await.unwrap();
        assert_eq!(
            body["code"],
            if status == 409 { "insufficient_stock".into() } else { Value::Null }
        );
        statuses.push(status);
    }
    let of = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!((of(201), of(409)), (40, 20));
    // A repeat over HTTP/1.1 is known: it is one server.
    let known = statuses.iter().position(|s| *s == 201).unwrap();
    let again = s.post("/v1/reservations", &format!("k-{known}"), cart("A", 1)).await;
    assert_eq!(again.is(201).header("idempotent-replayed"), Some("true"));
}

#[tokio::test]
async fn limits_of_headers_and_bodies_are_the_same() {
    let s = Server::with(Options { body_bytes_max: 1_000, ..Options::default() }).await;
    let mut sender = connect(&s).await;
    let long = cart(&"A".repeat(2_000), 1);
    let (status, problem) = answer(&mut sender, reserve("k", &long)).await;
    assert_eq!((status, &problem["code"]), (413, &"too_large".into()));
    let mut wide = reserve("k", &cart("A", 1));
    for n in 0..70 {
        let name = hyper::header::HeaderName::from_bytes(format!("x-{n}").as_bytes()).unwrap();
        wide.headers_mut().insert(name, "1".parse().unwrap());
    }
    let (status, problem) = answer(&mut sender, wide).await;
    assert_eq!((status, &problem["code"]), (431, &"headers_too_large".into()));
}

#[tokio::test]
async fn a_shutdown_answers_what_was_accepted() {
    let mut s = Server::start().await;
    s.stock("A", 5).await;
    let mut sender = connect(&s).await;
    assert_eq!(answer(&mut sender, reserve("k", &cart("A", 1))).await.0, 201);
    s.begin_stop();
    s.stopped().await;
    wait_until(|| sender.is_closed()).await;
}

#[tokio::test]
async fn a_connection_that_does_not_say_what_it_speaks_is_closed() {
    let s = Server::with(Options { header_read_timeout_ms: 200, ..Options::default() }).await;
    for begun in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n"] {
        let mut stream = TcpStream::connect(s.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        let closed = stream.read_to_end(&mut rest);
        // Closed with what was sent unread, it may also be reset.
        let _ = tokio::time::timeout(Duration::from_secs(10), closed).await.expect("closed");
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn what_comes_in_pieces_is_known_for_what_it_is() {
    let s = Server::start().await;
    for whole in
        [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], b"PUT /livez HTTP/1.1\r\n"]
    {
        let mut stream = TcpStream::connect(s.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in whole.chunks(1) {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if whole.starts_with(b"PRI") {
            // The server's SETTINGS: a frame of type 4 on stream 0.
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            assert_eq!((head[3], &head[5..]), (4, &[0; 4][..]));
        } else {
            stream.write_all(b"host: a\r\n\r\n").await.unwrap();
            Reply::read(&mut stream).await.is(405);
        }
    }
}
