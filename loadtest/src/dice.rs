//! The tester's dice: seeded, so that a plan can be made again, and small, so that each shopper can
//! have dice of his own and nothing of a plan but its instants has to be kept in memory.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice for the thing with this number in the plan with this seed.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut dice = Self(seed ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        dice.bits();
        dice
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// A number from 0 up to and without 1.
    pub fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.share() < probability
    }

    /// A waiting time with mean 1, as between independent arrivals.
    pub fn wait(&mut self) -> f64 {
        -(1.0 - self.share()).ln()
    }
}

/// A choice among weighted things in constant time (Walker's alias method), so that a catalogue of a
/// million SKUs costs a request no more than one of ten.
#[derive(Debug, Clone)]
pub struct Choice {
    /// For each column: how much of it is its own thing, and whose the rest is.
    columns: Vec<(f64, u32)>,
}

impl Choice {
    /// Among things with these weights. Weights that aren't above 0 are never chosen; without any that
    /// is, all are alike.
    pub fn new(weights: &[f64]) -> Self {
        let count = weights.len().max(1);
        let sum: f64 = weights.iter().filter(|w| **w > 0.0).sum();
        let scaled = |at: usize| match weights.get(at) {
            Some(weight) if sum > 0.0 => weight.max(0.0) * count as f64 / sum,
            _ => 1.0,
        };
        let mut columns: Vec<(f64, u32)> = (0..count).map(|at| (scaled(at), at as u32)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|at| columns[*at].0 < 1.0);
        while let (Some(less), Some(more)) = (small.pop(), large.last().copied()) {
            columns[less].1 = more as u32;
            columns[more].0 -= 1.0 - columns[less].0;
            if columns[more].0 < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        // What rounding has left over is a whole column but for the last bits.
        small.into_iter().chain(large).for_each(|at| columns[at].0 = 1.0);
        Self { columns }
    }

    /// Popularity after Zipf: the thing with rank r (from 1) is chosen in proportion to 1 / r^exponent.
    pub fn zipf(count: usize, exponent: f64) -> Self {
        let weights: Vec<f64> = (1..=count.max(1)).map(|r| (r as f64).powf(-exponent)).collect();
        Self::new(&weights)
    }

    /// The thing that is chosen.
    pub fn choose(&self, dice: &mut Dice) -> u32 {
        let at = dice.below(self.columns.len() as u64) as usize;
        let (own, other) = self.columns[at];
        if dice.share() < own { at as u32 } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same() {
        let throw = |seed, number| {
            let mut dice = Dice::new(seed, number);
            (0..8).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(throw(1, 2), throw(1, 2));
        assert_ne!(throw(1, 2), throw(1, 3));
        assert_ne!(throw(1, 2), throw(2, 2));
    }

    #[test]
    fn things_are_chosen_as_often_as_their_weight_says() {
        for exponent in [0.0, 0.8, 1.2] {
            let choice = Choice::zipf(50, exponent);
            let mut dice = Dice::new(7, 0);
            let mut counts = [0u32; 50];
            for _ in 0..200_000 {
                counts[choice.choose(&mut dice) as usize] += 1;
            }
            let sum: f64 = (1..=50).map(|r| f64::from(r).powf(-exponent)).sum();
            for (at, count) in counts.iter().enumerate() {
                let expected = (at as f64 + 1.0).powf(-exponent) / sum * 200_000.0;
                let off = (f64::from(*count) - expected).abs();
                assert!(off < 6.0 * expected.sqrt(), "{exponent}: rank {at}: {count}");
            }
        }
    }

    #[test]
    fn what_weighs_nothing_is_never_chosen() {
        let choice = Choice::new(&[0.0, 3.0, 0.0, 1.0]);
        let mut dice = Dice::new(1, 1);
        assert!((0..10_000).all(|_| choice.choose(&mut dice) % 2 == 1));
        assert_eq!(Choice::new(&[]).choose(&mut dice), 0);
    }

    #[test]
    fn waits_have_their_mean() {
        let mut dice = Dice::new(3, 0);
        let mean = (0..100_000).map(|_| dice.wait()).sum::<f64>() / 100_000.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }
}
