//! The journal as a table: a row a posting, or a JSON object an entry.

use std::io::Write;

use holdfast::model::{Currency, Lsn, Timestamp};
use serde::Serialize;

use super::{
    Error, csv_error,
    posted::{Entry, Posting, Sealed, decimal},
};

const COLUMNS: [&str; 15] = [
    "entry_id",
    "batch_id",
    "state",
    "sealed_at",
    "kind",
    "currency",
    "account",
    "tax_code",
    "debit",
    "credit",
    "first_lsn",
    "last_lsn",
    "orders",
    "digest",
    "mended",
];

/// Writes the header line.
pub fn begin_csv(out: &mut csv::Writer<impl Write>) -> Result<(), Error> {
    out.write_record(COLUMNS).map_err(csv_error)
}

/// Writes an entry's postings.
pub fn csv_entry(
    out: &mut csv::Writer<impl Write>,
    entry: &Entry,
    sealed: &Sealed<'_>,
) -> Result<(), Error> {
    for posting in &entry.postings {
        let row: [&str; 15] = [
            &entry.entry_id,
            sealed.batch_id,
            sealed.state(),
            &sealed.sealed_at.to_string(),
            &entry.kind,
            entry.currency.as_str(),
            &posting.account,
            posting.tax_code.as_deref().unwrap_or(""),
            &decimal(posting.debit, entry.currency),
            &decimal(posting.credit, entry.currency),
            &entry.first_lsn.to_string(),
            &entry.last_lsn.to_string(),
            &entry.orders.to_string(),
            &entry.digest,
            &sealed.changes().unwrap_or_default(),
        ];
        out.write_record(row).map_err(csv_error)?;
    }
    Ok(())
}

/// An entry as JSON: amounts in minor units, and how many of their digits are decimals.
#[derive(Serialize)]
struct Line<'a> {
    entry_id: &'a str,
    batch_id: &'a str,
    state: &'a str,
    sealed_at: Timestamp,
    kind: &'a str,
    currency: Currency,
    decimals: u32,
    postings: &'a [Posting],
    first_lsn: Lsn,
    last_lsn: Lsn,
    orders: u64,
    digest: &'a str,
    previous_digest: &'a str,
    /// What a person changed of it before the partner took it, and who.
    #[serde(skip_serializing_if = "Option::is_none")]
    mended: Option<String>,
}

/// Writes an entry as one line of JSON.
pub fn json_entry(out: &mut impl Write, entry: &Entry, sealed: &Sealed<'_>) -> Result<(), Error> {
    let line = Line {
        entry_id: &entry.entry_id,
        batch_id: sealed.batch_id,
        state: sealed.state(),
        sealed_at: sealed.sealed_at,
        kind: &entry.kind,
        currency: entry.currency,
        decimals: entry.currency.decimals(),
        postings: &entry.postings,
        first_lsn: entry.first_lsn,
        last_lsn: entry.last_lsn,
        orders: entry.orders,
        digest: &entry.digest,
        previous_digest: &entry.previous_digest,
        mended: sealed.changes(),
    };
    serde_json::to_writer(&mut *out, &line).map_err(|e| Error::Output(e.into()))?;
    out.write_all(b"\n").map_err(Error::Output)
}
