//! What the proxy does to what passes: data, and the draws that decide by chance.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::generators::Generator;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// Where a request is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing of the request reaches the server, and the connection is closed: the work was not
    /// done, and the client cannot know.
    BeforeForwarding,
    /// The request is forwarded; when the server answers it, the answer is dropped and the
    /// connection closed: the work was done, and the client cannot know.
    ///
    /// HTTP/2: the answer is a DATA frame with a body on the stream of the request, or the frame
    /// that ends that stream. From the first HEADERS frame of the answer on, nothing reaches the
    /// client any more on that connection.
    BeforeAnswering,
}

/// How a connection ends that is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Both sides are closed. Either sees an end of file, or a reset if it sends on or has sent
    /// what was not read.
    #[default]
    Close,
    /// Both sides are reset (RST), and what is under way may be lost.
    Reset,
}

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) bytes_per_second: Option<NonZeroU64>,
    pub(super) cut_after: Option<u64>,
}

/// Which requests are cut for certain, counted over all connections from the moment the plan holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) skip: u64,
    pub(super) count: u64,
    pub(super) cut: Cut,
}

/// The faults that hold until the next plan; the one by [`Plan::default`] has none.
///
/// A request is what opens a stream on an HTTP/2 connection; on any other, the first bytes that
/// the client sends, and then the first that it sends after bytes of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a plan holds when it is set"]
pub struct Plan {
    pub(super) refuse: bool,
    pub(super) reset_new: u8,
    pub(super) black_hole: u8,
    pub(super) to_server: Way,
    pub(super) to_client: Way,
    pub(super) next: Option<Next>,
    pub(super) before_forwarding: u8,
    pub(super) before_answering: u8,
    pub(super) ending: Ending,
}

impl Plan {
    /// No fault.
    pub fn pass() -> Self {
        Self::default()
    }

    /// Nobody listens: a client that connects is refused by its own system. Open connections stay.
    pub fn refuse(mut self) -> Self {
        self.refuse = true;
        self
    }

    /// Of the new connections, `percent` are accepted and reset at once.
    pub fn reset_new(mut self, percent: u8) -> Self {
        self.reset_new = percent;
        self
    }

    /// Every connection, open or new, swallows what the client sends, and answers nothing. When
    /// the hole ends, by another plan, its connections are reset: bytes are lost in them.
    pub fn black_hole(self) -> Self {
        self.black_hole_percent(100)
    }

    /// As [`Self::black_hole`], for `percent` of the connections, by the seed and the number of the
    /// connection.
    pub fn black_hole_percent(mut self, percent: u8) -> Self {
        self.black_hole = percent;
        self
    }

    /// Holds back each read of what goes one way by `delay`. At most 1 MiB of a connection is held
    /// back at a time; the sender waits beyond that.
    pub fn delay(mut self, direction: Direction, delay: Duration) -> Self {
        self.way(direction).delay = delay;
        self
    }

    /// Holds it back by up to `jitter` more: each read draws its share, by the seed, the number of
    /// the connection and that of the read in it. The order of the bytes stays.
    pub fn jitter(mut self, direction: Direction, jitter: Duration) -> Self {
        self.way(direction).jitter = jitter;
        self
    }

    /// Lets `bytes_per_second` pass one way on each connection.
    pub fn throttle(mut self, direction: Direction, bytes_per_second: NonZeroU64) -> Self {
        self.way(direction).bytes_per_second = Some(bytes_per_second);
        self
    }

    /// Cuts each connection when `bytes` have passed one way since the plan was set; 0 cuts it at
    /// the first byte, which does not pass.
    pub fn cut_after(mut self, direction: Direction, bytes: u64) -> Self {
        self.way(direction).cut_after = Some(bytes);
        self
    }

    /// Cuts the next `count` requests, whatever connection they come by.
    pub fn cut_next(self, cut: Cut, count: u64) -> Self {
        self.cut_later(cut, 0, count)
    }

    /// Lets `skip` requests pass and cuts the `count` that follow.
    pub fn cut_later(mut self, cut: Cut, skip: u64, count: u64) -> Self {
        self.next = Some(Next { skip, count, cut });
        self
    }

    /// Cuts `percent` of the requests, by the seed, the number of the connection and that of the
    /// request in it. Both cuts can be given a share; a request draws once.
    pub fn cut_percent(mut self, cut: Cut, percent: u8) -> Self {
        match cut {
            Cut::BeforeForwarding => self.before_forwarding = percent,
            Cut::BeforeAnswering => self.before_answering = percent,
        }
        self
    }

    /// Whatever is cut is reset instead of closed.
    pub fn resetting(mut self) -> Self {
        self.ending = Ending::Reset;
        self
    }

    /// What happens one way.
    fn way(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// What happens one way.
    pub(super) fn on(&self, direction: Direction) -> &Way {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    /// Whether anything is left to chance.
    #[must_use]
    pub fn is_random(&self) -> bool {
        let certain = |percent: u8| percent == 0 || percent >= 100;
        let percents =
            [self.reset_new, self.black_hole, self.before_forwarding, self.before_answering];
        !percents.into_iter().all(certain)
            || !self.to_server.jitter.is_zero()
            || !self.to_client.jitter.is_zero()
    }

    /// Whether the connection is reset when it is accepted.
    pub(super) fn resets(&self, seed: u64, connection: u64) -> bool {
        percent(seed, Purpose::Reset, connection, 0) < u64::from(self.reset_new)
    }

    /// Whether the connection is a black hole.
    pub(super) fn swallows(&self, seed: u64, connection: u64) -> bool {
        percent(seed, Purpose::Hole, connection, 0) < u64::from(self.black_hole)
    }

    /// What chance does to a request.
    pub(super) fn strikes(&self, seed: u64, connection: u64, request: u64) -> Option<Cut> {
        let drawn = percent(seed, Purpose::Cut, connection, request);
        let forwarding = u64::from(self.before_forwarding);
        if drawn < forwarding {
            Some(Cut::BeforeForwarding)
        } else if drawn < forwarding + u64::from(self.before_answering) {
            Some(Cut::BeforeAnswering)
        } else {
            None
        }
    }
}

/// What a draw is for, so that one decision says nothing about another.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Reset = 1,
    Hole = 2,
    Cut = 3,
    JitterToServer = 4,
    JitterToClient = 5,
}

/// 64 bits that depend on nothing but the arguments.
fn draw(seed: u64, purpose: Purpose, connection: u64, number: u64) -> u64 {
    let mut bits = Generator::new(seed).bits();
    for part in [purpose as u64, connection, number] {
        bits = Generator::new(bits ^ part).bits();
    }
    bits
}

/// A number below 100.
fn percent(seed: u64, purpose: Purpose, connection: u64, number: u64) -> u64 {
    draw(seed, purpose, connection, number) % 100
}

/// The share of the jitter, in [0, 1), that a read of a connection is held back by.
pub(super) fn share(seed: u64, direction: Direction, connection: u64, read: u64) -> f32 {
    let purpose = match direction {
        Direction::ToServer => Purpose::JitterToServer,
        Direction::ToClient => Purpose::JitterToClient,
    };
    Generator::new(draw(seed, purpose, connection, read)).unit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(seed: u64, plan: &Plan) -> Vec<Option<Cut>> {
        let each = |connection| (1..50).map(move |request| plan.strikes(seed, connection, request));
        (1..5).flat_map(each).collect()
    }

    #[test]
    fn a_seed_repeats_its_decisions_and_another_makes_others() {
        let plan = Plan::pass()
            .cut_percent(Cut::BeforeForwarding, 20)
            .cut_percent(Cut::BeforeAnswering, 30)
            .black_hole_percent(50)
            .reset_new(50);
        assert_eq!(cuts(3, &plan), cuts(3, &plan));
        assert_ne!(cuts(3, &plan), cuts(4, &plan));
        let count = |cut| cuts(3, &plan).into_iter().filter(|one| *one == Some(cut)).count();
        assert!((20..60).contains(&count(Cut::BeforeForwarding)), "of 196 requests");
        assert!((35..85).contains(&count(Cut::BeforeAnswering)), "of 196 requests");
        let holes = |seed| (1..50).map(|n| plan.swallows(seed, n)).collect::<Vec<_>>();
        let resets = |seed| (1..50).map(|n| plan.resets(seed, n)).collect::<Vec<_>>();
        assert_eq!(holes(3), holes(3));
        assert_ne!(holes(3), resets(3), "one decision says nothing about another");
        let shares = |seed| (0..9).map(|n| share(seed, Direction::ToServer, 1, n)).collect();
        let (one, other): (Vec<f32>, Vec<f32>) = (shares(3), shares(4));
        assert_ne!(one, other);
        assert!(one.iter().all(|share| (0.0..1.0).contains(share)), "{one:?}");
    }

    #[test]
    fn nothing_and_everything_are_not_left_to_chance() {
        let always =
            Plan::pass().cut_percent(Cut::BeforeAnswering, 100).black_hole().reset_new(100);
        assert!(cuts(1, &always).iter().all(|cut| *cut == Some(Cut::BeforeAnswering)));
        assert!((1..50).all(|n| always.swallows(1, n) && always.resets(1, n)));
        let never = Plan::pass();
        assert!(cuts(1, &never).iter().all(Option::is_none));
        assert!((1..50).all(|n| !never.swallows(1, n) && !never.resets(1, n)));
        assert!(!always.is_random() && !never.is_random());
        assert!(Plan::pass().black_hole_percent(1).is_random());
        assert!(Plan::pass().jitter(Direction::ToClient, Duration::from_millis(1)).is_random());
    }
}
