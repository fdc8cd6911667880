//! Chance, the same on every machine.

const SECTOR_WORDS: usize = 64;

/// A small generator of random numbers (splitmix64), the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound.max(1)
    }
}

impl Random {
    /// A page that was being written: old, new, or torn at its sectors.
    pub(super) fn tear(&mut self, kept: &mut [u64], live: &[u64], bias: u64) {
        match (bias, self.below(3)) {
            (0, _) | (2.., 0) => {}
            (1, _) | (2.., 1) => kept.copy_from_slice(live),
            _ => {
                for (old, new) in kept.chunks_mut(SECTOR_WORDS).zip(live.chunks(SECTOR_WORDS)) {
                    if self.below(2) == 0 {
                        old.copy_from_slice(new);
                    }
                }
            }
        }
    }
}
