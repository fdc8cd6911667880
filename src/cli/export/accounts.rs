//! Names of accounts as a format can carry them. Two accounts of the books never become one.

use std::collections::{BTreeMap, BTreeSet};

/// The five kinds of account that beancount knows.
const ROOTS: [&str; 5] = ["Assets", "Liabilities", "Equity", "Income", "Expenses"];

/// Words by which an account is taken for one of a kind.
const WORDS: [(&str, &[&str]); 4] = [
    ("Liabilities", &["tax", "vat", "payable", "liabilit", "deferred"]),
    ("Expenses", &["fee", "cost", "cogs", "write", "expense", "rounding"]),
    ("Income", &["revenue", "sale", "shipping", "refund", "return", "income", "discount"]),
    ("Assets", &["receivable", "clearing", "inventory", "stock", "bank", "cash", "asset"]),
];

/// How a format names accounts.
#[derive(Debug)]
pub struct Accounts {
    rule: fn(&str) -> String,
    names: BTreeMap<String, String>,
    taken: BTreeSet<String>,
}

impl Accounts {
    /// Names by a rule, but for those that are given.
    pub fn new(rule: fn(&str) -> String, given: &[(String, String)]) -> Self {
        let names = given.iter().cloned().collect();
        let taken = given.iter().map(|(_, to)| to.clone()).collect();
        Self { rule, names, taken }
    }

    /// An account's name, the same each time.
    pub fn name(&mut self, account: &str) -> String {
        if let Some(name) = self.names.get(account) {
            return name.clone();
        }
        let first = (self.rule)(account);
        let more = (2..).map(|n| format!("{first}-{n}"));
        let mut names = std::iter::once(first.clone()).chain(more);
        let free = names.find(|name| !self.taken.contains(name)).unwrap_or(first.clone());
        self.taken.insert(free.clone());
        self.names.insert(account.to_owned(), free.clone());
        free
    }
}

/// For hledger: nearly any text, without what ends a name or makes it something else.
pub fn hledger(account: &str) -> String {
    let words = account.split_whitespace().collect::<Vec<_>>().join(" ");
    let safe = |c: char| if "()[]{};*!=\"|@".contains(c) || c.is_control() { '_' } else { c };
    let name: String = words.chars().map(safe).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// For beancount: as it is, if it is a name there; else under the kind that its words speak of
/// (equity, if none does).
pub fn beancount(account: &str) -> String {
    if is_beancount(account) {
        return account.to_owned();
    }
    let lower = account.to_lowercase();
    let is_of = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let root = WORDS.iter().find(|(_, words)| is_of(words)).map_or("Equity", |(root, _)| root);
    let parts: Vec<String> = account.split(':').map(component).collect();
    let begins = parts.first().is_some_and(|first| ROOTS.contains(&first.as_str()));
    if begins && parts.len() > 1 {
        return parts.join(":");
    }
    format!("{root}:{}", parts.join(":"))
}

/// Whether a text is the name of an account in beancount.
pub fn is_beancount(account: &str) -> bool {
    let mut parts = account.split(':');
    let root = parts.next().is_some_and(|root| ROOTS.contains(&root));
    let mut rest = parts.peekable();
    root && rest.peek().is_some() && rest.all(|part| !part.is_empty() && component(part) == part)
}

fn component(part: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let text: String = part.trim().chars().map(safe).collect();
    let text = text.trim_start_matches('-');
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_ascii_uppercase().to_string() + letters.as_str(),
        None => "X".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beancount_has_five_kinds_of_account() {
        for (account, name) in [
            ("receivable", "Assets:Receivable"),
            ("tax", "Liabilities:Tax"),
            ("revenue", "Income:Revenue"),
            ("processor_fees", "Expenses:Processor-fees"),
            ("1400", "Equity:1400"),
            ("Assets:Bank:EUR", "Assets:Bank:EUR"),
            ("assets:bank", "Assets:Bank"),
            ("Assets", "Assets:Assets"),
            ("", "Equity:X"),
        ] {
            assert_eq!(beancount(account), name, "{account}");
            assert!(is_beancount(name), "{name}");
        }
        assert!(!is_beancount("Assets") && !is_beancount("Assets:") && !is_beancount("Bank:A"));
    }

    #[test]
    fn two_accounts_never_become_one() {
        let mut accounts = Accounts::new(beancount, &[("x".into(), "Assets:A-b".into())]);
        assert_eq!(accounts.name("a_b"), "Equity:A-b");
        assert_eq!(accounts.name("a-b"), "Equity:A-b-2");
        assert_eq!(accounts.name("a_b"), "Equity:A-b");
        assert_eq!(accounts.name("x"), "Assets:A-b");
        let mut accounts = Accounts::new(hledger, &[]);
        assert_eq!(accounts.name("a  b"), "a b");
        assert_eq!(accounts.name("a b"), "a b-2");
        assert_eq!(accounts.name("(x);"), "_x__");
    }
}
