//! The rate ladder: the highest rate at which the demands are met. It climbs by a factor until a rung is
//! missed, and then halves the distance between the last that held and the first that did not.

use serde::Serialize;

/// How a rung went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// All demands were met, and the books agree.
    Held,
    /// A demand was not met.
    Missed,
    /// The tester itself was too late: the rate is beyond what it can send here.
    Void,
    /// The books differ. There is nothing to climb on.
    Failed,
}

/// A rung that was tried, with what was measured on it.
#[derive(Debug, Clone, Serialize)]
pub struct Tried<T> {
    /// Requests a second that were planned.
    pub rate: f64,
    /// How it went.
    pub rung: Rung,
    /// What was measured.
    pub measured: T,
}

/// Where to climb.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Climb {
    /// The first rate.
    pub from: f64,
    /// The highest that is tried.
    pub to: f64,
    /// Each rate is so many times the one before; above 1.
    pub factor: f64,
    /// How often the distance is halved in the end.
    pub halvings: u32,
}

/// What came of it, in the order in which it was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Ladder<T> {
    /// The rungs.
    pub tried: Vec<Tried<T>>,
}

impl<T> Ladder<T> {
    /// Climbs.
    ///
    /// # Errors
    /// Whatever trying a rate says.
    pub fn climb<E>(
        climb: Climb,
        mut try_rate: impl FnMut(f64) -> Result<(Rung, T), E>,
    ) -> Result<Self, E> {
        let mut ladder = Self { tried: Vec::new() };
        let (mut held, mut missed) = (None, None);
        let mut rate = climb.from;
        while missed.is_none() {
            match ladder.step(rate, &mut try_rate)? {
                Rung::Held => held = Some(rate),
                Rung::Failed => return Ok(ladder),
                Rung::Missed | Rung::Void => missed = Some(rate),
            }
            if rate >= climb.to {
                break;
            }
            rate = (rate * climb.factor).min(climb.to);
        }
        for _ in 0..climb.halvings {
            let (Some(low), Some(high)) = (held, missed) else { break };
            let rate: f64 = (low + high) / 2.0;
            match ladder.step(rate, &mut try_rate)? {
                Rung::Held => held = Some(rate),
                Rung::Failed => return Ok(ladder),
                Rung::Missed | Rung::Void => missed = Some(rate),
            }
        }
        Ok(ladder)
    }

    fn step<E>(
        &mut self,
        rate: f64,
        try_rate: &mut impl FnMut(f64) -> Result<(Rung, T), E>,
    ) -> Result<Rung, E> {
        let (rung, measured) = try_rate(rate)?;
        self.tried.push(Tried { rate, rung, measured });
        Ok(rung)
    }

    /// The highest rung that held; `None` if none did, or the books differed.
    pub fn knee(&self) -> Option<&Tried<T>> {
        let held = self.tried.iter().filter(|tried| tried.rung == Rung::Held);
        held.filter(|_| !self.failed()).max_by(|a, b| a.rate.total_cmp(&b.rate))
    }

    /// Whether the books differed on a rung.
    pub fn failed(&self) -> bool {
        self.tried.iter().any(|tried| tried.rung == Rung::Failed)
    }

    /// Whether the tester's own limit is what the climb ended at: the rung above the knee was void.
    pub fn ended_by_tester(&self) -> bool {
        let knee = self.knee().map_or(0.0, |knee| knee.rate);
        let above = self.tried.iter().filter(|tried| tried.rate > knee);
        above.min_by(|a, b| a.rate.total_cmp(&b.rate)).is_some_and(|t| t.rung == Rung::Void)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIMB: Climb = Climb { from: 100.0, to: 10_000.0, factor: 2.0, halvings: 4 };

    fn climbed(judge: impl Fn(f64) -> Rung) -> Ladder<()> {
        Ladder::climb(CLIMB, |rate| Ok::<_, ()>((judge(rate), ()))).unwrap()
    }

    fn limit(limit: f64, beyond: Rung) -> impl Fn(f64) -> Rung {
        move |rate| if rate <= limit { Rung::Held } else { beyond }
    }

    #[test]
    fn the_knee_is_found_to_within_the_halvings() {
        let ladder = climbed(limit(1_234.0, Rung::Missed));
        let rates: Vec<f64> = ladder.tried.iter().map(|tried| tried.rate).collect();
        assert_eq!(rates, [100., 200., 400., 800., 1_600., 1_200., 1_400., 1_300., 1_250.]);
        assert_eq!(ladder.knee().unwrap().rate, 1_200.0);
        assert!(!ladder.ended_by_tester());
    }

    #[test]
    fn what_holds_to_the_top_needs_no_halving() {
        let ladder = climbed(limit(1e9, Rung::Missed));
        assert_eq!(ladder.knee().unwrap().rate, 10_000.0);
        assert_eq!(ladder.tried.len(), 8);
    }

    #[test]
    fn a_first_rung_that_is_missed_is_no_knee() {
        let ladder = climbed(limit(1.0, Rung::Missed));
        assert!(ladder.knee().is_none());
        assert_eq!(ladder.tried.len(), 1);
    }

    #[test]
    fn the_tester_s_own_limit_is_told_apart() {
        assert!(climbed(limit(1_234.0, Rung::Void)).ended_by_tester());
    }

    #[test]
    fn books_that_differ_end_it() {
        let ladder = climbed(limit(300.0, Rung::Failed));
        assert!(ladder.failed() && ladder.knee().is_none());
        assert_eq!(ladder.tried.len(), 3);
    }

    #[test]
    fn an_error_ends_it() {
        let climbed: Result<Ladder<()>, _> = Ladder::climb(CLIMB, |_| Err("gone"));
        assert_eq!(climbed.unwrap_err(), "gone");
    }
}
