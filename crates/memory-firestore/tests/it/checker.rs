//! Holds queries against index definitions by the service's documented rules.
//!
//! The emulator answers every query, indexed or not, so this stands in for the service's refusal.
//! It reads the bytes of requests and the text of `firestore.indexes.json`, and shares nothing with
//! the code that writes either.
//!
//! The rules: every field has ascending, descending and list indexes of its own unless it is
//! overridden. An alternative of a query is served by an index whose first fields are the fields of
//! its equalities, in any order, and whose others are the query's whole order, with its directions;
//! or by several such indexes that have a part of the equalities each and the same rest, and all of
//! them together. A document's name ends every index, in the direction of the last field. A
//! neighbour search needs one index of exactly the fields of its equalities and the vector.

mod asked;
mod definitions;
mod examples;

use std::collections::BTreeSet;

use asked::{Alternative, Asked};
pub(crate) use definitions::Definitions;
use definitions::{Mode, Path, Scope};

/// Says what is wrong with a query that was sent, if anything is.
pub(crate) fn check(definitions: &Definitions, method: &str, bytes: &[u8]) -> Result<(), String> {
    let asked = Asked::decode(method, bytes)?;
    serve(definitions, &asked)
}

fn serve(definitions: &Definitions, asked: &Asked) -> Result<(), String> {
    for one in &asked.alternatives {
        let served = match &asked.nearest {
            Some(nearest) => {
                if !one.unequal.is_empty() || !one.contains.is_empty() {
                    return Err(format!("neighbours under more than equalities: {one:?}"));
                }
                let mut composites = definitions.composites.iter();
                composites.any(|index| {
                    let Some((last, before)) = index.fields.split_last() else { return false };
                    let fields: BTreeSet<_> = before.iter().map(|(path, _)| path.clone()).collect();
                    index.group == asked.group
                        && index.scope == asked.scope
                        && *last == (nearest.path.clone(), Mode::Vector(nearest.dimensions))
                        && fields == one.equal
                })
            }
            None => is_served(definitions, asked, one),
        };
        if !served {
            return Err(format!(
                "no index of {} serves {one:?} ordered by {:?} near {:?}",
                asked.group, asked.orders, asked.nearest
            ));
        }
    }
    Ok(())
}

fn is_served(definitions: &Definitions, asked: &Asked, one: &Alternative) -> bool {
    let mut equal = one.equal.clone();
    // A name that is given finds its document without any index.
    equal.remove(&Path::name());
    // What is equal in all documents orders none of them.
    let orders: Vec<_> =
        asked.orders.iter().filter(|(path, _)| !equal.contains(path)).cloned().collect();
    let wanted: BTreeSet<_> = equal.iter().chain(&one.contains).cloned().collect();
    if wanted.is_empty() && orders == [(Path::name(), false)] && asked.scope == Scope::Collection {
        return true;
    }
    let mut covered = BTreeSet::new();
    let mut found = false;
    let singles = wanted.iter().chain(orders.iter().map(|(path, _)| path)).flat_map(|path| {
        let indexes = definitions.of_field(&asked.group, path);
        let here = indexes.into_iter().filter(|(scope, _)| *scope == asked.scope);
        here.map(|(_, mode)| vec![(path.clone(), mode)]).collect::<Vec<_>>()
    });
    let composites = definitions
        .composites
        .iter()
        .filter(|index| index.group == asked.group && index.scope == asked.scope)
        .map(|index| index.fields.clone());
    for index in composites.chain(singles) {
        if let Some(fields) = part(index, &equal, &one.contains, &orders) {
            found = true;
            covered.extend(fields);
        }
    }
    found && covered == wanted
}

/// The equalities that an index serves under an order; `None` where it is of no use.
fn part(
    mut index: Vec<(Path, Mode)>,
    equal: &BTreeSet<Path>,
    contains: &[Path],
    orders: &[(Path, bool)],
) -> Option<BTreeSet<Path>> {
    if !index.iter().any(|(path, _)| *path == Path::name()) {
        let last = match index.last()?.1 {
            Mode::Ascending | Mode::Contains => Mode::Ascending,
            Mode::Descending => Mode::Descending,
            Mode::Vector(_) => return None,
        };
        index.push((Path::name(), last));
    }
    let first = index.len().checked_sub(orders.len())?;
    let (before, after) = index.split_at(first);
    let ordered = after.iter().zip(orders).all(|((path, mode), (other, descending))| {
        let direction = if *descending { Mode::Descending } else { Mode::Ascending };
        path == other && *mode == direction
    });
    let fits = before.iter().all(|(path, mode)| match mode {
        Mode::Ascending | Mode::Descending => equal.contains(path),
        Mode::Contains => contains.contains(path),
        Mode::Vector(_) => false,
    });
    (ordered && fits).then(|| before.iter().map(|(path, _)| path.clone()).collect())
}
