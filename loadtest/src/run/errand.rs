//! An errand: one step of a shopper, and the requests that it takes. All of them have one key, so that
//! they are one thing to the target however many are sent.

use crate::{
    plan::Step,
    target::{ReservationName, Said},
};

/// One step of a shopper.
#[derive(Debug, Clone)]
pub(super) struct Errand {
    /// Whose.
    pub shopper: u32,
    /// What it asks for.
    pub step: Step,
    /// What it is about: there for what follows a reservation.
    pub reservation: Option<ReservationName>,
    /// Requests made for it, and those whose time is fixed.
    pub attempts: u32,
    /// Those of them that have not ended.
    pub open: u32,
    /// Whether it was granted, and the reservation's digest if it was named.
    pub granted: Option<u64>,
    /// Whether it was refused.
    pub refused: bool,
    /// Whether a request of it may have had its effect without saying so.
    pub unclear: bool,
    /// Whether a request of it was ever sent.
    pub sent: bool,
}

/// What an answer changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is granted, for the first time.
    Granted(Option<ReservationName>),
    /// It is granted again, and something else than before.
    Twin,
    /// It was granted before, and is refused now.
    TakenBack,
    /// It failed: it may be tried again.
    Failed,
    /// Nothing new.
    Nothing,
}

impl Errand {
    /// One whose first request is to be made.
    pub fn new(shopper: u32, step: Step, reservation: Option<ReservationName>) -> Self {
        Self {
            shopper,
            step,
            reservation,
            attempts: 1,
            open: 1,
            granted: None,
            refused: false,
            unclear: false,
            sent: false,
        }
    }

    /// Takes an answer in.
    pub fn take(&mut self, said: Said) -> Turn {
        match said {
            Said::Granted { reservation } => self.grant(reservation),
            Said::SoldOut | Said::Refused | Said::Invalid => {
                self.refused = true;
                if self.granted.is_some() { Turn::TakenBack } else { Turn::Nothing }
            }
            Said::Shed => Turn::Failed,
            Said::Failed | Said::Broken => {
                self.unclear = true;
                Turn::Failed
            }
        }
    }

    fn grant(&mut self, reservation: Option<ReservationName>) -> Turn {
        let digest = reservation.map_or(0, |name| name.digest());
        match self.granted {
            None => {
                self.granted = Some(digest);
                Turn::Granted(reservation)
            }
            Some(before) if before == digest => Turn::Nothing,
            Some(_) => Turn::Twin,
        }
    }

    /// Counts another request that will be made.
    pub fn plan_another(&mut self) {
        self.attempts += 1;
        self.open += 1;
    }

    /// Whether nothing is known that would make another request useless.
    pub fn is_undecided(&self) -> bool {
        self.granted.is_none() && !self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(name: &str) -> Said {
        Said::Granted { reservation: ReservationName::new(name.as_bytes()) }
    }

    #[test]
    fn one_key_is_one_thing() {
        let mut errand = Errand::new(0, Step::Reserve, None);
        assert_eq!(errand.take(Said::Broken), Turn::Failed);
        assert!(errand.unclear && errand.is_undecided());
        assert!(matches!(errand.take(granted("a")), Turn::Granted(Some(_))));
        assert_eq!(errand.take(granted("a")), Turn::Nothing);
        assert_eq!(errand.take(granted("b")), Turn::Twin);
        assert_eq!(errand.take(Said::SoldOut), Turn::TakenBack);
    }

    #[test]
    fn who_is_refused_may_still_get_it_by_another_request() {
        let mut errand = Errand::new(0, Step::Reserve, None);
        assert_eq!(errand.take(Said::SoldOut), Turn::Nothing);
        assert!(!errand.is_undecided());
        assert!(matches!(errand.take(granted("a")), Turn::Granted(_)));
    }

    #[test]
    fn turned_away_for_load_nothing_is_unclear() {
        let mut errand = Errand::new(0, Step::Reserve, None);
        assert_eq!(errand.take(Said::Shed), Turn::Failed);
        assert!(!errand.unclear && errand.is_undecided());
    }
}
