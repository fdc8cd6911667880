//! A gateway on a simulated disk, and a bare caller who can say anything.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast::{
    client::{Address, Client, Error, Options as ClientOptions},
    gateway::{Handle, House, Listeners, NoHouse, Options, start},
    model::IdempotencyKey,
    protocol::{Code, Frame, Header, Hello, Inbox, MAGIC, Refused, Request, VERSION, kind, push},
    telemetry::{Exposition, Gateway},
    wal::sim::SimStorage,
};

use crate::common::{SimEngine, id, open, small, stock_of};

/// Longer than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(30);

pub struct Served {
    pub engine: SimEngine,
    pub storage: SimStorage,
    pub counters: Arc<Gateway>,
    pub socket: PathBuf,
    pub tcp: Address,
    handle: Option<Handle>,
    _dir: tempfile::TempDir,
}

pub fn serve() -> Served {
    serve_with(Options::default(), Arc::new(NoHouse))
}

pub fn serve_with(options: Options, house: Arc<dyn House>) -> Served {
    let (storage, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let engine = open(&storage, &small());
    engine.settle_blocking(engine.set_stock(&id("A"), &id("X"), &stock_of(1000))).unwrap();
    engine.settle_blocking(engine.set_stock(&id("GONE"), &id("X"), &stock_of(0))).unwrap();
    let socket = dir.path().join("holdfast.sock");
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let options = Options { listen, socket: Some(socket.clone()), ..options };
    let listeners = Listeners::bind(&options, house.needs_keys()).unwrap();
    let counters = Arc::new(Gateway::default());
    let handle = start(listeners, engine.clone(), house, options, counters.clone()).unwrap();
    let tcp = Address::Tcp(handle.address().unwrap());
    Served { engine, storage, counters, socket, tcp, handle: Some(handle), _dir: dir }
}

impl Served {
    pub fn client(&self) -> Client {
        Client::connect(&self.tcp, &ClientOptions::default()).unwrap()
    }

    pub fn stop(&mut self, grace: Duration) {
        self.handle.take().unwrap().stop(grace);
    }

    pub fn metrics(&self) -> String {
        let mut text = Exposition::default();
        self.counters.expose(&mut text);
        text.finish()
    }

    /// A caller who has not said hello yet.
    pub fn bare(&self) -> Bare {
        let Address::Tcp(address) = self.tcp else { unreachable!() };
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        Bare { stream, inbox: Inbox::new(1 << 24) }
    }

    /// A caller who has.
    pub fn greeted(&self) -> Bare {
        let mut bare = self.bare();
        bare.send(&hello(""));
        assert_eq!(bare.answer().0.kind, kind::WELCOME);
        bare
    }
}

pub struct Bare {
    pub stream: TcpStream,
    pub inbox: Inbox,
}

/// What a refusal says.
#[derive(Debug, PartialEq, Eq)]
pub struct Why(pub Code, pub String);

impl Bare {
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next answer: its header, and why if it is a refusal.
    pub fn answer(&mut self) -> (Header, Option<Why>) {
        self.next().expect("an answer")
    }

    /// The next answer, or nothing at the end of the connection.
    pub fn next(&mut self) -> Option<(Header, Option<Why>)> {
        loop {
            if let Some(frame) = self.inbox.next().unwrap() {
                return Some((frame.header, why(&frame)));
            }
            if self.inbox.fill(&mut self.stream).unwrap() == 0 {
                return None;
            }
        }
    }

    /// Asserts that the connection ends, after a refusal of this code.
    pub fn is_ended_with(&mut self, code: Code) {
        let (_, why) = self.answer();
        assert_eq!(why.map(|why| why.0), Some(code));
        assert!(matches!(self.stream.read(&mut [0; 1]), Ok(0)), "it is not ended");
    }
}

pub fn why(frame: &Frame<'_>) -> Option<Why> {
    (frame.header.kind == kind::REFUSED).then(|| {
        let refused: Option<&_> = frame.access::<Refused<'static>>();
        let refused = refused.expect("a refusal can be read");
        Why(Code(refused.code.to_native()), refused.detail.to_string())
    })
}

pub fn hello(api_key: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, kind::HELLO, VERSION, MAGIC, &Hello { reserved: 0, api_key });
    bytes
}

pub fn bytes_of(request_id: u64, request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.push(&mut bytes, request_id, false);
    bytes
}

pub fn key(text: &str) -> IdempotencyKey {
    text.parse().unwrap()
}

/// The code of a refusal.
pub fn code<T: std::fmt::Debug>(said: Result<T, Error>) -> &'static str {
    match said {
        Err(Error::Refused(problem)) => problem.code.as_str(),
        other => panic!("{other:?} is no refusal"),
    }
}

pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
