//! What became of a batch.

use super::Batch;
use crate::model::{
    Lsn,
    event::ArchivedAcknowledge,
    letter::{Letter, TakenPart},
};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// The batch's number.
    pub number: u64,
    /// The position of its seal.
    pub seal_lsn: Lsn,
    /// Attempts it took; 0 where nothing had to be sent.
    pub attempts: u64,
    /// The partner's last status code.
    pub status: u16,
    /// Whether the partner took nothing of it: all of its content is in `letters`.
    pub refused: bool,
    /// What the partner said where it refused something, shortened.
    pub answer: String,
    /// What was set aside.
    pub letters: Vec<Letter>,
    /// The parts that the partner took; none: all, as one, or, if `refused`, nothing.
    pub taken: Vec<TakenPart>,
}

impl Fate {
    /// The batch was a letter that was sent again. What comes back whole is the same letter as before,
    /// under its name.
    pub(super) fn is_of_letter(&mut self, before: &Letter) {
        for letter in &mut self.letters {
            (letter.number, letter.seal_lsn) = (before.number, before.seal_lsn);
            letter.attempts = letter.attempts.saturating_add(before.attempts);
            letter.uncertain |= before.uncertain && !before.mended;
        }
        if let ([letter], true) = (self.letters.as_mut_slice(), self.refused) {
            letter.id.clone_from(&before.id);
        }
    }

    /// Of a batch that had nothing to send.
    pub(super) fn of_nothing(batch: &Batch) -> Self {
        Self {
            number: batch.number,
            seal_lsn: batch.seal_lsn,
            attempts: 0,
            status: 0,
            refused: false,
            answer: String::new(),
            letters: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// A replay came to a batch of which the partner had taken nothing: its fate stays what it was. The
    /// letters that it left are told apart from it.
    pub(super) fn of_refused(batch: &Batch, before: &ArchivedAcknowledge) -> Self {
        let (status, answer) = (before.status.to_native(), before.answer.as_str().to_owned());
        Self { status, answer, refused: true, ..Self::of_nothing(batch) }
    }
}
