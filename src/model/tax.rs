//! The tax codes that the books know, so that no order has one that nobody books.
//!
//! Books are parted by currency alone, and each may have a list. A code is known if every one of them that
//! gets the order's currency and has a list has it there; without any list every code is taken.

use std::collections::HashSet;

use super::{Currency, Reference};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaxCodes(Vec<Books>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Books {
    /// None: all of them.
    currencies: Vec<Currency>,
    codes: HashSet<Reference>,
}

impl TaxCodes {
    /// Adds the list of books that get these currencies, all if none is named. An empty list says nothing.
    pub fn add(&mut self, currencies: &[Currency], codes: &[Reference]) {
        if !codes.is_empty() {
            let (currencies, codes) = (currencies.to_vec(), codes.iter().cloned().collect());
            self.0.push(Books { currencies, codes });
        }
    }

    /// Whether a code is known in a currency.
    pub fn knows(&self, currency: Currency, code: &Reference) -> bool {
        let get_it =
            |books: &&Books| books.currencies.is_empty() || books.currencies.contains(&currency);
        self.0.iter().filter(get_it).all(|books| books.codes.contains(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_to_all_books_that_get_it_or_there_is_no_list() {
        let code = |text: &str| text.parse::<Reference>().unwrap();
        let [euro, dollar] = ["EUR", "USD"].map(|code| Currency::new(code).unwrap());
        let mut codes = TaxCodes::default();
        codes.add(&[], &[]);
        assert!(codes.knows(euro, &code("DE-19")));
        codes.add(&[euro], &[code("DE-19"), code("DE-7")]);
        assert!(codes.knows(euro, &code("DE-7")) && !codes.knows(euro, &code("NY")));
        assert!(codes.knows(dollar, &code("NY")), "those books have no list");
        codes.add(&[], &[code("DE-19"), code("NY")]);
        assert!(codes.knows(euro, &code("DE-19")) && !codes.knows(euro, &code("DE-7")));
        assert!(codes.knows(dollar, &code("NY")) && !codes.knows(dollar, &code("de-19")));
    }
}
