//! What a journal entry of an open window adds up: its sums, and the digest over its records.
//!
//! Both are made for millions of records a second. Sums of an account stand in one sorted row by tax
//! code, since there are few of them; records are hashed many at a time, since BLAKE3 takes several
//! kilobytes at once several times as fast as a record by itself.

use crate::model::posting::{Account, Posting};

/// So many bytes are hashed at once: as many chunks as the widest registers have lanes.
const HASHED_AT_ONCE: usize = 16 << 10;

/// Debit less credit, by account and tax code (empty: none).
#[derive(Debug, Default)]
pub(super) struct Sums([Vec<(Box<str>, i128)>; Account::ALL.len()]);

impl Sums {
    fn find(&self, account: Account, tax_code: &str) -> Result<usize, usize> {
        self.0[account as usize].binary_search_by(|(code, _)| (**code).cmp(tax_code))
    }

    pub fn has(&self, account: Account, tax_code: &str) -> bool {
        self.find(account, tax_code).is_ok()
    }

    /// Adds postings that all have their sum; where one has none, nothing is changed.
    pub fn add_known(&mut self, postings: &[Posting<'_>]) -> bool {
        for (n, Posting { account, tax_code, amount }) in postings.iter().enumerate() {
            let Ok(at) = self.find(*account, tax_code) else {
                self.take_back(&postings[..n]);
                return false;
            };
            self.0[*account as usize][at].1 += amount;
        }
        true
    }

    fn take_back(&mut self, postings: &[Posting<'_>]) {
        for Posting { account, tax_code, amount } in postings {
            if let Ok(at) = self.find(*account, tax_code) {
                self.0[*account as usize][at].1 -= amount;
            }
        }
    }

    /// Adds postings.
    pub fn add(&mut self, postings: &[Posting<'_>]) {
        for Posting { account, tax_code, amount } in postings {
            let found = self.find(*account, tax_code);
            let codes = &mut self.0[*account as usize];
            // Each amount is below 2^84 and a window has fewer than 2^40 of them.
            match found {
                Ok(at) => codes[at].1 += amount,
                Err(at) => codes.insert(at, ((*tax_code).into(), *amount)),
            }
        }
    }

    /// The sums, by account and tax code.
    pub fn each(&self) -> impl Iterator<Item = (Account, &str, i128)> {
        Account::ALL.into_iter().zip(&self.0).flat_map(|(account, codes)| {
            codes.iter().map(move |(code, sum)| (account, &**code, *sum))
        })
    }
}

/// BLAKE3 over records: for each its position (eight bytes, little-endian) and its body.
#[derive(Debug, Clone, Default)]
pub(super) struct Digest {
    hasher: blake3::Hasher,
    /// What is not hashed yet: less than is hashed at once.
    waiting: Vec<u8>,
}

impl Digest {
    pub fn add(&mut self, lsn: u64, body: &[u8]) {
        self.push(&lsn.to_le_bytes());
        self.push(body);
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while self.waiting.len() + bytes.len() >= HASHED_AT_ONCE {
            let (now, later) = bytes.split_at(HASHED_AT_ONCE - self.waiting.len());
            self.waiting.extend_from_slice(now);
            self.hasher.update(&self.waiting);
            self.waiting.clear();
            bytes = later;
        }
        self.waiting.extend_from_slice(bytes);
    }

    /// Over all that was added.
    pub fn finish(mut self) -> [u8; 32] {
        self.hasher.update(&self.waiting);
        *self.hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the sizes of the records, and wherever they meet the ends of what is hashed at once.
    #[test]
    fn a_digest_is_that_of_its_records_one_after_the_other() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        for size in [0, 1, 8, 440, 16_376, 16_384, 40_000, 131_072] {
            let (mut digest, mut hasher) = (Digest::default(), blake3::Hasher::new());
            for lsn in 0..50 {
                let body = &bytes[lsn as usize * 8..][..size + lsn as usize % 3];
                digest.add(lsn, body);
                hasher.update(&lsn.to_le_bytes()).update(body);
                assert_eq!(digest.clone().finish(), *hasher.finalize().as_bytes(), "{size} {lsn}");
            }
        }
    }

    #[test]
    fn postings_are_added_all_or_none() {
        let posting = |account, tax_code, amount| Posting { account, tax_code, amount };
        let known = [posting(Account::Tax, "B", 5), posting(Account::Tax, "A", 7)];
        let mut sums = Sums::default();
        assert!(!sums.add_known(&known));
        sums.add(&known);
        sums.add(&[posting(Account::Receivable, "", -12)]);
        let each =
            |sums: &Sums| sums.each().map(|(a, c, n)| (a, c.to_owned(), n)).collect::<Vec<_>>();
        let all = |a, b| {
            let tax = Account::Tax;
            vec![
                (Account::Receivable, String::new(), -12),
                (tax, "A".into(), a),
                (tax, "B".into(), b),
            ]
        };
        assert_eq!(each(&sums), all(7, 5));
        assert!(!sums.add_known(&[known[0], known[1], posting(Account::Fees, "A", 1)]));
        assert_eq!(each(&sums), all(7, 5));
        assert!(sums.add_known(&[known[0], known[0]]));
        assert_eq!(each(&sums), all(7, 15));
    }
}
