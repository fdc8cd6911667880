//! What became of a batch.

use super::Batch;
use crate::model::{Lsn, letter::Letter};

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
}

impl Fate {
    /// Of a batch that sent a letter again, which was refused again as a whole: it is still that letter.
    pub(super) fn keep_name(&mut self, letter: &str) {
        if let [again] = self.letters.as_mut_slice()
            && self.refused
            && !letter.is_empty()
        {
            letter.clone_into(&mut again.id);
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
        }
    }
}
