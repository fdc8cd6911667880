//! The most attempts a second.

use std::time::Duration;

use tokio::time::Instant;

/// Spaces attempts evenly; a pause is not saved up for a burst afterwards.
#[derive(Debug)]
pub(super) struct Pace {
    gap: Option<Duration>,
    next: Option<Instant>,
}

impl Pace {
    pub fn new(rate_per_s: Option<f64>) -> Self {
        let gap = rate_per_s.and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
        Self { gap, next: None }
    }

    /// When the next attempt may be made; counts it.
    pub fn next(&mut self, now: Instant) -> Instant {
        let Some(gap) = self.gap else { return now };
        let at = self.next.map_or(now, |next| next.max(now));
        self.next = Some(at + gap);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_spaced_and_pauses_not_saved_up() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(20.0));
        let ms = |at: Instant| at.duration_since(start).as_millis();
        let at: Vec<_> = (0..3).map(|_| ms(pace.next(start))).collect();
        assert_eq!(at, [0, 50, 100]);
        let later = start + Duration::from_secs(9);
        assert_eq!([ms(pace.next(later)), ms(pace.next(later))], [9_000, 9_050]);
        assert_eq!(Pace::new(None).next(later), later);
    }
}
