//! Holdfast over its binary protocol: few connections, TCP or a Unix socket, with many requests under way
//! on each, as a gateway has them.
//!
//! The protocol's own client is used (`holdfast::client`): requests that are due together leave in one
//! write; answers are read on the connection's thread, which stamps them and hands them over. A
//! connection that broke is opened again by a thread of its own, so that nobody who sends waits for it.

mod command;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast::{
    client::{self, Address, Connection, Handler, Options},
    protocol::Code,
};
use parking_lot::{Condvar, Mutex};

use super::{
    Answer, Asker, Clock, Error, Ledger, Link, Request, ReservationName, Said, Sent, Target,
    share_of, speech,
};
use crate::plan::Plan;
use command::Commands;

/// The pause after a connection that could not be opened.
const REOPEN_PAUSE: Duration = Duration::from_millis(5);
/// How long a server may take to answer a hello.
const HELLO_PATIENCE_MS: u64 = 5_000;
/// Requests of one connection that are under way at most, however many more the server would take.
const UNDER_WAY_MAX: u32 = 16_384;

/// A Holdfast server with a gateway.
#[derive(Debug, Clone)]
pub struct Binary {
    /// How it is asked before and after a run: over HTTP/1.1.
    pub asker: Asker,
    /// Where its gateway listens.
    pub gateway: Address,
    /// What it is asked with; empty where nobody needs to.
    pub api_key: String,
    /// Connections, over all senders.
    pub connections: u32,
    /// Threads that send.
    pub senders: u32,
}

impl Target for Binary {
    fn name(&self) -> String {
        let over = match self.gateway {
            Address::Tcp(_) => "TCP",
            Address::Unix(_) => "a Unix socket",
        };
        format!("holdfast's binary protocol over {over}, {} connections", self.connections)
    }

    fn prepare(&self, plan: &Plan) -> Result<(), Error> {
        speech::stock(&self.asker, plan)
    }

    fn link(&self, plan: &Arc<Plan>, clock: Clock, sender: u32) -> Result<Box<dyn Link>, Error> {
        let connections = share_of(self.connections, self.senders, sender);
        Ok(Box::new(BinaryLink::open(self, connections, plan.clone(), clock)?))
    }

    fn ledger(&self, plan: &Plan) -> Result<Ledger, Error> {
        speech::ledger(&self.asker, plan)
    }
}

/// What the connections' threads hand over.
enum Came {
    Answer { id: u64, at: u64, said: Said },
    Closed { lane: usize, serial: u32 },
    Opened { lane: usize, connection: Option<Connection> },
}

#[derive(Default)]
struct Inside {
    came: Vec<Came>,
    /// Whether the sender sleeps until something comes.
    awaited: bool,
}

/// Between the connections' threads and the sender. It holds no more than the answers to what is under
/// way, and a word a connection.
#[derive(Default)]
struct Desk {
    inside: Mutex<Inside>,
    bell: Condvar,
}

impl Desk {
    fn put(&self, came: Came) {
        let mut inside = self.inside.lock();
        inside.came.push(came);
        if std::mem::take(&mut inside.awaited) {
            self.bell.notify_one();
        }
    }

    /// Takes what is there, once something is or the time is over.
    fn take(&self, wait: Duration, into: &mut Vec<Came>) {
        let end = Instant::now() + wait;
        let mut inside = self.inside.lock();
        while inside.came.is_empty() && !wait.is_zero() {
            inside.awaited = true;
            if self.bell.wait_until(&mut inside, end).timed_out() {
                break;
            }
        }
        inside.awaited = false;
        std::mem::swap(&mut inside.came, into);
    }
}

/// Takes the answers of one connection.
struct Reader {
    desk: Arc<Desk>,
    clock: Clock,
    lane: usize,
    serial: u32,
}

impl Handler for Reader {
    fn answer(&mut self, id: u64, answer: client::Answer<'_>) {
        self.desk.put(Came::Answer { id, at: self.clock.now(), said: said(answer) });
    }

    fn closed(&mut self, _: &client::Error) {
        self.desk.put(Came::Closed { lane: self.lane, serial: self.serial });
    }
}

/// What an answer means, as the HTTP contract has it.
fn said(answer: client::Answer<'_>) -> Said {
    let id = match answer {
        client::Answer::Reservation(reservation, _) => Some(reservation.id()),
        client::Answer::Ordered(order, _) => order.reservations.first().map(|id| id.read()),
        client::Answer::Refused(refused) => return refused_said(Code(refused.code.to_native())),
        _ => None,
    };
    let name = id.and_then(|id| ReservationName::new(id.to_string().as_bytes()));
    name.map_or(Said::Failed, |name| Said::Granted { reservation: Some(name) })
}

fn refused_said(code: Code) -> Said {
    match code {
        Code::INSUFFICIENT_STOCK => Said::SoldOut,
        Code::PURCHASE_LIMIT | Code::WRONG_STATE | Code::ORDER_EXISTS | Code::ORDER_MISMATCH => {
            Said::Refused
        }
        Code::RATE_LIMITED
        | Code::OVERLOADED
        | Code::LOG_FULL
        | Code::SHUTTING_DOWN
        | Code::STARTING => Said::Shed,
        Code::INTERNAL | Code::OUTCOME_UNKNOWN | Code::REQUEST_TIMEOUT => Said::Failed,
        _ => Said::Invalid,
    }
}

/// A connection, or the time of the next attempt to have one.
struct Lane {
    connection: Option<Connection>,
    /// Tells its connections apart.
    serial: u32,
    under_way: u32,
    under_way_max: u32,
    unsent: bool,
    again_at: Instant,
}

impl Lane {
    fn new(connection: Connection, serial: u32) -> Self {
        let under_way_max = connection.sender().in_flight_max().min(UNDER_WAY_MAX);
        let again_at = Instant::now();
        let connection = Some(connection);
        Self { connection, serial, under_way: 0, under_way_max, unsent: false, again_at }
    }

    fn has_room(&self) -> bool {
        self.connection.is_some() && self.under_way < self.under_way_max
    }
}

/// What is under way under a ticket.
#[derive(Clone, Copy, Default)]
struct UnderWay {
    /// The id that its request has on the wire; 0 if there is none.
    id: u64,
    lane: usize,
}

struct BinaryLink {
    target: Binary,
    clock: Clock,
    desk: Arc<Desk>,
    came: Vec<Came>,
    lanes: Vec<Lane>,
    turn: usize,
    commands: Commands,
    /// By ticket: tickets are small numbers that are used again.
    under_way: Vec<UnderWay>,
    /// Requests so far: what tells one from another that had its ticket.
    requests: u32,
}

impl BinaryLink {
    fn open(target: &Binary, count: u32, plan: Arc<Plan>, clock: Clock) -> Result<Self, Error> {
        let desk = Arc::new(Desk::default());
        let mut lanes = Vec::new();
        for lane in 0..count as usize {
            let reader = Reader { desk: desk.clone(), clock, lane, serial: 0 };
            let connection = connect(target, reader).map_err(|error| Error::Unreachable {
                what: "speaking the binary protocol with",
                address: target.gateway.to_string(),
                source: std::io::Error::other(error),
            })?;
            lanes.push(Lane::new(connection, 0));
        }
        Ok(Self {
            target: target.clone(),
            clock,
            desk,
            came: Vec::new(),
            lanes,
            turn: 0,
            commands: Commands::new(plan),
            under_way: Vec::new(),
            requests: 0,
        })
    }

    /// The next connection that has room, in turn.
    fn roomy(&self) -> Option<usize> {
        let count = self.lanes.len();
        (0..count).map(|n| (self.turn + n) % count).find(|at| self.lanes[*at].has_room())
    }

    fn flush(&mut self) {
        for lane in &mut self.lanes {
            if std::mem::take(&mut lane.unsent)
                && let Some(connection) = &lane.connection
            {
                // One that is broken says so itself.
                let _ = connection.sender().flush();
            }
        }
    }

    /// Opens again what is closed and whose pause is over.
    fn reopen(&mut self) {
        let now = Instant::now();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            if lane.connection.is_some() || lane.again_at > now {
                continue;
            }
            // Not again before this attempt has ended.
            lane.again_at = now + Duration::from_millis(2 * HELLO_PATIENCE_MS) + REOPEN_PAUSE;
            lane.serial += 1;
            let (target, desk) = (self.target.clone(), self.desk.clone());
            let reader =
                Reader { desk: desk.clone(), clock: self.clock, lane: at, serial: lane.serial };
            let opening = std::thread::Builder::new().name("reopening".to_owned());
            let opened = opening.spawn(move || {
                let connection = connect(&target, reader).ok();
                desk.put(Came::Opened { lane: at, connection });
            });
            if opened.is_err() {
                lane.again_at = now + REOPEN_PAUSE;
            }
        }
    }

    fn take(&mut self, came: Came, answers: &mut Vec<Answer>) {
        match came {
            Came::Answer { id, at, said } => {
                let ticket = ticket(id);
                // An answer to what was given up is an answer to nothing.
                let Some(mine) = self.under_way.get_mut(ticket as usize) else { return };
                if mine.id == id {
                    self.lanes[mine.lane].under_way -= 1;
                    *mine = UnderWay::default();
                    answers.push(Answer { ticket, at, said });
                }
            }
            Came::Closed { lane, serial } if self.lanes[lane].serial == serial => {
                self.lanes[lane].connection = None;
                self.lanes[lane].under_way = 0;
                self.lanes[lane].again_at = Instant::now() + REOPEN_PAUSE;
                self.break_off(lane, answers);
            }
            Came::Closed { .. } => {}
            Came::Opened { lane, connection } => {
                let serial = self.lanes[lane].serial;
                match connection {
                    Some(connection) => self.lanes[lane] = Lane::new(connection, serial),
                    None => self.lanes[lane].again_at = Instant::now() + REOPEN_PAUSE,
                }
            }
        }
    }

    fn break_off(&mut self, lane: usize, answers: &mut Vec<Answer>) {
        let at = self.clock.now();
        for (ticket, mine) in self.under_way.iter_mut().enumerate() {
            if mine.id != 0 && mine.lane == lane {
                *mine = UnderWay::default();
                answers.push(Answer { ticket: ticket as u32, at, said: Said::Broken });
            }
        }
    }
}

fn connect(target: &Binary, reader: Reader) -> Result<Connection, client::Error> {
    let options = Options {
        api_key: target.api_key.clone(),
        hello_timeout_ms: HELLO_PATIENCE_MS,
        ..Options::default()
    };
    Connection::open(&target.gateway, &options, |_| reader)
}

/// An id that no other request under way has: its ticket, and the number of the request.
fn id(ticket: u32, number: u32) -> u64 {
    (u64::from(number) << 32) | (u64::from(ticket) + 1)
}

fn ticket(id: u64) -> u32 {
    (id as u32).wrapping_sub(1)
}

impl Link for BinaryLink {
    fn send(&mut self, ticket: u32, request: &Request<'_>) -> Sent {
        let Some(at) = self.roomy() else { return Sent::Full };
        let lane = &mut self.lanes[at];
        let Some(connection) = &lane.connection else { return Sent::Full };
        self.requests = self.requests.wrapping_add(1);
        let id = id(ticket, self.requests);
        // What is under way fits into what a server reads without an answer: sending does not wait.
        let sent =
            self.commands.with(request, |request| connection.sender().send(id, request).is_ok());
        match sent {
            Some(true) => {}
            // The thread of the connection will say that it is broken.
            Some(false) => return Sent::Full,
            None => {
                self.desk.put(Came::Answer { id, at: self.clock.now(), said: Said::Invalid });
            }
        }
        (lane.under_way, lane.unsent) = (lane.under_way + 1, true);
        self.turn = at + 1;
        let place = ticket as usize;
        if self.under_way.len() <= place {
            self.under_way.resize(place + 1, UnderWay::default());
        }
        self.under_way[place] = UnderWay { id, lane: at };
        Sent::Taken
    }

    fn poll(&mut self, wait: Duration, answers: &mut Vec<Answer>) {
        self.flush();
        self.reopen();
        let mut came = std::mem::take(&mut self.came);
        self.desk.take(wait, &mut came);
        for one in came.drain(..) {
            self.take(one, answers);
        }
        self.came = came;
    }

    fn abandon(&mut self, ticket: u32) {
        let Some(mine) = self.under_way.get_mut(ticket as usize) else { return };
        if std::mem::take(&mut mine.id) != 0 {
            self.lanes[mine.lane].under_way -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_ticket_and_a_number_and_never_0() {
        for (one, number) in [(0, 0), (7, 1), (u32::MAX - 1, u32::MAX)] {
            let made = id(one, number);
            assert_ne!(made, 0);
            assert_eq!(ticket(made), one);
        }
        assert_ne!(id(3, 1), id(3, 2));
    }

    #[test]
    fn every_code_means_what_its_status_means_over_http() {
        assert_eq!(refused_said(Code::INSUFFICIENT_STOCK), Said::SoldOut);
        assert_eq!(refused_said(Code::PURCHASE_LIMIT), Said::Refused);
        assert_eq!(refused_said(Code::LOG_FULL), Said::Shed);
        assert_eq!(refused_said(Code::OUTCOME_UNKNOWN), Said::Failed);
        assert_eq!(refused_said(Code::UNKNOWN_SKU), Said::Invalid);
        assert_eq!(refused_said(Code(9_999)), Said::Invalid);
    }
}
