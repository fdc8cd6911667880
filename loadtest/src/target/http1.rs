//! Holdfast over HTTP/1.1, one request a connection at a time.

use std::{sync::Arc, time::Duration};

use super::{
    Answer, Asker, Clock, Error, Ledger, Link, Request, Said, Sent, Target, share_of, speech,
    wire::Wire,
};
use crate::plan::{Plan, Step, render};

/// How long connections may take to be opened before a run.
pub(super) const OPEN_PATIENCE: Duration = Duration::from_secs(5);

/// A Holdfast server at an address.
#[derive(Debug, Clone)]
pub struct Http1 {
    /// How it is asked before and after a run.
    pub asker: Asker,
    /// Connections, over all senders.
    pub connections: u32,
    /// Threads that send.
    pub senders: u32,
}

impl Target for Http1 {
    fn name(&self) -> String {
        format!("holdfast over HTTP/1.1, {} connections", self.connections)
    }

    fn prepare(&self, plan: &Plan) -> Result<(), Error> {
        speech::stock(&self.asker, plan)
    }

    fn link(&self, plan: &Arc<Plan>, clock: Clock, sender: u32) -> Result<Box<dyn Link>, Error> {
        let connections = share_of(self.connections, self.senders, sender);
        let wire = open(&self.asker, connections, clock)?;
        Ok(Box::new(Http1Link {
            wire,
            plan: plan.clone(),
            headers: self.asker.common_headers(),
            head: Vec::new(),
            body: Vec::new(),
        }))
    }

    fn ledger(&self, plan: &Plan) -> Result<Ledger, Error> {
        speech::ledger(&self.asker, plan)
    }
}

pub(crate) fn open(asker: &Asker, connections: u32, clock: Clock) -> Result<Wire, Error> {
    Wire::open(asker.address, connections, clock, OPEN_PATIENCE).map_err(|source| {
        Error::Unreachable { what: "connecting to", address: asker.address.to_string(), source }
    })
}

struct Http1Link {
    wire: Wire,
    plan: Arc<Plan>,
    headers: String,
    /// The head of a request, and then all of it; used again for each.
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Link for Http1Link {
    fn send(&mut self, ticket: u32, request: &Request<'_>) -> Sent {
        if !self.wire.has_room() {
            return Sent::Full;
        }
        self.body.clear();
        self.plan.body(request.visit, request.step, &mut self.body);
        single(&self.plan, request, &self.headers, &self.body, &mut self.head);
        let taken = self.wire.exchange(token(ticket, request.step), &self.head);
        if taken { Sent::Taken } else { Sent::Full }
    }

    fn poll(&mut self, wait: Duration, answers: &mut Vec<Answer>) {
        self.wire.poll(wait, |exchanged| {
            let (ticket, step) = untoken(exchanged.token);
            let said = match exchanged.response {
                Some(response) => speech::said(response.status, step, &response.body),
                None => Said::Broken,
            };
            answers.push(Answer { ticket, at: exchanged.at, said });
        });
    }

    fn abandon(&mut self, ticket: u32) {
        for step in STEPS {
            self.wire.abandon(token(ticket, step));
        }
    }
}

/// Writes a whole request.
pub(super) fn single(
    plan: &Plan,
    request: &Request<'_>,
    headers: &str,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    out.clear();
    out.extend_from_slice(b"POST ");
    speech::path(request, out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    out.extend_from_slice(headers.as_bytes());
    out.extend_from_slice(b"Idempotency-Key: ");
    plan.write_key(request.visit.shopper, request.step, out);
    finish(body, out);
}

/// The headers of a body, and the body.
pub(super) fn finish(body: &[u8], out: &mut Vec<u8>) {
    if !body.is_empty() {
        out.extend_from_slice(b"\r\nContent-Type: application/json");
    }
    out.extend_from_slice(b"\r\nContent-Length: ");
    render::number(out, body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

const STEPS: [Step; 4] = [Step::Reserve, Step::Order, Step::Commit, Step::Release];

/// A ticket and the step that its answer is to be read for.
pub(super) fn token(ticket: u32, step: Step) -> u64 {
    (u64::from(ticket) << 2) | step as u64
}

pub(super) fn untoken(token: u64) -> (u32, Step) {
    ((token >> 2) as u32, STEPS[(token & 3) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_ticket_and_a_step() {
        for step in STEPS {
            assert_eq!(untoken(token(u32::MAX, step)), (u32::MAX, step));
        }
    }
}
