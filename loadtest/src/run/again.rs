//! Asks again, after a run, what became of requests whose answers were lost: under the same key, as the
//! contract says that one learns it. Not measured.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Books, Error, Fate};
use crate::{
    plan::{Plan, Step},
    target::{Answer, Clock, Link, Request, ReservationName, Said, Sent, Target},
};

/// Questions under way at once.
const UNDER_WAY_MAX: usize = 16;
/// Times that one question is asked.
const ASKED_MAX: u32 = 50;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions about the same.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks about every shopper whose fate is unclear, and writes down what is said. What is still not
/// known when `patience` is over stays unclear.
///
/// # Errors
/// If the target can't be reached.
pub fn ask_again(
    target: &dyn Target,
    plan: &Arc<Plan>,
    books: &mut Books,
    patience: Duration,
) -> Result<(), Error> {
    let unclear: Vec<u32> = (0..plan.shoppers()).filter(|n| is_unclear(books, *n)).collect();
    if unclear.is_empty() {
        return Ok(());
    }
    let link = target.link(plan, Clock::start(), 0)?;
    let mut again = Again { plan, books, link, end: Instant::now() + patience };
    for shoppers in unclear.chunks(UNDER_WAY_MAX) {
        again.learn(shoppers);
    }
    Ok(())
}

fn is_unclear(books: &Books, shopper: u32) -> bool {
    matches!(books.fates[shopper as usize], Fate::Unclear(_) | Fate::HeldUnclear(_))
}

struct Again<'a> {
    plan: &'a Plan,
    books: &'a mut Books,
    link: Box<dyn Link>,
    end: Instant,
}

/// What a question was answered.
type Told = Option<Said>;

impl Again<'_> {
    /// What became of these.
    fn learn(&mut self, shoppers: &[u32]) {
        // First what they hold: the name is needed for what follows.
        let firsts: Vec<(u32, Step, Option<ReservationName>)> = shoppers
            .iter()
            .map(|n| match self.books.fates[*n as usize] {
                Fate::Unclear(step) => (*n, step, None),
                _ => (*n, Step::Reserve, None),
            })
            .collect();
        let told = self.ask(&firsts);
        let mut seconds = Vec::new();
        for ((shopper, step, _), told) in firsts.into_iter().zip(told) {
            match (self.books.fates[shopper as usize], told) {
                (Fate::HeldUnclear(next), Some(Said::Granted { reservation: Some(name) })) => {
                    seconds.push((shopper, next, Some(name)));
                }
                (Fate::Unclear(_), Some(said)) => self.first(shopper, step, said),
                _ => {}
            }
        }
        let told = self.ask(&seconds);
        for ((shopper, step, _), told) in seconds.into_iter().zip(told) {
            if let Some(fate) = told.and_then(|said| second(step, said)) {
                self.books.fates[shopper as usize] = fate;
            }
        }
    }

    fn first(&mut self, shopper: u32, step: Step, said: Said) {
        let at = shopper as usize;
        match said {
            Said::Granted { reservation } => {
                let bought = step == Step::Order;
                self.books.fates[at] = if bought { Fate::Bought } else { Fate::Held };
                self.books.names[at] = reservation.map_or(0, |name| name.digest());
            }
            Said::SoldOut | Said::Refused | Said::Invalid => self.books.fates[at] = Fate::Refused,
            Said::Shed | Said::Failed | Said::Broken => {}
        }
    }

    /// Asks until each has a clear answer, or it has been asked often enough.
    fn ask(&mut self, questions: &[(u32, Step, Option<ReservationName>)]) -> Vec<Told> {
        let mut told: Vec<Told> = vec![None; questions.len()];
        for _ in 0..ASKED_MAX {
            let open: Vec<usize> = (0..told.len()).filter(|at| told[*at].is_none()).collect();
            if open.is_empty() || Instant::now() >= self.end {
                break;
            }
            for answer in self.round(questions, &open) {
                let clear = !matches!(answer.said, Said::Shed | Said::Failed | Said::Broken);
                if let Some(told) = told.get_mut(answer.ticket as usize).filter(|_| clear) {
                    *told = Some(answer.said);
                }
            }
            if told.iter().any(Option::is_none) {
                std::thread::sleep(PAUSE);
            }
        }
        told
    }

    /// Asks each once.
    fn round(
        &mut self,
        questions: &[(u32, Step, Option<ReservationName>)],
        open: &[usize],
    ) -> Vec<Answer> {
        let (mut answers, mut waiting) = (Vec::new(), open.to_vec());
        let mut under_way = Vec::new();
        let end = self.end.min(Instant::now() + PATIENCE);
        while answers.len() < open.len() && Instant::now() < end {
            waiting.retain(|at| {
                let (shopper, step, name) = &questions[*at];
                let visit = self.plan.visit(*shopper);
                let request = Request { visit: &visit, step: *step, reservation: name.as_ref() };
                let full = self.link.send(*at as u32, &request) == Sent::Full;
                if !full {
                    under_way.push(*at);
                }
                full
            });
            self.link.poll(Duration::from_millis(1), &mut answers);
        }
        for at in under_way {
            if answers.iter().all(|answer| answer.ticket != at as u32) {
                self.link.abandon(at as u32);
            }
        }
        answers
    }
}

/// What became of a shopper who holds and asked for this step.
fn second(step: Step, said: Said) -> Option<Fate> {
    match said {
        Said::Granted { .. } if step == Step::Release => Some(Fate::GaveBack),
        Said::Granted { .. } => Some(Fate::Bought),
        Said::SoldOut | Said::Refused | Said::Invalid => Some(Fate::Held),
        Said::Shed | Said::Failed | Said::Broken => None,
    }
}
