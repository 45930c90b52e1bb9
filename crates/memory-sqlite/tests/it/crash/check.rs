//! Holds a reopened store against the ledger: what was acknowledged is there, whole, in the record,
//! the vectors, the keyword search and the change log, and nothing is half there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use memory_core::traits::{
    Change, ChangeLog, ChangeOp, ChangePosition, IndexHits, KeywordIndex, KeywordQuery,
    RecordStore, StoreMeta, StoreUpkeep, VectorIndex, VectorQuery,
};
use memory_core::{
    CallContext, Filter, ManualClock, MemoryId, MemoryItem, Projection, Result, Revision,
    VectorProjection,
};
use memory_sqlite::SqliteStore;

use super::plan::{Ack, Acked, COMMON, Entry, Fate, Ledger, Planned, PlannedWrite, Role, State};
use super::plan::{space, vector, word};
use crate::common::{id, tenant};

/// Most hits of one search, as the traits say: more than a tenant's items.
const ALL: u32 = 1_000;
/// Commits under an idempotency key that are sent again, of those since the last check.
const REPLAYS: usize = 25;
/// Changed items whose own words and vectors are searched for.
const SEARCHES: usize = 40;

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Acknowledged commits of which nothing is there.
    pub(crate) lost: u64,
    /// Commits, acknowledged or not, of which a part is there.
    pub(crate) half: u64,
    /// What is wrong, a line each.
    pub(crate) faults: Vec<String>,
}

impl Findings {
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.half == 0 && self.faults.is_empty()
    }
}

/// Acknowledged commits that are not as they must be, by their place: a line for each part.
type Bad = BTreeMap<usize, Vec<String>>;

/// What is to be seen of one id.
#[derive(Debug, Default, Clone)]
struct Seen {
    record: Option<MemoryItem>,
    vector: Option<Revision>,
    keyword: Option<Revision>,
    /// The last entry of the change log since the last check.
    change: Option<ChangeOp>,
}

/// All that is to be seen of a tenant.
#[derive(Debug, Default)]
struct View {
    seen: BTreeMap<String, Seen>,
    changes: Vec<Change>,
    /// The last reset of the log: what came before it is not there any more.
    reset: Option<u64>,
    head: u64,
}

impl View {
    async fn of(
        store: &SqliteStore,
        context: &CallContext,
        ids: &BTreeSet<String>,
        after: u64,
        faults: &mut Vec<String>,
    ) -> Result<Self> {
        let mut view = Self::default();
        let ids: Vec<MemoryId> = ids.iter().map(|name| id(name)).collect();
        let projection = Projection::full().with_vectors(VectorProjection::All);
        for some in ids.chunks(500) {
            for item in store.fetch(context, some, &projection).await?.into_iter().flatten() {
                let seen = view.at(&item.id);
                seen.record = Some(item);
            }
        }
        let words = KeywordQuery::new(COMMON, ALL);
        for hit in KeywordIndex::search(store, context, &words).await?.hits {
            view.at(&hit.id).keyword = Some(hit.revision);
        }
        if store.spaces(context).await?.active.is_some() {
            let near = VectorQuery::new(space(), vector(1), ALL);
            for hit in VectorIndex::search(store, context, &near).await?.hits {
                view.at(&hit.id).vector = Some(hit.revision);
            }
        }
        let batch = store.read_changes(context, ChangePosition(after), 10_000).await?;
        let mut last = after;
        for change in batch.changes {
            if change.position.0 <= last || change.position > batch.head {
                faults.push(format!("the change log has {} after {last}", change.position.0));
            }
            last = change.position.0;
            match &change.op {
                ChangeOp::Put(id, _) | ChangeOp::Vectors(id, _) | ChangeOp::Delete(id) => {
                    view.at(id).change = Some(change.op.clone());
                }
                ChangeOp::Reset => {
                    view.reset = Some(last);
                    view.seen.values_mut().for_each(|seen| seen.change = None);
                }
            }
            view.changes.push(change);
        }
        view.head = batch.head.0.max(after);
        if batch.head.0 < last {
            faults.push(format!("the change log ends at {last}, its head is {}", batch.head.0));
        }
        Ok(view)
    }

    fn at(&mut self, id: &MemoryId) -> &mut Seen {
        self.seen.entry(id.as_str().to_owned()).or_default()
    }

    fn get(&self, id: &str) -> Seen {
        self.seen.get(id).cloned().unwrap_or_default()
    }

    /// Whether anything of an acknowledged commit is to be seen.
    fn holds_a_part(&self, Acked { planned, ack, .. }: &Acked) -> bool {
        planned.writes.iter().zip(&ack.revisions).any(|(write, revision)| {
            let seen = self.get(&write.id);
            let Some(number) = *revision else {
                return matches!(seen.change, Some(ChangeOp::Delete(_)));
            };
            let revision = Revision::from_number(number);
            let put = ChangeOp::Put(id(&write.id), revision.clone());
            self.changes.iter().any(|change| change.op == put)
                || seen.record.is_some_and(|item| item.revision.as_ref() == Some(&revision))
        })
    }

    /// The views of an id that do not show it as it is said to be. `revision` is `None` where the
    /// store never told it; `changed` says whether that was since the last check.
    fn disagree(
        &self,
        id: &str,
        state: Option<&State>,
        revision: Option<u64>,
        changed: bool,
    ) -> Vec<&'static str> {
        let seen = self.get(id);
        let told = revision.map(Revision::from_number);
        let revision = told.or_else(|| seen.record.as_ref()?.revision.clone());
        let mut wrong = Vec::new();
        let record = match (state, &seen.record) {
            (None, None) => true,
            (Some(state), Some(item)) => state.is(item) && item.revision == revision,
            _ => false,
        };
        if !record {
            wrong.push("record");
        }
        let shown = state.and(revision.clone());
        if seen.keyword != shown {
            wrong.push("keywords");
        }
        if seen.vector != state.and_then(|state| state.vector).and(revision.clone()) {
            wrong.push("vectors");
        }
        let change = match (&seen.change, state, revision) {
            // What came before a reset is not to be seen; what comes after it is.
            (None, ..) => !changed || self.reset.is_some(),
            (Some(_), ..) if !changed => false,
            (Some(ChangeOp::Put(_, at)), Some(_), Some(revision)) => *at == revision,
            (Some(ChangeOp::Delete(_)), None, _) => true,
            _ => false,
        };
        if !change {
            wrong.push("change log");
        }
        wrong
    }
}

/// Checks a store that was opened after a crash, and brings the ledger to what was found, so that the
/// next load can go on from it. `clock` is the store's; what was made to expire does so first.
///
/// # Errors
/// What the store met: it could not be read.
pub(crate) async fn check(
    store: &SqliteStore,
    clock: &ManualClock,
    ledger: &mut Ledger,
) -> Result<Findings> {
    let mut findings = Findings::default();
    let report = store.verify().await?;
    findings.faults.extend(report.faults.iter().map(|fault| format!("verify: {fault}")));
    clock.advance(Duration::from_secs(3_600));
    while store.sweep_expired(&tenant("t0"), 1_000).await?.more {}
    let (mut bad, mut views) = (Bad::new(), BTreeMap::new());
    for name in ["t0", "t1"] {
        let view = one_tenant(store, ledger, name, &mut bad, &mut findings).await?;
        views.insert(name, view);
    }
    replays(store, ledger, &mut bad, &mut findings.faults).await?;
    for (place, lines) in bad {
        let acked = &ledger.acked[place];
        if views[acked.planned.tenant.as_str()].holds_a_part(acked) {
            findings.half += 1;
        } else {
            findings.lost += 1;
        }
        findings.faults.extend(lines);
    }
    ledger.settled();
    Ok(findings)
}

async fn one_tenant(
    store: &SqliteStore,
    ledger: &mut Ledger,
    name: &str,
    bad: &mut Bad,
    findings: &mut Findings,
) -> Result<View> {
    let context = tenant(name);
    if ledger.spaces.contains(name)
        && store.spaces(&context).await?.active.as_ref() != Some(&space())
    {
        findings.faults.push(format!("{name}: its space is not what was acknowledged"));
    }
    let known = ledger.entries.keys().filter(|(tenant, _)| tenant == name);
    let flying = ledger.flying.values().filter(|(planned, _)| planned.tenant == name);
    let ids: BTreeSet<String> = known
        .map(|(_, id)| id.clone())
        .chain(flying.flat_map(|(planned, _)| planned.writes.iter().map(|write| write.id.clone())))
        .collect();
    let after = ledger.checked_to.get(name).copied().unwrap_or(0);
    let view = View::of(store, &context, &ids, after, &mut findings.faults).await?;
    if view.reset.is_some() && !ledger.resets.contains(name) {
        findings.faults.push(format!("{name}: the change log was reset by nobody"));
    }
    for stranger in view.seen.keys().filter(|id| !ids.contains(*id)) {
        findings.faults.push(format!("{name}: {stranger} was written by nobody"));
    }

    // Commits without an acknowledgement: whole or not there.
    let open: Vec<(u32, Planned, Fate)> = ledger
        .flying
        .iter()
        .filter(|(_, (planned, _))| planned.tenant == name)
        .map(|(writer, (planned, fate))| (*writer, planned.clone(), *fate))
        .collect();
    for (writer, planned, fate) in open {
        let before = all(&planned, |write| before(&view, ledger, name, write));
        let after = all(&planned, |write| {
            let wrong =
                view.disagree(&write.id, shown(write.role, write.after.as_ref()), None, true);
            if write.role == Role::Brief { silent(wrong).is_empty() } else { wrong.is_empty() }
        });
        if after && !before {
            if fate == Fate::Denied {
                findings.half += 1;
                findings.faults.push(format!("{name}: a commit that failed is there"));
            }
            for write in &planned.writes {
                let revision = view.get(&write.id).record.and_then(|item| number(&item));
                ledger.settle(writer, name, write, revision, None);
            }
        } else if !before {
            findings.half += 1;
            let lines = planned.writes.iter().map(|write| {
                let seen = view.get(&write.id);
                format!("{} {:?}", write.id, (seen.record.is_some(), seen.vector, seen.keyword))
            });
            let lines: Vec<_> = lines.collect();
            findings.faults.push(format!("{name}: half of a commit ({fate:?}): {lines:?}"));
        }
    }

    // What was acknowledged.
    let touched: BTreeSet<String> = ledger
        .flying
        .values()
        .filter(|(planned, _)| planned.tenant == name)
        .flat_map(|(planned, _)| planned.writes.iter().map(|write| write.id.clone()))
        .collect();
    for ((_, id), entry) in ledger.entries.iter().filter(|((tenant, _), _)| tenant == name) {
        if touched.contains(id) {
            continue;
        }
        let wrong = wrong(&view, ledger, id, entry);
        if !wrong.is_empty() {
            let line = format!("{name}: {id} is not as acknowledged in: {}", wrong.join(", "));
            match entry.by {
                Some(place) => bad.entry(place).or_default().push(line),
                None => findings.faults.push(line),
            }
        }
    }
    positions(&view, ledger, name, bad);
    resolve_ghosts(&view, ledger, name);
    let there = ledger.entries.iter().filter(|((tenant, _), entry)| {
        tenant == name && entry.role != Role::Brief && entry.state.is_some()
    });
    let (expected, count) = (there.count() as u64, store.count(&context, &Filter::All).await?);
    if count != expected && bad.is_empty() && findings.is_clean() {
        findings.faults.push(format!("{name}: {count} items where {expected} must be"));
    }
    searches(store, &context, &view, ledger, findings).await?;
    ledger.checked_to.insert(name.to_owned(), view.head);
    Ok(view)
}

fn all(planned: &Planned, test: impl Fn(&PlannedWrite) -> bool) -> bool {
    planned.writes.iter().all(test)
}

fn number(item: &MemoryItem) -> Option<u64> {
    item.revision.as_ref()?.as_str().parse().ok()
}

/// What is to be seen of an item by now: nothing where it was made to expire.
fn shown(role: Role, state: Option<&State>) -> Option<&State> {
    state.filter(|_| role != Role::Brief)
}

/// Whether an id is as it was before a commit.
fn before(view: &View, ledger: &Ledger, tenant: &str, write: &PlannedWrite) -> bool {
    match ledger.entries.get(&(tenant.to_owned(), write.id.clone())) {
        Some(entry) => wrong(view, ledger, &write.id, entry).is_empty(),
        None => {
            let wrong = view.disagree(&write.id, None, None, false);
            if write.role == Role::Brief { silent(wrong).is_empty() } else { wrong.is_empty() }
        }
    }
}

/// Without the change log: of what expires or is erased it may name anything or nothing.
fn silent(mut wrong: Vec<&'static str>) -> Vec<&'static str> {
    wrong.retain(|view| *view != "change log");
    wrong
}

/// The views of an id that are not what was acknowledged last.
fn wrong(view: &View, ledger: &Ledger, id: &str, entry: &Entry) -> Vec<&'static str> {
    let state = shown(entry.role, entry.state.as_ref().map(|(state, _)| state));
    let revision = entry.state.as_ref().map(|(_, revision)| *revision);
    match entry.role {
        Role::Plain => view.disagree(id, state, revision, entry.by.is_some()),
        Role::Brief | Role::Ghost => {
            let there = view.disagree(id, state, revision, entry.by.is_some());
            let gone = view.disagree(id, None, None, entry.by.is_some());
            if entry.role == Role::Brief || entry.state.is_none() {
                silent(gone)
            } else if ledger.erasing && silent(gone).is_empty() {
                Vec::new()
            } else if ledger.erased {
                silent(there)
            } else {
                there
            }
        }
    }
}

/// Every revision of every acknowledged commit stands in the change log, whatever came after it.
fn positions(view: &View, ledger: &Ledger, name: &str, bad: &mut Bad) {
    let puts: BTreeMap<u64, &MemoryId> = view
        .changes
        .iter()
        .filter_map(|change| match &change.op {
            ChangeOp::Put(id, _) => Some((change.position.0, id)),
            _ => None,
        })
        .collect();
    let all: BTreeSet<u64> = view.changes.iter().map(|change| change.position.0).collect();
    let floor = view.reset.unwrap_or(0);
    for (place, Acked { planned, ack, .. }) in ledger.acked.iter().enumerate() {
        if planned.tenant != name || ack.position <= floor {
            continue;
        }
        let mut missing = Vec::new();
        for (write, revision) in planned.writes.iter().zip(&ack.revisions) {
            if let Some(revision) = revision.filter(|revision| *revision > floor)
                && puts.get(&revision).is_none_or(|id| id.as_str() != write.id)
            {
                missing
                    .push(format!("{name}: {} at {revision} is not in the change log", write.id));
            }
        }
        if missing.is_empty() && !all.contains(&ack.position) {
            missing.push(format!("{name}: position {} is not in the change log", ack.position));
        }
        let lines = bad.entry(place).or_default();
        if lines.len() < missing.len() {
            *lines = missing;
        }
        if lines.is_empty() {
            bad.remove(&place);
        }
    }
}

/// Of an erasure under way some items are gone: which, the store says.
fn resolve_ghosts(view: &View, ledger: &mut Ledger, name: &str) {
    for ((_, id), entry) in ledger.entries.iter_mut().filter(|((tenant, _), _)| tenant == name) {
        if entry.role == Role::Ghost && view.get(id).record.is_none() {
            entry.state = None;
        }
    }
}

/// The words and vectors of what changed find it alone, and its former words find nothing.
async fn searches(
    store: &SqliteStore,
    context: &CallContext,
    view: &View,
    ledger: &Ledger,
    findings: &mut Findings,
) -> Result<()> {
    let name = context.tenant.as_str();
    let of = |hits: IndexHits| hits.hits.into_iter().map(|hit| hit.id).collect::<Vec<_>>();
    let changed = ledger.entries.iter().filter(|((tenant, id), entry)| {
        tenant == name && view.get(id).change.is_some() && entry.role == Role::Plain
    });
    for ((_, wanted), entry) in changed.take(SEARCHES) {
        if let Some(former) = entry.former {
            let words = KeywordQuery::new(word(former), 5);
            if !of(KeywordIndex::search(store, context, &words).await?).is_empty() {
                findings.faults.push(format!("{name}: {wanted} is found by its former word"));
            }
        }
        let Some((state, _)) = &entry.state else { continue };
        let words = KeywordQuery::new(word(state.content), 5);
        if of(KeywordIndex::search(store, context, &words).await?) != [id(wanted)] {
            findings.faults.push(format!("{name}: {wanted} is not found by its word"));
        }
        if let Some(number) = state.vector {
            let near = VectorQuery::new(space(), vector(number), 1);
            if of(VectorIndex::search(store, context, &near).await?) != [id(wanted)] {
                findings.faults.push(format!("{name}: {wanted} is not found by its vector"));
            }
        }
    }
    Ok(())
}

/// Idempotency keys of acknowledged commits give the first answer again.
async fn replays(
    store: &SqliteStore,
    ledger: &Ledger,
    bad: &mut Bad,
    faults: &mut Vec<String>,
) -> Result<()> {
    let keyed = ledger.acked.iter().enumerate().rev().filter(|(_, acked)| acked.planned.keyed);
    for (place, Acked { writer, planned, ack }) in keyed.take(REPLAYS) {
        let again = store.commit(&tenant(&planned.tenant), planned.commit()).await;
        let first = again.as_ref().is_ok_and(|again| again.replayed && Ack::of(again) == *ack);
        if !first {
            let answer = again.map(|again| again.replayed).map_err(|error| error.kind());
            let line = format!("key {} of writer {writer} answers {answer:?}", planned.number);
            match bad.contains_key(&place) {
                true => faults.push(line),
                false => drop(bad.insert(place, vec![line; planned.writes.len()])),
            }
        }
    }
    Ok(())
}
