//! The rules, as functions over requests and answers.

use std::cmp::Ordering as Order;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memory_core::traits::{HitRecords, IndexHits};
use memory_core::{
    CallContext, Capabilities, Capability, CursorKey, Direction, Error, ErrorKind, Field, Filter,
    MemoryId, MemoryItem, Page, Query, Result, Revision, TenantId, Timestamp,
};

use super::{GuardRule, State};
use crate::operation::Operation;
use crate::policy::rows;

/// Up to so many rows are compared each with each, above it by a map: the two cost the same at
/// about a dozen.
const FEW: usize = 12;

/// Which rules a back end's capabilities let the guard enforce.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trust {
    /// Filters mean what the core's truth table says.
    filters: bool,
    /// Cursors are the core's.
    cursors: bool,
}

impl Default for Trust {
    fn default() -> Self {
        Self { filters: true, cursors: true }
    }
}

impl Trust {
    pub(super) fn of(can: &Capabilities) -> Self {
        Self { filters: can.has(Capability::TypedFilters), cursors: can.has(Capability::Cursors) }
    }
}

/// The guard of one part of a back end.
#[derive(Debug)]
pub(super) struct Guard {
    state: Arc<State>,
    backend: &'static str,
    trust: Trust,
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(u64::try_from(by).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl Guard {
    pub(super) fn new(state: Arc<State>, backend: &'static str, trust: Trust) -> Self {
        Self { state, backend, trust }
    }

    /// Whether this process serves a tenant.
    pub(super) fn serves(&self, tenant: &TenantId) -> bool {
        let tenants = &self.state.settings.tenants;
        tenants.is_empty() || tenants.contains(tenant)
    }

    /// Whether it serves some tenants only.
    pub(super) fn is_bound(&self) -> bool {
        !self.state.settings.tenants.is_empty()
    }

    /// Lets a call in if its tenant is one that this process serves.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(super) fn admit(&self, operation: Operation, context: &CallContext) -> Result<()> {
        if self.serves(&context.tenant) {
            return Ok(());
        }
        count(&self.state.denied, 1);
        Err(self.named(
            operation,
            Error::new(
                ErrorKind::PermissionDenied,
                "this process serves other tenants only; guard.tenants names them",
            ),
        ))
    }

    /// A check of a request.
    ///
    /// # Errors
    /// The check's, counted and named.
    pub(super) fn request<T>(&self, operation: Operation, checked: Result<T>) -> Result<T> {
        checked.map_err(|error| {
            count(&self.state.refused, 1);
            self.named(operation, error)
        })
    }

    /// A number of things in a request.
    ///
    /// # Errors
    /// `InvalidInput`: outside `least..=most`.
    pub(super) fn within(
        &self,
        operation: Operation,
        what: &str,
        asked: usize,
        least: usize,
        most: usize,
    ) -> Result<()> {
        if (least..=most).contains(&asked) {
            return Ok(());
        }
        let told = format!("{what}: between {least} and {most}; this is {asked}");
        self.request(operation, Err(Error::invalid(told)))
    }

    fn named(&self, operation: Operation, error: Error) -> Error {
        error.with_operation(operation.name()).with_backend(self.backend)
    }

    /// The error of an answer that breaks a rule: counted, and logged here and nowhere else.
    fn broken(&self, operation: Operation, rule: GuardRule) -> Error {
        count(&self.state.broken[rule as usize], 1);
        let (operation, backend, rule_name) = (operation, self.backend, rule.name());
        tracing::error!(
            target: "memory_layers::guard",
            operation = operation.name(),
            backend,
            rule = rule_name,
            "an answer of the store {}; it was not handed on",
            rule.broken(),
        );
        let told = format!("the answer {}; nothing of it was handed on", rule.broken());
        let error = self
            .named(operation, Error::new(ErrorKind::Corrupt, told))
            .with_context("rule", rule_name);
        // Whatever the answer is worth, the store may have done what it was asked to do.
        if operation.writes() { error.with_unknown_outcome() } else { error }
    }

    /// A rule that an answer keeps or breaks.
    ///
    /// # Errors
    /// `Corrupt`: it does not hold.
    pub(super) fn holds(&self, operation: Operation, rule: GuardRule, holds: bool) -> Result<()> {
        if holds { Ok(()) } else { Err(self.broken(operation, rule)) }
    }

    /// As many answers as things asked, each about the one in its place.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn answers<'a, 'b, T: PartialEq + 'a + 'b>(
        &self,
        operation: Operation,
        asked: impl ExactSizeIterator<Item = &'a T>,
        answered: impl ExactSizeIterator<Item = Option<&'b T>>,
    ) -> Result<()> {
        self.holds(operation, GuardRule::Count, asked.len() == answered.len())?;
        let same = asked.zip(answered).all(|(asked, answer)| answer.is_none_or(|it| it == asked));
        self.holds(operation, GuardRule::Id, same)
    }

    /// Items read by id; those that have expired meanwhile become absent.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn items(
        &self,
        operation: Operation,
        ids: &[MemoryId],
        found: &mut [Option<MemoryItem>],
    ) -> Result<()> {
        let answered = found.iter().map(|item| item.as_ref().map(|item| &item.id));
        self.answers(operation, ids.iter(), answered)?;
        let mut sight = self.sight();
        for item in found {
            if item.as_ref().is_some_and(|item| !sight.sees(item)) {
                *item = None;
            }
        }
        Ok(())
    }

    /// A query before it is sent: the key of its cursor.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub(super) fn query(&self, context: &CallContext, query: &Query) -> Result<Option<CursorKey>> {
        let cursor = query.cursor.as_ref().filter(|_| self.trust.cursors);
        let key = || cursor.map(|cursor| cursor.open(&context.tenant, query)).transpose();
        self.request(Operation::Query, query.validate().and_then(|()| key()))
    }

    /// A page of items; those that have expired meanwhile are left out.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn page(
        &self,
        query: &Query,
        after: Option<&CursorKey>,
        page: &mut Page,
    ) -> Result<()> {
        const OPERATION: Operation = Operation::Query;
        let items = &page.items;
        self.holds(OPERATION, GuardRule::Limit, items.len() <= rows(query.limit))?;

        let order = |a: (i64, &MemoryId), b: (i64, &MemoryId)| match query.order.direction {
            Direction::Ascending => a.cmp(&b),
            Direction::Descending => b.cmp(&a),
        };
        let place = |item: &'_ MemoryItem| query.order.sort_value(item);
        let follows = |key: &CursorKey, item: &MemoryItem| {
            order((key.sort, &key.id), (place(item), &item.id)) == Order::Less
        };
        let after_cursor = after.zip(items.first()).is_none_or(|(key, item)| follows(key, item));
        // Two that are equal are an item that stands there twice, which is another rule's matter.
        let sorted = items
            .is_sorted_by(|a, b| order((place(a), &a.id), (place(b), &b.id)) != Order::Greater);
        self.holds(OPERATION, GuardRule::Order, after_cursor && sorted)?;

        if self.can_recheck(&query.filter, query.projection.metadata) {
            let pass = items.iter().all(|item| query.filter.matches(item));
            self.holds(OPERATION, GuardRule::Filter, pass)?;
        }
        let leads_on = page.next.is_none() || page.next != query.cursor;
        self.holds(OPERATION, GuardRule::Cursor, leads_on)?;

        let twice = self.twice(
            OPERATION,
            items.len(),
            items.iter().map(|item| (&item.id, item.revision.as_ref())),
        )?;
        self.drop_changed(&mut page.items, &twice);
        let mut sight = self.sight();
        page.items.retain(|item| sight.sees(item));
        Ok(())
    }

    /// What an index found; hits whose records have expired meanwhile are left out.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn hits(
        &self,
        operation: Operation,
        limit: u32,
        filter: &Filter,
        records: Option<&HitRecords>,
        found: &mut IndexHits,
    ) -> Result<()> {
        let hits = &found.hits;
        self.holds(operation, GuardRule::Limit, hits.len() <= rows(limit))?;
        let best_first = hits.iter().all(|hit| hit.score.is_finite())
            && hits.is_sorted_by(|a, b| a.score > b.score || a.score == b.score && a.id <= b.id);
        self.holds(operation, GuardRule::Order, best_first)?;

        let recheck =
            records.is_some_and(|records| self.can_recheck(filter, records.projection.metadata));
        for hit in hits {
            let Some(item) = hit.item.as_deref() else { continue };
            self.holds(operation, GuardRule::Unasked, records.is_some())?;
            self.holds(operation, GuardRule::Id, item.id == hit.id)?;
            let same = item.revision.as_ref() == Some(&hit.revision);
            self.holds(operation, GuardRule::Revision, same)?;
            self.holds(operation, GuardRule::Filter, !recheck || filter.matches(item))?;
        }

        let ids = hits.iter().map(|hit| (&hit.id, Some(&hit.revision)));
        let twice = self.twice(operation, hits.len(), ids)?;
        self.drop_changed(&mut found.hits, &twice);
        let mut sight = self.sight();
        found.hits.retain(|hit| hit.item.as_deref().is_none_or(|item| sight.sees(item)));
        Ok(())
    }

    /// Ids in ascending order, after one, at most so many.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn ascending<'a, T: Ord + 'a>(
        &self,
        operation: Operation,
        after: Option<&'a T>,
        limit: u32,
        found: impl ExactSizeIterator<Item = &'a T>,
    ) -> Result<()> {
        self.holds(operation, GuardRule::Limit, found.len() <= rows(limit))?;
        let in_order = after.into_iter().chain(found).is_sorted_by(|a, b| a < b);
        self.holds(operation, GuardRule::Order, in_order)
    }

    /// Whether rows can be held against a filter: metadata that was not asked for is not there to
    /// be looked at, and is not asked for on the guard's account.
    fn can_recheck(&self, filter: &Filter, with_metadata: bool) -> bool {
        match filter {
            Filter::All => false,
            _ if !self.trust.filters => false,
            filter => {
                with_metadata
                    || !filter.fields().iter().any(|field| matches!(field, Field::Metadata(_)))
            }
        }
    }

    /// The places of rows whose item stands before them at another revision.
    ///
    /// # Errors
    /// `Corrupt`: a row stands there twice at one revision.
    fn twice<'a>(
        &self,
        operation: Operation,
        rows: usize,
        ids: impl Iterator<Item = (&'a MemoryId, Option<&'a Revision>)> + Clone,
    ) -> Result<Vec<usize>> {
        let mut places = Vec::new();
        let mut note = |place: usize, same: bool| {
            if same {
                return Err(self.broken(operation, GuardRule::Duplicate));
            }
            places.push(place);
            Ok(())
        };
        if rows <= FEW {
            for (place, (id, revision)) in ids.clone().enumerate() {
                if let Some((_, other)) = ids.clone().take(place).find(|(other, _)| *other == id) {
                    note(place, revision == other)?;
                }
            }
        } else {
            let mut seen = HashMap::with_capacity(rows);
            for (place, (id, revision)) in ids.enumerate() {
                match seen.get(id) {
                    Some(other) => note(place, revision == *other)?,
                    None => drop(seen.insert(id, revision)),
                }
            }
        }
        Ok(places)
    }

    /// Leaves out the rows at these places.
    fn drop_changed<T>(&self, rows: &mut Vec<T>, places: &[usize]) {
        if places.is_empty() {
            return;
        }
        count(&self.state.changed, places.len());
        let mut place = 0;
        rows.retain(|_| {
            place += 1;
            !places.contains(&(place - 1))
        });
    }

    fn sight(&self) -> Sight<'_> {
        Sight { state: &self.state, now: None }
    }
}

/// What can be seen now. The clock is asked once, and only where something can expire at all.
struct Sight<'a> {
    state: &'a State,
    now: Option<Timestamp>,
}

impl Sight<'_> {
    fn sees(&mut self, item: &MemoryItem) -> bool {
        if item.expires_at.is_none() {
            return true;
        }
        let now = *self.now.get_or_insert_with(|| self.state.clock.now());
        let visible = item.is_visible(now);
        if !visible {
            count(&self.state.expired, 1);
        }
        visible
    }
}
