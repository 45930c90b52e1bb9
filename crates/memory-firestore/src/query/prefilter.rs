//! What a nearest-neighbour search asks of the server besides nearness.

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::{Field, Filter, Result, Timestamp};

use super::parts::{self, Op};
use super::plan::{path, value};
use crate::filter::{self, Point};
use crate::settings::FirestoreSettings;

/// The part of a filter that a nearest-neighbour search hands to the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prefilter {
    /// No item passes the filter: nothing is to be asked.
    Nothing,
    /// Items that may pass it.
    Some {
        /// The condition for the server; `None` for none.
        r#where: Option<proto::structured_query::Filter>,
        /// Whether the filter has still to be applied to what comes back.
        residual: bool,
    },
}

/// The widest of `vector_scopes` that a filter contains, as a condition: every field of it has the
/// same single value in each of the filter's alternatives.
///
/// # Errors
/// `Unsupported`, as pages and counts: an undeclared metadata key, a list's member negated, too many
/// alternatives.
pub(crate) fn prefilter(settings: &FirestoreSettings, filter: &Filter) -> Result<Prefilter> {
    // Expiry is nothing that these searches ask the server for, so no instant rules anything out.
    let boxes = filter::boxes(settings, filter, Timestamp::MIN)?;
    let Some(first) = boxes.first() else { return Ok(Prefilter::Nothing) };
    let value_of = |field: &Field| -> Option<&Point> {
        let point = first.sets.get(field)?.only()?;
        let everywhere = boxes
            .iter()
            .all(|conditions| conditions.sets.get(field).and_then(|set| set.only()) == Some(point));
        everywhere.then_some(point)
    };
    let served = settings
        .vector_scopes
        .iter()
        .filter(|scope| scope.0.iter().all(|name| value_of(&name.0).is_some()))
        // The first of the widest.
        .rev()
        .max_by_key(|scope| scope.0.len());
    let fields = || served.iter().flat_map(|scope| &scope.0).map(|name| &name.0);
    let equal = |field: &Field| {
        value_of(field).map(|point| parts::compare(&path(field), Op::Equal, value(point)))
    };
    let residual = boxes.len() > 1
        || !first.contains.is_empty()
        || first.sets.keys().any(|own| fields().all(|field| field != own));
    Ok(Prefilter::Some { r#where: parts::all_of(fields().filter_map(equal).collect()), residual })
}
