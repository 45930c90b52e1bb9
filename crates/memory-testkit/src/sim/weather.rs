//! What the network and the server do to calls: drawn from the seed, once for a run and then for
//! each request.

use std::time::Duration;

use memory_core::ErrorKind;

use crate::generators::Generator;

/// How long the faults last at the most; after that all is calm.
pub(super) const STORM: Duration = Duration::from_secs(60);

/// The longest delay of one way.
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(8);

/// A span of time in which something is so.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Duration,
    to: Duration,
}

impl Span {
    fn holds(self, at: Duration) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// The faults of one run. Rates are in thousandths of the requests.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    refused: usize,
    request_lost: usize,
    answer_lost: usize,
    /// Requests that dawdle on one way or the other.
    late: usize,
    /// How many of the lost are reported to the client, in percent; the rest is silence.
    told: usize,
    /// The server cannot be reached.
    outages: Vec<Span>,
    /// Everything takes many times as long.
    slow: Vec<Span>,
    /// The server asks for a slower pace.
    limits: Vec<Span>,
    until: Duration,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// It is refused before anything was sent or done.
    Refused { kind: ErrorKind, after: Duration, retry_after: Option<Duration> },
    /// It is sent.
    Sent(Journey),
}

/// The way of a request there and back; `None` where it is lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Journey {
    pub(super) there: Option<Duration>,
    pub(super) back: Option<Duration>,
    /// After how long the client is told of a loss; without it there is silence.
    pub(super) told: Option<Duration>,
    /// Whether the server is never asked if the client gives up while the request is on its way.
    pub(super) revocable: bool,
    /// Whether the server is told the deadline and heeds it.
    pub(super) heeds_deadline: bool,
    /// Whether it goes through a slow time.
    pub(super) slow: bool,
}

fn millis(random: &mut Generator, from: usize, to: usize) -> Duration {
    Duration::from_millis((from + random.below(to - from + 1)) as u64)
}

impl Weather {
    /// The weather of a run.
    pub(super) fn draw(random: &mut Generator) -> Self {
        // One run in eight has no chance faults at all, so that what only calm runs show is seen.
        let rough = random.below(8) > 0;
        let mut rate = |most: usize| if rough { random.below(most) } else { 0 };
        let (refused, request_lost) = (rate(80), rate(80));
        let (answer_lost, late) = (rate(120), rate(120));
        let told = random.below(101);
        let mut spans = |most: usize, longest: usize| {
            let count = random.below(most + 1);
            let mut span = || {
                let from = millis(random, 0, 10_000);
                Span { from, to: from + millis(random, 20, longest) }
            };
            (0..count).map(|_| span()).collect()
        };
        let (outages, slow, limits) = (spans(2, 2_500), spans(2, 4_000), spans(2, 3_000));
        Self { refused, request_lost, answer_lost, late, told, outages, slow, limits, until: STORM }
    }

    /// Stops every fault.
    pub(super) fn calm(&mut self) {
        self.until = Duration::ZERO;
    }

    /// Whether the server can be reached.
    pub(super) fn is_up(&self, at: Duration) -> bool {
        at >= self.until || !self.outages.iter().any(|span| span.holds(at))
    }

    /// What becomes of a request that is sent at a time.
    pub(super) fn fate(&self, random: &mut Generator, at: Duration) -> Fate {
        let (mut there, mut back) = (millis(random, 1, 5), millis(random, 1, 5));
        let mut journey = Journey {
            there: Some(there),
            back: Some(back),
            told: None,
            revocable: false,
            heeds_deadline: false,
            slow: false,
        };
        if at >= self.until {
            return Fate::Sent(journey);
        }
        let chance = random.below(1_000);
        let limited = self.limits.iter().any(|span| span.holds(at)) && random.below(2) == 0;
        if limited {
            let retry_after = millis(random, 1, 400);
            let kind = ErrorKind::RateLimited;
            return Fate::Refused { kind, after: there + back, retry_after: Some(retry_after) };
        }
        if !self.is_up(at) {
            let kind = ErrorKind::Unavailable;
            return Fate::Refused { kind, after: there, retry_after: None };
        }
        if chance < self.refused {
            let kinds = [ErrorKind::Unavailable, ErrorKind::RateLimited, ErrorKind::Overloaded];
            let kind = *random.pick(&kinds);
            let retry_after = (kind == ErrorKind::RateLimited).then(|| millis(random, 1, 300));
            return Fate::Refused { kind, after: there + back, retry_after };
        }
        if self.slow.iter().any(|span| span.holds(at)) {
            journey.slow = true;
            there += millis(random, 20, 400);
            back += millis(random, 20, 400);
        }
        let chance = random.below(1_000);
        if chance < self.late {
            let longest = usize::try_from(LONGEST_DELAY.as_millis()).unwrap_or(0) / 2;
            let most = if random.below(3) == 0 { longest } else { 400 };
            let late = millis(random, 50, most);
            if random.below(3) == 0 { back += late } else { there += late }
        }
        journey.revocable = random.below(5) == 0;
        journey.heeds_deadline = random.below(3) == 0;
        journey.told =
            (random.below(100) < self.told).then(|| there + back + millis(random, 0, 50));
        let chance = random.below(1_000);
        journey.there = (chance >= self.request_lost).then_some(there);
        journey.back = (chance < self.request_lost
            || chance >= self.request_lost + self.answer_lost)
            .then_some(back);
        Fate::Sent(journey)
    }
}
