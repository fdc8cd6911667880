//! The bytes of what checkpoints are mostly made of: reservations, keys, customers' counts, and the
//! effects on them. Written and read word by word, so that an entry costs nanoseconds; what is rare
//! (positions, orders, sinks) is archived by rkyv, see [`super::fold`].
//!
//! Layout: little-endian words of eight bytes, then texts. What a reservation mostly has not (an
//! order, several lines, a transition) takes no room:
//!
//! ```text
//! reservation  head (state u8 | flags u8 | order id's bytes u16 | 0) | deadline | lsn
//!              [last] [customer] [order] [key: hash, hash, fingerprint, expires << 8 | kind] [aux]
//!              line, or lines u32, granted u32 | lines | granted   then the order id
//! turned       head (state u8 | flags u8 | order id's bytes u16 | lines u32) | last | deadline
//!              [order] | lines   then the order id
//! key          fingerprint | lsn | aux | expires << 8 | kind | slot u32, answer's bytes u32 | answer
//! count        from | lsn | taken
//! ```

use crate::{
    ledger::reservations::Lines,
    model::{
        event::{KeyRef, Line},
        view::ReservationState,
    },
};

use super::thing::{Done, Opened, Shift, Turned};

const LAST: u64 = 1 << 8;
const CUSTOMER: u64 = 1 << 9;
const ORDER: u64 = 1 << 10;
const KEY: u64 = 1 << 11;
const AUX: u64 = 1 << 12;
const MANY: u64 = 1 << 13;
/// Where a head says how long its text is.
const TEXT_SHIFT: u32 = 16;

/// A reservation in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reservation<'a> {
    pub(super) lsn: u64,
    pub(super) last: u64,
    pub(super) deadline_ms: u64,
    pub(super) customer: u64,
    pub(super) order: u64,
    pub(super) order_id: &'a str,
    pub(super) state: ReservationState,
    pub(super) lines: Lines,
    /// What it was granted, where that was something else.
    pub(super) granted: Option<Lines>,
    /// The key of the request that made it; its slot is the reservation's.
    pub(super) key: Option<Done<'a>>,
}

/// What a customer has taken, in a checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) from_ms: u64,
    pub(super) lsn: u64,
    pub(super) taken: u32,
}

/// Where bytes are read from; nothing where they end too early.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    fn signed(&mut self) -> Option<i64> {
        self.word().map(u64::cast_signed)
    }

    fn word_if(&mut self, present: bool, absent: u64) -> Option<u64> {
        if present { self.word() } else { Some(absent) }
    }

    fn text(&mut self, bytes: usize) -> Option<&'a str> {
        let (text, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        str::from_utf8(text).ok()
    }

    fn lines(&mut self, count: usize) -> Option<Lines> {
        if count == 1 {
            return Some(Lines::One(unpack_line(self.word()?)));
        }
        if count > self.0.len() / 8 {
            return None;
        }
        let lines = (0..count).map(|_| self.word().map(unpack_line));
        lines.collect::<Option<Box<[Line]>>>().map(Lines::Many)
    }
}

fn put(out: &mut Vec<u8>, words: &[u64]) {
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn put_if(out: &mut Vec<u8>, present: bool, word: u64) {
    if present {
        put(out, &[word]);
    }
}

fn pack_line(line: &Line) -> u64 {
    u64::from(line.position) << 32 | u64::from(line.limited) << 31 | u64::from(line.quantity)
}

fn unpack_line(word: u64) -> Line {
    let quantity = word as u32 & (u32::MAX >> 1);
    Line { position: (word >> 32) as u32, quantity, limited: word >> 31 & 1 == 1 }
}

fn put_lines(out: &mut Vec<u8>, lines: &[Line]) {
    lines.iter().for_each(|line| put(out, &[pack_line(line)]));
}

/// The bytes of a text, as a part of a head.
fn text_bits(text: &str) -> u64 {
    debug_assert!(u16::try_from(text.len()).is_ok(), "ids have at most 64 characters");
    u64::from(text.len() as u16) << TEXT_SHIFT
}

fn text_bytes(head: u64) -> usize {
    usize::from((head >> TEXT_SHIFT) as u16)
}

impl<'a> Reservation<'a> {
    /// As its record opens it.
    pub(super) fn of(opened: Opened<'a>) -> Self {
        let Opened { lsn, committed, deadline_ms, customer, order, order_id, lines, key } = opened;
        let state = match committed {
            true => ReservationState::Committed,
            false => ReservationState::Held,
        };
        let (last, granted) = (lsn, None);
        Self { lsn, last, deadline_ms, customer, order, order_id, state, lines, granted, key }
    }

    fn flags(&self) -> u64 {
        let flag = |is: bool, flag: u64| if is { flag } else { 0 };
        flag(self.last != self.lsn, LAST)
            | flag(self.customer != 0, CUSTOMER)
            | flag(self.order != 0, ORDER)
            | flag(self.key.is_some(), KEY)
            | flag(self.key.is_some_and(|key| key.aux != self.deadline_ms), AUX)
            | flag(self.lines.len() != 1 || self.granted.is_some(), MANY)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let flags = self.flags();
        let head = self.state as u64 | flags | text_bits(self.order_id);
        put(out, &[head, self.deadline_ms, self.lsn]);
        put_if(out, flags & LAST != 0, self.last);
        put_if(out, flags & CUSTOMER != 0, self.customer);
        put_if(out, flags & ORDER != 0, self.order);
        if let Some(Done { key, expires_ms, kind, .. }) = self.key {
            let expires_kind = expires_ms << 8 | u64::from(kind);
            put(out, &[key.hash[0], key.hash[1], key.fingerprint, expires_kind]);
        }
        put_if(out, flags & AUX != 0, self.key.map_or(0, |key| key.aux));
        if flags & MANY != 0 {
            let granted = self.granted.as_deref().unwrap_or_default();
            put(out, &[self.lines.len() as u64 | (granted.len() as u64) << 32]);
            put_lines(out, granted);
        }
        put_lines(out, &self.lines);
        out.extend_from_slice(self.order_id.as_bytes());
    }

    /// Reads it; it is in `slot`.
    pub(super) fn read(bytes: &'a [u8], slot: u32) -> Option<Self> {
        let mut input = Input(bytes);
        let head = input.word()?;
        let (deadline_ms, lsn) = (input.word()?, input.word()?);
        let last = input.word_if(head & LAST != 0, lsn)?;
        let customer = input.word_if(head & CUSTOMER != 0, 0)?;
        let order = input.word_if(head & ORDER != 0, 0)?;
        let mut key = match head & KEY != 0 {
            true => Some(read_key(&mut input, lsn, slot)?),
            false => None,
        };
        let aux = input.word_if(head & AUX != 0, deadline_ms)?;
        key.iter_mut().for_each(|key| key.aux = aux);
        let counts = input.word_if(head & MANY != 0, 1)?;
        let granted = match (counts >> 32) as usize {
            0 => None,
            count => Some(input.lines(count)?),
        };
        let lines = input.lines(counts as u32 as usize)?;
        let order_id = input.text(text_bytes(head))?;
        let state = ReservationState::of_number(head as u8)?;
        Some(Self { lsn, last, deadline_ms, customer, order, order_id, state, lines, granted, key })
    }

    pub(super) fn turn(&mut self, turned: Turned<'a>) {
        self.last = turned.last;
        self.state = turned.state;
        self.deadline_ms = turned.deadline_ms;
        if turned.order != 0 {
            (self.order, self.order_id) = (turned.order, turned.order_id);
        }
        if let Some(lines) = turned.lines {
            let before = std::mem::replace(&mut self.lines, lines);
            self.granted.get_or_insert(before);
        }
    }
}

/// The key of a reservation: what the two have in common stands in the reservation.
fn read_key<'a>(input: &mut Input<'a>, lsn: u64, slot: u32) -> Option<Done<'a>> {
    let hash = [input.word()?, input.word()?];
    let key = KeyRef { hash, fingerprint: input.word()? };
    let expires_kind = input.word()?;
    let (expires_ms, kind) = (expires_kind >> 8, expires_kind as u8);
    Some(Done { key, lsn, aux: 0, expires_ms, slot, kind, answer: "" })
}

/// Whether what begins with these bytes is a closed reservation.
pub(super) fn is_closed(bytes: &[u8]) -> bool {
    use ReservationState::{Expired, Released};
    Input(bytes)
        .word()
        .and_then(|head| ReservationState::of_number(head as u8))
        .is_some_and(|state| matches!(state, Released | Expired))
}

impl<'a> Turned<'a> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let lines = self.lines.as_deref().map_or(0, <[Line]>::len) as u64;
        let many = if self.lines.is_some() { MANY } else { 0 };
        let order = if self.order != 0 { ORDER } else { 0 };
        let head = self.state as u64 | many | order | text_bits(self.order_id) | lines << 32;
        put(out, &[head, self.last, self.deadline_ms]);
        put_if(out, order != 0, self.order);
        put_lines(out, self.lines.as_deref().unwrap_or_default());
        out.extend_from_slice(self.order_id.as_bytes());
    }

    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let head = input.word()?;
        let (last, deadline_ms) = (input.word()?, input.word()?);
        let order = input.word_if(head & ORDER != 0, 0)?;
        let lines = match head & MANY != 0 {
            true => Some(input.lines((head >> 32) as usize)?),
            false => None,
        };
        let order_id = input.text(text_bytes(head))?;
        Some(Self {
            lsn: 0,
            last,
            state: ReservationState::of_number(head as u8)?,
            deadline_ms,
            lines,
            order,
            order_id,
        })
    }
}

impl<'a> Done<'a> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let expires_kind = self.expires_ms << 8 | u64::from(self.kind);
        let last = u64::from(self.slot) | (self.answer.len() as u64) << 32;
        put(out, &[self.key.fingerprint, self.lsn, self.aux, expires_kind, last]);
        out.extend_from_slice(self.answer.as_bytes());
    }

    /// Reads it; the key's hash is `hash`.
    pub(super) fn read(bytes: &'a [u8], hash: [u64; 2]) -> Option<Self> {
        let mut input = Input(bytes);
        let key = KeyRef { hash, fingerprint: input.word()? };
        let (lsn, aux, expires_kind) = (input.word()?, input.word()?, input.word()?);
        let last = input.word()?;
        let (slot, answer) = (last as u32, input.text((last >> 32) as usize)?);
        let (expires_ms, kind) = (expires_kind >> 8, expires_kind as u8);
        Some(Self { key, lsn, aux, expires_ms, slot, kind, answer })
    }
}

impl Count {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put(out, &[self.from_ms, self.lsn, self.taken.into()]);
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let (from_ms, lsn) = (input.word()?, input.word()?);
        Some(Self { from_ms, lsn, taken: u32::try_from(input.word()?).ok()? })
    }
}

impl Shift {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let Self { available, on_hand, committed, safety_stock, backorder_limit, forced, .. } =
            *self;
        let numbers = [available, on_hand, committed, safety_stock, backorder_limit, forced];
        put(out, &numbers.map(i64::cast_unsigned));
        for option in [self.source_version, self.moved] {
            put(out, &[option.is_some().into(), option.unwrap_or(0)]);
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let input = &mut input;
        Some(Self {
            available: input.signed()?,
            on_hand: input.signed()?,
            committed: input.signed()?,
            safety_stock: input.signed()?,
            backorder_limit: input.signed()?,
            forced: input.signed()?,
            source_version: read_option(input)?,
            moved: read_option(input)?,
        })
    }
}

fn read_option(input: &mut Input<'_>) -> Option<Option<u64>> {
    let (is, value) = (input.word()?, input.word()?);
    Some((is != 0).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Line = Line { position: 7, quantity: 3, limited: true };

    fn key(aux: u64) -> Done<'static> {
        let key = KeyRef { hash: [1, 2], fingerprint: 3 };
        Done { key, lsn: 8, aux, expires_ms: 1 << 40, slot: 9, kind: 5, answer: "" }
    }

    fn plain() -> Reservation<'static> {
        Reservation {
            lsn: 8,
            last: 8,
            deadline_ms: 50,
            customer: 0,
            order: 0,
            order_id: "",
            state: ReservationState::Held,
            lines: Lines::One(LINE),
            granted: None,
            key: Some(key(50)),
        }
    }

    fn reservations() -> Vec<Reservation<'static>> {
        let many = Lines::Many([LINE, Line { limited: false, ..LINE }].into());
        let none = Lines::Many([].into());
        vec![
            plain(),
            Reservation { key: None, customer: 4, ..plain() },
            Reservation { last: 16, key: Some(key(49)), lines: many.clone(), ..plain() },
            Reservation { granted: Some(many), lines: none, order: 5, order_id: "O-1", ..plain() },
            Reservation { state: ReservationState::Committed, deadline_ms: 0, ..plain() },
        ]
    }

    #[test]
    fn a_reservation_reads_as_it_was_written_and_not_from_less() {
        for reservation in reservations() {
            let mut bytes = Vec::new();
            reservation.put(&mut bytes);
            assert_eq!(Reservation::read(&bytes, 9).as_ref(), Some(&reservation));
            for end in 0..bytes.len() {
                assert_eq!(Reservation::read(&bytes[..end], 9), None, "{end} of {reservation:?}");
            }
        }
    }

    #[test]
    fn a_reservation_of_one_line_with_its_key_is_small() {
        let mut bytes = Vec::new();
        Reservation { customer: 1, ..plain() }.put(&mut bytes);
        assert_eq!(bytes.len(), 72);
    }

    #[test]
    fn effects_read_as_they_were_written() {
        let mut bytes = Vec::new();
        let done = Done { answer: "{}", ..key(7) };
        done.put(&mut bytes);
        assert_eq!(Done::read(&bytes, [1, 2]), Some(done));
        let state = ReservationState::Released;
        let (lines, order_id) = (Some(Lines::One(LINE)), "O-2");
        let turned = Turned { lsn: 0, last: 6, state, deadline_ms: 7, lines, order: 8, order_id };
        for turned in [turned.clone(), Turned { lines: None, order: 0, order_id: "", ..turned }] {
            bytes.clear();
            turned.put(&mut bytes);
            assert_eq!(Turned::read(&bytes), Some(turned));
        }
        let shift = Shift { available: -4, forced: 2, moved: Some(0), ..Shift::default() };
        bytes.clear();
        shift.put(&mut bytes);
        assert_eq!(Shift::read(&bytes), Some(shift));
    }

    #[test]
    fn a_turn_keeps_what_was_granted_first() {
        let mut reservation = plain();
        for quantity in [2, 1] {
            reservation.turn(Turned {
                lsn: 8,
                last: 16,
                state: ReservationState::Held,
                deadline_ms: 60,
                lines: Some(Lines::One(Line { quantity, ..LINE })),
                order: 0,
                order_id: "",
            });
        }
        assert_eq!(reservation.granted, Some(Lines::One(LINE)));
        assert_eq!(reservation.lines[0].quantity, 1);
    }
}
