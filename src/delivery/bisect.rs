//! What is still to be sent of one batch, and what was set aside: the bisection of refused content.
//!
//! # What it promises
//!
//! - A refused part is halved, the first half goes first, and so on until single items stand alone: those
//!   are the bad ones. With `k` bad ones among `n` that takes at most `2 k log2 n + 1` parts. After
//!   `poison_parts_max` parts the next refusal sets everything aside that is not told apart. Items that the
//!   partner names are taken out at once, and what is left goes as one part.
//! - A part is halved only as far as the partner's way to recognise repeats (`dedupe`) carries it. By line:
//!   always. By batch, by look-up, or not at all: only if no attempt of it can have had its effect; else the
//!   part is set aside whole, for a person. What has had an unknown effect at a partner that recognises
//!   nothing is not repeated at all.
//! - Every item ends up in a part that the partner took or in exactly one letter, and in both only where
//!   the letter says that it is uncertain.
//! - A part of which the partner took something without it being clear what is never taken for delivered.
//!   A partner that knows lines is sent its halves, whose answers say less about less; at any other, which
//!   would but say that it knows the part, it is set aside whole, as uncertain.
//! - What the partner took, and under which ids, is told with the batch's fate, so that a replay sends that
//!   again and nothing else.
//! - Items that must not go out now ([`Batch::held_back`]) are set aside before anything is sent.
//! - Except at a partner that knows lines, every step is handed out as a [`Split`], to be made durable before
//!   the next part leaves. If it can't be, the batch is not halved.
//!
//! It knows neither time nor network: what was sent is told to it, and it says what comes next.

use std::collections::{HashMap, HashSet};

use super::{
    Effect, Part,
    items::Items,
    letters::{ANSWER_BYTES_MAX, Aside, letters, shortened},
    parts::Content,
};
use crate::{
    config::Dedupe,
    feed::{Batch, Rejected},
    model::letter::{Letter, PendingPart, Split, TakenPart},
};

/// Why a part is set aside that was not refused.
const UNKNOWN_EFFECT: &str =
    "an attempt may have had its effect, and the partner does not recognise a repeat";

/// What is wrong with an answer that refuses a line which was never sent: the line that it means may be one
/// of those that were.
pub(crate) fn never_sent(line_id: &str) -> String {
    format!("it refuses a line that was not sent: {}", shortened(line_id, 100))
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The same part again.
    Again,
    /// Another part; first the [`Plan::split`], if there is one, is made durable.
    Part,
    /// Nothing: the batch's fate is known.
    Done,
}

/// A part that is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Todo {
    path: String,
    /// None: the batch as it is.
    items: Items,
    attempts: u64,
    uncertain: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    batch: Batch,
    dedupe: Dedupe,
    parts_max: u64,
    /// Taken apart when it is first needed; `Some(None)`: it is one piece.
    content: Option<Option<Content>>,
    /// The last is the current one.
    todo: Vec<Todo>,
    part: Part,
    /// Whether an attempt of the current part was made.
    begun: bool,
    aside: Vec<Aside>,
    attempts: u64,
    parts: u64,
    taken: Vec<TakenPart>,
    refused: bool,
    status: u16,
    answer: String,
}

impl Plan {
    /// Of a batch, as far as it had come.
    pub fn new(mut batch: Batch, dedupe: Dedupe, parts_max: u64) -> Self {
        let (part, split) = (Part::whole(&batch), batch.split.take());
        let mut plan = Self {
            batch,
            dedupe,
            parts_max,
            content: None,
            todo: Vec::new(),
            begun: false,
            aside: Vec::new(),
            attempts: 0,
            parts: 0,
            taken: Vec::new(),
            refused: false,
            status: 0,
            answer: String::new(),
            part,
        };
        match split {
            Some(split) => plan.resume(&split),
            None => plan.todo.push(Todo {
                path: String::new(),
                items: Items::default(),
                attempts: 0,
                uncertain: plan.part.uncertain,
            }),
        }
        plan
    }

    fn resume(&mut self, split: &Split) {
        (self.attempts, self.parts) = (split.attempts, split.parts);
        (self.taken, self.refused) = (split.taken.clone(), true);
        self.content();
        let todo = |part: &PendingPart| Todo {
            path: part.path.clone(),
            items: Items::of(part.items.iter().copied()),
            attempts: part.attempts,
            uncertain: part.uncertain,
        };
        self.todo = split.pending.iter().rev().map(todo).collect();
        if let Some(first) = self.todo.last_mut() {
            first.uncertain |= !self.batch.fresh;
        }
        self.turn();
    }

    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The current part.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Attempts made so far, all parts together.
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// Whether the next attempt repeats one of the same part.
    pub fn is_repeat(&self) -> bool {
        self.begun
    }

    /// The last status, and what the partner said when it first refused something.
    pub fn answer(&self) -> (u16, &str) {
        (self.status, &self.answer)
    }

    /// Whether the partner refused everything.
    pub fn is_refused_whole(&self) -> bool {
        self.refused && !self.is_taken()
    }

    /// Whether the partner took some of it.
    pub fn is_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    /// The parts that the partner took; none if it took the batch whole, or nothing.
    pub fn taken_parts(&self) -> &[TakenPart] {
        match self.taken.as_slice() {
            [whole] if whole.path.is_empty() && whole.items.is_empty() => &[],
            parts => parts,
        }
    }

    /// A person wants what is still to be sent set aside.
    pub fn skip(&mut self, reason: &str) {
        self.give_up_rest(0, reason);
    }

    /// Before the first attempt: sets the part aside if it must not be sent, since that may have been done
    /// in an earlier life.
    pub fn begin(&mut self) -> Next {
        let Some(todo) = self.todo.last() else { return Next::Done };
        if todo.uncertain && self.dedupe == Dedupe::None {
            return self.give_up(0, UNKNOWN_EFFECT);
        }
        let held_back = std::mem::take(&mut self.batch.held_back);
        if held_back.is_empty() { Next::Again } else { self.hold_back(&held_back) }
    }

    /// Sets items aside that must not be sent now, before anything is sent.
    fn hold_back(&mut self, held: &[Rejected]) -> Next {
        let reason = held.first().map_or("", |item| &item.reason);
        self.hear(reason);
        let Some(todo) = self.todo.last().cloned() else { return Next::Done };
        let items = self.items_of(&todo);
        if held.len() >= items.len() {
            return self.give_up(0, reason);
        }
        self.todo.pop();
        let named = self.take_out(&todo, 0, held, false);
        let (rest, _) = items.partition(|place| named.binary_search(&place).is_err());
        self.push(&todo, "a", rest);
        self.turn()
    }

    /// An attempt of the current part is made.
    pub fn sent(&mut self) {
        self.attempts += 1;
        self.parts += u64::from(!self.begun);
        self.begun = true;
        if let Some(todo) = self.todo.last_mut() {
            todo.attempts += 1;
        }
    }

    /// The attempt failed.
    pub fn failed(&mut self, effect: Effect, reason: &str) -> Next {
        if effect == Effect::None {
            return Next::Again;
        }
        self.part.uncertain = true;
        if let Some(todo) = self.todo.last_mut() {
            todo.uncertain = true;
        }
        if self.dedupe == Dedupe::None {
            return self.give_up(0, &format!("{UNKNOWN_EFFECT}: {reason}"));
        }
        Next::Again
    }

    /// The part may have had its effect and must not be sent again.
    pub fn withheld(&mut self, reason: &str) -> Next {
        if let Some(todo) = self.todo.last_mut() {
            todo.uncertain = true;
        }
        self.give_up(0, reason)
    }

    /// The partner took the part, without the items that it names.
    pub fn taken(&mut self, status: u16, rejected: &[Rejected]) -> Next {
        self.status = status;
        let Some(mut todo) = self.todo.pop() else { return Next::Done };
        if rejected.is_empty() {
            let items = todo.items.ranges();
            self.taken.push(TakenPart { path: todo.path, items });
            return self.turn();
        }
        let said = serde_json::to_string(rejected).unwrap_or_default();
        self.hear(&said);
        if self.content().is_none() {
            // Some of it was taken, and nobody can tell what.
            todo.uncertain = true;
            self.taken.push(TakenPart { path: todo.path.clone(), items: Vec::new() });
            self.put_aside(todo, status, &said);
            return self.turn();
        }
        if let Some(line_id) = self.never_sent(&todo, rejected) {
            let reason = never_sent(line_id);
            self.todo.push(todo);
            return self.unclear(status, &reason);
        }
        let named = self.take_out(&todo, status, rejected, false);
        let (rest, _) =
            self.items_of(&todo).partition(|place| named.binary_search(&place).is_err());
        self.refused = true;
        if !rest.is_empty() {
            self.taken.push(TakenPart { path: todo.path, items: rest.ranges() });
        }
        self.turn()
    }

    /// The partner took the part or some of it, and nobody can tell what.
    pub fn unclear(&mut self, status: u16, reason: &str) -> Next {
        (self.status, self.refused) = (status, true);
        self.hear(reason);
        let Some(todo) = self.todo.last_mut() else { return Next::Done };
        todo.uncertain = true;
        let todo = todo.clone();
        if self.parts >= self.parts_max {
            return self.give_up_all(status, reason);
        }
        let items = self.items_of(&todo);
        if self.dedupe != Dedupe::Line || items.len() < 2 {
            return self.give_up(status, reason);
        }
        self.todo.pop();
        self.halve(&todo, &items);
        self.turn()
    }

    /// The partner took nothing of the part and will not.
    pub fn refused(&mut self, status: u16, rejected: &[Rejected], answer: &str) -> Next {
        (self.status, self.refused) = (status, true);
        self.hear(answer);
        let Some(todo) = self.todo.last().cloned() else { return Next::Done };
        if self.parts >= self.parts_max {
            return self.give_up_all(status, answer);
        }
        let may_halve = self.dedupe == Dedupe::Line || !todo.uncertain;
        if !may_halve || self.items_of(&todo).len() < 2 {
            return self.give_up(status, answer);
        }
        self.todo.pop();
        let named = self.take_out(&todo, status, rejected, todo.uncertain);
        let (rest, _) =
            self.items_of(&todo).partition(|place| named.binary_search(&place).is_err());
        if named.is_empty() {
            self.halve(&todo, &rest);
        } else if !rest.is_empty() {
            self.push(&todo, "a", rest);
        }
        self.turn()
    }

    /// How far it has come, if the next part may leave only after that is durable.
    pub fn split(&self, at_ms: u64) -> Option<Split> {
        if self.dedupe == Dedupe::Line || self.todo.is_empty() {
            return None;
        }
        let pending = |todo: &Todo| PendingPart {
            path: todo.path.clone(),
            items: todo.items.ranges(),
            attempts: todo.attempts,
            uncertain: todo.uncertain,
        };
        Some(Split {
            number: self.batch.number,
            seal_lsn: self.batch.seal_lsn.0,
            attempts: self.attempts,
            parts: self.parts,
            taken: self.taken.clone(),
            pending: self.todo.iter().rev().map(pending).collect(),
            letters: self.letters(at_ms),
        })
    }

    /// The [`split`](Self::split) is durable, its letters with it.
    pub fn recorded(&mut self) {
        self.aside.clear();
    }

    /// It can't be made durable: what is still to be sent is set aside instead.
    pub fn not_recorded(&mut self) -> Next {
        let why = "the batch could not be halved: how far that has come can't be written down";
        self.give_up_rest(0, why);
        self.turn()
    }

    /// What was set aside and is not in a durable split.
    pub fn letters(&self, at_ms: u64) -> Vec<Letter> {
        let content = self.content.as_ref().and_then(Option::as_ref);
        letters(&self.batch, content, &self.aside, (&self.taken, at_ms))
    }

    /// The first thing that the partner says is the cause; what follows tells the same of less.
    fn hear(&mut self, answer: &str) {
        if self.answer.is_empty() {
            shortened(answer, ANSWER_BYTES_MAX).clone_into(&mut self.answer);
        }
    }

    fn content(&mut self) -> Option<&Content> {
        let body = &self.batch.body;
        self.content.get_or_insert_with(|| Content::parse(body)).as_ref()
    }

    /// The items of a part; none if the batch is one piece.
    fn items_of(&mut self, todo: &Todo) -> Items {
        match self.content() {
            Some(content) if todo.items.is_empty() => Items::all(content.len()),
            _ => todo.items.clone(),
        }
    }

    /// Sets the named items aside, each by itself: it was never sent alone, so that its part has an id of
    /// its own. Names of nothing that was sent mean nothing.
    fn take_out(
        &mut self,
        todo: &Todo,
        status: u16,
        rejected: &[Rejected],
        uncertain: bool,
    ) -> Vec<u32> {
        let items = self.items_of(todo);
        let Some(content) = self.content() else {
            return Vec::new();
        };
        let reasons: HashMap<&str, &str> =
            rejected.iter().map(|line| (line.line_id.as_str(), line.reason.as_str())).collect();
        let found = items.iter().filter_map(|place| {
            let reason = reasons.get(content.id(place))?;
            Some(Aside {
                path: format!("{}.x{}", todo.path, u64::from(place) + 1),
                items: Items::one(place),
                attempts: todo.attempts,
                uncertain,
                keeps_id: false,
                status,
                reason: (*reason).to_owned(),
            })
        });
        let found: Vec<_> = found.collect();
        let places = found.iter().flat_map(|aside| aside.items.iter()).collect();
        self.aside.extend(found);
        places
    }

    /// The first of these that is no line of the part.
    fn never_sent<'a>(&mut self, todo: &Todo, rejected: &'a [Rejected]) -> Option<&'a str> {
        let items = self.items_of(todo);
        let content = self.content()?;
        let sent: HashSet<&str> = items.iter().map(|place| content.id(place)).collect();
        rejected.iter().map(|line| line.line_id.as_str()).find(|id| !sent.contains(id))
    }

    fn halve(&mut self, todo: &Todo, items: &Items) {
        let (first, second) = items.halves();
        self.push(todo, "b", second);
        self.push(todo, "a", first);
    }

    fn push(&mut self, parent: &Todo, half: &str, items: Items) {
        let path = format!("{}.{half}", parent.path);
        self.todo.push(Todo { path, items, ..parent.clone() });
    }

    /// Sets the current part aside whole.
    fn give_up(&mut self, status: u16, reason: &str) -> Next {
        if let Some(todo) = self.todo.pop() {
            self.put_aside(todo, status, reason);
        }
        self.turn()
    }

    /// Sets everything aside that is still to be sent: there are more bad items than it is worth to find.
    fn give_up_all(&mut self, status: u16, answer: &str) -> Next {
        if let Some(todo) = self.todo.pop() {
            self.put_aside(todo, status, answer);
        }
        self.give_up_rest(0, "not sent: too much of its batch was refused");
        self.turn()
    }

    /// What was never sent alone is one letter; what was, keeps its part.
    fn give_up_rest(&mut self, status: u16, reason: &str) {
        let todo = std::mem::take(&mut self.todo);
        let (sent, never): (Vec<_>, Vec<_>) = todo.into_iter().partition(|todo| {
            todo.path.is_empty() || (todo.uncertain && self.dedupe != Dedupe::Line)
        });
        sent.into_iter().for_each(|todo| self.put_aside(todo, status, reason));
        let all = never.into_iter().reduce(|one, other| Todo {
            path: String::new(),
            items: one.items.union(&other.items),
            attempts: one.attempts.max(other.attempts),
            uncertain: one.uncertain || other.uncertain,
        });
        if let Some(mut all) = all {
            all.path = ".r".to_owned();
            self.put_aside(all, status, reason);
        }
    }

    fn put_aside(&mut self, todo: Todo, status: u16, reason: &str) {
        // Taken apart, so that a batch of one line has the name of that.
        self.content();
        let Todo { path, items, attempts, uncertain } = todo;
        let (reason, keeps_id) = (reason.to_owned(), uncertain && self.dedupe != Dedupe::Line);
        self.aside.push(Aside { path, items, attempts, uncertain, keeps_id, status, reason });
    }

    /// Turns to the part that is now the last.
    fn turn(&mut self) -> Next {
        self.begun = false;
        let Some(todo) = self.todo.last() else { return Next::Done };
        self.part.id = format!("{}{}", self.batch.id, todo.path);
        self.part.uncertain = todo.uncertain;
        self.part.body = match self.content.as_ref().and_then(Option::as_ref) {
            Some(content) if !todo.items.is_empty() => content.render(&self.part.id, &todo.items),
            _ => self.batch.body.clone(),
        };
        Next::Part
    }
}

#[cfg(test)]
#[path = "bisect_tests.rs"]
mod tests;
