//! Permits, the queue and the gate, as a machine without waiting: what the lock of `gate.rs` guards.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use super::settings::LimitSettings;
use super::signal::{Change, Sign, Signal};

/// How fast the saturation that is reported follows the one of the moment: a step shows by half
/// after as long. 5 seconds: two or three looks within the 15 seconds of a platform's autoscaler.
const SATURATION_SPAN: f64 = 5.0;

/// The concurrency limit at one moment, and its counters since it was made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LimitStats {
    /// Calls that may be under way at once.
    pub limit: u32,
    /// Calls under way; for a round trip after a decrease more than the limit.
    pub in_flight: u32,
    /// Calls that wait for a permit.
    pub queued: u32,
    /// For how long the queue has not been empty; `None` while it is.
    pub queue_for: Option<Duration>,
    /// The share of the permits in use, 1 while calls wait, averaged over some seconds; 0 to 1.
    pub saturation: f64,
    /// Whether it was told to close.
    pub is_closed: bool,
    /// Calls that were given a permit.
    pub admitted: u64,
    /// Those of them that had waited.
    pub waited: u64,
    /// Calls refused because the queue was full.
    pub rejected_full: u64,
    /// Calls refused because they had waited for as long as the settings allow.
    pub rejected_waiting: u64,
    /// Calls whose deadline passed before they were given a permit.
    pub timed_out: u64,
    /// Calls that were dropped while they waited.
    pub abandoned: u64,
    /// Calls refused because the gate was shut.
    pub refused_closed: u64,
    /// Increases of the limit.
    pub increases: u64,
    /// Decreases of the limit.
    pub decreases: u64,
}

impl LimitStats {
    /// Calls that the limit refused as `Overloaded`.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected_full + self.rejected_waiting
    }
}

/// What a call is told at the door.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A permit, of an epoch of the limit.
    Admitted { epoch: u64 },
    /// All permits are taken, and there is room in the queue: [`State::join`].
    Busy,
    /// The queue is full.
    Full,
    /// The gate is shut.
    Closed,
}

/// Why a place in the queue is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Its deadline has passed.
    TimedOut,
    /// It has waited for as long as the settings allow.
    WaitedOut,
    /// The caller is gone.
    Dropped,
}

/// Who is to be woken once the lock is released. An ended call frees one permit and adds one to the
/// limit at the most.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Wakes {
    wakers: [Option<Waker>; 2],
    /// Nothing is under way or waits any more, and the gate is shut.
    pub(super) drained: bool,
}

impl Wakes {
    pub(super) fn wake(self) {
        self.wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// One that waits.
#[derive(Debug)]
struct Waiter {
    ticket: u64,
    /// `None` until it was polled.
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct State {
    signal: Signal,
    room: usize,
    in_flight: u32,
    /// By ascending ticket. Not empty only while all permits are taken.
    queue: VecDeque<Waiter>,
    next_ticket: u64,
    queue_since: Option<Duration>,
    is_closed: bool,
    saturation: f64,
    saturation_at: Duration,
    /// The counters; what is in it of the moment is filled in when it is asked for.
    counts: LimitStats,
}

impl State {
    pub(super) fn new(settings: &LimitSettings, now: Duration) -> Self {
        Self {
            signal: Signal::new(settings),
            room: usize::try_from(settings.queue).unwrap_or(usize::MAX),
            in_flight: 0,
            queue: VecDeque::new(),
            next_ticket: 0,
            queue_since: None,
            is_closed: false,
            saturation: 0.0,
            saturation_at: now,
            counts: LimitStats {
                limit: settings.start,
                in_flight: 0,
                queued: 0,
                queue_for: None,
                saturation: 0.0,
                is_closed: false,
                admitted: 0,
                waited: 0,
                rejected_full: 0,
                rejected_waiting: 0,
                timed_out: 0,
                abandoned: 0,
                refused_closed: 0,
                increases: 0,
                decreases: 0,
            },
        }
    }

    /// A call arrives.
    pub(super) fn enter(&mut self, now: Duration) -> Entry {
        if self.is_closed {
            self.counts.refused_closed += 1;
            return Entry::Closed;
        }
        if self.queue.is_empty() && self.in_flight < self.signal.limit {
            self.pass_time(now);
            self.in_flight += 1;
            self.counts.admitted += 1;
            return Entry::Admitted { epoch: self.signal.begin(self.in_flight) };
        }
        if self.queue.len() >= self.room {
            self.counts.rejected_full += 1;
            return Entry::Full;
        }
        Entry::Busy
    }

    /// Takes the last place of the queue; its ticket. Right after [`Entry::Busy`], under the same
    /// lock.
    pub(super) fn join(&mut self, now: Duration) -> u64 {
        self.pass_time(now);
        self.queue_since.get_or_insert(now);
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.queue.push_back(Waiter { ticket, waker: None });
        ticket
    }

    /// Counts a call that had no time to wait.
    pub(super) fn count_timed_out(&mut self) {
        self.counts.timed_out += 1;
    }

    /// Where a ticket stands in the queue; `None` once it was given a permit.
    fn place(&self, ticket: u64) -> Option<usize> {
        self.queue.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }

    /// Whether a ticket was given its permit: the epoch. If not, `waker` is woken when it is.
    pub(super) fn poll(&mut self, ticket: u64, waker: &Waker) -> Option<u64> {
        let Some(waiter) = self.place(ticket).and_then(|place| self.queue.get_mut(place)) else {
            return Some(self.signal.begin(self.in_flight));
        };
        match &mut waiter.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        None
    }

    /// Gives a place in the queue up; `None` if it has been given a permit meanwhile, which the
    /// caller then holds.
    pub(super) fn give_up(&mut self, ticket: u64, why: Leave, now: Duration) -> Option<Wakes> {
        let place = self.place(ticket)?;
        self.pass_time(now);
        drop(self.queue.remove(place));
        match why {
            Leave::TimedOut => self.counts.timed_out += 1,
            Leave::WaitedOut => self.counts.rejected_waiting += 1,
            Leave::Dropped => self.counts.abandoned += 1,
        }
        Some(self.settle())
    }

    /// A call that held a permit has ended, and says something about the back end.
    pub(super) fn leave(&mut self, epoch: u64, sign: Sign, now: Duration) -> Wakes {
        self.pass_time(now);
        match self.signal.end(epoch, self.in_flight, sign) {
            Change::None => {}
            Change::Increased => self.counts.increases += 1,
            Change::Decreased => self.counts.decreases += 1,
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        self.settle()
    }

    /// Hands free permits to those who wait.
    fn settle(&mut self) -> Wakes {
        let mut wakes = Wakes::default();
        for slot in &mut wakes.wakers {
            if self.in_flight >= self.signal.limit {
                break;
            }
            let Some(waiter) = self.queue.pop_front() else { break };
            self.in_flight += 1;
            self.counts.admitted += 1;
            self.counts.waited += 1;
            *slot = waiter.waker;
        }
        if self.queue.is_empty() {
            self.queue_since = None;
        }
        wakes.drained = self.is_closed && self.is_idle();
        wakes
    }

    /// Refuses calls from now on.
    pub(super) fn shut(&mut self) {
        self.is_closed = true;
    }

    /// Whether nothing is under way and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.queue.is_empty()
    }

    /// Takes what has been so since the last change into the average.
    fn pass_time(&mut self, now: Duration) {
        let span = now.saturating_sub(self.saturation_at).as_secs_f64();
        let current = if self.queue.is_empty() {
            (f64::from(self.in_flight) / f64::from(self.signal.limit)).min(1.0)
        } else {
            1.0
        };
        self.saturation += (current - self.saturation) * span / (span + SATURATION_SPAN);
        self.saturation_at = self.saturation_at.max(now);
    }

    /// How it is.
    pub(super) fn stats(&mut self, now: Duration) -> LimitStats {
        self.pass_time(now);
        LimitStats {
            limit: self.signal.limit,
            in_flight: self.in_flight,
            queued: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            queue_for: self.queue_since.map(|since| now.saturating_sub(since)),
            saturation: self.saturation,
            is_closed: self.is_closed,
            ..self.counts.clone()
        }
    }
}
