//! What each shopper was told in the end: the tester's side of the books, to be compared with the
//! ledger's.

use crate::plan::Step;

/// What a shopper was told in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fate {
    /// Nothing of his was ever sent.
    #[default]
    Unsent,
    /// He got nothing.
    Refused,
    /// Whether his first request, of this step, had its effect is not known.
    Unclear(Step),
    /// He holds.
    Held,
    /// He holds, or what he asked for with this step happened: which, is not known.
    HeldUnclear(Step),
    /// He bought.
    Bought,
    /// He gave back what he held.
    GaveBack,
}

/// What all shoppers were told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Books {
    /// By number of the shopper.
    pub fates: Vec<Fate>,
    /// For each who ever held: a number that stands for the reservation's name; 0 for the others.
    pub names: Vec<u64>,
    /// Times that a request that was repeated under its key got another reservation than before.
    pub twins: u64,
    /// Times that a request that was granted was then, repeated under its key, refused.
    pub taken_back: u64,
}

impl Books {
    /// Nobody was told anything yet.
    pub fn new(shoppers: u32) -> Self {
        let shoppers = shoppers as usize;
        Self { fates: vec![Fate::Unsent; shoppers], names: vec![0; shoppers], ..Self::default() }
    }

    /// Takes in the books of the sender with this number of so many.
    pub(super) fn absorb(&mut self, (number, part): (u32, Self), senders: u32) {
        let mine = (number as usize..self.fates.len()).step_by(senders.max(1) as usize);
        for (shopper, (fate, name)) in mine.zip(part.fates.into_iter().zip(part.names)) {
            self.fates[shopper] = fate;
            self.names[shopper] = name;
        }
        self.twins += part.twins;
        self.taken_back += part.taken_back;
    }

    /// Shoppers whose fate is such.
    pub fn count(&self, is: impl Fn(Fate) -> bool) -> u64 {
        self.fates.iter().filter(|fate| is(**fate)).count() as u64
    }

    /// Reservations that two shoppers were given.
    pub fn shared(&self) -> u64 {
        let mut names: Vec<u64> = self.names.iter().copied().filter(|name| *name != 0).collect();
        names.sort_unstable();
        names.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_of_several_senders_are_put_together() {
        let part = |fates: &[Fate], names: &[u64]| Books {
            fates: fates.to_vec(),
            names: names.to_vec(),
            twins: 1,
            taken_back: 2,
        };
        let mut books = Books::new(5);
        books.absorb((1, part(&[Fate::Held, Fate::Refused], &[7, 0])), 2);
        books.absorb((0, part(&[Fate::Bought, Fate::Held, Fate::GaveBack], &[7, 9, 8])), 2);
        let fates = [Fate::Bought, Fate::Held, Fate::Held, Fate::Refused, Fate::GaveBack];
        assert_eq!(books.fates, fates);
        assert_eq!(books.names, [7, 7, 9, 0, 8]);
        assert_eq!((books.twins, books.taken_back, books.shared()), (2, 4, 1));
    }
}
