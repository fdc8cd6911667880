//! Records of sinks: what a batch has, what became of it, and what an operator did.

use std::borrow::Cow;

use rkyv::{Archive, Deserialize, Serialize};

use super::to_owned;
use crate::model::{
    Lsn,
    letter::{Letter, TakenPart},
    packed::{pack, unpack},
    sink::{Deed, Parking, Sealed},
};

/// The content of an outbound batch, fixed before its first byte leaves.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Seal {
    /// The batch's number at its sink: one more than the last.
    pub number: u64,
    /// The first record summed up.
    pub first_lsn: u64,
    /// The last record summed up.
    pub last_lsn: u64,
    /// The sink's next window begins here: everything before is in this seal or an earlier one.
    pub covers_lsn: u64,
    /// When.
    pub sealed_at_ms: u64,
    /// Records summed up.
    pub events: u64,
    /// The version of the configuration that rendered it.
    pub config_version: u64,
    /// BLAKE3 over what is sent of `body`, and of `more` after it.
    pub digest: [u8; 32],
    /// The chain of a finance sink: the digest of its last entry. Zero elsewhere.
    pub chain: [u8; 32],
    /// The sink's name.
    pub sink: String,
    /// The bytes that are sent; in a record perhaps [packed](crate::model::packed).
    pub body: Vec<u8>,
    /// What of a finance sink's records waits for others from now on, and what no longer does.
    pub parking: Parking,
    /// The number of the [`Recognition`](crate::model::posting::Recognition) by which it was summed up.
    pub recognition: u8,
    /// The place of its [`Lane`](crate::model::sink::Lane), or [`Sealed::EVERY_LANE`].
    pub lane: u8,
    /// The bodies of further batches of the same window, numbered on from `number`.
    pub more: Vec<Vec<u8>>,
    /// The letter that it sends again; empty: it is a window.
    pub letter: String,
    /// The id that a letter's content goes out under; empty: that of its number.
    pub part_id: String,
}

impl Seal {
    /// The digest of what it has.
    pub fn digest_of<'a>(body: &[u8], more: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut digest = blake3::Hasher::new();
        digest.update(body);
        for body in more {
            digest.update(body);
        }
        *digest.finalize().as_bytes()
    }

    /// The same with its bodies packed.
    pub fn packed(&self) -> Self {
        Self {
            body: pack(&self.body),
            more: self.more.iter().map(|body| pack(body)).collect(),
            sink: self.sink.clone(),
            parking: self.parking.clone(),
            letter: self.letter.clone(),
            part_id: self.part_id.clone(),
            ..*self
        }
    }

    /// The same with its bodies as they are sent. What is damaged stays as it is, and its digest says so.
    pub fn unpacked(mut self) -> Self {
        for body in [&mut self.body].into_iter().chain(&mut self.more) {
            if let Some(Cow::Owned(sent)) = unpack(body) {
                *body = sent;
            }
        }
        self
    }

    /// What it says to its sink's state, once it is written.
    pub fn sealed(&self, lsn: Lsn) -> Sealed {
        Sealed {
            lsn: lsn.0,
            number: self.number,
            batches: 1 + self.more.len() as u64,
            covers_lsn: self.covers_lsn,
            events: self.events,
            chain: self.chain,
            parking: self.parking.clone(),
            lane: self.lane,
            letter: self.letter.clone(),
        }
    }
}

impl ArchivedSeal {
    /// What is sent of its `nth` batch; nothing if it has none of that number, or it is damaged.
    pub fn body_of(&self, nth: usize) -> Option<Cow<'_, [u8]>> {
        match nth.checked_sub(1) {
            None => unpack(&self.body),
            Some(more) => unpack(self.more.get(more)?),
        }
    }

    /// Whether its digest is that of what is sent.
    pub fn is_whole(&self) -> bool {
        let bodies: Option<Vec<_>> = (0..=self.more.len()).map(|nth| self.body_of(nth)).collect();
        let [body, more @ ..] = bodies.as_deref().unwrap_or_default() else { return false };
        Seal::digest_of(body, more.iter().map(|body| &**body)) == self.digest
    }

    /// What it says to its sink's state.
    pub fn sealed(&self, lsn: Lsn) -> Sealed {
        Sealed {
            lsn: lsn.0,
            number: self.number.to_native(),
            batches: 1 + self.more.len() as u64,
            covers_lsn: self.covers_lsn.to_native(),
            events: self.events.to_native(),
            chain: self.chain,
            parking: to_owned::<Parking>(&self.parking),
            lane: self.lane,
            letter: self.letter.as_str().to_owned(),
        }
    }
}

/// A batch's fate is known.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Acknowledge {
    /// The batch's number at its sink.
    pub number: u64,
    /// The position of its seal.
    pub seal_lsn: u64,
    /// Attempts it took.
    pub attempts: u64,
    /// The partner's status code.
    pub status: u16,
    /// Whether the partner took nothing of it: all of its content is in `letters`.
    pub refused: bool,
    /// The sink's name.
    pub sink: String,
    /// What the partner said where it refused something, shortened; else empty.
    pub answer: String,
    /// The letter that the batch sent again; empty: it was a window. It is gone, unless it is in
    /// `letters`.
    pub letter: String,
    /// What was set aside.
    pub letters: Vec<Letter>,
    /// The parts of it that the partner took, each under an id of its own; none: all of it under the
    /// batch's id or, if it is `refused`, nothing.
    pub taken: Vec<TakenPart>,
}

/// An operator did something to a sink.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Operate {
    /// The sink's name.
    pub sink: String,
    /// Who: a partner's name; empty where none is known.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
    /// Whether it was done in a freeze window in spite of it.
    pub forced: bool,
    /// What.
    pub deed: Deed,
}
