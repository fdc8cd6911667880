//! What was set aside, as letters: each carries its content and what was said of it.
//!
//! One record of the log has to carry what one step sets aside, whatever a partner names: what was told
//! apart has letters of its own as long as these are small together, else it shares one, which is no
//! larger than its batch.

use super::{items::Items, parts::Content};
use crate::{
    feed::Batch,
    model::letter::{Letter, TakenPart},
};

/// Bytes of a partner's answer that a fate keeps.
pub(super) const ANSWER_BYTES_MAX: usize = 1_000;
/// Bytes of the reason that a letter keeps.
const REASON_BYTES_MAX: usize = 500;
/// The bytes that the letters of one step may always have together; more only as one letter.
const LETTERS_BYTES_MAX: usize = 64 * 1024;
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
    (taken, at_ms): (&[TakenPart], u64),
) -> Vec<Letter> {
    let letter = |aside: &Aside| letter(batch, content, aside, at_ms);
    let own = |aside: &&Aside| !aside.items.is_empty() && !aside.keeps_id;
    let owns: Vec<_> = aside.iter().filter(own).collect();
    let head = content.map_or(0, |content| content.render("", &Items::default()).len());
    let bytes_of = |aside: &&Aside| {
        let bytes = content.map_or(0, |content| content.bytes(&aside.items));
        head + bytes + LETTER_BYTES + aside.reason.len().min(REASON_BYTES_MAX)
    };
    // What a record of a whole batch has room for, all heads and reasons contained.
    let bytes_max = LETTERS_BYTES_MAX.max(batch.body.len() + REASON_BYTES_MAX + LETTER_BYTES);
    let bytes = aside.iter().map(|aside| bytes_of(&aside)).sum::<usize>() + taken_bytes(taken);
    if owns.len() < 2 || bytes <= bytes_max {
        return aside.iter().map(letter).collect();
    }
    let rest = aside.iter().filter(|aside| !own(aside)).map(letter);
    rest.chain([letter(&shared(&owns))]).collect()
}

/// What the same record needs to say which parts were taken, about.
fn taken_bytes(taken: &[TakenPart]) -> usize {
    taken.iter().map(|part| 24 + part.path.len() + 8 * part.items.len()).sum()
}

/// All in one.
fn shared(all: &[&Aside]) -> Aside {
    let first = all[0];
    let mut places: Vec<_> = all.iter().flat_map(|aside| aside.items.iter()).collect();
    places.sort_unstable();
    let said = shortened(&first.reason, REASON_BYTES_MAX - 40);
    let more = places.len() - first.items.len();
    Aside {
        path: format!("{}.m", first.path),
        items: Items::of(places.into_iter().map(|place| (place, place + 1))),
        attempts: all.iter().map(|aside| aside.attempts).max().unwrap_or(0),
        uncertain: all.iter().any(|aside| aside.uncertain),
        reason: format!("{said} (and {more} more lines)"),
        ..first.clone()
    }
}

fn letter(batch: &Batch, content: Option<&Content>, aside: &Aside, at_ms: u64) -> Letter {
    let part_id = format!("{}{}", batch.id, aside.path);
    let (id, body) = match content {
        Some(content) if !aside.items.is_empty() => {
            (content.only(&aside.items), content.render(&part_id, &aside.items))
        }
        Some(content) => (content.only(&Items::all(content.len())), batch.body.clone()),
        None => (None, batch.body.clone()),
    };
    // An event has one id at every sink, and a letter a name that no other sink's has.
    let id = id.filter(|_| content.is_some_and(|content| !content.is_stream()));
    Letter {
        id: id.unwrap_or(&part_id).to_owned(),
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
        let letters = letters(&batch, content.as_ref(), &[aside(1)], (&[], 7));
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
        let letters = letters(&batch, Some(&content), &aside, (&[], 7));
        let [letter] = letters.as_slice() else { panic!("{}", letters.len()) };
        assert_eq!(letter.id, letter.part_id);
        assert!(letter.reason.contains("1999 more"), "{}", letter.reason);
        let again = Content::parse(&letter.body.clone().into()).unwrap();
        assert_eq!(again.len(), 2_000);
        assert!(letter.body.len() < batch.body.len() + 64);
    }

    /// A batch as large as a record takes, of which many lines were told apart and the rest was not.
    #[test]
    fn letters_of_a_large_batch_are_no_larger_than_it_together() {
        let batch = testing::batch_of_lines(1, 4_000);
        let content = Content::parse(&batch.body).unwrap();
        let reason = "x".repeat(500);
        let mut all: Vec<_> =
            (0..27).map(|n| Aside { reason: reason.clone(), ..aside(n) }).collect();
        all.push(Aside { path: ".r".to_owned(), items: Items::of([(27, 4_000)]), ..aside(0) });
        let letters = letters(&batch, Some(&content), &all, (&[], 7));
        let bytes: usize = letters.iter().map(|l| l.body.len() + l.reason.len()).sum();
        assert!(bytes <= batch.body.len() + 600, "{bytes} of {}", batch.body.len());
        let lines = |letter: &Letter| Content::parse(&letter.body.clone().into()).unwrap().len();
        assert_eq!(letters.iter().map(lines).sum::<usize>(), 4_000);
    }

    #[test]
    fn a_batch_of_one_line_is_named_as_its_line_and_an_event_as_its_part() {
        let whole = Aside { path: String::new(), items: Items::default(), ..aside(0) };
        let id_of = |batch: &Batch| {
            let content = Content::parse(&batch.body);
            letters(batch, content.as_ref(), std::slice::from_ref(&whole), (&[], 7))[0].id.clone()
        };
        assert_eq!(id_of(&testing::batch_of_lines(1, 1)), "erp-0000-000001.1");
        assert_eq!(id_of(&testing::batch_of_lines(1, 2)), "erp-0000-000001");
        let event = r#"[{"id":"3f9c-64","specversion":"1.0"}]"#;
        assert_eq!(id_of(&testing::batch(1, event)), "erp-0000-000001");
    }

    #[test]
    fn what_a_partner_says_is_cut_between_characters() {
        assert_eq!(shortened("häh", 2), "h");
        assert_eq!(shortened("häh", 3), "hä");
        assert_eq!(shortened("häh", 30), "häh");
    }
}
