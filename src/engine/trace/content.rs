//! What a batch names: waves name orders, streams name records. Batches of sums name neither; what they
//! carried is told by their windows.

use std::collections::HashSet;

use serde::Deserialize;

use crate::model::{Incarnation, Lsn, sink::Sealed};

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Names {
    /// It sums up.
    #[default]
    Nothing,
    /// The orders that a wave asks for, and those of which it calls something off.
    Orders { asked: HashSet<String>, called_off: HashSet<String> },
    /// The positions of a stream's events.
    Events(HashSet<Lsn>),
}

#[derive(Deserialize)]
struct Wave {
    orders: Vec<Item>,
    cancellations: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    order_id: String,
}

#[derive(Deserialize)]
struct Event {
    id: String,
}

impl Names {
    /// Of a batch's body. The seals of a sink with several lanes are those of waves; where every order
    /// was called off before it was asked for, there is no body, and no order in it.
    pub(super) fn of(lane: u8, body: &[u8], life_at: impl Fn(Lsn) -> Incarnation) -> Self {
        if lane != Sealed::EVERY_LANE {
            let wave = serde_json::from_slice::<Wave>(body);
            let ids = |items: Vec<Item>| items.into_iter().map(|item| item.order_id).collect();
            let (asked, called_off) = wave.map_or_else(
                |_| (HashSet::new(), HashSet::new()),
                |wave| (ids(wave.orders), ids(wave.cancellations)),
            );
            return Self::Orders { asked, called_off };
        }
        if body.first() != Some(&b'[') {
            return Self::Nothing;
        }
        let events: Vec<Event> = serde_json::from_slice(body).unwrap_or_default();
        let lsn = |event: Event| {
            let (life, lsn) = event.id.split_once('-')?;
            let lsn = Lsn(lsn.parse().ok()?);
            (life == life_at(lsn).to_string()).then_some(lsn)
        };
        Self::Events(events.into_iter().filter_map(lsn).collect())
    }

    /// Whether it tells of the record of an order; `picks`: of the one that places it.
    pub(super) fn tells(&self, record: Lsn, order: &str, picks: bool) -> bool {
        match self {
            Self::Nothing => false,
            Self::Orders { asked, called_off } => {
                // What is called off of an order that no wave had asked for yet shows in what is asked.
                asked.contains(order) || (!picks && called_off.contains(order))
            }
            Self::Events(records) => records.contains(&record),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Incarnation = Incarnation(0x3f9c_0000_0000_0001);

    #[test]
    fn a_wave_tells_of_the_orders_that_it_asks_for_and_of_what_it_calls_off() {
        let body = br#"{"batch_id":"w","orders":[{"order_id":"A","lines":[]}],
            "cancellations":[{"order_id":"B","reason":"cancelled"}]}"#;
        let names = Names::of(1, body, |_| LIFE);
        let told = |order: &str| [true, false].map(|picks| names.tells(Lsn(8), order, picks));
        assert_eq!([told("A"), told("B"), told("C")], [[true; 2], [false, true], [false; 2]]);
        assert!(!Names::of(0, b"", |_| LIFE).tells(Lsn(8), "A", true));
    }

    #[test]
    fn a_stream_tells_of_its_events_and_sums_tell_of_none() {
        let body = format!(r#"[{{"id":"{LIFE}-64"}},{{"id":"{LIFE}-x"}},{{"id":"other-72"}}]"#);
        let names = Names::of(Sealed::EVERY_LANE, body.as_bytes(), |_| LIFE);
        assert_eq!(names, Names::Events(HashSet::from([Lsn(64)])));
        assert!(names.tells(Lsn(64), "A", true) && !names.tells(Lsn(72), "A", true));
        assert_eq!(Names::of(Sealed::EVERY_LANE, b"{}", |_| LIFE), Names::Nothing);
    }
}
