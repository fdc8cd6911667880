//! Journal entries as a finance sink's seals have them: what was posted, to the byte.

use std::borrow::Cow;

use holdfast::{
    feed::told::Mended,
    model::{
        Currency, Lsn, Timestamp,
        event::{self, Seal},
        lineage::BatchState,
    },
};
use serde::{Deserialize, Serialize};

use super::Error;

/// A sealed batch of entries.
#[derive(Debug, Deserialize)]
pub struct Batch {
    /// Its id.
    pub batch_id: String,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// A journal entry; fields that are not known here are left out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Entry {
    /// Its id.
    pub entry_id: String,
    /// The first record that it sums up.
    pub first_lsn: Lsn,
    /// The last one.
    pub last_lsn: Lsn,
    /// How many it sums up.
    #[serde(default)]
    pub orders: u64,
    /// BLAKE3 over them.
    #[serde(default)]
    pub digest: String,
    /// That of the entry before.
    #[serde(default)]
    pub previous_digest: String,
    /// What it books.
    pub kind: String,
    /// The currency of its amounts.
    #[serde(deserialize_with = "Currency::read_of_any_time")]
    pub currency: Currency,
    /// Its postings.
    pub postings: Vec<Posting>,
}

/// A posting, in minor units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Posting {
    /// The account.
    pub account: String,
    /// The tax code, if it has one.
    pub tax_code: Option<String>,
    /// What is debited.
    #[serde(default)]
    pub debit: i128,
    /// What is credited.
    #[serde(default)]
    pub credit: i128,
}

/// What an entry's batch adds to it.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    /// The batch.
    pub batch_id: &'a str,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// What the partner has of the entry.
    pub state: BatchState,
    /// How the partner took it, if a person changed it before.
    pub mended: Option<&'a Mended>,
}

impl Sealed<'_> {
    /// The entry as the partner was told. What a person made of it may be none that a journal has room
    /// for: then it stays as it was sealed.
    pub fn shown<'e>(&self, entry: &'e Entry) -> Cow<'e, Entry> {
        self.told().map_or(Cow::Borrowed(entry), Cow::Owned)
    }

    fn told(&self) -> Option<Entry> {
        let told: Entry = serde_json::from_value(self.mended?.told.clone()).ok()?;
        told.is_balanced().then_some(told)
    }

    /// What a person changed of it, and who did.
    pub fn changes(&self) -> Option<String> {
        let mended = self.mended?;
        let (letter, who, changes) = (&mended.letter, mended.who(), mended.changes());
        let as_sealed = if self.told().is_some() {
            ""
        } else {
            "shown as it was sealed, since what the partner took reads as no entry: "
        };
        Some(format!("{as_sealed}{changes} (letter {letter}, mended {who})"))
    }

    /// The word for what became of it.
    pub fn state(&self) -> &'static str {
        self.state.as_str()
    }

    /// The day of it, in UTC.
    pub fn day(&self) -> String {
        self.sealed_at.to_string().chars().take(10).collect()
    }
}

impl Batch {
    /// The entries of a seal; nothing if it is not one of a finance sink.
    ///
    /// # Errors
    /// If it is damaged, or an entry does not balance.
    pub fn of(lsn: Lsn, seal: &Seal) -> Result<Option<Self>, Error> {
        #[derive(Deserialize)]
        struct Domain {
            domain: String,
        }
        let wrong = |reason: String| Error::Part {
            what: "the journal",
            reason: format!("the seal at {lsn} {reason}"),
        };
        if seal.body.is_empty() {
            return Ok(None);
        }
        // Of waves it has several bodies.
        if Seal::digest_of(&seal.body, seal.more.iter().map(Vec::as_slice)) != seal.digest {
            return Err(wrong("has another digest than its content".to_owned()));
        }
        // A stream's batch is a list of events.
        if seal.body.first() == Some(&b'[') {
            return Ok(None);
        }
        let read = |e: serde_json::Error| wrong(format!("can't be read: {e}"));
        if serde_json::from_slice::<Domain>(&seal.body).map_err(read)?.domain != "finance" {
            return Ok(None);
        }
        let batch: Self = serde_json::from_slice(&seal.body).map_err(read)?;
        match batch.entries.iter().find(|entry| !entry.is_balanced()) {
            Some(entry) => Err(wrong(format!("has entry {}, which is unbalanced", entry.entry_id))),
            None => Ok(Some(batch)),
        }
    }
}

impl Entry {
    fn is_balanced(&self) -> bool {
        let of = |posting: &Posting| posting.debit.checked_sub(posting.credit);
        let sum = self.postings.iter().try_fold(0_i128, |sum, p| sum.checked_add(of(p)?));
        sum == Some(0)
    }
}

/// The seal of a record, if it is one.
///
/// # Errors
/// If it does not decode.
pub fn seal_of(record: &holdfast::wal::Record<'_>) -> Result<Option<Seal>, Error> {
    // A dead letter that went out again posts nothing new.
    Ok(owned::<Seal>(record)?.map(Seal::unpacked).filter(|seal| seal.letter.is_empty()))
}

/// The event of a record, if it is of its kind.
///
/// # Errors
/// If it does not decode.
pub fn owned<E>(record: &holdfast::wal::Record<'_>) -> Result<Option<E>, Error>
where
    E: event::Event,
    E::Archived: event::Checked
        + rkyv::Deserialize<E, rkyv::api::high::HighDeserializer<rkyv::rancor::Error>>,
{
    if record.kind != E::KIND {
        return Ok(None);
    }
    let read = holdfast::engine::say::owned::<E>(record);
    read.map(Some).map_err(|reason| Error::Part { what: "the log", reason })
}

/// An amount of minor units with the currency's decimals.
pub fn decimal(minor: i128, currency: Currency) -> String {
    let decimals = currency.decimals() as usize;
    let sign = if minor < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", minor.unsigned_abs(), width = decimals + 1);
    let (whole, part) = digits.split_at(digits.len() - decimals);
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_decimals_of_their_currency() {
        let of = |minor, code| decimal(minor, Currency::new(code).unwrap());
        assert_eq!(of(1999, "EUR"), "19.99");
        assert_eq!(of(-5, "EUR"), "-0.05");
        assert_eq!(of(0, "EUR"), "0.00");
        assert_eq!(of(1999, "JPY"), "1999");
        assert_eq!(of(-1, "KWD"), "-0.001");
        assert_eq!(of(i128::MIN, "CLF"), "-17014118346046923173168730371588410.5728");
    }

    fn entry(postings: &str) -> Entry {
        serde_json::from_str(&format!(
            r#"{{"entry_id": "e", "first_lsn": 8, "last_lsn": 8, "kind": "invoice", "currency": "EUR",
                "a_new_field": {{}}, "postings": [{postings}]}}"#
        ))
        .unwrap()
    }

    #[test]
    fn an_entry_that_does_not_balance_is_noticed() {
        let huge = "170141183460469231731687303715884105727";
        let one = r#"{"account": "a", "tax_code": null, "debit": 1, "credit": 0}"#;
        let back = r#"{"account": "b", "tax_code": "X", "debit": 0, "credit": 1}"#;
        assert!(entry(&format!("{one}, {back}")).is_balanced());
        assert!(!entry(one).is_balanced());
        let huge = format!(r#"{{"account": "a", "tax_code": null, "debit": {huge}, "credit": 0}}"#);
        assert!(!entry(&format!("{huge}, {one}")).is_balanced(), "and never overflows");
    }
}
