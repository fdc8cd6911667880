//! Balanced double-entry journal entries, for the books.
//!
//! One entry a window for each kind and currency, with one posting for each account and tax code:
//!
//! - an order debits the receivable with what the customer pays, and credits revenue (goods without
//!   tax, per tax code), tax (per tax code) and shipping (without tax);
//! - what a line comes to, gross and net, is said in one place ([`totals`]); the tax of shipping has
//!   no tax code;
//! - sums are exact (128 bits), and every order is checked to balance before it is added, so that
//!   every entry does. A sum of zero is left out.
//!
//! An entry's `digest` is BLAKE3 over the records that it sums up, in log order: for each its
//! position (eight bytes, little-endian) and its body. `previous_digest` is that of the sink's entry
//! before, across batches and restarts; the first has zeros.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Error,
    inventory::{Absorbed, Limits},
    render::{self, Head, Rendered, Stamp},
};
use crate::{
    config::Accounts,
    model::{
        Currency, Invalid, Lsn,
        event::{self, ArchivedOrderData, Event},
        totals,
    },
    wal::Record,
};

/// What an entry books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Invoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Account {
    Receivable,
    Revenue,
    Tax,
    Shipping,
}

impl Account {
    fn name(self, accounts: &Accounts) -> &str {
        match self {
            Self::Receivable => &accounts.receivable,
            Self::Revenue => &accounts.revenue,
            Self::Tax => &accounts.tax,
            Self::Shipping => &accounts.shipping,
        }
    }
}

#[derive(Debug)]
struct Entry {
    first_lsn: Lsn,
    last_lsn: Lsn,
    orders: u64,
    digest: blake3::Hasher,
    /// Debit less credit, by account and tax code (empty: none).
    postings: BTreeMap<(Account, String), i128>,
}

/// The entries of an open window.
#[derive(Debug, Default)]
pub(super) struct Finance {
    entries: BTreeMap<(Kind, [u8; 3]), Entry>,
    lines: u64,
    bytes: u64,
}

/// An amount for one posting: debit positive, credit negative.
type Amount<'a> = (Account, &'a str, i128);

impl Finance {
    /// Adds a record, unless the window would grow beyond its limits.
    pub fn absorb(
        &mut self,
        record: &Record<'_>,
        sink: &str,
        accounts: &Accounts,
        limits: Limits,
    ) -> Result<Absorbed, Error> {
        if record.kind != event::Placed::KIND {
            return Ok(Absorbed::Nothing);
        }
        let (lsn, body) = (record.lsn, record.body);
        let placed = event::decode::<event::Placed>(lsn, record.kind, record.version, body)?;
        let amounts = invoice(&placed.order).map_err(|source| Error::Amounts { lsn, source })?;
        let by = amounts.iter().map(|(_, _, amount)| amount).sum::<i128>();
        if by != 0 {
            return Err(Error::Unbalanced { lsn, by });
        }
        let key = (Kind::Invoice, placed.order.currency);
        let (lines, bytes) = self.growth(key, &amounts, sink, accounts);
        let fits = self.lines + lines <= limits.lines
            && self.bytes + bytes + render::head_bytes(sink) <= limits.bytes;
        if !fits && !self.entries.is_empty() {
            return Ok(Absorbed::Full);
        }
        self.lines += lines;
        self.bytes += bytes;
        self.entries.entry(key).or_insert_with(|| Entry::new(lsn)).add(lsn, body, amounts);
        Ok(Absorbed::Taken)
    }

    /// The postings and bytes that the amounts add to the batch, at most.
    fn growth(
        &self,
        key: (Kind, [u8; 3]),
        amounts: &[Amount<'_>],
        sink: &str,
        accounts: &Accounts,
    ) -> (u64, u64) {
        let entry = self.entries.get(&key);
        let (mut lines, mut bytes) = (0, 0);
        if entry.is_none() {
            bytes += ENTRY_BYTES + render::part_id_bytes(sink);
        }
        for (account, tax_code, _) in amounts {
            // A code that stands on several lines of one order counts several times: harmless.
            let known = entry.is_some_and(|e| e.has(*account, tax_code));
            if !known {
                lines += 1;
                bytes += POSTING_BYTES
                    + render::json_bytes(account.name(accounts))
                    + render::json_bytes(tax_code);
            }
        }
        (lines, bytes)
    }

    /// The batch's body.
    pub fn render(
        &self,
        head: Head<'_>,
        stamp: Stamp<'_>,
        accounts: &Accounts,
    ) -> Result<Rendered, Error> {
        let mut chain = stamp.chain;
        let mut entries = Vec::with_capacity(self.entries.len());
        for ((kind, currency), entry) in &self.entries {
            let digest = *entry.digest.finalize().as_bytes();
            entries.push(EntryBody {
                entry_id: stamp.id.part(entries.len() + 1),
                first_lsn: entry.first_lsn,
                last_lsn: entry.last_lsn,
                orders: entry.orders,
                digest: render::hex(&digest),
                previous_digest: render::hex(&chain),
                kind: *kind,
                currency: Currency::from_bytes(*currency),
                postings: entry.postings(accounts),
            });
            chain = digest;
        }
        let body = serde_json::to_vec(&Body { head, entries })?;
        Ok(Rendered { body, chain })
    }
}

impl Entry {
    fn new(lsn: Lsn) -> Self {
        let digest = blake3::Hasher::new();
        Self { first_lsn: lsn, last_lsn: lsn, orders: 0, digest, postings: BTreeMap::new() }
    }

    fn has(&self, account: Account, tax_code: &str) -> bool {
        // The map is keyed by owned texts; an order has few lines, so a short copy is cheap.
        self.postings.contains_key(&(account, tax_code.to_owned()))
    }

    fn add(&mut self, lsn: Lsn, body: &[u8], amounts: Vec<Amount<'_>>) {
        self.last_lsn = lsn;
        self.orders += 1;
        self.digest.update(&lsn.0.to_le_bytes()).update(body);
        for (account, tax_code, amount) in amounts {
            // Each amount is below 2^84 and a window has fewer than 2^40 of them.
            *self.postings.entry((account, tax_code.to_owned())).or_default() += amount;
        }
    }

    fn postings<'a>(&'a self, accounts: &'a Accounts) -> Vec<PostingBody<'a>> {
        debug_assert_eq!(self.postings.values().sum::<i128>(), 0);
        let sums = self.postings.iter().filter(|(_, sum)| **sum != 0);
        sums.map(|((account, tax_code), sum)| PostingBody {
            account: account.name(accounts),
            tax_code: (!tax_code.is_empty()).then_some(tax_code),
            debit: (*sum).max(0),
            credit: (-*sum).max(0),
        })
        .collect()
    }
}

/// What an order books, zero amounts left out. The arithmetic is the one that the order itself is
/// shown with.
fn invoice(order: &ArchivedOrderData) -> Result<Vec<Amount<'_>>, Invalid> {
    let mut amounts = Vec::with_capacity(2 * order.prices.len() + 3);
    let mut receivable = 0;
    for line in order.prices.iter() {
        let (gross, tax) = totals::line(
            line.unit_price.to_native(),
            line.quantity.to_native(),
            line.discount.to_native(),
            line.tax.to_native(),
            order.net,
        )?;
        receivable += gross;
        amounts.push((Account::Revenue, line.tax_code.as_str(), tax - gross));
        amounts.push((Account::Tax, line.tax_code.as_str(), -tax));
    }
    let (fee, tax) = (order.shipping.to_native(), order.shipping_tax.to_native());
    let (gross, tax) = totals::shipping(fee, tax, order.net)?;
    receivable += gross;
    amounts.push((Account::Shipping, "", tax - gross));
    amounts.push((Account::Tax, "", -tax));
    amounts.push((Account::Receivable, "", receivable));
    amounts.retain(|(_, _, amount)| *amount != 0);
    Ok(amounts)
}

/// The most bytes of an entry without its name and its postings.
const ENTRY_BYTES: u64 = 420;
/// The most bytes of a posting without its texts: two numbers of up to 40 digits, punctuation.
const POSTING_BYTES: u64 = 140;

#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    entries: Vec<EntryBody<'a>>,
}

#[derive(Serialize)]
struct EntryBody<'a> {
    entry_id: String,
    first_lsn: Lsn,
    last_lsn: Lsn,
    orders: u64,
    digest: String,
    previous_digest: String,
    kind: Kind,
    currency: Currency,
    postings: Vec<PostingBody<'a>>,
}

#[derive(Serialize)]
struct PostingBody<'a> {
    account: &'a str,
    tax_code: Option<&'a String>,
    debit: i128,
    credit: i128,
}

#[cfg(test)]
#[path = "finance_tests.rs"]
mod tests;
