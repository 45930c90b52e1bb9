//! What a day may use, and what it has used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use memory_core::traits::Usage;
use memory_core::{Clock, Error, ErrorKind, Result};

use crate::settings::CostSettings;

/// Microseconds of a UTC day.
const DAY: i64 = 24 * 3_600 * 1_000_000;

/// The budgets of a day, and what of them is spent.
#[derive(Debug)]
pub(super) struct Budget {
    clock: Arc<dyn Clock>,
    spent: Mutex<Spent>,
}

/// What a UTC day has used so far.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    /// Days since 1970.
    day: i64,
    reads: u64,
    writes: u64,
    deletes: u64,
}

impl Budget {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, spent: Mutex::default() }
    }

    /// Whether every budget has something left.
    ///
    /// # Errors
    /// `RateLimited`, not retryable: one is spent. `retry_after` says how long until midnight UTC.
    pub(super) fn admit(&self, cost: &CostSettings) -> Result<()> {
        let (spent, rest) = self.today(|_| {});
        let counts = [
            ("daily_reads", "reads", spent.reads, cost.daily_reads),
            ("daily_writes", "writes", spent.writes, cost.daily_writes),
            ("daily_deletes", "deletes", spent.deletes, cost.daily_deletes),
        ];
        let over =
            counts.into_iter().find(|(.., used, most)| most.is_some_and(|most| *used >= most));
        if let Some((setting, what, used, Some(most))) = over {
            let text = format!("the day's budget of {what} is spent: {used} of {most}");
            return Err(refusal(&text, setting, rest));
        }
        let amount = cost.amount(spent.reads, spent.writes, spent.deletes);
        match cost.daily_amount {
            Some(most) if amount >= most => {
                let currency = &cost.currency;
                let text = format!(
                    "the day's budget in money is spent: about {amount:.4} of {most} {currency}"
                );
                Err(refusal(&text, "daily_amount", rest))
            }
            _ => Ok(()),
        }
    }

    /// Adds what an operation used.
    pub(super) fn add(&self, usage: &Usage) {
        self.today(|spent| {
            spent.reads = spent.reads.saturating_add(usage.reads);
            spent.writes = spent.writes.saturating_add(usage.writes);
            spent.deletes = spent.deletes.saturating_add(usage.deletes);
        });
    }

    /// Changes what today has used, gives it, and how long today still is. A later day than that
    /// of the last call has used nothing yet; a clock that was set back begins none.
    fn today(&self, change: impl FnOnce(&mut Spent)) -> (Spent, Duration) {
        // Every change is an assignment or an addition, so that a panic elsewhere leaves it whole.
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that no call brings back the day before the one that another began.
        let now = self.clock.now().as_micros();
        let (day, since) = (now.div_euclid(DAY), now.rem_euclid(DAY));
        if day > spent.day {
            *spent = Spent { day, ..Spent::default() };
        }
        change(&mut spent);
        (*spent, Duration::from_micros((DAY - since).unsigned_abs()))
    }
}

fn refusal(text: &str, setting: &str, rest: Duration) -> Error {
    let message = format!("{text} (`cost.{setting}`); it begins anew at midnight UTC, or raise it");
    Error::new(ErrorKind::RateLimited, message).with_retryable(false).with_retry_after(rest)
}

#[cfg(test)]
mod tests {
    use memory_core::{ManualClock, Timestamp};

    use super::*;

    fn budget(at: &str) -> (Budget, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp::parse(at).unwrap()));
        (Budget::new(clock.clone()), clock)
    }

    #[test]
    fn a_clock_that_is_set_back_gives_no_budget_anew() {
        let cost = CostSettings { daily_reads: Some(1), ..CostSettings::default() };
        let (budget, clock) = budget("2026-11-20T00:00:00Z");
        budget.add(&Usage::reads(1));
        clock.set(Timestamp::parse("2026-11-19T23:59:59Z").unwrap());
        assert!(budget.admit(&cost).is_err());
        clock.set(Timestamp::parse("2026-11-21T00:00:00Z").unwrap());
        budget.admit(&cost).unwrap();
    }

    #[test]
    fn each_budget_ends_at_its_number_and_begins_anew_at_midnight() {
        let reads = CostSettings { daily_reads: Some(10), ..CostSettings::default() };
        let writes = CostSettings { daily_writes: Some(10), ..CostSettings::default() };
        let deletes = CostSettings { daily_deletes: Some(10), ..CostSettings::default() };
        // Ten writes cost as much as 30 reads.
        let amount =
            CostSettings { daily_amount: Some(10.0 * 0.09 / 100_000.0), ..CostSettings::default() };
        type Case = (CostSettings, fn(u64) -> Usage, &'static str);
        let cases: [Case; 4] = [
            (reads, Usage::reads, "cost.daily_reads"),
            (writes, |n| Usage::writes(n, 0), "cost.daily_writes"),
            (deletes, |n| Usage::writes(0, n), "cost.daily_deletes"),
            (amount, |n| Usage::writes(n, 0), "cost.daily_amount"),
        ];
        for (cost, usage, name) in cases {
            let (budget, clock) = budget("2026-11-20T23:59:00Z");
            budget.add(&usage(9));
            budget.admit(&cost).unwrap();
            budget.add(&usage(1));
            let error = budget.admit(&cost).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RateLimited);
            assert!(!error.is_retryable() && error.message().contains(name), "{error}");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
            assert!(budget.admit(&CostSettings::default()).is_ok(), "no budget, no bound");
            clock.advance(Duration::from_secs(59));
            assert!(budget.admit(&cost).is_err());
            clock.advance(Duration::from_secs(1));
            budget.admit(&cost).unwrap();
            budget.add(&usage(10));
            let error = budget.admit(&cost).unwrap_err();
            assert_eq!(error.retry_after(), Some(Duration::from_secs(24 * 3_600)));
        }
    }
}
