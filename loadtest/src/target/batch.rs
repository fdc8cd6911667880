//! Holdfast's batch route over HTTP/1.1: reservations that are due together go out in one request, as a
//! gateway does that collects what many shoppers ask for. What follows a reservation, and an order in one
//! step, are requests of their own.
//!
//! A batch takes what is due until it is sent, which is as soon as a connection is idle: nobody waits for
//! others to come.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    Answer, Asker, Clock, Error, Ledger, Link, Request, Said, Sent, Target, http1, share_of,
    speech, wire::Wire,
};
use crate::plan::{Plan, Step};

/// Set in the token of a batch; the rest is its number.
const BATCH: u64 = 1 << 63;
/// Stands for a ticket that was given up.
const GIVEN_UP: u32 = u32::MAX;

/// A Holdfast server at an address.
#[derive(Debug, Clone)]
pub struct Batch {
    /// How it is asked before and after a run.
    pub asker: Asker,
    /// Connections, over all senders.
    pub connections: u32,
    /// Threads that send.
    pub senders: u32,
    /// The most reservations of a batch.
    pub batch_max: u32,
}

impl Target for Batch {
    fn name(&self) -> String {
        let Self { connections, batch_max, .. } = self;
        format!(
            "holdfast's batch route over HTTP/1.1, {connections} connections, up to {batch_max} at once"
        )
    }

    fn prepare(&self, plan: &Plan) -> Result<(), Error> {
        speech::stock(&self.asker, plan)
    }

    fn link(&self, plan: &Arc<Plan>, clock: Clock, sender: u32) -> Result<Box<dyn Link>, Error> {
        let connections = share_of(self.connections, self.senders, sender);
        Ok(Box::new(BatchLink {
            wire: http1::open(&self.asker, connections, clock)?,
            plan: plan.clone(),
            headers: self.asker.common_headers(),
            members_max: self.batch_max as usize,
            open: Open::default(),
            sent: HashMap::new(),
            next: 0,
            request: Vec::new(),
        }))
    }

    fn ledger(&self, plan: &Plan) -> Result<Ledger, Error> {
        speech::ledger(&self.asker, plan)
    }
}

/// The batch that is being filled.
#[derive(Default)]
struct Open {
    tickets: Vec<u32>,
    body: Vec<u8>,
}

struct BatchLink {
    wire: Wire,
    plan: Arc<Plan>,
    headers: String,
    members_max: usize,
    open: Open,
    /// The tickets of batches under way, by number.
    sent: HashMap<u64, Vec<u32>>,
    next: u64,
    request: Vec<u8>,
}

impl BatchLink {
    fn flush(&mut self) {
        if self.open.tickets.is_empty() || !self.wire.has_room() {
            return;
        }
        self.request.clear();
        self.request.extend_from_slice(b"POST /v1/reservations/batch HTTP/1.1\r\n");
        // The headers end in an end of line, with which those of the body begin.
        self.request.extend_from_slice(self.headers.trim_end().as_bytes());
        self.open.body.extend_from_slice(b"]}");
        http1::finish(&self.open.body, &mut self.request);
        let token = BATCH | self.next;
        if !self.wire.exchange(token, &self.request) {
            self.open.body.truncate(self.open.body.len() - 2);
            return;
        }
        self.next += 1;
        self.sent.insert(token, std::mem::take(&mut self.open.tickets));
        self.open.body.clear();
    }

    fn add(&mut self, ticket: u32, request: &Request<'_>) {
        let Open { tickets, body } = &mut self.open;
        body.extend_from_slice(if tickets.is_empty() { b"{\"reservations\":[" } else { b"," });
        tickets.push(ticket);
        self.plan.batch_member(request.visit, body);
    }
}

impl Link for BatchLink {
    fn send(&mut self, ticket: u32, request: &Request<'_>) -> Sent {
        if request.step == Step::Reserve {
            if self.open.tickets.len() == self.members_max {
                self.flush();
            }
            if self.open.tickets.len() == self.members_max || !self.wire.has_room() {
                return Sent::Full;
            }
            self.add(ticket, request);
            return Sent::Taken;
        }
        if !self.wire.has_room() {
            return Sent::Full;
        }
        let mut body = Vec::new();
        self.plan.body(request.visit, request.step, &mut body);
        http1::single(&self.plan, request, &self.headers, &body, &mut self.request);
        let taken = self.wire.exchange(http1::token(ticket, request.step), &self.request);
        if taken { Sent::Taken } else { Sent::Full }
    }

    fn poll(&mut self, wait: Duration, answers: &mut Vec<Answer>) {
        self.flush();
        let sent = &mut self.sent;
        self.wire.poll(wait, |exchanged| {
            let at = exchanged.at;
            if exchanged.token & BATCH == 0 {
                let (ticket, step) = http1::untoken(exchanged.token);
                let response = exchanged.response;
                let said = response.map(|r| speech::said(r.status, step, &r.body));
                return answers.push(Answer { ticket, at, said: said.unwrap_or(Said::Broken) });
            }
            let Some(tickets) = sent.remove(&exchanged.token) else { return };
            let mut next = tickets.iter();
            let mut tell = |said| {
                let ticket = next.next().filter(|ticket| **ticket != GIVEN_UP);
                answers.extend(ticket.map(|ticket| Answer { ticket: *ticket, at, said }));
            };
            match exchanged.response {
                Some(r) => speech::batch_said(r.status, &r.body, tickets.len(), tell),
                None => tickets.iter().for_each(|_| tell(Said::Broken)),
            }
        });
    }

    fn abandon(&mut self, ticket: u32) {
        for step in [Step::Order, Step::Commit, Step::Release] {
            self.wire.abandon(http1::token(ticket, step));
        }
        // One that waits for its batch to leave goes with it: it can't be taken out any more.
        give_up(&mut self.open.tickets, ticket);
        // The others of its batch have the same planned instant but for moments: they go with it, each
        // when its own time is up.
        let gone = self.sent.iter_mut().find_map(|(token, tickets)| {
            tickets.contains(&ticket).then(|| {
                give_up(tickets, ticket);
                tickets.iter().all(|t| *t == GIVEN_UP).then_some(*token)
            })
        });
        if let Some(Some(token)) = gone {
            self.wire.abandon(token);
            self.sent.remove(&token);
        }
    }
}

fn give_up(tickets: &mut [u32], ticket: u32) {
    tickets.iter_mut().filter(|t| **t == ticket).for_each(|t| *t = GIVEN_UP);
}
