//! Runs: the effects of one piece of the log, sorted by the thing that they are about, in a file
//! for the time of one merge.
//!
//! A [`Sorter`] takes effects as they come and writes them sorted; the effects on one thing stay in
//! the order of the log. Sorted are not the effects but 16 bytes for each: the first eight bytes of
//! its key, byte by byte from the last to the first, and where it stands. Takes and sales at a
//! position, which every reservation has, are summed up meanwhile.
//!
//! Layout of an effect, in memory and in the file, little-endian, at multiples of eight:
//!
//! ```text
//! effect   bytes u32, key bytes u8, op u8, alone u8, 0 u8 | key, padded | what it says, padded
//! ```
//!
//! *Alone* are effects with which no other of the run shares the thing; nearly all are.

use std::io::{Read, Write};

use crate::wal::Storage;

use super::{
    Error,
    fold::{Op, put_effect, undecodable},
    thing::{Effect, Shift, Thing, letter},
};

const HEAD_BYTES: usize = 8;
const ALONE_AT: usize = 6;
/// Runs are written and read in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

const fn padded(bytes: usize) -> usize {
    (bytes + 7) & !7
}

/// The name of the file of a run.
pub(super) fn name(number: usize) -> String {
    format!("run-{number}.part")
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { what, source }
}

/// An effect where it stands in memory.
#[derive(Debug, Clone, Copy)]
struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// The effect that the bytes begin with, if they have a whole one.
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let all = Self::bytes_of(bytes.first_chunk()?);
        bytes.get(..all).map(Self)
    }

    fn bytes_of(head: &[u8; HEAD_BYTES]) -> usize {
        let [a, b, c, d, key, ..] = *head;
        let effect = u32::from_le_bytes([a, b, c, d]) as usize;
        HEAD_BYTES + padded(key.into()) + padded(effect)
    }

    fn key(self) -> &'a [u8] {
        &self.0[HEAD_BYTES..HEAD_BYTES + usize::from(self.0[4])]
    }

    fn effect(self) -> &'a [u8] {
        let begin = HEAD_BYTES + padded(self.0[4].into());
        let bytes = u32::from_le_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]) as usize;
        &self.0[begin..begin + bytes]
    }
}

/// Where an effect stands, and the first eight bytes of its key behind the letter.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    prefix: u64,
    /// In words of eight bytes.
    at: u32,
}

/// The effects on things of one kind.
#[derive(Debug, Default)]
struct Kind {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

impl Kind {
    fn push(&mut self, thing: Thing<'_>, effect: Effect<'_>) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEAD_BYTES]);
        thing.put_key(&mut self.bytes);
        let key_end = self.bytes.len();
        let key_bytes = key_end - begin - HEAD_BYTES;
        self.bytes.resize(begin + HEAD_BYTES + padded(key_bytes), 0);
        let effect_begin = self.bytes.len();
        let op = put_effect(effect, &mut self.bytes);
        let effect_bytes = (self.bytes.len() - effect_begin) as u32;
        self.bytes.resize(padded(self.bytes.len()), 0);
        let head = u64::from(effect_bytes) | (key_bytes as u64) << 32 | (op as u64) << 40;
        self.bytes[begin..begin + HEAD_BYTES].copy_from_slice(&head.to_le_bytes());
        let prefix = prefix_of(&self.bytes[begin + HEAD_BYTES + 1..key_end]);
        self.places.push(Place { prefix, at: (begin / 8) as u32 });
    }

    fn view(bytes: &[u8], place: Place) -> View<'_> {
        let begin = place.at as usize * 8;
        View::first(&bytes[begin..]).unwrap_or(View(&[0; HEAD_BYTES]))
    }

    /// Sorts the places by key; those of one key stay in their order.
    fn sort(&mut self, spare: &mut Vec<Place>) {
        sort_by_prefix(&mut self.places, spare);
        let bytes = &self.bytes;
        for same in self.places.chunk_by_mut(|a, b| a.prefix == b.prefix) {
            if same.len() > 1 {
                same.sort_by(|a, b| Self::view(bytes, *a).key().cmp(Self::view(bytes, *b).key()));
            }
        }
    }

    /// Whether the places' effects are about one thing.
    fn is_same(&self, a: Option<&Place>, b: Option<&Place>) -> bool {
        let (Some(a), Some(b)) = (a, b) else { return false };
        a.prefix == b.prefix
            && Self::view(&self.bytes, *a).key() == Self::view(&self.bytes, *b).key()
    }

    fn write(&self, out: &mut Pieces<impl Write>) -> Result<(), Error> {
        let mut shared = false;
        for (number, place) in self.places.iter().enumerate() {
            let shared_before = shared;
            shared = self.is_same(Some(place), self.places.get(number + 1));
            let effect = Self::view(&self.bytes, *place);
            out.push(effect.0, !shared && !shared_before)?;
        }
        Ok(())
    }
}

/// The first eight bytes, the first the highest, as if zeros followed.
fn prefix_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or_else(
        || {
            let mut first = [0; 8];
            first[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(first)
        },
        |first| u64::from_be_bytes(*first),
    )
}

/// Sorts by the prefix, byte by byte, the lowest first; bytes that are the same everywhere cost
/// nothing but counting them.
fn sort_by_prefix(places: &mut Vec<Place>, spare: &mut Vec<Place>) {
    if places.is_sorted_by_key(|place| place.prefix) {
        return;
    }
    let mut counts = [[0u32; 256]; 8];
    for place in places.iter() {
        for (count, byte) in counts.iter_mut().zip(place.prefix.to_le_bytes()) {
            count[usize::from(byte)] += 1;
        }
    }
    spare.resize(places.len(), Place::default());
    for (number, count) in counts.iter_mut().enumerate() {
        if count.iter().any(|n| *n as usize == places.len()) {
            continue;
        }
        let mut begin = 0;
        for count in count.iter_mut() {
            begin += std::mem::replace(count, begin);
        }
        for place in places.iter() {
            let to = &mut count[usize::from(place.prefix.to_le_bytes()[number])];
            spare[*to as usize] = *place;
            *to += 1;
        }
        std::mem::swap(places, spare);
    }
}

/// Gathers the effects of a piece of the log.
#[derive(Debug, Default)]
pub(super) struct Sorter {
    kinds: [Kind; letter::COUNT],
    /// By position: availability and units committed that came and went.
    sums: Vec<(i64, i64)>,
    spare: Vec<Place>,
}

impl Sorter {
    /// Takes an effect.
    pub(super) fn push(&mut self, thing: Thing<'_>, effect: Effect<'_>) {
        if let (Thing::Position(number), Effect::Shifted(shift)) = (thing, &effect)
            && shift.is_sum()
        {
            return self.sum(number as usize, shift);
        }
        self.kinds[usize::from(thing.letter() - letter::SECRET)].push(thing, effect);
    }

    fn sum(&mut self, position: usize, shift: &Shift) {
        if position >= self.sums.len() {
            self.sums.resize(position + 1, (0, 0));
        }
        let (available, committed) = &mut self.sums[position];
        *available += shift.available;
        *committed += shift.committed;
    }

    /// Writes all of it as a run, and begins anew.
    pub(super) fn write<S: Storage>(&mut self, storage: &S, number: usize) -> Result<(), Error> {
        for (position, (available, committed)) in
            std::mem::take(&mut self.sums).drain(..).enumerate()
        {
            if (available, committed) != (0, 0) {
                let shift = Shift { available, committed, ..Shift::default() };
                let thing = Thing::Position(position as u32);
                self.kinds[usize::from(letter::POSITION - letter::SECRET)]
                    .push(thing, Effect::Shifted(shift));
            }
        }
        let file = storage.create(&name(number)).map_err(io("making a checkpoint's run"))?;
        let mut out = Pieces { file, piece: Vec::with_capacity(2 * PIECE_BYTES) };
        for kind in &mut self.kinds {
            kind.sort(&mut self.spare);
            kind.write(&mut out)?;
            kind.bytes.clear();
            kind.places.clear();
        }
        out.flush()
    }
}

/// A file that is written in pieces.
struct Pieces<W> {
    file: W,
    piece: Vec<u8>,
}

impl<W: Write> Pieces<W> {
    fn push(&mut self, effect: &[u8], alone: bool) -> Result<(), Error> {
        let begin = self.piece.len();
        self.piece.extend_from_slice(effect);
        self.piece[begin + ALONE_AT] = alone.into();
        if self.piece.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.write_all(&self.piece).map_err(io("writing a checkpoint's run"))?;
        self.piece.clear();
        Ok(())
    }
}

/// Reads a run.
pub(super) struct Run<R> {
    file: R,
    /// Bytes of the file that have not been read.
    left: u64,
    piece: Vec<u8>,
    /// Where the present effect stands in the piece.
    at: usize,
    bytes: usize,
}

impl<R: Read> Run<R> {
    /// Opens a run before its first effect.
    pub(super) fn open<S: Storage<Reader = R>>(storage: &S, number: usize) -> Result<Self, Error> {
        let name = name(number);
        let what = "reading a checkpoint's run";
        let left = storage.len(&name).map_err(io(what))?;
        let file = storage.open(&name).map_err(io(what))?;
        Ok(Self { file, left, piece: Vec::new(), at: 0, bytes: 0 })
    }

    /// Goes to the next effect; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, Error> {
        self.at += self.bytes;
        self.bytes = 0;
        loop {
            let rest = &self.piece[self.at..];
            if let Some(view) = View::first(rest) {
                self.bytes = view.0.len();
                return Ok(true);
            }
            let needs = rest.first_chunk().map_or(HEAD_BYTES, View::bytes_of);
            if self.left == 0 {
                let whole = rest.is_empty();
                return if whole { Ok(false) } else { Err(undecodable()) };
            }
            self.fill(needs)?;
        }
    }

    /// Reads on, so that an effect of so many bytes has room.
    fn fill(&mut self, needs: usize) -> Result<(), Error> {
        let rest = self.piece.len() - self.at;
        self.piece.copy_within(self.at.., 0);
        self.at = 0;
        let wanted = (needs.max(PIECE_BYTES) - rest) as u64;
        let bytes = wanted.min(self.left) as usize;
        self.piece.resize(rest + bytes, 0);
        let read = self.file.read_exact(&mut self.piece[rest..]);
        self.left -= bytes as u64;
        read.map_err(io("reading a checkpoint's run"))
    }

    fn view(&self) -> View<'_> {
        View(&self.piece[self.at..self.at + self.bytes])
    }

    /// The key of what the present effect is about.
    pub(super) fn key(&self) -> &[u8] {
        self.view().key()
    }

    /// What the present effect says.
    pub(super) fn effect(&self) -> Result<(Op, &[u8]), Error> {
        let view = self.view();
        let op = Op::of(view.0[5]).ok_or_else(undecodable)?;
        Ok((op, view.effect()))
    }

    /// Whether no other effect of the run is about the same thing.
    pub(super) fn is_alone(&self) -> bool {
        self.view().0[ALONE_AT] != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::sim::{Random, SimStorage};

    fn taken(lsn: u64) -> Effect<'static> {
        Effect::LimitTaken { quantity: 1, at_ms: 0, lsn }
    }

    /// The keys of a run, and whether each is alone.
    fn read(storage: &SimStorage, number: usize) -> Vec<(Vec<u8>, Vec<u8>, bool)> {
        let mut run = Run::open(storage, number).unwrap();
        let mut all = Vec::new();
        while run.advance().unwrap() {
            let effect = run.effect().unwrap().1.to_vec();
            all.push((run.key().to_vec(), effect, run.is_alone()));
        }
        all
    }

    #[test]
    fn a_run_is_sorted_and_keeps_the_order_of_one_thing() {
        let (storage, mut random) = (SimStorage::new(), Random(7));
        let mut sorter = Sorter::default();
        let mut expected = Vec::new();
        for lsn in 0..30_000 {
            let shift = 8 * random.below(8);
            let customer = random.below(20_000) << shift;
            let thing = match random.below(3) {
                0 => Thing::Reservation(customer as u32),
                1 => Thing::CustomerLimit(customer, random.below(3) as u32),
                _ => Thing::Key([customer, random.below(3)]),
            };
            let mut key = Vec::new();
            thing.put_key(&mut key);
            expected.push((key, lsn));
            sorter.push(thing, taken(lsn));
        }
        expected.sort();
        sorter.write(&storage, 0).unwrap();
        let keys: Vec<_> = expected.iter().map(|(key, _)| key).collect();
        let is_alone = |n: usize| {
            (n == 0 || keys[n - 1] != keys[n]) && keys.get(n + 1).is_none_or(|k| *k != keys[n])
        };
        let found = read(&storage, 0);
        assert_eq!(found.len(), expected.len());
        for (number, (found, (key, lsn))) in found.iter().zip(&expected).enumerate() {
            let mut bytes = Vec::new();
            put_effect(taken(*lsn), &mut bytes);
            assert_eq!(*found, (key.clone(), bytes, is_alone(number)));
        }
        sorter.write(&storage, 1).unwrap();
        assert!(read(&storage, 1).is_empty(), "it begins anew");
    }

    #[test]
    fn texts_of_one_beginning_are_sorted_too_and_large_effects_come_whole() {
        let storage = SimStorage::new();
        let mut sorter = Sorter::default();
        let large = "x".repeat(3 * PIECE_BYTES);
        for sink in ["sink-number-2", "sink", "sink-number-10"] {
            let effect = Effect::Defined { sku: &large, location: "", sku_number: 0 };
            sorter.push(Thing::Sink(sink), effect);
        }
        sorter.write(&storage, 0).unwrap();
        let found = read(&storage, 0);
        let keys: Vec<_> = found.iter().map(|(key, ..)| str::from_utf8(key).unwrap()).collect();
        assert_eq!(keys, ["Hsink", "Hsink-number-10", "Hsink-number-2"]);
        assert!(found.iter().all(|(_, effect, alone)| *alone && effect.len() > large.len()));
    }

    #[test]
    fn takes_at_a_position_are_summed_up() {
        let storage = SimStorage::new();
        let mut sorter = Sorter::default();
        for available in [-3, 1, -5] {
            let shift = Shift { available, committed: 1, ..Shift::default() };
            sorter.push(Thing::Position(2), Effect::Shifted(shift));
        }
        sorter.write(&storage, 0).unwrap();
        let found = read(&storage, 0);
        assert_eq!(found.len(), 1);
        let sum = Shift { available: -7, committed: 3, ..Shift::default() };
        assert_eq!(Shift::read(&found[0].1), Some(sum));
    }

    #[test]
    fn a_run_that_was_cut_is_refused() {
        let storage = SimStorage::new();
        let mut sorter = Sorter::default();
        sorter.push(Thing::Reservation(1), taken(8));
        sorter.write(&storage, 0).unwrap();
        storage.truncate_small(&name(0), storage.len(&name(0)).unwrap() - 8);
        assert!(Run::open(&storage, 0).unwrap().advance().is_err());
    }
}
