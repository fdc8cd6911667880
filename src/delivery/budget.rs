//! How many attempts may be repeated: a share of the first attempts, and a few always.
//!
//! Back-off spaces the repeats of one batch; the budget bounds those of all together, so that a partner in
//! trouble is not given more work than one in health. The counting is tower's. Its budgets say no and
//! leave it at that, since a call may fail; a batch may not, so a repeat that has no budget waits.

use std::time::Duration;

use tower::retry::budget::{Budget as _, TpsBudget};

use crate::config::Policy;

/// How long first attempts count, and after how long every repeat is forgotten.
const WINDOW: Duration = Duration::from_secs(1);
/// How long a repeat waits that has no budget: one of the tenths that tower counts by.
pub(super) const WAIT: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Budget(TpsBudget);

impl Budget {
    /// The policy must have been checked.
    pub fn new(policy: &Policy) -> Self {
        let retries_min = u32::try_from(policy.retries_per_s_min).unwrap_or(u32::MAX >> 2);
        Self(TpsBudget::new(WINDOW, retries_min, policy.retry_budget_ratio as f32))
    }

    /// A first attempt is made.
    pub fn first(&self) {
        self.0.deposit();
    }

    /// Whether a repeat may be made; counts it.
    pub fn repeat(&self) -> bool {
        self.0.withdraw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(ratio: f64) -> Budget {
        Budget::new(&Policy { retry_budget_ratio: ratio, ..Policy::default() })
    }

    fn repeats(budget: &Budget) -> usize {
        (0..1_000).take_while(|_| budget.repeat()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_repeats_a_second_are_always_allowed() {
        let budget = budget(0.0);
        for second in 0..5 {
            assert_eq!(repeats(&budget), 10, "{second}");
            assert!(!budget.repeat());
            tokio::time::sleep(2 * WINDOW).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn and_a_share_of_the_first_attempts() {
        let budget = budget(0.2);
        (0..100).for_each(|_| budget.first());
        assert_eq!(repeats(&budget), 10 + 20);
        tokio::time::sleep(2 * WINDOW).await;
        assert_eq!(repeats(&budget), 10, "first attempts of long ago count no more");
    }
}
