//! Scales: from values to places in a picture, and the ticks of an axis.

/// A scale.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    log: bool,
    min: f64,
    max: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// A linear one from 0 to at least this value, over these places.
    pub fn linear(max: f64, from: f64, to: f64) -> Self {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        Self { log: false, min: 0.0, max, from, to }
    }

    /// A logarithmic one over at least these values, brought to round numbers, and over these places.
    pub fn log(min: f64, max: f64, from: f64, to: f64) -> Self {
        let min = if min.is_finite() { min.max(1.0) } else { 1.0 };
        let max = if max.is_finite() { max.max(min) } else { min };
        let (min, mut top) = (round_down(min), round_down(max));
        // With some air above the largest, or its label has no place.
        if top < max * 1.1 {
            top = next_round(top);
        }
        // At least a decade, or there is nothing to read off.
        Self { log: true, min, max: top.max(min * 10.0), from, to }
    }

    /// The place of a value; what lies outside is brought to the edge.
    pub fn at(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.min) / self.min).ln() / (self.max / self.min).ln()
        } else {
            (value - self.min) / (self.max - self.min)
        };
        self.from + (self.to - self.from) * part.clamp(0.0, 1.0)
    }

    /// Where it begins, and where it ends, as values.
    pub fn ends(&self) -> (f64, f64) {
        (self.min, self.max)
    }

    /// About as many ticks as asked for, at round values.
    pub fn ticks(&self, about: usize) -> Vec<f64> {
        if self.log { self.log_ticks(about) } else { linear_ticks(self.max, about) }
    }

    fn log_ticks(&self, about: usize) -> Vec<f64> {
        let all: Vec<f64> = std::iter::successors(Some(self.min), |value| Some(next_round(*value)))
            .take_while(|value| *value <= self.max * 1.000_001)
            .collect();
        if all.len() <= about {
            return all;
        }
        let decades: Vec<f64> = all.into_iter().filter(|value| mantissa(*value) < 1.5).collect();
        let every = decades.len().div_ceil(about.max(1)).max(1);
        decades.into_iter().step_by(every).collect()
    }
}

/// Round ticks from 0 up to this value.
fn linear_ticks(max: f64, about: usize) -> Vec<f64> {
    let raw = max / about.max(1) as f64;
    let down = round_down(raw);
    let step = if down < raw { next_round(down) } else { down };
    let count = (max / step * 1.000_001).floor() as usize;
    (0..=count).map(|at| at as f64 * step).collect()
}

/// Ticks of a time axis of this length in seconds, at whole seconds, minutes or hours where it can be.
pub fn time_ticks(seconds: f64, about: usize) -> Vec<f64> {
    const STEPS: [f64; 20] = [
        0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0,
        3_600.0, 7_200.0, 10_800.0, 21_600.0, 43_200.0,
    ];
    let raw = seconds / about.max(1) as f64;
    let step =
        STEPS.into_iter().find(|step| *step >= raw).unwrap_or(86_400.0 * (raw / 86_400.0).ceil());
    let count = (seconds / step * 1.000_001).floor() as usize;
    (0..=count).map(|at| at as f64 * step).collect()
}

/// The first digit of a value.
fn mantissa(value: f64) -> f64 {
    value / 10_f64.powi(decade(value))
}

fn decade(value: f64) -> i32 {
    // A hair up, so that 1000 is not seen as 999.999….
    (value.log10() + 1e-9).floor() as i32
}

/// The largest of 1, 2 and 5 times a power of ten that is not larger.
fn round_down(value: f64) -> f64 {
    let decade = 10_f64.powi(decade(value));
    let first = [5.0, 2.0, 1.0].into_iter().find(|first| first * decade <= value * 1.000_001);
    first.unwrap_or(1.0) * decade
}

/// The next of 1, 2 and 5 times a power of ten.
fn next_round(value: f64) -> f64 {
    let decade = 10_f64.powi(decade(value));
    match value / decade {
        first if first < 1.5 => 2.0 * decade,
        first if first < 3.5 => 5.0 * decade,
        _ => 10.0 * decade,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_scale_ends_at_round_values_and_has_its_middle_between_them() {
        assert_eq!(Scale::log(100.0, 10_000.0, 0.0, 1.0).ends(), (100.0, 20_000.0));
        let scale = Scale::log(130.0, 9_000.0, 0.0, 100.0);
        assert_eq!(scale.ends(), (100.0, 10_000.0));
        assert!((scale.at(1_000.0) - 50.0).abs() < 1e-9);
        assert_eq!(scale.ticks(10), [100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0]);
        assert_eq!(scale.ticks(4), [100.0, 1_000.0, 10_000.0]);
        assert_eq!((scale.at(1.0), scale.at(1e9)), (0.0, 100.0));
    }

    #[test]
    fn no_value_makes_a_scale_without_extent() {
        for (min, max) in [(0.0, 0.0), (5.0, 5.0), (f64::NAN, f64::NAN), (1.0, f64::INFINITY)] {
            let scale = Scale::log(min, max, 0.0, 1.0);
            let (min, max) = scale.ends();
            assert!(max >= min * 10.0 * 0.999, "{min} {max}");
            assert!(scale.at(min).is_finite());
            assert!(scale.ticks(5).len() >= 2);
        }
        assert_eq!(Scale::linear(0.0, 0.0, 1.0).ends(), (0.0, 1.0));
    }

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        assert_eq!(Scale::linear(1_100.0, 0.0, 1.0).ticks(5), [0.0, 500.0, 1_000.0]);
        assert_eq!(Scale::linear(100.0, 0.0, 1.0).ticks(5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(time_ticks(60.0, 6), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(time_ticks(25.0, 6), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]);
        assert_eq!(time_ticks(3_600.0, 4), [0.0, 900.0, 1_800.0, 2_700.0, 3_600.0]);
    }
}
