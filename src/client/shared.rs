//! The client that callers share: each asks and waits, or leaves what is to be done with the answer.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    Address, Answer, Connection, Error, Granted, Handler, Options, Pending, Reply, StockSums,
    pending::Slot,
};
use crate::{
    model::{
        IdempotencyKey, ReservationId, Sku,
        command::{ChangeLines, Commit, Extend, PlaceOrder, Release, Reserve},
        view::ReservationView,
    },
    protocol::{PlacedOrder, Request},
};

type Callback = Box<dyn FnOnce(Result<Reply, Error>) + Send>;

enum Waiter {
    Slot(Arc<Slot>),
    Callback(Callback),
}

impl Waiter {
    fn say(self, said: Result<Reply, Error>) {
        match self {
            Self::Slot(slot) => slot.say(said),
            Self::Callback(callback) => callback(said),
        }
    }
}

/// Who waits for which id; nobody may any more once the connection is over.
struct Waiters(Mutex<Result<HashMap<u64, Waiter, ahash::RandomState>, Error>>);

impl Waiters {
    fn add(&self, id: u64, waiter: Waiter) -> Result<(), Error> {
        match &mut *self.0.lock() {
            Ok(waiters) => drop(waiters.insert(id, waiter)),
            Err(why) => return Err(why.clone()),
        }
        Ok(())
    }

    fn take(&self, id: u64) -> Option<Waiter> {
        self.0.lock().as_mut().ok()?.remove(&id)
    }

    fn close(&self, why: &Error) {
        let left = std::mem::replace(&mut *self.0.lock(), Err(why.clone()));
        for (_, waiter) in left.into_iter().flatten() {
            waiter.say(Err(why.clone()));
        }
    }
}

struct HandOut(Arc<Waiters>);

impl Handler for HandOut {
    fn answer(&mut self, id: u64, answer: Answer<'_>) {
        if let Some(waiter) = self.0.take(id) {
            waiter.say(answer.to_reply());
        }
    }

    fn closed(&mut self, why: &Error) {
        self.0.close(why);
    }
}

/// One connection for many callers; to be shared by reference or in an [`Arc`].
pub struct Client {
    connection: Connection,
    waiters: Arc<Waiters>,
    last_id: AtomicU64,
}

impl Client {
    /// Connects and says hello.
    ///
    /// # Errors
    /// If the server can't be reached, refuses, or says nothing in time.
    pub fn connect(address: &Address, options: &Options) -> Result<Self, Error> {
        let waiters = Arc::new(Waiters(Mutex::new(Ok(HashMap::default()))));
        let connection = Connection::open(address, options, |_| HandOut(waiters.clone()))?;
        Ok(Self { connection, waiters, last_id: AtomicU64::new(0) })
    }

    fn put(&self, request: &Request<'_>, waiter: Waiter) -> Result<(), Error> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        self.waiters.add(id, waiter)?;
        let sent = self.connection.sender().send(id, request);
        if sent.is_err() {
            drop(self.waiters.take(id));
        }
        sent
    }

    /// Puts a request among those that are sent with the next [`Client::flush`], or as soon as there
    /// are enough of them.
    ///
    /// # Errors
    /// If it is longer than the server takes, or the connection is broken.
    pub fn submit(&self, request: &Request<'_>) -> Result<Pending, Error> {
        let slot = Arc::new(Slot::default());
        self.put(request, Waiter::Slot(slot.clone()))?;
        Ok(Pending(slot))
    }

    /// The same; `then` is called with the answer on the connection's thread, and must not wait for
    /// another one.
    ///
    /// # Errors
    /// As [`Client::submit`]; `then` is not called then.
    pub fn submit_then(
        &self,
        request: &Request<'_>,
        then: impl FnOnce(Result<Reply, Error>) + Send + 'static,
    ) -> Result<(), Error> {
        self.put(request, Waiter::Callback(Box::new(then)))
    }

    /// Sends what was submitted.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn flush(&self) -> Result<(), Error> {
        self.connection.sender().flush()
    }

    /// Asks and waits.
    ///
    /// # Errors
    /// The refusal; or if the connection broke, and then it may have been done.
    pub fn ask(&self, request: &Request<'_>) -> Result<Reply, Error> {
        let pending = self.submit(request)?;
        self.flush()?;
        pending.wait()
    }

    fn ask_reservation(&self, request: &Request<'_>) -> Result<Granted<ReservationView>, Error> {
        match self.ask(request)? {
            Reply::Reservation(granted) => Ok(granted),
            _ => Err(OTHER),
        }
    }

    /// Takes stock for a while: all lines or none.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn reserve(
        &self,
        key: &IdempotencyKey,
        reserve: &Reserve,
    ) -> Result<Granted<ReservationView>, Error> {
        self.ask_reservation(&Request::Reserve(key, reserve))
    }

    /// Gives a held reservation back, in part where lines are named.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn release(
        &self,
        key: &IdempotencyKey,
        id: ReservationId,
        release: &Release,
    ) -> Result<Granted<ReservationView>, Error> {
        self.ask_reservation(&Request::Release(key, id, release))
    }

    /// Holds a reservation for longer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn extend(
        &self,
        key: &IdempotencyKey,
        id: ReservationId,
        extend: &Extend,
    ) -> Result<Granted<ReservationView>, Error> {
        self.ask_reservation(&Request::Extend(key, id, extend))
    }

    /// Makes a held reservation an order.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn commit(
        &self,
        key: &IdempotencyKey,
        id: ReservationId,
        commit: &Commit,
    ) -> Result<Granted<ReservationView>, Error> {
        self.ask_reservation(&Request::Commit(key, id, commit))
    }

    /// Reserves and commits in one record, or makes one order of several held reservations.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn place_order(
        &self,
        key: &IdempotencyKey,
        order: &PlaceOrder,
    ) -> Result<Granted<PlacedOrder>, Error> {
        match self.ask(&Request::Order(key, order))? {
            Reply::Ordered(granted) => Ok(granted),
            _ => Err(OTHER),
        }
    }

    /// Changes what a held cart holds, as one decision.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn change_lines(
        &self,
        id: ReservationId,
        change: &ChangeLines,
    ) -> Result<Granted<ReservationView>, Error> {
        self.ask_reservation(&Request::ChangeLines(id, change))
    }

    /// Reads a reservation.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn reservation(&self, id: ReservationId) -> Result<Granted<ReservationView>, Error> {
        self.ask_reservation(&Request::ReadReservation(id))
    }

    /// Reads the stock of a SKU over all its locations.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn stock(&self, sku: &Sku) -> Result<StockSums, Error> {
        match self.ask(&Request::ReadStock(sku))? {
            Reply::Stock(stock) => Ok(stock),
            _ => Err(OTHER),
        }
    }

    /// Calls a route of the HTTP API: its status and body.
    ///
    /// # Errors
    /// As [`Client::ask`]; a problem of the route is no error here, but a body.
    pub fn call(
        &self,
        (method, path): (&str, &str),
        key: Option<&IdempotencyKey>,
        body: &[u8],
    ) -> Result<(u16, Vec<u8>), Error> {
        match self.ask(&Request::Call { method, path, key, body })? {
            Reply::Called { status, body, .. } => Ok((status, body)),
            _ => Err(OTHER),
        }
    }
}

const OTHER: Error = Error::Protocol("the answer is not of the kind that was asked for");
