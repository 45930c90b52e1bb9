//! Every state of the model, breadth first, each once.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use super::model::{KEY, WIDE, World};
use super::steps::{Fault, Mutant, Step};

/// What a search met.
struct Search {
    /// Distinct states.
    states: usize,
    /// Steps taken from them.
    steps: usize,
    /// Steps of the longest shortest way.
    depth: usize,
    found: Option<(Fault, String)>,
}

/// Two hashes in one: that one state of millions is taken for another is one in 10^24.
struct Print([u64; 2]);

impl Print {
    fn step(&mut self, word: u64) {
        let [one, two] = &mut self.0;
        *one = (*one ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
        *two = (*two ^ word).wrapping_mul(0xc4ce_b9fe_1a85_ec53).rotate_left(31);
    }
}

impl Hasher for Print {
    fn finish(&self) -> u64 {
        self.0[0]
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.step(u64::from(*byte)));
    }
    fn write_u8(&mut self, number: u8) {
        self.step(u64::from(number));
    }
    fn write_u32(&mut self, number: u32) {
        self.step(u64::from(number));
    }
    fn write_u64(&mut self, number: u64) {
        self.step(number);
    }
    fn write_usize(&mut self, number: usize) {
        self.step(number as u64);
    }
    fn write_isize(&mut self, number: isize) {
        self.step(number.cast_unsigned() as u64);
    }
}

fn print(world: &World) -> u128 {
    let mut hasher = Print([1, 2]);
    world.hash(&mut hasher);
    let [one, two] = hasher.0;
    u128::from(one ^ one >> 32) << 64 | u128::from(two ^ two >> 32)
}

/// How a state was reached: from which, by what.
struct Origin {
    from: usize,
    step: Option<Step>,
}

fn way(origins: &[Origin], mut at: usize, last: Option<Step>) -> String {
    let mut steps: Vec<_> = last.into_iter().collect();
    while let Some(step) = origins[at].step {
        steps.push(step);
        at = origins[at].from;
    }
    let mut text = String::new();
    steps.iter().rev().for_each(|step| write!(text, "{step:?}, ").unwrap());
    text
}

fn search(groups: [u8; 2], mutant: Option<Mutant>) -> Search {
    let first = World::new(groups);
    let mut seen = HashSet::from([print(&first)]);
    let mut origins = vec![Origin { from: 0, step: None }];
    let mut queue = VecDeque::from([(0, 0, first)]);
    let mut search = Search { states: 1, steps: 0, depth: 0, found: None };
    while let Some((at, depth, world)) = queue.pop_front() {
        search.depth = depth;
        if !world.can_be_kept() {
            search.found = Some((Fault::Stuck, way(&origins, at, None)));
            return search;
        }
        for step in world.steps() {
            let Some(next) = world.after(step, mutant) else { continue };
            search.steps += 1;
            match next {
                Err(fault) => {
                    search.found = Some((fault, way(&origins, at, Some(step))));
                    return search;
                }
                Ok(next) => {
                    if seen.insert(print(&next)) {
                        search.states += 1;
                        origins.push(Origin { from: at, step: Some(step) });
                        queue.push_back((origins.len() - 1, depth + 1, next));
                    }
                }
            }
        }
    }
    search
}

/// Which group each writer touches: the key's own or the wider one. Where both write the wider one
/// it is as where both write the key's, with the names changed: 574,506 states as there.
const BOTH: (&str, [u8; 2]) = ("both write the group", [KEY, KEY]);
const MIXED: (&str, [u8; 2]) = ("one writes the group, one the wider group", [KEY, WIDE]);

#[expect(clippy::print_stdout, reason = "how much was searched is what there is to show")]
fn told(what: &str, search: &Search) {
    let Search { states, steps, depth, .. } = search;
    println!("{what}: {states} states, {steps} steps, {depth} deep");
    if let Some((fault, way)) = &search.found {
        println!("    {fault:?} after {way}");
    }
}

/// No read that begins after a write gives an older value, and no key is stuck.
fn holds((what, groups): (&str, [u8; 2])) {
    let search = search(groups, None);
    told(what, &search);
    assert_eq!(search.found, None, "{what}");
    assert!(search.states > 500_000, "the search is too small to show anything");
}

#[test]
fn the_protocol_holds_where_both_write_the_group() {
    holds(BOTH);
}

#[test]
fn the_protocol_holds_where_one_writes_the_wider_group() {
    holds(MIXED);
}

#[test]
fn every_planted_fault_is_found() {
    for mutant in Mutant::ALL {
        // What is wrong with the wider token shows where it is written.
        let is_wide = mutant == Mutant::FillWithoutWideToken;
        let (what, groups) = if is_wide { MIXED } else { BOTH };
        let search = search(groups, Some(mutant));
        told(&format!("{mutant:?}, {what}"), &search);
        let (fault, _) = search.found.expect("the fault is not found");
        let expected = if mutant == Mutant::MarkWithoutEnd { Fault::Stuck } else { Fault::Stale };
        assert_eq!(fault, expected, "{mutant:?}");
    }
}
