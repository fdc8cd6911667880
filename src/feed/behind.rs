//! What must not overtake a dead letter: a warehouse that never got an order is not told to call it off.
//!
//! An order whose wave was refused lies dead, and its cancellation comes in a later wave. A warehouse that
//! gets that first refuses it or forgets it, and picks the order after all when the letter is sent again. So
//! what calls an order off at a location lies with the order's letter until that was taken: it is set aside
//! before the wave that has it goes out, and goes again right behind the order.
//!
//! Sums of movements and journal entries may come in any order and need none of this.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Batch, Rejected, worker::Worker};
use crate::{
    config::{Domain, Ordering},
    model::{letter::Letter, sink::SinkState},
    wal::Storage,
};

/// What this looks at in the body of a wave.
#[derive(Debug, Default, Deserialize)]
struct Wave {
    location: String,
    #[serde(default)]
    orders: Vec<Item>,
    #[serde(default)]
    cancellations: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    line_id: String,
    order_id: String,
}

impl Wave {
    /// A body that a person made into something else has nothing in it.
    fn of(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.orders.len() + self.cancellations.len()
    }

    fn has_order(&self, location: &str, order_id: &str) -> bool {
        self.location == location && self.orders.iter().any(|order| order.order_id == order_id)
    }
}

/// The letters in which orders lie, by location and order, but for one.
fn dead_orders(state: &SinkState, but: &str) -> HashMap<(String, String), String> {
    let others = state.letters.values().filter(|letter| letter.id != but);
    let orders = others.flat_map(|letter| {
        let Wave { location, orders, .. } = Wave::of(&letter.body);
        let of = move |order: Item| ((location.clone(), order.order_id), letter.id.clone());
        orders.into_iter().map(of)
    });
    orders.collect()
}

/// The items of a body that call off what lies dead, each with the letter in which that lies. `name`: the
/// letter that has this body itself; empty: none.
fn held_back(state: &SinkState, name: &str, body: &[u8]) -> Vec<(String, String)> {
    if state.letters.is_empty() {
        return Vec::new();
    }
    let Wave { location, cancellations, .. } = Wave::of(body);
    if cancellations.is_empty() {
        return Vec::new();
    }
    let dead = dead_orders(state, name);
    let held = cancellations.into_iter().filter_map(|item| {
        let letter = dead.get(&(location.clone(), item.order_id))?;
        Some((item.line_id, letter.clone()))
    });
    held.collect()
}

impl<S: Storage> Worker<S> {
    /// The items of a batch that must not go out before a letter has. What may have gone out already is not
    /// parted by this: it goes out as it did, or not at all. In a strict lane no wave has that is behind a
    /// letter, only another letter may have.
    pub(super) fn held_back(&self, batch: &Batch) -> Vec<Rejected> {
        let strict = self.config.policy.ordering == Ordering::Strict;
        if !self.has_waves() || batch.split.is_some() || !(batch.fresh || strict) {
            return Vec::new();
        }
        let name = self.progress.letter_of(batch.number);
        let held = self.progress.with_state(|state| held_back(state, &name, &batch.body));
        let may_part = batch.fresh || name.is_empty();
        if !may_part && held.len() < Wave::of(&batch.body).len() {
            return Vec::new();
        }
        let rejected = |(line_id, letter)| {
            let reason = format!("not sent: its order lies dead in `{letter}` and must come first");
            Rejected { line_id, reason }
        };
        held.into_iter().map(rejected).collect()
    }

    /// The letter that must be taken before this one may go.
    pub(super) fn comes_after(&self, letter: &Letter) -> Option<String> {
        let held = |state: &SinkState| held_back(state, &letter.id, &letter.body);
        let held = self.has_waves().then(|| self.progress.with_state(held))?;
        held.into_iter().next().map(|(_, first)| first)
    }

    /// The letters that call off what this one orders, in the order in which they were made.
    pub(super) fn kept_behind(&self, letter: &Letter) -> Vec<Letter> {
        if !self.has_waves() {
            return Vec::new();
        }
        let wave = Wave::of(&letter.body);
        let is_behind = |other: &Letter| {
            let Wave { location, cancellations, .. } = Wave::of(&other.body);
            cancellations.iter().any(|item| wave.has_order(&location, &item.order_id))
        };
        let mut behind: Vec<Letter> = self.progress.with_state(|state| {
            let others = state.letters.values().filter(|other| other.id != letter.id);
            let free = others.filter(|other| !state.is_sent_again(&other.id) && is_behind(other));
            free.map(|other| Letter::clone(other)).collect()
        });
        behind.sort_by(|one, other| (one.number, &one.id).cmp(&(other.number, &other.id)));
        behind
    }

    fn has_waves(&self) -> bool {
        self.config.domain == Domain::Fulfilment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(id: &str, body: &str) -> Letter {
        Letter {
            id: id.into(),
            part_id: id.into(),
            number: 1,
            seal_lsn: 8,
            config_version: 0,
            at_ms: 0,
            status: 422,
            lane: 1,
            attempts: 1,
            uncertain: false,
            mended: false,
            reason: String::new(),
            body: body.into(),
        }
    }

    fn wave(location: &str, list: &str, orders: &[&str]) -> String {
        let item = |(n, order)| serde_json::json!({"line_id": format!("w.{n}"), "order_id": order});
        let items: Vec<_> = orders.iter().enumerate().map(item).collect();
        serde_json::json!({"batch_id": "w", "location": location, list: items}).to_string()
    }

    #[test]
    fn what_calls_off_a_dead_order_at_its_location_is_held_and_nothing_else() {
        let mut state = SinkState::default();
        let held = |state: &SinkState, body: &str| held_back(state, "", body.as_bytes());
        let called_off = wave("BER", "cancellations", &["O-1", "O-2", "O-3"]);
        assert_eq!(held(&state, &called_off), []);
        let dead = letter("w.9", &wave("BER", "orders", &["O-2", "O-4"]));
        state.set_letter("w.9", Some(dead));
        state.set_letter("w.8", Some(letter("w.8", "no wave")));
        assert_eq!(held(&state, &called_off), [("w.1".to_owned(), "w.9".to_owned())]);
        assert_eq!(held(&state, &wave("MUC", "cancellations", &["O-2"])), []);
        assert_eq!(held(&state, &wave("BER", "orders", &["O-2"])), []);
        assert_eq!(held(&state, "[]"), []);
        assert_eq!(held_back(&state, "w.9", called_off.as_bytes()), [], "not behind itself");
    }
}
