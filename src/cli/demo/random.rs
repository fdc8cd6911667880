//! The demo's dice: seeded, so that a run can be repeated, and small, so that each shopper can have
//! dice of his own.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice for the thing with this number in the run with this seed.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut dice = Self(seed ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        dice.next();
        dice
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must be above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A number from 0 up to and without 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.share() < probability
    }

    /// A waiting time with this mean, as between independent arrivals.
    pub fn wait(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }
}

/// Popularity after Zipf: the thing with rank r is chosen in proportion to 1 / r^s.
#[derive(Debug, Clone)]
pub struct Zipf {
    /// Sums of the shares up to each rank; the last is 1.
    sums: Vec<f64>,
}

impl Zipf {
    /// Over `count` things, at least one.
    pub fn new(count: usize, exponent: f64) -> Self {
        let weights: Vec<f64> = (1..=count.max(1)).map(|r| (r as f64).powf(-exponent)).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let sums = weights
            .iter()
            .map(|weight| {
                sum += weight / total;
                sum
            })
            .collect();
        Self { sums }
    }

    /// The thing that is chosen.
    pub fn choose(&self, dice: &mut Dice) -> usize {
        let share = dice.share();
        self.sums.partition_point(|sum| *sum <= share).min(self.sums.len() - 1)
    }

    /// How often the thing at this place is chosen.
    #[cfg(test)]
    pub fn share(&self, at: usize) -> f64 {
        self.sums[at] - if at == 0 { 0.0 } else { self.sums[at - 1] }
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
    fn popular_things_are_chosen_as_often_as_their_share() {
        let zipf = Zipf::new(50, 1.0);
        let mut dice = Dice::new(7, 0);
        let mut counts = [0u32; 50];
        for _ in 0..100_000 {
            counts[zipf.choose(&mut dice)] += 1;
        }
        for (at, count) in counts.iter().enumerate() {
            let expected = zipf.share(at) * 100_000.0;
            assert!((f64::from(*count) - expected).abs() < 6.0 * expected.sqrt(), "rank {at}");
        }
    }

    #[test]
    fn waits_have_their_mean() {
        let mut dice = Dice::new(3, 0);
        let mean = (0..100_000).map(|_| dice.wait(4.0)).sum::<f64>() / 100_000.0;
        assert!((mean - 4.0).abs() < 0.1, "{mean}");
    }
}
