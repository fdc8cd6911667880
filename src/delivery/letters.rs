//! What was set aside, as letters: each carries its content and what was said of it.
//!
//! One record of the log has to carry what one step sets aside, whatever a partner names: single items
//! have letters of their own as long as these are small together, else they share one.

use super::{items::Items, parts::Content};
use crate::{feed::Batch, model::letter::Letter};

/// Bytes of a partner's answer that a fate keeps.
pub(super) const ANSWER_BYTES_MAX: usize = 1_000;
/// Bytes of the reason that a letter keeps.
const REASON_BYTES_MAX: usize = 500;
/// The most bytes that letters of single items have together.
const SINGLES_BYTES_MAX: usize = 64 * 1024;
/// What a letter has beside its body and its reason, about.
const LETTER_BYTES: usize = 200;

/// What was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aside {
    /// The path of a part of exactly this content: one that was sent, or one of its own.
    pub path: String,
    /// Its items; none: the batch is one piece.
    pub items: Items,
    /// Attempts that were made for it.
    pub attempts: u64,
    /// Whether one of them may have had its effect.
    pub uncertain: bool,
    /// Whether it must go out under its path again, by which the partner may know it.
    pub keeps_id: bool,
    /// The partner's status; 0 without one.
    pub status: u16,
    /// What it said.
    pub reason: String,
}

/// The first so many bytes of a text, whole characters only.
pub(super) fn shortened(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The letters of a batch. `content` of a batch that is one piece is `None`.
pub(super) fn letters(
    batch: &Batch,
    content: Option<&Content>,
    aside: &[Aside],
    at_ms: u64,
) -> Vec<Letter> {
    let letter = |aside: &Aside| letter(batch, content, aside, at_ms);
    let single = |aside: &&Aside| aside.items.len() == 1 && !aside.keeps_id;
    let singles: Vec<_> = aside.iter().filter(single).collect();
    let head = content.map_or(0, |content| content.render("", &Items::default()).len());
    let bytes_of = |aside: &&Aside| {
        let bytes = content.map_or(0, |content| content.bytes(&aside.items));
        head + bytes + LETTER_BYTES + aside.reason.len().min(REASON_BYTES_MAX)
    };
    if singles.len() < 2 || singles.iter().map(bytes_of).sum::<usize>() <= SINGLES_BYTES_MAX {
        return aside.iter().map(letter).collect();
    }
    let rest = aside.iter().filter(|aside| !single(aside)).map(letter);
    rest.chain([letter(&shared(&singles))]).collect()
}

/// All in one.
fn shared(singles: &[&Aside]) -> Aside {
    let first = singles[0];
    let all = singles.iter().flat_map(|aside| aside.items.iter());
    let mut places: Vec<_> = all.collect();
    places.sort_unstable();
    let (more, said) = (singles.len() - 1, shortened(&first.reason, REASON_BYTES_MAX - 40));
    Aside {
        path: format!("{}.m", first.path),
        items: Items::of(places.into_iter().map(|place| (place, place + 1))),
        attempts: singles.iter().map(|aside| aside.attempts).max().unwrap_or(0),
        uncertain: singles.iter().any(|aside| aside.uncertain),
        reason: format!("{said} (and {more} more lines)"),
        ..first.clone()
    }
}

fn letter(batch: &Batch, content: Option<&Content>, aside: &Aside, at_ms: u64) -> Letter {
    let part_id = format!("{}{}", batch.id, aside.path);
    let (id, body) = match content {
        Some(content) if !aside.items.is_empty() => {
            let only = (aside.items.len() == 1).then(|| aside.items.iter().next()).flatten();
            let id = only.map_or(part_id.as_str(), |place| content.id(place));
            (id.to_owned(), content.render(&part_id, &aside.items))
        }
        _ => (part_id.clone(), batch.body.clone()),
    };
    Letter {
        id,
        part_id,
        number: batch.number,
        seal_lsn: batch.seal_lsn.0,
        config_version: batch.config_version,
        at_ms,
        status: aside.status,
        lane: batch.lane.index() as u8,
        attempts: aside.attempts,
        uncertain: aside.uncertain,
        mended: false,
        reason: shortened(&aside.reason, REASON_BYTES_MAX).to_owned(),
        body: body.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::testing;

    fn aside(place: u32) -> Aside {
        Aside {
            path: format!(".x{}", place + 1),
            items: Items::one(place),
            attempts: 2,
            uncertain: false,
            keeps_id: false,
            status: 422,
            reason: "unknown SKU".to_owned(),
        }
    }

    #[test]
    fn an_item_has_a_letter_of_its_own_with_the_head_of_its_batch() {
        let batch = testing::batch_of_lines(1, 3);
        let content = Content::parse(&batch.body);
        let letters = letters(&batch, content.as_ref(), &[aside(1)], 7);
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        assert_eq!(
            (letter.id.as_str(), letter.part_id.as_str()),
            ("erp-0000-000001.2", "erp-0000-000001.x2")
        );
        let body = String::from_utf8(letter.body.clone()).unwrap();
        assert!(body.contains(r#""batch_id":"erp-0000-000001.x2""#), "{body}");
        assert!(body.contains("000001.2\"") && !body.contains("000001.1\""), "{body}");
        assert_eq!((letter.status, letter.attempts, letter.at_ms), (422, 2, 7));
    }

    #[test]
    fn more_than_a_record_carries_share_a_letter_and_none_is_missing() {
        let batch = testing::batch_of_lines(1, 2_000);
        let content = Content::parse(&batch.body).unwrap();
        let aside: Vec<_> = (0..2_000).map(aside).collect();
        let letters = letters(&batch, Some(&content), &aside, 7);
        let [letter] = letters.as_slice() else { panic!("{}", letters.len()) };
        assert_eq!(letter.id, letter.part_id);
        assert!(letter.reason.contains("1999 more"), "{}", letter.reason);
        let again = Content::parse(&letter.body.clone().into()).unwrap();
        assert_eq!(again.len(), 2_000);
        assert!(letter.body.len() < batch.body.len() + 64);
    }

    #[test]
    fn what_a_partner_says_is_cut_between_characters() {
        assert_eq!(shortened("häh", 2), "h");
        assert_eq!(shortened("häh", 3), "hä");
        assert_eq!(shortened("häh", 30), "häh");
    }
}
