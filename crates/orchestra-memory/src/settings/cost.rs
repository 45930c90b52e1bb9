//! What a back end's operations cost, and how much of it a day may have.

use memory_core::Result;
use serde::{Deserialize, Serialize};

use super::refused;

/// Operations that a price is for.
pub(crate) const PRICED: f64 = 100_000.0;

/// Largest price and largest budget in money: wide enough for any currency.
const MOST: f64 = 1e9;

/// Prices and budgets. They concern back ends that bill each operation: `firestore`, and no other.
///
/// The default prices are those that were published in November 2026 for one region of the United
/// States: check your region. What is free each day is not taken off.
///
/// The budgets are hard: once one is spent, every further call of the back end is `RateLimited`
/// until midnight UTC. They count what this process has used since it was opened, so that a
/// process that starts anew has the whole budget again, and two processes have it twice: a bound
/// for all of them is the platform's to set. A budget is looked at before each request, so that the
/// requests under way, and the last one, may go beyond it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CostSettings {
    /// What the prices and `daily_amount` are in: 1 to 16 letters. `USD`.
    pub currency: String,
    /// When the prices were looked up, in words: 1 to 32 characters. `2026-11`.
    pub as_of: String,
    /// The price of 100,000 documents read: 0 to 1,000,000,000. 0.03.
    pub read_price: f64,
    /// The price of 100,000 documents written. 0.09.
    pub write_price: f64,
    /// The price of 100,000 documents deleted. 0.01.
    pub delete_price: f64,
    /// Most billed reads of a UTC day: 1 or more. None: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_reads: Option<u64>,
    /// Most writes of a UTC day: 1 or more. None: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_writes: Option<u64>,
    /// Most deletes of a UTC day: 1 or more. None: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_deletes: Option<u64>,
    /// Most money of a UTC day, by these prices: more than 0. None: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_amount: Option<f64>,
}

impl Default for CostSettings {
    fn default() -> Self {
        Self {
            currency: "USD".to_owned(),
            as_of: "2026-11".to_owned(),
            read_price: 0.03,
            write_price: 0.09,
            delete_price: 0.01,
            daily_reads: None,
            daily_writes: None,
            daily_deletes: None,
            daily_amount: None,
        }
    }
}

impl CostSettings {
    /// Whether any budget is set.
    #[must_use]
    pub fn has_budget(&self) -> bool {
        let counts = [self.daily_reads, self.daily_writes, self.daily_deletes];
        counts.iter().any(Option::is_some) || self.daily_amount.is_some()
    }

    /// Whether each budget is what it is there; where one is in money, the prices as well.
    pub(crate) fn has_same_budgets(&self, other: &Self) -> bool {
        let counts = |it: &Self| [it.daily_reads, it.daily_writes, it.daily_deletes];
        let prices = |it: &Self| [it.read_price, it.write_price, it.delete_price];
        counts(self) == counts(other)
            && self.daily_amount == other.daily_amount
            && (self.daily_amount.is_none() || prices(self) == prices(other))
    }

    /// The price of so many operations, by these prices.
    #[must_use]
    pub fn amount(&self, reads: u64, writes: u64, deletes: u64) -> f64 {
        let parts =
            [(reads, self.read_price), (writes, self.write_price), (deletes, self.delete_price)];
        #[expect(clippy::cast_precision_loss, reason = "an estimate needs no 53 bits")]
        let amount: f64 = parts.iter().map(|(number, price)| *number as f64 * price).sum();
        amount / PRICED
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// `Config`, naming all that is wrong.
    pub fn validate(&self) -> Result<()> {
        refused(self.faults())
    }

    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut wrong = |fault: String| faults.push(fault);
        let letters = self.currency.chars().all(|c| c.is_ascii_alphabetic());
        if !letters || !(1..=16).contains(&self.currency.len()) {
            wrong("cost.currency has 1 to 16 letters".to_owned());
        }
        let plain = !self.as_of.chars().any(char::is_control) && !self.as_of.trim().is_empty();
        if !plain || self.as_of.chars().count() > 32 {
            wrong("cost.as_of has 1 to 32 characters".to_owned());
        }
        let prices = [
            ("read_price", self.read_price),
            ("write_price", self.write_price),
            ("delete_price", self.delete_price),
        ];
        for (name, price) in prices {
            if !(0.0..=MOST).contains(&price) {
                wrong(format!("cost.{name} lies in 0 to {MOST}; this is {price}"));
            }
        }
        let budgets = [
            ("daily_reads", self.daily_reads),
            ("daily_writes", self.daily_writes),
            ("daily_deletes", self.daily_deletes),
        ];
        for (name, _) in budgets.iter().filter(|(_, budget)| *budget == Some(0)) {
            wrong(format!("cost.{name} is 1 or more: leave it out where there is no budget"));
        }
        match self.daily_amount {
            Some(amount) if !(amount > 0.0 && amount <= MOST) => wrong(format!(
                "cost.daily_amount is more than 0 and at most {MOST}; this is {amount}"
            )),
            Some(_) if prices.iter().all(|(_, price)| *price == 0.0) => {
                wrong("cost.daily_amount needs a price: without one it is never spent".to_owned());
            }
            _ => {}
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    #[test]
    fn the_defaults_are_dated_and_have_no_budget() {
        let cost = Settings::from_toml_str("").unwrap().cost;
        assert_eq!((cost.currency.as_str(), cost.as_of.as_str()), ("USD", "2026-11"));
        assert!(!cost.has_budget());
        assert!((cost.amount(200_000, 100_000, 300_000) - 0.18).abs() < 1e-12);
        assert!(cost.amount(0, 0, 0) == 0.0);
    }

    #[test]
    fn the_section_is_read_and_what_is_wrong_is_named() {
        let text = "[cost]\ncurrency = 'EUR'\nas_of = 'today'\nread_price = 1.0\ndaily_reads = 5\n\
                    daily_amount = 0.5\n";
        let cost = Settings::from_toml_str(text).unwrap().cost;
        assert_eq!((cost.daily_reads, cost.daily_amount), (Some(5), Some(0.5)));
        assert!(cost.has_budget() && cost.write_price == 0.09);
        for (line, part) in [
            ("currency = ''", "cost.currency"),
            ("currency = 'U$D'", "cost.currency"),
            ("as_of = ' '", "cost.as_of"),
            ("read_price = -1.0", "cost.read_price"),
            ("write_price = nan", "cost.write_price"),
            ("delete_price = inf", "cost.delete_price"),
            ("daily_writes = 0", "cost.daily_writes"),
            ("daily_deletes = -1", "line 2"),
            ("daily_amount = 0.0", "cost.daily_amount"),
            ("daily_amount = nan", "cost.daily_amount"),
            (
                "daily_amount = 1.0\nread_price = 0.0\nwrite_price = 0.0\ndelete_price = 0.0",
                "needs a price",
            ),
            ("daily_read = 1", "did you mean `daily_reads`?"),
        ] {
            let error = Settings::from_toml_str(&format!("[cost]\n{line}\n")).unwrap_err();
            assert_eq!(error.kind(), memory_core::ErrorKind::Config, "{line}");
            assert!(error.to_string().contains(part), "{line}: {error}");
        }
    }
}
