//! Keyed hashes of what callers send: idempotency keys, bodies, customers, order ids. SipHash-1-3
//! (Aumasson and Bernstein, 2012) under the data directory's secret, so that nobody outside can make
//! two keys collide; 128 bits for keys, 64 for the rest.
//!
//! What is fed is fixed here byte by byte, since the hashes are written to the log and must be the
//! same in every later version.

use std::cell::RefCell;

use siphasher::sip128::SipHasher13;

use crate::model::{
    IdempotencyKey, Origin,
    command::{Reserve, ReserveLine},
};

use super::fingerprint::Feed;

/// A request's idempotency key and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// The partner; empty where there are no API keys.
    pub partner: &'a str,
    /// The key.
    pub key: &'a IdempotencyKey,
    /// The request that it came with, if that is to be found in what it causes.
    pub origin: Option<Origin<'a>>,
    /// Whether new work that comes under it can wait: it is refused first when the log's disk budget
    /// comes to its end. What it closes, and a repeat of what was done, is not.
    pub can_wait: bool,
}

impl<'a> Key<'a> {
    /// A partner's key.
    pub fn new(partner: &'a str, key: &'a IdempotencyKey) -> Self {
        Self { partner, key, origin: None, can_wait: false }
    }
}

/// Hashes under a secret.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hasher {
    secret: [u64; 2],
}

thread_local! {
    /// What a hash is taken of, put together first: one pass over all of it is several times faster
    /// than a pass over each field.
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn feed_line(feed: &mut Feed<'_>, line: &ReserveLine) {
    feed.text(line.sku.as_str());
    feed.number(u64::from(line.quantity.get()) << 1 | u64::from(line.split));
    feed.optional(line.location.as_ref().map(|l| l.as_str()));
}

impl Hasher {
    pub(super) fn new(secret: [u64; 2]) -> Self {
        Self { secret }
    }

    fn hash(&self, feed: impl FnOnce(&mut Feed<'_>)) -> [u64; 2] {
        BYTES.with_borrow_mut(|bytes| {
            bytes.clear();
            feed(&mut Feed(bytes));
            let hash = SipHasher13::new_with_keys(self.secret[0], self.secret[1]).hash(bytes);
            [hash.h1, hash.h2]
        })
    }

    /// A key's hash: what a [`KeyRef`](crate::model::event::KeyRef) keeps of it.
    pub(super) fn key(&self, key: Key<'_>) -> [u64; 2] {
        self.hash(|feed| {
            feed.text(key.partner);
            feed.text(key.key.as_str());
        })
    }

    /// A text's hash; never 0, which stands for no text.
    pub(super) fn text(&self, text: &str) -> u64 {
        self.hash(|feed| feed.text(text))[0].max(1)
    }

    /// A reservation's fingerprint; the hot path, so written out.
    pub(super) fn reserve(&self, reserve: &Reserve) -> u64 {
        let [fingerprint, _] = self.hash(|feed| {
            feed.number(5);
            reserve.lines.iter().for_each(|line| feed_line(feed, line));
            feed.optional(reserve.customer.as_ref().map(|c| c.as_str()));
            feed.optional(reserve.order_id.as_ref().map(|o| o.as_str()));
            feed.number(reserve.ttl_ms.map_or(0, |ttl| ttl.wrapping_add(1)));
        });
        fingerprint
    }

    /// Any other request's fingerprint: over its route and its parsed body.
    pub(super) fn request(
        &self,
        route: &impl serde::Serialize,
        body: &impl serde::Serialize,
    ) -> u64 {
        let [fingerprint, _] = self.hash(|feed| {
            let fed = feed.value(route).and_then(|()| feed.value(body));
            debug_assert!(fed.is_ok(), "no command refuses to be serialised");
        });
        fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{OrderId, command::Ship};

    #[test]
    fn every_field_counts_and_the_secret_too() {
        let hasher = Hasher::new([1, 2]);
        let name = "k".parse().unwrap();
        let key = Key::new("p", &name);
        let bodies = [
            r#"{"lines":[{"sku":"A","quantity":1}]}"#,
            r#"{"lines":[{"sku":"A","quantity":2}]}"#,
            r#"{"lines":[{"sku":"B","quantity":1}]}"#,
            r#"{"lines":[{"sku":"A","quantity":1,"split":false}]}"#,
            r#"{"lines":[{"sku":"A","quantity":1,"location":"X"}]}"#,
            r#"{"lines":[{"sku":"A","quantity":1}],"customer":"c"}"#,
            r#"{"lines":[{"sku":"A","quantity":1}],"order_id":"c"}"#,
            r#"{"lines":[{"sku":"A","quantity":1}],"ttl_ms":0}"#,
        ];
        let prints: std::collections::HashSet<_> =
            bodies.iter().map(|b| hasher.reserve(&serde_json::from_str(b).unwrap())).collect();
        assert_eq!(prints.len(), bodies.len());
        let other = Key { partner: "q", ..key };
        assert_ne!(hasher.key(key), hasher.key(other));
        assert_ne!(hasher.key(key), Hasher::new([1, 3]).key(key));
        assert_ne!(hasher.request(&"a", &1), hasher.request(&"b", &1));
    }

    #[test]
    fn the_hashes_in_old_logs_stay_what_they_are() {
        let hasher = Hasher::new([1, 2]);
        assert_eq!(hasher.text("customer"), 15_403_558_239_849_064_090);
        let ship = r#"{"shipment_id":"S","lines":[{"sku":"A","quantity":1}],"carrier":"C"}"#;
        let ship: Ship = serde_json::from_str(ship).unwrap();
        let order: OrderId = "O".parse().unwrap();
        let print = hasher.request(&("shipment", order), &ship);
        assert_eq!(print, 15_826_592_129_497_832_548);
    }
}
