//! What happens to orders, as it is offered: each kind by itself, and any of them as one type. The
//! decisions are made in [`super::life`].

use crate::{
    model::{
        OrderId, Reference,
        command::{AuthorizeReturn, Cancel, Invoice, Note, ReceiveReturn, Refund, Settle, Ship},
        inbound::OrderEvent,
        view::FactView,
    },
    wal::Storage,
};

use super::{
    Decision, Engine, Key, Refusal,
    cause::Cause,
    core::Core,
    life::{check_note, contained, route},
};

impl<S: Storage> Engine<S> {
    /// Goods of an order left. Another location than they were reserved at is fine if it has them.
    ///
    /// # Errors
    /// When settled: `malformed`, `unknown_order`, `unknown_sku`, `insufficient_stock`, `wrong_state`,
    /// `content_mismatch`, `idempotency_key_reused`, `log_full`, `overloaded`.
    pub fn ship(&self, key: Key<'_>, order: &OrderId, ship: &Ship) -> Decision<FactView> {
        self.core().ship(key, order, ship)
    }

    /// Units of an order that had not left are called off, and can be sold again.
    ///
    /// # Errors
    /// When settled: those of [`Engine::ship`] but for stock.
    pub fn cancel(&self, key: Key<'_>, order: &OrderId, cancel: &Cancel) -> Decision<FactView> {
        self.core().cancel(key, order, cancel)
    }

    /// The customer was billed.
    ///
    /// # Errors
    /// When settled: those of [`Engine::cancel`].
    pub fn invoice(&self, key: Key<'_>, order: &OrderId, invoice: &Invoice) -> Decision<FactView> {
        self.core().invoice(key, order, invoice)
    }

    /// The payment provider has the customer's money.
    ///
    /// # Errors
    /// When settled: those of [`Engine::cancel`].
    pub fn settle_order(
        &self,
        key: Key<'_>,
        order: &OrderId,
        settle: &Settle,
    ) -> Decision<FactView> {
        self.core().settle_order(key, order, settle)
    }

    /// The customer got money back.
    ///
    /// # Errors
    /// When settled: those of [`Engine::cancel`].
    pub fn refund(&self, key: Key<'_>, order: &OrderId, refund: &Refund) -> Decision<FactView> {
        self.core().refund(key, order, refund)
    }

    /// A return is authorised.
    ///
    /// # Errors
    /// When settled: those of [`Engine::cancel`].
    pub fn authorize_return(
        &self,
        key: Key<'_>,
        order: &OrderId,
        back: &AuthorizeReturn,
    ) -> Decision<FactView> {
        self.core().authorize_return(key, order, back)
    }

    /// Goods of an authorised return came back: to be sold again, or written off, as it says.
    ///
    /// # Errors
    /// When settled: those of [`Engine::cancel`]; `not_found` for an unknown return.
    pub fn receive_return(
        &self,
        key: Key<'_>,
        order: &OrderId,
        return_id: &Reference,
        receive: &ReceiveReturn,
    ) -> Decision<FactView> {
        self.core().receive_return(key, order, return_id, receive)
    }

    /// Something to know about an order that changes neither stock nor money.
    ///
    /// # Errors
    /// When settled: those of [`Engine::cancel`].
    pub fn note(&self, key: Key<'_>, order: &OrderId, note: &Note) -> Decision<FactView> {
        self.core().note(key, order, note)
    }

    /// Any of these.
    ///
    /// # Errors
    /// Those of its kind.
    pub fn happens(&self, key: Key<'_>, order: &OrderId, event: &OrderEvent) -> Decision<FactView> {
        self.core().happen_to(key, order, event)
    }
}

impl<S: Storage> Core<S> {
    /// Any event of an order.
    pub(super) fn happen_to(
        &self,
        key: Key<'_>,
        order: &OrderId,
        event: &OrderEvent,
    ) -> Decision<FactView> {
        match event {
            OrderEvent::Shipment(ship) => self.ship(key, order, ship),
            OrderEvent::Cancellation(cancel) => self.cancel(key, order, cancel),
            OrderEvent::Invoice(invoice) => self.invoice(key, order, invoice),
            OrderEvent::Settlement(settle) => self.settle_order(key, order, settle),
            OrderEvent::Refund(refund) => self.refund(key, order, refund),
            OrderEvent::Return(back) => self.authorize_return(key, order, back),
            OrderEvent::Receipt(return_id, receive) => {
                self.receive_return(key, order, return_id, receive)
            }
            OrderEvent::Note(note) => self.note(key, order, note),
        }
    }

    /// The key and fingerprint that [`Core::happen_to`] has for an event.
    pub(super) fn cause_of<'a>(
        &self,
        key: Key<'a>,
        order: &OrderId,
        event: &OrderEvent,
    ) -> Cause<'a> {
        let route = &route(event.kind(), order);
        match event {
            OrderEvent::Shipment(ship) => self.cause(key, route, ship),
            OrderEvent::Cancellation(cancel) => self.cause(key, route, cancel),
            OrderEvent::Invoice(invoice) => self.cause(key, route, invoice),
            OrderEvent::Settlement(settle) => self.cause(key, route, settle),
            OrderEvent::Refund(refund) => self.cause(key, route, refund),
            OrderEvent::Return(back) => self.cause(key, route, back),
            OrderEvent::Receipt(return_id, receive) => {
                self.cause(key, route, &(return_id, receive))
            }
            OrderEvent::Note(note) => self.cause(key, route, note),
        }
    }
}

/// What is wrong with an event whatever its order is.
pub(super) fn check(event: &OrderEvent) -> Result<(), Refusal> {
    match event {
        OrderEvent::Invoice(invoice) => contained(invoice.amount, invoice.tax, "tax"),
        OrderEvent::Settlement(settle) => contained(settle.amount, settle.fee, "fee"),
        OrderEvent::Refund(refund) => contained(refund.amount, refund.tax, "tax"),
        OrderEvent::Note(note) => check_note(note),
        OrderEvent::Shipment(Ship { lines, .. })
        | OrderEvent::Receipt(_, ReceiveReturn { lines, .. }) => there(lines),
        OrderEvent::Return(AuthorizeReturn { lines, .. }) => there(lines),
        OrderEvent::Cancellation(cancel) => cancel.lines.as_ref().map_or(Ok(()), |l| there(l)),
    }
}

fn there<T>(lines: &[T]) -> Result<(), Refusal> {
    if lines.is_empty() {
        return Err(Refusal::malformed("lines", "must not be empty"));
    }
    Ok(())
}
