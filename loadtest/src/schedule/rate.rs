//! How the rate of arrivals goes over time, as straight pieces, and the way back from a number of
//! arrivals to the instant at which so many are due. Every shape is made of such pieces, so that all
//! arrivals come out of one formula.

/// A stretch of time over which the rate changes evenly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Piece {
    /// Arrivals a second at its begin.
    pub from: f64,
    /// Arrivals a second at its end.
    pub to: f64,
    /// How long it is, in seconds.
    pub seconds: f64,
}

impl Piece {
    /// A piece over which the rate stays.
    pub fn level(rate: f64, seconds: f64) -> Self {
        Self { from: rate, to: rate, seconds }
    }

    /// Arrivals that are due over the whole piece.
    pub fn arrivals(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.seconds
    }

    /// How many seconds into the piece so many arrivals are due; more than it has are due at its end.
    fn instant(&self, arrivals: f64) -> f64 {
        let slope = if self.seconds > 0.0 { (self.to - self.from) / self.seconds } else { 0.0 };
        // The stable root of from·t + slope/2·t² = arrivals, which also serves a slope of 0.
        let root = (self.from * self.from + 2.0 * slope * arrivals).max(0.0).sqrt();
        let t = 2.0 * arrivals / (self.from + root);
        if t.is_finite() { t.clamp(0.0, self.seconds) } else { self.seconds }
    }
}

/// Walks forward over pieces, from arrivals due to instants.
#[derive(Debug)]
pub struct Walk<'a> {
    pieces: &'a [Piece],
    /// Seconds before the first piece that is left.
    seconds: f64,
    /// Arrivals due before it.
    arrivals: f64,
}

impl<'a> Walk<'a> {
    /// From the begin.
    pub fn new(pieces: &'a [Piece]) -> Self {
        Self { pieces, seconds: 0.0, arrivals: 0.0 }
    }

    /// The second at which `due` arrivals are due, `None` if there never are so many. `due` must not
    /// fall from call to call.
    pub fn instant(&mut self, due: f64) -> Option<f64> {
        while let Some((piece, rest)) = self.pieces.split_first() {
            let within = due - self.arrivals;
            if within < piece.arrivals() {
                return Some(self.seconds + piece.instant(within));
            }
            self.arrivals += piece.arrivals();
            self.seconds += piece.seconds;
            self.pieces = rest;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_those_at_which_so_many_are_due() {
        let ramp = Piece { from: 0.0, to: 100.0, seconds: 10.0 };
        assert_eq!(ramp.arrivals(), 500.0);
        assert!((ramp.instant(125.0) - 5.0).abs() < 1e-9);
        let fall = Piece { from: 100.0, to: 0.0, seconds: 10.0 };
        assert!((fall.instant(375.0) - 5.0).abs() < 1e-9);
        assert!((Piece::level(50.0, 4.0).instant(100.0) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_walk_passes_over_what_is_empty_and_ends() {
        let pieces = [Piece::level(0.0, 3.0), Piece::level(10.0, 1.0), Piece::level(20.0, 1.0)];
        let mut walk = Walk::new(&pieces);
        assert_eq!(walk.instant(0.0), Some(3.0));
        assert_eq!(walk.instant(5.0), Some(3.5));
        assert_eq!(walk.instant(20.0), Some(4.5));
        assert_eq!(walk.instant(30.0), None);
    }
}
