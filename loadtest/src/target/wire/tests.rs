//! Connections against servers that answer in pieces, close, hang or talk nonsense.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::Instant,
};

use super::*;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server that does the same with every connection, on a thread that the test leaves behind.
fn server(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn open(address: SocketAddr, connections: u32) -> Wire {
    let clock = Clock::start();
    Wire::open(address, connections, clock, Duration::from_secs(5)).unwrap()
}

/// A token, and the status and body of its answer if it had one.
type Told = (u64, Option<(u16, Vec<u8>)>);

/// What comes in until there are so many, or time is up.
fn collect(wire: &mut Wire, count: usize) -> Vec<Told> {
    let mut all = Vec::new();
    let end = Instant::now() + Duration::from_secs(10);
    while all.len() < count && Instant::now() < end {
        wire.poll(Duration::from_millis(1), |e| {
            all.push((e.token, e.response.map(|r| (r.status, r.body.into_owned()))));
        });
    }
    assert_eq!(all.len(), count);
    all
}

fn read_some(stream: &mut TcpStream) -> usize {
    stream.read(&mut [0; 4096]).unwrap_or(0)
}

#[test]
fn each_answer_is_told_with_its_token() {
    let address = server(|mut stream| {
        while read_some(&mut stream) > 0 {
            stream.write_all(ANSWER).unwrap();
        }
    });
    let mut wire = open(address, 3);
    for round in 0..50 {
        for n in 0..3 {
            assert!(wire.exchange(round * 3 + n, b"GET / HTTP/1.1\r\n\r\n"));
        }
        assert!(!wire.has_room());
        assert!(!wire.exchange(999, b"GET / HTTP/1.1\r\n\r\n"));
        let mut all = collect(&mut wire, 3);
        all.sort_by_key(|(token, _)| *token);
        let expected = |n| (round * 3 + n, Some((200, b"ok".to_vec())));
        assert_eq!(all, [expected(0), expected(1), expected(2)]);
    }
}

#[test]
fn an_answer_in_pieces_is_put_together() {
    let address = server(|mut stream| {
        stream.set_nodelay(true).unwrap();
        while read_some(&mut stream) > 0 {
            for piece in ANSWER.chunks(7) {
                stream.write_all(piece).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let mut wire = open(address, 1);
    for token in 0..3 {
        assert!(wire.exchange(token, b"GET / HTTP/1.1\r\n\r\n"));
        assert_eq!(collect(&mut wire, 1), [(token, Some((200, b"ok".to_vec())))]);
    }
}

#[test]
fn a_large_request_is_written_to_its_end_and_a_large_answer_read() {
    const BYTES: usize = 8 << 20;
    let address = server(|mut stream| {
        // Late, so that the request does not go in one piece.
        thread::sleep(Duration::from_millis(50));
        let mut request = vec![0; BYTES];
        stream.read_exact(&mut request).unwrap();
        assert!(request.iter().all(|byte| *byte == b'x'));
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").unwrap();
        stream.write_all(&request).unwrap();
    });
    let mut wire = open(address, 1);
    assert!(wire.exchange(1, &vec![b'x'; BYTES]));
    let all = collect(&mut wire, 1);
    assert_eq!(all[0].1.as_ref().unwrap().1.len(), BYTES);
}

#[test]
fn what_breaks_is_told_as_broken_and_the_connection_opened_again() {
    let address = server(|mut stream| {
        read_some(&mut stream);
        let _ = stream.write_all(&ANSWER[..10]);
    });
    let mut wire = open(address, 2);
    for token in 0..6 {
        while !wire.exchange(token, b"GET / HTTP/1.1\r\n\r\n") {
            wire.poll(Duration::from_millis(1), |_| panic!("nothing is under way"));
        }
        assert_eq!(collect(&mut wire, 1), [(token, None)]);
    }
}

#[test]
fn nonsense_and_answers_that_nobody_asked_for_break_the_connection() {
    let address = server(|mut stream| {
        read_some(&mut stream);
        let _ = stream.write_all(&[ANSWER, ANSWER].concat());
        read_some(&mut stream);
    });
    let mut wire = open(address, 1);
    assert!(wire.exchange(1, b"GET / HTTP/1.1\r\n\r\n"));
    assert_eq!(collect(&mut wire, 1), [(1, None)]);
    let address = server(|mut stream| {
        read_some(&mut stream);
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        read_some(&mut stream);
    });
    let mut wire = open(address, 1);
    assert!(wire.exchange(2, b"GET / HTTP/1.1\r\n\r\n"));
    assert_eq!(collect(&mut wire, 1), [(2, None)]);
}

#[test]
fn what_is_given_up_is_not_told_and_its_room_is_free_again() {
    let address = server(|mut stream| {
        let mut first = [0; 1];
        let _ = stream.read_exact(&mut first);
        if first == *b"S" {
            thread::sleep(Duration::from_millis(300));
        }
        let _ = stream.write_all(ANSWER);
        read_some(&mut stream);
        read_some(&mut stream);
    });
    let mut wire = open(address, 1);
    assert!(wire.exchange(1, b"SLOW"));
    wire.poll(Duration::from_millis(20), |_| panic!("it is slow"));
    wire.abandon(1);
    while !wire.exchange(2, b"FAST") {
        wire.poll(Duration::from_millis(1), |_| panic!("it was given up"));
    }
    assert_eq!(collect(&mut wire, 1), [(2, Some((200, b"ok".to_vec())))]);
    let end = Instant::now() + Duration::from_millis(400);
    while Instant::now() < end {
        wire.poll(Duration::from_millis(10), |_| panic!("it was given up"));
    }
}

#[test]
fn a_connection_is_closed_where_the_answer_says_so() {
    let address = server(|mut stream| {
        read_some(&mut stream);
        let _ =
            stream.write_all(b"HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        read_some(&mut stream);
    });
    let mut wire = open(address, 1);
    for token in 0..3 {
        while !wire.exchange(token, b"GET / HTTP/1.1\r\n\r\n") {
            wire.poll(Duration::from_millis(1), |_| panic!("nothing is under way"));
        }
        assert_eq!(collect(&mut wire, 1), [(token, Some((503, Vec::new())))]);
    }
}

#[test]
fn nobody_there_is_an_error() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let clock = Clock::start();
    assert!(Wire::open(address, 2, clock, Duration::from_millis(50)).is_err());
}
