//! The journal as beancount reads it.

use std::{
    collections::BTreeSet,
    io::{Result, Write},
};

use super::{
    accounts::{self, Accounts},
    posted::{Entry, Sealed, decimal},
};

/// Accounts are open from here on: before any batch was sealed.
const OPEN_DAY: &str = "1970-01-01";

/// Writes entries.
#[derive(Debug)]
pub struct Beancount {
    accounts: Accounts,
    open: BTreeSet<String>,
}

impl Beancount {
    /// Begins a journal.
    pub fn begin(out: &mut impl Write, given: &[(String, String)], about: &str) -> Result<Self> {
        writeln!(out, "; {about}")?;
        let accounts = Accounts::new(accounts::beancount, given);
        Ok(Self { accounts, open: BTreeSet::new() })
    }

    /// Writes an entry: delivered ones with the flag `*`, others with `!`.
    pub fn entry(
        &mut self,
        out: &mut impl Write,
        entry: &Entry,
        sealed: &Sealed<'_>,
    ) -> Result<()> {
        let names: Vec<String> =
            entry.postings.iter().map(|posting| self.accounts.name(&posting.account)).collect();
        for name in &names {
            if self.open.insert(name.clone()) {
                writeln!(out, "\n{OPEN_DAY} open {name}")?;
            }
        }
        let flag = if sealed.state() == "delivered" { '*' } else { '!' };
        let (id, kind) = (quoted(&entry.entry_id), quoted(&entry.kind));
        writeln!(out, "\n{} {flag} {kind} {id}", sealed.day())?;
        writeln!(out, "  batch: {}", quoted(sealed.batch_id))?;
        writeln!(out, "  state: {}", quoted(sealed.state()))?;
        writeln!(out, "  sealed_at: {}", quoted(&sealed.sealed_at.to_string()))?;
        writeln!(out, "  first_lsn: {}", entry.first_lsn)?;
        writeln!(out, "  last_lsn: {}", entry.last_lsn)?;
        writeln!(out, "  orders: {}", entry.orders)?;
        if !entry.digest.is_empty() {
            writeln!(out, "  digest: {}", quoted(&entry.digest))?;
        }
        if let Some(changes) = sealed.changes() {
            writeln!(out, "  mended: {}", quoted(&changes))?;
        }
        let currency = entry.currency;
        for (posting, name) in entry.postings.iter().zip(&names) {
            let amount = decimal(posting.debit - posting.credit, currency);
            writeln!(out, "  {name}  {amount} {currency}")?;
            if let Some(code) = &posting.tax_code {
                writeln!(out, "    tax_code: {}", quoted(code))?;
            }
        }
        Ok(())
    }
}

/// A text as beancount has it.
fn quoted(text: &str) -> String {
    let safe: String = text.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    format!("\"{}\"", safe.replace('\\', "\\\\").replace('"', "\\\""))
}
