//! The journal as hledger reads it; it also passes `hledger check --strict`, since every account and
//! commodity is declared.

use std::{
    collections::BTreeSet,
    io::{Result, Write},
};

use super::{
    accounts::{self, Accounts},
    posted::{Entry, Sealed, decimal},
};

/// Writes entries.
#[derive(Debug)]
pub struct Hledger {
    accounts: Accounts,
    declared: BTreeSet<String>,
}

impl Hledger {
    /// Begins a journal.
    pub fn begin(out: &mut impl Write, given: &[(String, String)], about: &str) -> Result<Self> {
        writeln!(out, "; {about}")?;
        writeln!(out, "decimal-mark .")?;
        let accounts = Accounts::new(accounts::hledger, given);
        Ok(Self { accounts, declared: BTreeSet::new() })
    }

    /// Writes an entry: delivered ones are marked as cleared (`*`), others as pending (`!`).
    pub fn entry(
        &mut self,
        out: &mut impl Write,
        entry: &Entry,
        sealed: &Sealed<'_>,
    ) -> Result<()> {
        let currency = entry.currency;
        let mark = if currency.decimals() == 0 { "." } else { "" };
        let commodity = format!(
            "commodity {}{mark} {currency}",
            decimal(1000 * 10_i128.pow(currency.decimals()), currency,)
        );
        self.declare(out, commodity)?;
        let names: Vec<String> =
            entry.postings.iter().map(|posting| self.accounts.name(&posting.account)).collect();
        for name in &names {
            self.declare(out, format!("account {name}"))?;
        }
        let flag = if sealed.state() == "delivered" { '*' } else { '!' };
        let (day, id, kind) = (sealed.day(), plain(&entry.entry_id), plain(&entry.kind));
        writeln!(out, "\n{day} {flag} ({id}) {kind}")?;
        let (state, at, orders) = (sealed.state(), sealed.sealed_at, entry.orders);
        writeln!(out, "    ; batch:{}, state:{state}, sealed_at:{at}", plain(sealed.batch_id))?;
        let (first, last) = (entry.first_lsn, entry.last_lsn);
        writeln!(out, "    ; first_lsn:{first}, last_lsn:{last}, orders:{orders}")?;
        if !entry.digest.is_empty() {
            writeln!(out, "    ; digest:{}", plain(&entry.digest))?;
        }
        if let Some(changes) = sealed.changes() {
            writeln!(out, "    ; mended:{}", plain(&changes))?;
        }
        for (posting, name) in entry.postings.iter().zip(&names) {
            let amount = decimal(posting.debit - posting.credit, currency);
            write!(out, "    {name}  {amount} {currency}")?;
            match &posting.tax_code {
                Some(code) => writeln!(out, "  ; tax_code:{}", plain(code))?,
                None => writeln!(out)?,
            }
        }
        Ok(())
    }

    fn declare(&mut self, out: &mut impl Write, directive: String) -> Result<()> {
        if !self.declared.contains(&directive) {
            writeln!(out, "\n{directive}")?;
            self.declared.insert(directive);
        }
        Ok(())
    }
}

/// A text that ends no code, tag or line.
fn plain(text: &str) -> String {
    let safe = |c: char| if "(),;|".contains(c) || c.is_control() { '_' } else { c };
    text.chars().map(safe).collect()
}
