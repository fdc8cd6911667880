//! What a decision says, sealed until what it speaks of is durable (law 2).

use crate::model::{Lsn, view::ReservationState};

use super::Refusal;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// Whether it is the first answer again, for a repeat of its request.
    pub replayed: bool,
    /// In a repeat: the state now, where the thing has moved on since.
    pub current_state: Option<ReservationState>,
    /// Whether the request made something new (201 rather than 200); the same in a repeat.
    pub created: bool,
}

impl<T> Answer<T> {
    /// The same about something made of it.
    pub fn map<U>(self, of: impl FnOnce(T) -> U) -> Answer<U> {
        let Self { value, replayed, current_state, created } = self;
        Answer { value: of(value), replayed, current_state, created }
    }
}

/// A decision that was made. What it says comes out of [`super::Engine::settle`] or
/// [`super::Engine::settle_blocking`], once the records that it speaks of are durable.
#[derive(Debug, Clone)]
#[must_use = "a decision says nothing until it is settled"]
pub struct Decision<T> {
    pub(super) outcome: Result<Answer<T>, Refusal>,
    pub(super) behind: Option<Lsn>,
}

impl<T> Decision<T> {
    /// The last record that the decision speaks of; `None` if it speaks of none.
    pub fn lsn(&self) -> Option<Lsn> {
        self.behind
    }

    /// What it says, and the record that must be acknowledged before anybody is told: for who writes
    /// the answer down at once and keeps it himself until `Engine::log` says that the record is. Law 2
    /// is then his to keep; [`super::Engine::settle`] keeps it for everybody else.
    pub fn into_sealed(self) -> (Option<Lsn>, Result<Answer<T>, Refusal>) {
        (self.behind, self.outcome)
    }

    pub(super) fn made(value: T, created: bool, behind: Lsn) -> Self {
        let answer = Answer { value, replayed: false, current_state: None, created };
        Self { outcome: Ok(answer), behind: Some(behind) }
    }

    pub(super) fn repeated(
        value: T,
        current_state: Option<ReservationState>,
        created: bool,
        behind: Lsn,
    ) -> Self {
        let answer = Answer { value, replayed: true, current_state, created };
        Self { outcome: Ok(answer), behind: Some(behind) }
    }

    /// The refusal of a key that the record at `behind` has used for something else.
    pub(super) fn reused(behind: Lsn) -> Self {
        Self::refused_behind(Refusal::KeyReused, behind)
    }

    /// A refusal that speaks of the record at `behind`.
    pub(super) fn refused_behind(refusal: Refusal, behind: Lsn) -> Self {
        Self { outcome: Err(refusal), behind: Some(behind) }
    }
}

impl<T> From<Refusal> for Decision<T> {
    fn from(refusal: Refusal) -> Self {
        Self { outcome: Err(refusal), behind: None }
    }
}
