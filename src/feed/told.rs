//! What a finance sink's partner has of the entries that were sealed for it: which it took, which lie dead,
//! and which it took otherwise than they were sealed, since a person mended them.
//!
//! # What it promises
//!
//! - It is a fold of the sink's seals, their fates, and what operators did, in the order of the log. It needs
//!   none of their windows.
//! - An entry is delivered if its batch was taken with it, or a letter that carried it was. Set aside or
//!   refused and not taken since, it is refused, whatever became of the rest of its batch.
//! - An entry that was taken with another content than the first letter that carried it had is
//!   [mended](Mended): its letter, who changed it, when, and what it was before. Where the log no longer has
//!   what it was before, that is said; that it went out by another batch than its own tells of it.
//! - Memory is that of what lies dead, and of what letters carried.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use serde_json::Value;

use crate::{
    model::{
        Lsn, Timestamp,
        event::{self, Acknowledge, Event, Operate, Seal, Undecodable},
        letter::Letter,
        lineage::BatchState,
        sink::{Deed, body},
    },
    wal::Record,
};

/// Differences of an entry that are told.
const CHANGES_TOLD: usize = 8;

/// A person changed an entry's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mend {
    /// The record that says so.
    pub lsn: Lsn,
    /// When.
    pub at: Timestamp,
    /// Who; empty where nobody is known.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
}

/// An entry that the partner took otherwise than it was sealed.
#[derive(Debug, Clone, PartialEq)]
pub struct Mended {
    /// The letter that carried it.
    pub letter: String,
    /// Who changed it, in the order of the log; none if that is no longer in the log.
    pub mends: Vec<Mend>,
    /// As it was sealed; `None` if that is no longer in the log.
    pub sealed: Option<Value>,
    /// As the partner was told.
    pub told: Value,
}

/// An entry that lies dead.
#[derive(Debug, Default)]
struct Dead {
    sealed: Option<Value>,
    now: Value,
    mends: Vec<Mend>,
}

/// A letter that went out again.
#[derive(Debug)]
struct Again {
    letter: String,
    /// The id that it went out under; empty: that of its number, since it was mended.
    part_id: String,
    entries: Vec<(String, Value)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Told {
    /// Batches without a fate.
    open: BTreeSet<u64>,
    /// Of batches of which not everything was taken, the places of what was.
    refused: BTreeMap<u64, Vec<(u32, u32)>>,
    again: BTreeMap<u64, Again>,
    letters: BTreeMap<String, Vec<String>>,
    dead: BTreeMap<String, Dead>,
    /// Entries that letters brought.
    brought: BTreeSet<String>,
    mended: BTreeMap<String, Mended>,
}

impl Told {
    /// Takes the log's next record in, as far as it is of a sink.
    ///
    /// # Errors
    /// If it does not decode.
    pub fn record(&mut self, sink: &str, record: &Record<'_>) -> Result<(), Undecodable> {
        let (lsn, kind, version, body) = (record.lsn, record.kind, record.version, record.body);
        match kind {
            Seal::KIND => {
                // One that can't be read is told by whoever reads seals.
                let seal = event::decode::<Seal>(lsn, kind, version, body).ok();
                if let Some(seal) = seal.filter(|seal| seal.sink == sink) {
                    self.seal(&event::to_owned::<Seal>(seal).unpacked());
                }
            }
            Acknowledge::KIND => {
                let fate = event::decode::<Acknowledge>(lsn, kind, version, body)?;
                if fate.sink == sink {
                    self.acknowledged(&event::to_owned::<Acknowledge>(fate));
                }
            }
            Operate::KIND => {
                let operate = event::decode::<Operate>(lsn, kind, version, body)?;
                if operate.sink == sink {
                    self.operated(&event::to_owned::<Operate>(operate), (lsn, record.time_ms));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A seal of the sink.
    fn seal(&mut self, seal: &Seal) {
        if seal.letter.is_empty() {
            self.open.insert(seal.number);
            return;
        }
        let (letter, part_id) = (seal.letter.clone(), seal.part_id.clone());
        self.again.insert(seal.number, Again { letter, part_id, entries: entries(&seal.body) });
    }

    /// A fate of the sink's: of a window, of a letter, or of a replay of either.
    fn acknowledged(&mut self, fate: &Acknowledge) {
        if !fate.letter.is_empty() {
            self.letters.remove(&fate.letter);
        }
        if self.again.contains_key(&fate.number) {
            self.letter_acknowledged(fate);
            return;
        }
        self.open.remove(&fate.number);
        match places_unless_all(fate) {
            None => drop(self.refused.remove(&fate.number)),
            Some(taken) => drop(self.refused.insert(fate.number, taken)),
        }
        fate.letters.iter().for_each(|letter| self.set_aside(letter));
    }

    /// An operator did something to the sink, or its delivery tells how far a bisection is.
    fn operated(&mut self, operate: &Operate, (lsn, time_ms): (Lsn, u64)) {
        match &operate.deed {
            Deed::Mend { letter } => {
                let mend = Mend {
                    lsn,
                    at: Timestamp::from_millis(time_ms),
                    by: operate.by.clone(),
                    reason: operate.reason.clone(),
                };
                self.mend(letter, &mend);
            }
            Deed::Discard { letter } => {
                for id in self.letters.remove(letter).unwrap_or_default() {
                    self.dead.remove(&id);
                }
            }
            Deed::Split { split } if self.again.contains_key(&split.number) => {
                split.letters.iter().for_each(|letter| self.lies_dead_again(letter));
            }
            Deed::Split { split } => {
                split.letters.iter().for_each(|letter| self.set_aside(letter));
            }
            _ => {}
        }
    }

    /// What the partner has of an entry: the `place`th, from 0, of a batch.
    pub fn state(&self, entry_id: &str, number: u64, place: u32) -> BatchState {
        if self.dead.contains_key(entry_id) {
            return BatchState::Refused;
        }
        if self.brought.contains(entry_id) {
            return BatchState::Delivered;
        }
        if self.open.contains(&number) {
            return BatchState::Sealed;
        }
        let taken = self.refused.get(&number).is_none_or(|taken| has(taken, place));
        if taken { BatchState::Delivered } else { BatchState::Refused }
    }

    /// How an entry was taken, if that is not as it was sealed.
    pub fn mended(&self, entry_id: &str) -> Option<&Mended> {
        self.mended.get(entry_id)
    }

    /// Every entry that was taken otherwise than it was sealed, by id.
    pub fn all_mended(&self) -> impl Iterator<Item = (&str, &Mended)> {
        self.mended.iter().map(|(id, mended)| (id.as_str(), mended))
    }

    /// Content of a window was set aside: it is as it was sealed.
    fn set_aside(&mut self, letter: &Letter) {
        let entries = entries(&letter.body);
        self.lies(letter, &entries);
        for (id, entry) in entries {
            let dead = Dead { sealed: Some(entry.clone()), now: entry, mends: Vec::new() };
            self.dead.insert(id, dead);
        }
    }

    /// Content of a letter was set aside once more: as it went out.
    fn lies_dead_again(&mut self, letter: &Letter) {
        let entries = entries(&letter.body);
        self.lies(letter, &entries);
        for (id, entry) in entries {
            self.brought.remove(&id);
            let before = self.mended.remove(&id);
            let dead = self.dead.entry(id).or_insert_with(|| {
                let before = before.map(|mended| (mended.sealed, mended.mends));
                let (sealed, mends) = before.unwrap_or_default();
                Dead { sealed, now: Value::Null, mends }
            });
            dead.now = entry;
        }
    }

    fn lies(&mut self, letter: &Letter, entries: &[(String, Value)]) {
        let ids = entries.iter().map(|(id, _)| id.clone()).collect();
        self.letters.insert(letter.id.clone(), ids);
    }

    fn mend(&mut self, letter: &Letter, mend: &Mend) {
        let entries = entries(&letter.body);
        self.lies(letter, &entries);
        for (id, entry) in entries {
            let dead = self.dead.entry(id).or_default();
            if dead.now != entry {
                dead.now = entry;
                dead.mends.push(mend.clone());
            }
        }
    }

    fn letter_acknowledged(&mut self, fate: &Acknowledge) {
        fate.letters.iter().for_each(|letter| self.lies_dead_again(letter));
        let Some(again) = self.again.get_mut(&fate.number) else { return };
        let refused = places_unless_all(fate);
        for (place, (id, told)) in (0..).zip(&mut again.entries) {
            if !refused.as_ref().is_none_or(|taken| has(taken, place)) {
                continue;
            }
            self.brought.insert(id.clone());
            // Its content is needed once: a replay brings the same again.
            let told = std::mem::take(told);
            let dead = self.dead.remove(id);
            if told.is_null() || (dead.is_none() && self.mended.contains_key(id)) {
                continue;
            }
            let dead = dead.unwrap_or_default();
            let is_as_sealed = match &dead.sealed {
                Some(sealed) => *sealed == told,
                None => dead.mends.is_empty() && is_of_its_batch(id, &again.part_id),
            };
            if let (false, btree_map::Entry::Vacant(free)) =
                (is_as_sealed, self.mended.entry(id.clone()))
            {
                let Dead { sealed, mends, .. } = dead;
                free.insert(Mended { letter: again.letter.clone(), mends, sealed, told });
            }
        }
    }
}

impl Mended {
    /// What of it is not as it was sealed, for people.
    pub fn changes(&self) -> String {
        let Some(sealed) = &self.sealed else {
            return "what it was sealed as is no longer in the log".to_owned();
        };
        let mut changes = Vec::new();
        differences("", sealed, &self.told, &mut changes);
        let more = changes.len().saturating_sub(CHANGES_TOLD);
        changes.truncate(CHANGES_TOLD);
        let more = if more > 0 { format!("; {more} more") } else { String::new() };
        format!("{}{more}", changes.join("; "))
    }

    /// Who changed it, when and why, for people.
    pub fn who(&self) -> String {
        let told = |mend: &Mend| {
            let by = if mend.by.is_empty() { "somebody without a name" } else { &mend.by };
            let why = if mend.reason.is_empty() { "" } else { ": " };
            format!("{by} at {}{why}{}", mend.at, mend.reason)
        };
        let all: Vec<_> = self.mends.iter().map(told).collect();
        if all.is_empty() {
            return "who did it is no longer in the log".to_owned();
        }
        format!("by {}", all.join(", then by "))
    }
}

/// The places of what the partner took of a batch; `None`: all.
fn places_unless_all(fate: &Acknowledge) -> Option<Vec<(u32, u32)>> {
    let whole = fate.taken.is_empty() || fate.taken.iter().any(|part| part.items.is_empty());
    let places = || fate.taken.iter().flat_map(|part| part.items.iter().copied());
    (fate.refused || !whole).then(|| places().collect())
}

fn has(places: &[(u32, u32)], place: u32) -> bool {
    places.iter().any(|(begin, end)| (*begin..*end).contains(&place))
}

/// The entries of a body, each with its id; none if it is no batch of entries.
fn entries(body: &[u8]) -> Vec<(String, Value)> {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(body) else { return Vec::new() };
    let Some(Value::Array(entries)) = object.remove("entries") else { return Vec::new() };
    let field = body::id_field("entries").unwrap_or_default();
    let named = |entry: Value| Some((entry.get(field)?.as_str()?.to_owned(), entry));
    entries.into_iter().filter_map(named).collect()
}

/// Whether a part is of the batch that an entry was sealed in: unless a person changes it, an entry goes out
/// by no other.
fn is_of_its_batch(entry_id: &str, part_id: &str) -> bool {
    let batch = entry_id.rsplit_once('.').map_or(entry_id, |(batch, _)| batch);
    part_id.strip_prefix(batch).is_some_and(|path| path.is_empty() || path.starts_with('.'))
}

/// Where two values differ, and how.
fn differences(at: &str, from: &Value, to: &Value, out: &mut Vec<String>) {
    match (from, to) {
        _ if from == to => {}
        (Value::Object(from), Value::Object(to)) => {
            let names: BTreeSet<_> = from.keys().chain(to.keys()).collect();
            for name in names {
                let [from, to] = [from, to].map(|all| all.get(name).unwrap_or(&Value::Null));
                let dot = if at.is_empty() { "" } else { "." };
                differences(&format!("{at}{dot}{name}"), from, to, out);
            }
        }
        (Value::Array(from), Value::Array(to)) => {
            for nth in 0..from.len().max(to.len()) {
                let [from, to] = [from, to].map(|all| all.get(nth).unwrap_or(&Value::Null));
                differences(&format!("{at}[{nth}]"), from, to, out);
            }
        }
        _ => out.push(format!("{at}: {from} became {to}")),
    }
}

#[cfg(test)]
#[path = "told_tests.rs"]
mod tests;
