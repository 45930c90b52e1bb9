//! When the limit rises and when it falls.
//!
//! Additive increase, multiplicative decrease: Chiu and Jain, "Analysis of the increase and
//! decrease algorithms for congestion avoidance in computer networks", 1989; TCP: RFC 5681. What
//! serves as the sign of congestion is, beside refusals, the duration of answers against the
//! shortest that was typical: Brakmo and Peterson, "TCP Vegas", 1994. Both over calls in place of
//! packets: Netflix, `concurrency-limits`, whose `AIMDLimit` and `Gradient2Limit` also leave the
//! limit alone while it is not in use.
//!
//! What differs here, and why:
//!
//! - Durations are compared within a class: the operation, and how many things it is about to the
//!   nearest power of four. A commit of a hundred writes is not a slow commit of one.
//! - What is typical is a running median, and a round trip is slow when most of its calls are: one
//!   call that a pause of the machine held up says nothing.
//! - The typical duration at rest is let rise only where the limit cannot be what makes answers
//!   slow: at its lower bound, or where fewer than half of the permits are taken. A back end whose
//!   answers have become slower for good takes the limit down to its lower bound, is measured
//!   there, and lets go of it again. It is what BBR does with a pause on purpose (`ProbeRTT`).

use crate::operation::Operation;

/// Calls of a class before they are judged: the median of fewer says little.
const WARM_UP: u32 = 16;
/// Calls that make a round trip at the least. Of 16 calls of which each is slow by chance once in
/// four times, more than half are so in less than one round trip of a hundred.
const LEAST_CALLS: u32 = 16;
/// The step of the running median, as a share: 64 calls move it by a factor of 2.7 at the most.
const MEDIAN_STEP: f64 = 1.0 / 64.0;
/// How much of a gap downwards one call closes: twice as slow as the median moves, so that the
/// least does not follow its noise.
const FALL: f64 = 1.0 / 128.0;
/// How much of a gap upwards one call closes: eight times as slow as downwards, for taking
/// congestion for rest costs more than the opposite.
const RISE: f64 = 1.0 / 1_024.0;
/// Shorter durations count as this, in seconds: the noise of clocks and schedulers is no signal.
const SHORTEST: f64 = 1e-6;
/// Powers of four of [`crate::Call::asked`] that are told apart; the last takes all above.
const SIZES: usize = 6;

/// Which calls are compared with each other; `None` where the duration says how much there was to
/// do rather than how busy the back end is.
pub(super) fn class(operation: Operation, asked: usize) -> Option<usize> {
    use Operation as O;
    if matches!(
        operation,
        O::SweepExpired
            | O::Erase
            | O::WriteMany
            | O::TenantStats
            | O::StoreStats
            | O::Verify
            | O::Backup
            | O::Collections
            | O::Documents
    ) {
        return None;
    }
    let size = usize::try_from(asked.max(1).ilog2() / 2).unwrap_or(SIZES);
    Some(operation.index() * SIZES + size.min(SIZES - 1))
}

/// What one class of calls takes.
#[derive(Clone, Copy, Debug, Default)]
struct Durations {
    /// Calls seen, up to [`WARM_UP`].
    seen: u32,
    /// The running median, in seconds.
    typical: f64,
    /// The running median at rest.
    least: f64,
}

impl Durations {
    /// Takes one in; whether it was slow.
    fn take(&mut self, seconds: f64, tolerance: f64, may_rise: bool) -> bool {
        let seconds = seconds.max(SHORTEST);
        if self.seen == 0 {
            self.typical = seconds;
        }
        // Multiplying makes the step the same for microseconds and minutes.
        let step = 1.0 + (1.0 / f64::from(self.seen + 1)).max(MEDIAN_STEP);
        if seconds > self.typical {
            self.typical *= step;
        } else if seconds < self.typical {
            self.typical /= step;
        }
        if self.seen < WARM_UP {
            self.seen += 1;
            self.least = self.typical;
            return false;
        }
        let gap = self.typical - self.least;
        if gap < 0.0 {
            self.least += gap * FALL;
        } else if may_rise {
            self.least += gap * RISE;
        }
        seconds > tolerance * self.least
    }
}

/// What a call that has ended says about the back end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sign {
    /// It was served, in so many seconds.
    Served { class: usize, seconds: f64 },
    /// It was given up after so many seconds.
    GivenUp { class: usize, seconds: f64 },
    /// The back end refused it or did not answer in time.
    Refused,
    /// Nothing.
    None,
}

/// What became of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Increased,
    Decreased,
}

/// The limit, and the round trip that is being watched.
#[derive(Debug)]
pub(super) struct Signal {
    pub(super) limit: u32,
    min: u32,
    max: u32,
    tolerance: f64,
    decrease_percent: u32,
    /// Counts the changes of the limit. A call is watched only if it began under the present one,
    /// which makes each change wait for a round trip.
    epoch: u64,
    served: u32,
    slow: u32,
    /// Most permits taken at once.
    peak: u32,
    durations: Box<[Durations]>,
}

impl Signal {
    pub(super) fn new(settings: &super::LimitSettings) -> Self {
        Self {
            limit: settings.start,
            min: settings.min,
            max: settings.max,
            tolerance: settings.tolerance,
            decrease_percent: settings.decrease_percent,
            epoch: 0,
            served: 0,
            slow: 0,
            peak: 0,
            durations: vec![Durations::default(); Operation::COUNT * SIZES].into_boxed_slice(),
        }
    }

    /// A call begins as the `in_flight`th; the epoch to hand in with its sign.
    pub(super) fn begin(&mut self, in_flight: u32) -> u64 {
        self.peak = self.peak.max(in_flight);
        self.epoch
    }

    /// A call of an epoch ends, while `in_flight` were under way with it.
    pub(super) fn end(&mut self, epoch: u64, in_flight: u32, sign: Sign) -> Change {
        let may_rise = self.limit == self.min || in_flight.saturating_mul(2) < self.limit;
        let slow = match sign {
            Sign::None => return Change::None,
            Sign::Refused => {
                return if epoch == self.epoch { self.lower() } else { Change::None };
            }
            Sign::Served { class, seconds } => self
                .durations
                .get_mut(class)
                .is_some_and(|durations| durations.take(seconds, self.tolerance, may_rise)),
            // How long it would have taken is not known: at least so long.
            Sign::GivenUp { class, seconds } => {
                let slow = self.durations.get(class).is_some_and(|durations| {
                    durations.seen >= WARM_UP && seconds > self.tolerance * durations.least
                });
                if !slow {
                    return Change::None;
                }
                true
            }
        };
        if epoch != self.epoch {
            return Change::None;
        }
        self.served += 1;
        self.slow += u32::from(slow);
        let needed = self.limit.max(LEAST_CALLS);
        if self.slow > needed / 2 {
            // Below half of the limit it is not the limit that lets too many through.
            if self.peak.saturating_mul(2) >= self.limit {
                return self.lower();
            }
            self.watch_anew();
        } else if self.served >= needed {
            if self.peak.saturating_mul(4) >= self.limit.saturating_mul(3) {
                return self.raise();
            }
            self.watch_anew();
        }
        Change::None
    }

    fn raise(&mut self) -> Change {
        if self.limit >= self.max {
            self.watch_anew();
            return Change::None;
        }
        self.limit += 1;
        self.epoch += 1;
        self.watch_anew();
        Change::Increased
    }

    fn lower(&mut self) -> Change {
        let cut = self.limit.saturating_mul(self.decrease_percent).div_ceil(100);
        let lower = self.limit.saturating_sub(cut).max(self.min);
        let change = if lower < self.limit { Change::Decreased } else { Change::None };
        self.limit = lower;
        self.epoch += 1;
        self.watch_anew();
        change
    }

    fn watch_anew(&mut self) {
        self.served = 0;
        self.slow = 0;
        self.peak = 0;
    }
}
