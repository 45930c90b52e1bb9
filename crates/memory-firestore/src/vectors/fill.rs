//! How often a nearest-neighbour search asks, and for how many.
//!
//! The service cannot leave out what has expired or what a filter drops that no index covers, so an
//! answer may hold fewer hits than were asked for. Then it is asked again, for twice as many, up to
//! the most that one request brings.

/// Most neighbours of one request: the service's limit.
pub(super) const MOST: u32 = 1_000;

/// How often what has expired is removed to make room for what has not: with [`MOST`] documents
/// each time it is more than a sweep of a minute clears.
pub(super) const REMOVALS: u32 = 16;

/// What came of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Documents that came.
    pub(super) found: usize,
    /// Of those, hits.
    pub(super) hits: usize,
    /// Expired.
    pub(super) expired: usize,
    /// Dropped by the filter.
    pub(super) dropped: usize,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The hits are the answer. `exact` is false where documents that cannot be read stood in the
    /// way of others.
    Done { exact: bool },
    /// Ask again.
    Ask,
    /// Remove what has expired and ask again.
    Remove,
    /// The filter drops too much of what the service finds.
    Narrow,
    /// What has expired was removed so often that a sweep is due.
    Sweep,
}

/// The requests of one search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fill {
    wanted: usize,
    most: u32,
    ask: u32,
    removals: u32,
}

impl Fill {
    /// A search for `wanted` hits by requests of up to `most` documents.
    pub(super) fn new(wanted: u32, most: u32, removals: u32) -> Self {
        let wanted = wanted.min(most);
        Self { wanted: size(wanted), most, ask: wanted, removals }
    }

    /// How many documents the next request asks for.
    pub(super) fn ask(&self) -> u32 {
        self.ask
    }

    /// What to do after an answer.
    pub(super) fn after(&mut self, answer: Answer) -> Next {
        // A short answer has all that there is.
        if answer.hits >= self.wanted || answer.found < size(self.ask) {
            return Next::Done { exact: true };
        }
        if self.ask < self.most {
            self.ask = self.ask.saturating_mul(2).min(self.most);
            return Next::Ask;
        }
        if answer.expired > 0 {
            if self.removals == 0 {
                return Next::Sweep;
            }
            self.removals -= 1;
            return Next::Remove;
        }
        if answer.dropped > 0 {
            return Next::Narrow;
        }
        Next::Done { exact: false }
    }
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents in the order of their nearness: `+` passes, `-` has expired, `x` is dropped by the
    /// filter, `?` cannot be read.
    fn run(documents: &str, wanted: u32) -> (Vec<u32>, usize, Option<Next>) {
        let mut documents: Vec<char> = documents.chars().collect();
        let mut fill = Fill::new(wanted, 8, 2);
        let mut asked = Vec::new();
        loop {
            asked.push(fill.ask());
            let found = &documents[..documents.len().min(size(fill.ask()))];
            let count = |kind| found.iter().filter(|one| **one == kind).count();
            let answer = Answer {
                found: found.len(),
                hits: count('+'),
                expired: count('-'),
                dropped: count('x'),
            };
            match fill.after(answer) {
                Next::Ask => {}
                Next::Remove => {
                    let seen = found.len();
                    let mut place = 0;
                    documents.retain(|one| {
                        place += 1;
                        place > seen || *one != '-'
                    });
                }
                last => return (asked, answer.hits.min(size(wanted)), Some(last)),
            }
        }
    }

    #[test]
    fn an_answer_without_losses_is_asked_for_once() {
        for (documents, wanted, hits) in
            [("+++++", 3, 3), ("+++", 3, 3), ("++", 3, 2), ("", 3, 0), ("+++++++++", 8, 8)]
        {
            let done = Some(Next::Done { exact: true });
            assert_eq!(run(documents, wanted), (vec![wanted], hits, done), "{documents}");
        }
    }

    #[test]
    fn losses_are_filled_up_by_twice_as_many() {
        let done = Some(Next::Done { exact: true });
        assert_eq!(run("-++++", 2), (vec![2, 4], 2, done));
        assert_eq!(run("xxxx++", 2), (vec![2, 4, 8], 2, done));
        assert_eq!(run("x?-+", 3), (vec![3, 6], 1, done));
        assert_eq!(run("--", 1), (vec![1, 2, 4], 0, done));
    }

    #[test]
    fn at_the_most_what_has_expired_is_removed() {
        let done = Some(Next::Done { exact: true });
        assert_eq!(run("--------++", 2), (vec![2, 4, 8, 8], 2, done));
        assert_eq!(run("-xxxxxxx++", 2), (vec![2, 4, 8, 8], 1, Some(Next::Narrow)));
        assert_eq!(run("xxxxxx--++", 2), (vec![2, 4, 8, 8], 2, done));
        assert_eq!(run(&"-".repeat(40), 8), (vec![8, 8, 8], 0, Some(Next::Sweep)));
        assert_eq!(run(&"-".repeat(23), 8), (vec![8, 8, 8], 0, done));
    }

    #[test]
    fn at_the_most_a_filter_that_drops_too_much_is_refused() {
        assert_eq!(run("xxxxxxxx+", 1), (vec![1, 2, 4, 8], 0, Some(Next::Narrow)));
        assert_eq!(run("xxxxxxx+", 1).1, 1);
        let inexact = Some(Next::Done { exact: false });
        assert_eq!(run("+++?+++++", 8), (vec![8], 7, inexact));
    }
}
