//! Where a connection's requests are decided: a frame is read in place, the engine decides, and the
//! answer is encoded at once, behind the log or free to leave.

use std::{borrow::Cow, sync::Arc, time::Instant};

use crate::{
    engine::{Answer, Decision, Engine, Key},
    model::{
        IdempotencyKey, Lsn, Origin, command,
        partner::{Barred, Scope},
        view::ReservationView,
    },
    protocol::{
        self, ChangeLines, Code, Commit, Extend, Frame, Order, ReadReservation, ReadStock, Refused,
        Release, Reserve, Stock, Wrong, answer_flags, flags, kind, push_order, push_reservation,
    },
    telemetry::GatewayAnswer,
    wal::Storage,
};

use super::{
    calls::Calls,
    house::{Call, Guest, House},
    named::{Named, Naming},
    queue::{Answers, Due},
    refusal,
};

/// What became of a request at the desk.
pub(super) enum Became {
    /// An answer that may leave.
    Answered(Due),
    /// An answer that waits for the log.
    Sealed,
    /// A call of a route, which is answered later.
    Called,
    /// A refusal, after which the connection ends: its caller is known no more.
    Ended(Due),
}

/// Decides the requests of one connection.
pub(super) struct Desk<S: Storage> {
    pub(super) engine: Engine<S>,
    pub(super) house: Arc<dyn House>,
    /// The scope of its idempotency keys.
    pub(super) partner: Arc<str>,
    pub(super) api_key: Arc<str>,
    /// Who is asked whether he may.
    pub(super) guest: Box<dyn Guest>,
    pub(super) calls: Calls,
    pub(super) naming: Naming,
    /// The command that every reservation is read into.
    pub(super) reserve: command::Reserve,
}

/// A request on its way through the desk.
struct Request<'a> {
    frame: Frame<'a>,
    answers: &'a mut Answers,
    /// Everything below is durable, as far as was known when the request came.
    acked: Lsn,
    began: Instant,
    /// If it belongs to a trace.
    named: Option<Box<Named>>,
}

impl<'a> Request<'a> {
    fn id(&self) -> u64 {
        self.frame.header.id
    }

    /// The key of it in the scope of a partner.
    fn key<'k>(&'k self, partner: &'k str, key: &'k IdempotencyKey) -> Key<'k> {
        let can_wait = self.frame.header.flags & flags::CAN_WAIT != 0;
        Key { can_wait, origin: self.origin(), ..Key::new(partner, key) }
    }

    /// What its records are to say that they were caused by.
    fn origin(&self) -> Option<Origin<'_>> {
        self.named.as_ref().and_then(|named| named.origin())
    }

    /// Its answer stands among those that may leave.
    fn answered(self, status: u16) -> Became {
        Became::Answered(self.due(status, false).1)
    }

    /// What is to be counted once its answer may leave.
    fn due(self, status: u16, durable: bool) -> (&'a mut Answers, Due) {
        let (began, kind) = (self.began, self.frame.header.kind);
        let answer = GatewayAnswer { began, kind, status, durable };
        (self.answers, Due { answer, named: self.named })
    }

    fn refuse(self, code: Code, detail: &str) -> Became {
        Refused::new(code, detail).push(self.answers.open(), self.frame.header.id);
        self.answered(code.status())
    }

    /// Refuses a caller who may not.
    fn bar(self, barred: Barred) -> Became {
        let (code, detail): (_, Cow<'_, str>) = match barred {
            Barred::Unknown => (Code::UNAUTHENTICATED, "the API key is no longer good".into()),
            Barred::Scope(scopes) => {
                let words: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
                let detail = format!("this takes the scope {}", words.join(" or "));
                (Code::FORBIDDEN, detail.into())
            }
            Barred::Limit { retry_after_s } => {
                let detail = format!("the partner's rate is used up; wait {retry_after_s} s");
                (Code::RATE_LIMITED, detail.into())
            }
        };
        match (barred, self.refuse(code, &detail)) {
            (Barred::Unknown, Became::Answered(due)) => Became::Ended(due),
            (_, became) => became,
        }
    }

    fn refuse_field(self, wrong: &Wrong) -> Became {
        let code = refusal::push_wrong(self.answers.open(), self.frame.header.id, wrong);
        self.answered(code.status())
    }

    fn refuse_body(self) -> Became {
        let wrong = Wrong { field: "body".to_owned(), reason: "is not that of its kind" };
        self.refuse_field(&wrong)
    }

    /// Encodes what was decided, behind the log if it speaks of a record that is not durable yet.
    fn answer<T>(
        self,
        decision: Decision<T>,
        say: impl FnOnce(&mut Vec<u8>, (u8, u64), &Answer<T>),
    ) -> Became {
        let id = self.id();
        if let Some(named) = &self.named {
            named.decided();
        }
        let (behind, outcome) = decision.into_sealed();
        let push = |out: &mut Vec<u8>| match &outcome {
            Ok(answer) => {
                say(out, (answer_flags(answer.replayed, answer.created), id), answer);
                if answer.created { 201 } else { 200 }
            }
            Err(refused) => refusal::push(out, id, refused).status(),
        };
        match behind.filter(|lsn| *lsn >= self.acked) {
            Some(lsn) => {
                let status = push(self.answers.sealed());
                let (answers, due) = self.due(status, true);
                answers.seal(lsn, due);
                Became::Sealed
            }
            None => {
                let status = push(self.answers.open());
                self.answered(status)
            }
        }
    }

    fn answer_reservation(self, decision: Decision<ReservationView>) -> Became {
        self.answer(decision, |out, head, answer| {
            push_reservation(out, head, &answer.value, answer.current_state);
        })
    }
}

/// Which scopes a kind of request takes, those of its route; `None`: its route is asked, or it is none.
fn scopes(kind: u8) -> Option<&'static [Scope]> {
    Some(match kind {
        kind::RESERVE | kind::RELEASE | kind::EXTEND | kind::CHANGE_LINES => &[Scope::Reserve],
        kind::COMMIT | kind::ORDER => &[Scope::Order],
        kind::READ_RESERVATION => &[Scope::Reserve, Scope::Order, Scope::Observe],
        kind::READ_STOCK => {
            &[Scope::Availability, Scope::Reserve, Scope::Order, Scope::Fulfil, Scope::Observe]
        }
        _ => return None,
    })
}

/// Why a guest's request is not taken, if it is not.
fn barred(guest: &mut dyn Guest, frame: &Frame<'_>) -> Option<Barred> {
    guest.enter(scopes(frame.header.kind)?).err()
}

impl<S: Storage> Desk<S> {
    /// Decides one request; its answer goes to `answers`.
    pub(super) fn decide(
        &mut self,
        frame: Frame<'_>,
        answers: &mut Answers,
        acked: Lsn,
        began: Instant,
    ) -> Became {
        let named = self.naming.begin(&frame, began);
        let request = Request { frame, answers, acked, began, named };
        if let Some(barred) = barred(&mut *self.guest, &frame) {
            return request.bar(barred);
        }
        match frame.header.kind {
            kind::RESERVE => self.reserve(request),
            kind::RELEASE => self.release(request),
            kind::EXTEND => self.extend(request),
            kind::COMMIT => self.commit(request),
            kind::ORDER => self.order(request),
            kind::CHANGE_LINES => self.change_lines(request),
            kind::READ_RESERVATION => self.read_reservation(request),
            kind::READ_STOCK => self.read_stock(request),
            kind::CALL => self.call(request),
            kind::HELLO => request.refuse(Code::MALFORMED, "a hello is the first frame only"),
            _ => request.refuse(Code::MALFORMED, "this version knows no request of this kind"),
        }
    }

    fn reserve(&mut self, request: Request<'_>) -> Became {
        let Some(said) = request.frame.access::<Reserve<'_>>() else {
            return request.refuse_body();
        };
        let key = match said.read(&mut self.reserve) {
            Ok(key) => key,
            Err(wrong) => return request.refuse_field(&wrong),
        };
        let key = request.key(&self.partner, &key);
        let decision = self.engine.reserve(key, &self.reserve);
        request.answer_reservation(decision)
    }

    fn release(&mut self, request: Request<'_>) -> Became {
        let Some(said) = request.frame.access::<Release<'_>>() else {
            return request.refuse_body();
        };
        let (key, release) = match said.read() {
            Ok(read) => read,
            Err(wrong) => return request.refuse_field(&wrong),
        };
        let key = request.key(&self.partner, &key);
        let decision = self.engine.release(key, said.reservation.read(), &release);
        request.answer_reservation(decision)
    }

    fn extend(&mut self, request: Request<'_>) -> Became {
        let Some(said) = request.frame.access::<Extend<'_>>() else { return request.refuse_body() };
        let (key, extend) = match said.read() {
            Ok(read) => read,
            Err(wrong) => return request.refuse_field(&wrong),
        };
        let key = request.key(&self.partner, &key);
        let decision = self.engine.extend(key, said.reservation.read(), &extend);
        request.answer_reservation(decision)
    }

    fn commit(&mut self, request: Request<'_>) -> Became {
        let Some(said) = request.frame.access::<Commit<'_>>() else { return request.refuse_body() };
        let (key, commit) = match said.read() {
            Ok(read) => read,
            Err(wrong) => return request.refuse_field(&wrong),
        };
        let key = request.key(&self.partner, &key);
        let decision = self.engine.commit(key, said.reservation.read(), &commit);
        request.answer_reservation(decision)
    }

    fn order(&mut self, request: Request<'_>) -> Became {
        let Some(said) = request.frame.access::<Order<'_>>() else { return request.refuse_body() };
        let (key, order) = match said.read() {
            Ok(read) => read,
            Err(wrong) => return request.refuse_field(&wrong),
        };
        let key = request.key(&self.partner, &key);
        let decision = self.engine.place_order(key, &order);
        request.answer(decision, |out, head, answer| {
            push_order(out, head, &answer.value, answer.current_state);
        })
    }

    fn change_lines(&mut self, request: Request<'_>) -> Became {
        let Some(said) = request.frame.access::<ChangeLines<'_>>() else {
            return request.refuse_body();
        };
        let change = match said.read() {
            Ok(read) => read,
            Err(wrong) => return request.refuse_field(&wrong),
        };
        let decision = self.engine.change_lines(said.reservation.read(), &change, request.origin());
        request.answer_reservation(decision)
    }

    fn read_reservation(&mut self, request: Request<'_>) -> Became {
        let Some(said) = request.frame.access::<ReadReservation>() else {
            return request.refuse_body();
        };
        let decision = self.engine.reservation(said.reservation.read());
        request.answer_reservation(decision)
    }

    fn read_stock(&mut self, request: Request<'_>) -> Became {
        let Some(said) = request.frame.access::<ReadStock<'_>>() else {
            return request.refuse_body();
        };
        let sku = match said.read() {
            Ok(sku) => sku,
            Err(wrong) => return request.refuse_field(&wrong),
        };
        let id = request.id();
        match self.engine.stock(&sku) {
            Ok(stock) => {
                protocol::push(request.answers.open(), kind::STOCK, 0, id, &Stock::from(&stock));
                request.answered(200)
            }
            Err(refused) => {
                let code = refusal::push(request.answers.open(), id, &refused);
                request.answered(code.status())
            }
        }
    }

    fn call(&mut self, request: Request<'_>) -> Became {
        let Some(said) = request.frame.access::<protocol::Call<'_>>() else {
            return request.refuse_body();
        };
        let call = Call {
            api_key: self.api_key.clone(),
            method: said.method.to_string(),
            path: said.path.to_string(),
            key: said.key.to_string(),
            can_wait: request.frame.header.flags & flags::CAN_WAIT != 0,
            traceparent: request.frame.trace().map(|trace| trace.to_string()),
            body: said.body.to_vec(),
        };
        let way_back = self.calls.begin(request.id());
        self.house.call(call, Box::new(|reply| way_back.reply(reply)));
        Became::Called
    }
}
