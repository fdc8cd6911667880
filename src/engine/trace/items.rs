//! The items of a batch, and which of them say something of a record: a partner may take some of a batch and
//! refuse the rest.
//!
//! A line of movements is a record's if it is of one of the record's positions and of its movement, an entry
//! if it is of its kind and currency. Both add up many records: if one of them is refused, so is what each
//! of its records added.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{
    model::{
        Currency,
        event::{ArchivedAcknowledge, Event, Happened, Placed, decode},
        fact::ArchivedFact,
        lineage::BatchState,
        posting::Kind,
        sink::body,
    },
    wal::Record,
};

/// An item of a batch's body, as far as it names what it is of.
#[derive(Debug, Deserialize)]
pub(super) struct Item {
    #[serde(alias = "line_id", alias = "entry_id")]
    pub(super) id: String,
    #[serde(skip)]
    list: String,
    sku: Option<String>,
    location: Option<String>,
    movement: Option<String>,
    kind: Option<String>,
    currency: Option<String>,
    order_id: Option<String>,
}

/// What an item has to name to be of a record.
#[derive(Debug)]
pub(super) enum Wanted<'a> {
    /// An order of a wave; `picks`: by the record that places it.
    Order { id: &'a str, picks: bool },
    /// The event of its record.
    Event { id: String },
    /// Movements of stock: their word, and the positions' names.
    Moves { movement: &'static str, positions: Vec<(String, String)> },
    /// An entry.
    Entry { kind: Kind, currency: Currency },
}

impl Wanted<'_> {
    /// The places of the items that are of the record.
    pub(super) fn places(&self, items: &[Item]) -> Vec<usize> {
        let found = |list: Option<&str>| -> Vec<usize> {
            let places = items.iter().enumerate();
            let fits = |item: &Item| list.is_none_or(|list| item.list == list) && self.fits(item);
            places.filter(|(_, item)| fits(item)).map(|(place, _)| place).collect()
        };
        match self {
            Self::Order { picks: true, .. } => found(Some("orders")),
            // What is called off of an order that the same wave asks for shows in what is asked.
            Self::Order { .. } => match found(Some("cancellations")) {
                none if none.is_empty() => found(Some("orders")),
                some => some,
            },
            _ => found(None),
        }
    }

    fn fits(&self, item: &Item) -> bool {
        let is = |field: &Option<String>, wanted: &str| field.as_deref() == Some(wanted);
        match self {
            Self::Order { id, .. } => is(&item.order_id, id),
            Self::Event { id } => item.id == *id,
            Self::Moves { movement, positions } => {
                let here = |(sku, location): &(String, String)| {
                    is(&item.sku, sku) && is(&item.location, location)
                };
                is(&item.movement, movement) && positions.iter().any(here)
            }
            Self::Entry { kind, currency } => {
                is(&item.kind, kind.as_str()) && is(&item.currency, currency.as_str())
            }
        }
    }
}

/// The movement of stock that a record of an order makes, and its positions' numbers.
pub(super) fn moves(record: &Record<'_>) -> Option<(&'static str, Vec<u32>)> {
    let (lsn, kind, version, body) = (record.lsn, record.kind, record.version, record.body);
    match kind {
        Placed::KIND => {
            let placed = decode::<Placed>(lsn, kind, version, body).ok()?;
            let lines = placed.order.allocations.iter();
            Some(("sold", lines.map(|line| line.position.to_native()).collect()))
        }
        Happened::KIND => match &decode::<Happened>(lsn, kind, version, body).ok()?.fact {
            ArchivedFact::Shipment { lines, .. } => {
                Some(("shipped", lines.iter().map(|line| line.position.to_native()).collect()))
            }
            ArchivedFact::Cancellation { lines } => {
                Some(("cancelled", lines.iter().map(|line| line.position.to_native()).collect()))
            }
            ArchivedFact::Receipt { lines, restock: true, .. } => {
                Some(("returned", lines.iter().map(|line| line.position.to_native()).collect()))
            }
            _ => None,
        },
        _ => None,
    }
}

/// What a partner took of a batch: it took some and not all of it, or nothing.
#[derive(Debug)]
pub(super) struct Aside {
    /// All of the batch's items, in their order.
    items: Vec<Item>,
    /// The places of those that were taken, as ranges.
    taken: Vec<(u32, u32)>,
}

impl Aside {
    /// Of a batch's fate; nothing if the partner took all of it.
    pub(super) fn of(fate: &ArchivedAcknowledge, body: &[u8]) -> Option<Self> {
        let parts = fate.taken.iter();
        let whole = fate.taken.is_empty() || parts.clone().any(|part| part.items.is_empty());
        if whole && !fate.refused {
            return None;
        }
        let ranges = parts.flat_map(|part| part.items.iter());
        let taken = ranges.map(|range| (range.0.to_native(), range.1.to_native())).collect();
        Some(Self { items: items(body), taken })
    }

    /// What became of what the batch says of a record, and the ids of the items that were not taken. One
    /// that the batch has nothing of went with the rest.
    pub(super) fn of_record(&self, wanted: &Wanted<'_>) -> (BatchState, Vec<&str>) {
        self.of_places(wanted.places(&self.items))
    }

    /// The same of items by their ids; nothing if the batch has none of them.
    pub(super) fn of_ids(&self, ids: &[String]) -> BatchState {
        let places = self.items.iter().enumerate();
        let ours = places.filter(|(_, item)| ids.contains(&item.id)).map(|(place, _)| place);
        self.of_places(ours.collect()).0
    }

    fn of_places(&self, mut places: Vec<usize>) -> (BatchState, Vec<&str>) {
        if self.items.is_empty() {
            // It does not read as a list of items any more: what was taken of it can't be told apart.
            let nothing = self.taken.is_empty();
            let state = if nothing { BatchState::Refused } else { BatchState::PartlyDelivered };
            return (state, Vec::new());
        }
        if places.is_empty() {
            places = (0..self.items.len()).collect();
        }
        let is_taken = |place: usize| {
            self.taken.iter().any(|(from, to)| (*from..*to).contains(&(place as u32)))
        };
        let refused = places.iter().filter(|place| !is_taken(**place));
        let refused: Vec<_> = refused.map(|place| self.items[*place].id.as_str()).collect();
        let state = match refused.len() {
            0 => BatchState::Delivered,
            some if some < places.len() => BatchState::PartlyDelivered,
            _ => BatchState::Refused,
        };
        (state, refused)
    }
}

/// The items of a body, in their order; none of one that has no lists of them.
pub(super) fn items(body: &[u8]) -> Vec<Item> {
    serde_json::Deserializer::from_slice(body).deserialize_any(Lists).unwrap_or_default()
}

struct Lists;

impl<'de> Visitor<'de> for Lists {
    type Value = Vec<Item>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if body::id_field(&key).is_none() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let items = map.next_value::<Vec<Item>>()?;
            all.extend(items.into_iter().map(|item| Item { list: key.clone(), ..item }));
        }
        Ok(all)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = seq.next_element()? {
            all.push(item);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stand_in_the_order_of_the_body_whatever_its_lists() {
        let wave =
            br#"{"batch_id":"w","wave_id":"w","cancellations":[{"line_id":"w.2","order_id":"B"}],
            "orders":[{"line_id":"w.1","order_id":"A","lines":[{"sku":"x"}]},
                {"line_id":"w.3","order_id":"B"}]}"#;
        let all = items(wave);
        assert_eq!(all.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["w.2", "w.1", "w.3"]);
        let places = |id, picks| Wanted::Order { id, picks }.places(&all);
        let found = [places("A", true), places("A", false), places("B", true), places("B", false)];
        assert_eq!(found, [vec![1], vec![1], vec![2], vec![0]]);
        let events = items(br#"[{"id":"3f9c-64","data":{"sku":7}},{"id":"3f9c-72"}]"#);
        assert_eq!(Wanted::Event { id: "3f9c-72".into() }.places(&events), [1]);
        assert!(items(b"").is_empty() && items(b"{}").is_empty());
    }

    #[test]
    fn what_is_of_a_record_is_delivered_refused_or_both() {
        let body = br#"{"lines":[{"line_id":"e.1","sku":"A","location":"BER","movement":"sold"},
            {"line_id":"e.2","sku":"A","location":"BER","movement":"shipped"},
            {"line_id":"e.3","sku":"B","location":"BER","movement":"sold"}]}"#;
        let aside = Aside { items: items(body), taken: vec![(0, 2)] };
        let of = |movement, skus: &[&str]| {
            let positions = skus.iter().map(|sku| ((*sku).to_owned(), "BER".to_owned())).collect();
            let (state, refused) = aside.of_record(&Wanted::Moves { movement, positions });
            (state, refused.join(" "))
        };
        assert_eq!(of("sold", &["A"]), (BatchState::Delivered, String::new()));
        assert_eq!(of("sold", &["B"]), (BatchState::Refused, "e.3".into()));
        assert_eq!(of("sold", &["A", "B"]), (BatchState::PartlyDelivered, "e.3".into()));
        assert_eq!(of("returned", &["A"]), (BatchState::PartlyDelivered, "e.3".into()));
        let none = Aside { taken: Vec::new(), ..aside };
        assert_eq!(none.of_ids(&["e.2".to_owned()]), BatchState::Refused);
    }
}
