//! The retry budget: tokens that failures take and successes give back.

use std::sync::atomic::{AtomicI64, Ordering};

/// Parts of a token, so that whole numbers hold a share of one.
const PARTS: i64 = 1_000;

/// Tokens shared by all calls, without a lock.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicI64,
    most: i64,
    per_success: i64,
}

impl Budget {
    /// A full budget of `tokens`, of which a success gives back `per_success`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a share of one token, at most 1,000 parts"
    )]
    pub(super) fn new(tokens: u32, per_success: f64) -> Self {
        let most = i64::from(tokens) * PARTS;
        let per_success = ((per_success * 1_000.0).round() as i64).clamp(1, PARTS);
        Self { left: AtomicI64::new(most), most, per_success }
    }

    /// Takes a token for a failed attempt; says whether another attempt may be made: more than
    /// half of the tokens are left.
    pub(super) fn fail(&self) -> bool {
        let take = |left: i64| Some((left - PARTS).max(0));
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let (Ok(before) | Err(before)) = before;
        before - PARTS > self.most / 2
    }

    /// Gives back for an attempt that succeeded.
    pub(super) fn succeed(&self) {
        // Full is how it mostly is: then nothing is written, and no core waits for another.
        if self.left.load(Ordering::Relaxed) == self.most {
            return;
        }
        let give = |left: i64| Some((left + self.per_success).min(self.most));
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }

    /// Tokens that are left.
    #[expect(clippy::cast_precision_loss, reason = "a figure for the eye, far below 2^53")]
    pub(super) fn left(&self) -> f64 {
        self.left.load(Ordering::Relaxed) as f64 / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_it_is_spent_and_successes_give_it_back() {
        let budget = Budget::new(10, 0.5);
        let allowed = (0..8).filter(|_| budget.fail()).count();
        assert_eq!(allowed, 4, "ten, nine, eight and seven tokens leave more than five");
        assert!((budget.left() - 2.0).abs() < 1e-9);
        for _ in 0..7 {
            budget.succeed();
        }
        assert!(!budget.fail(), "5.5 less one is below the half");
        for _ in 0..100 {
            budget.succeed();
        }
        assert!((budget.left() - 10.0).abs() < 1e-9, "never more than full");
        assert!(budget.fail());
    }

    #[test]
    fn it_never_goes_below_nothing() {
        let budget = Budget::new(2, 1.0);
        for _ in 0..50 {
            budget.fail();
        }
        assert!(budget.left().abs() < 1e-9);
    }
}
