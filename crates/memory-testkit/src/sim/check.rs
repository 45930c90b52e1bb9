//! The checker: holds what clients were told against what the server did.
//!
//! The server's own change log gives the states that each tenant went through. Every answer has to
//! be that of one state between the begin and the end of its call; so a read that begins after a
//! write was acknowledged sees it, and nobody sees time run backwards.

mod answers;
mod leases;
mod states;
mod wires;

use super::history::{Log, ROOMS};
use super::stack::Promises;
use states::Book;

/// What the store holds at the end, by room: an id's number, its revision, and the request in it.
pub(super) type Contents = [Vec<(usize, u64, Option<u64>)>; ROOMS];

/// A verdict: the first thing that is wrong, in a sentence.
type Verdict = Result<(), String>;

/// Judges a run.
pub(super) fn check(log: &Log, last: &Contents, promises: &Promises) -> Verdict {
    let book = Book::new(log)?;
    book.check_last(last)?;
    book.check_effects()?;
    leases::check(log)?;
    wires::check(log, promises)?;
    answers::check(&book, promises)
}

/// How many commits were done more than once.
pub(super) fn repeats(log: &Log) -> u64 {
    let mut repeats = 0;
    for effects in &log.effects {
        let mut commits: Vec<_> = effects.iter().filter_map(|effect| effect.commit).collect();
        let all = commits.len();
        commits.sort_unstable();
        commits.dedup();
        repeats += (all - commits.len()) as u64;
    }
    repeats
}
