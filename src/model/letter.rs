//! Dead letters: what a partner refused for its content, kept until a person has dealt with it.
//!
//! A letter is made by the record that says what became of its batch, and carries its content: it needs
//! nothing of the log. It is a line, or a whole part of a batch where the lines can't be told apart
//! without risk. Its id stays the same however often it is mended and tried again, and so do the ids of
//! the lines in it.

use rkyv::{Archive, Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Letter {
    /// Its name at its sink: the id of its line, or of its part where it is more than one.
    pub id: String,
    /// The part of the batch that carried it last: batch id and path. It goes out under it again
    /// while it is not mended.
    pub part_id: String,
    /// The number of the batch that carried it first, and the position of that one's seal.
    pub number: u64,
    /// See `number`.
    pub seal_lsn: u64,
    /// The version of the configuration that rendered it.
    pub config_version: u64,
    /// When it was set aside last, in milliseconds since the epoch.
    pub at_ms: u64,
    /// The partner's status code; 0 without one.
    pub status: u16,
    /// The place of its [`Lane`](super::sink::Lane).
    pub lane: u8,
    /// Attempts that were made for it, those of the parts that it was in contained.
    pub attempts: u64,
    /// Whether an attempt may have had its effect all the same.
    pub uncertain: bool,
    /// Whether a person changed its content.
    pub mended: bool,
    /// What the partner said, shortened, or why it was not asked.
    pub reason: String,
    /// The body that was refused: the head of its batch, with this content alone.
    pub body: Vec<u8>,
}

impl Letter {
    /// Records that it stands for: those that its entries sum up, where it is of finance; 1 where its body
    /// does not say.
    pub fn records(&self) -> u64 {
        #[derive(serde::Deserialize)]
        struct Body {
            entries: Vec<Entry>,
        }
        #[derive(serde::Deserialize)]
        struct Entry {
            records: u64,
        }
        let body: Option<Body> = serde_json::from_slice(&self.body).ok();
        let entries = body.into_iter().flat_map(|body| body.entries);
        entries.fold(0, |sum: u64, entry| sum.saturating_add(entry.records)).max(1)
    }
}

/// How far the bisection of a refused batch has come.
///
/// It is durable before the next part leaves: after a crash the bisection goes on with what stands here
/// and the batch is not sent whole again, so that a partner that knows a batch by its id alone is never
/// given a line under two of them. The newest one of a batch counts; its letters add up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Split {
    /// The batch's number.
    pub number: u64,
    /// The position of its seal.
    pub seal_lsn: u64,
    /// Attempts made for the batch and its parts so far.
    pub attempts: u64,
    /// Parts that were sent so far, the batch itself contained.
    pub parts: u64,
    /// The parts that the partner has taken so far.
    pub taken: Vec<TakenPart>,
    /// What is still to be sent, next first. An attempt of the first may have been made, of the others
    /// none was.
    pub pending: Vec<PendingPart>,
    /// What was set aside since the last such record of this batch.
    pub letters: Vec<Letter>,
}

/// What the partner took of a batch under one id: a replay of the batch sends exactly this again, under
/// that id, since a partner that knows batches alone knows it by nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct TakenPart {
    /// The path by which it went out, after the batch's id: `.a.b`; empty for the batch itself.
    pub path: String,
    /// The places of the items that were taken, as in [`PendingPart::items`]; none: all that the batch has.
    pub items: Vec<(u32, u32)>,
}

/// A part of a batch that is still to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct PendingPart {
    /// Its path: `.a.b`; empty for the batch itself.
    pub path: String,
    /// The places of its items in the batch from 0, as ranges: begin and the place after the end.
    pub items: Vec<(u32, u32)>,
    /// Attempts that were made for what is in it.
    pub attempts: u64,
    /// Whether one of them may have had its effect.
    pub uncertain: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_for_the_records_that_its_entries_sum_up() {
        let records = |body: &str| {
            let body = body.as_bytes().to_vec();
            let letter = Letter {
                id: "books-1".to_owned(),
                part_id: "books-1".to_owned(),
                number: 1,
                seal_lsn: 8,
                config_version: 1,
                at_ms: 0,
                status: 422,
                lane: 1,
                attempts: 1,
                uncertain: false,
                mended: false,
                reason: String::new(),
                body,
            };
            letter.records()
        };
        assert_eq!(records(r#"{"entries":[{"records":7,"kind":"sale"},{"records":3}]}"#), 10);
        assert_eq!(records(r#"{"lines":[{"sku":"TEE"},{"sku":"MUG"}]}"#), 1);
        assert_eq!(
            records(r#"{"entries":[{"records":18446744073709551615},{"records":1}]}"#),
            u64::MAX
        );
        assert_eq!(records("not JSON"), 1);
    }
}
