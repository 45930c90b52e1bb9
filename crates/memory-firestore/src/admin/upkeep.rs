//! Numbers and checks. Copies are the service's own to make.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::traits::{BackupReport, StoreStats, StoreUpkeep, TenantStats, VerifyReport};
use memory_core::{
    CallContext, Error, ErrorKind, MetaKey, Order, Projection, Put, Query, Result, TenantId,
    Timestamp, Vectors,
};
use proto::Value;
use proto::value::ValueType;

use super::log::end_of;
use super::scan::Scan;
use super::tenants::{listed, tenant_of};
use crate::fields as f;
use crate::model::{self, Row};
use crate::names::last;
use crate::query;
use crate::settings::FirestoreSettings;
use crate::store::FirestoreStore;
use crate::wire::{Call, Entries, Found};

/// Documents of one request of a walk.
const PAGE: u32 = 300;
/// Most faults that a report names.
const FAULTS: usize = 20;

#[async_trait]
impl StoreUpkeep for FirestoreStore {
    /// Of what is visible now. `oldest` and `newest` are there if pages may be ordered by
    /// `occurred_at`; `head` is the start where the change log is off.
    ///
    /// Billed: for each kind one read and one count, a count each for vectors and for what has
    /// expired, a read each for the tenant, oldest and newest, and one or two for the head. A count is one read
    /// for up to 1,000 memories.
    async fn tenant_stats(&self, context: &CallContext) -> Result<TenantStats> {
        self.run("tenant_stats", Some(context), async |call| self.stats_of(call, context).await)
            .await
    }

    /// `tenants` that are listed, `tombstones`, and the `unreadable_documents` that this process
    /// has met. Items are counted tenant by tenant.
    ///
    /// Billed: one read for each 1,000 tenants and each 1,000 tombstones.
    async fn store_stats(&self) -> Result<StoreStats> {
        self.run("store_stats", None, async |call| {
            let root = &self.names.root;
            let tenants = self.scan_count(call, root, listed(&self.names.tenants)).await?;
            let stones = Scan::of(&self.names.tombstones);
            let tombstones = self.scan_count(call, root, stones).await?;
            let mut stats = StoreStats::default();
            for (name, number) in [
                ("tenants", tenants),
                ("tombstones", tombstones),
                ("unreadable_documents", self.unreadable.load(Ordering::Relaxed)),
            ] {
                stats.numbers.insert(name.to_owned(), number);
            }
            Ok(stats)
        })
        .await
    }

    /// Reads the document of the store, of every tenant, and of every memory, the last without
    /// content, payload and vectors: whether each can be read, and whether what is kept for its
    /// indexes agrees with the rest. Ends after 20 faults.
    ///
    /// Billed: one read for the store; for each tenant two reads and one for each memory, and one
    /// more where its memories are none or a multiple of 300.
    async fn verify(&self) -> Result<VerifyReport> {
        self.run("verify", None, async |call| self.check_all(call).await).await
    }

    /// # Errors
    /// `Unsupported`, always.
    async fn backup(&self, _target: &str) -> Result<BackupReport> {
        self.run("backup", None, async |_| {
            Err(Error::unsupported(
                "Firestore copies itself: `gcloud firestore export gs://BUCKET`, or scheduled \
                 backups of the database",
            ))
        })
        .await
    }
}

impl FirestoreStore {
    async fn stats_of(&self, call: Call<'_>, context: &CallContext) -> Result<TenantStats> {
        let (names, now) = (&self.names, self.clock.now());
        let parent = names.tenant(&context.tenant);
        let mut stats = TenantStats::default();
        let mut kind: Option<String> = None;
        loop {
            let next = query::distinct_kinds(names, now, kind.as_deref());
            let found = self.wire.query(call, &parent, next, Entries::FREE).await?;
            let Some(found) = found.into_iter().next() else { break };
            let Some(ValueType::StringValue(name)) = value_of(&found, f::KIND) else { break };
            let of_kind = query::of_kind(names, now, name);
            let count = self.wire.count(call, &parent, of_kind).await?;
            stats.items += count;
            stats.by_kind.insert(name.clone(), count);
            kind = Some(name.clone());
        }
        let state = self.tenant_now(call, &context.tenant).await?;
        if let Some(space) = &state.spaces.active {
            let embedded = query::embedded(names, now, &space.id());
            stats.embedded = self.wire.count(call, &parent, embedded).await?;
        }
        stats.expired = self.wire.count(call, &parent, query::expired_all(names, now)).await?;
        stats.oldest = self.edge(call, context, Order::OLDEST).await?;
        stats.newest = self.edge(call, context, Order::NEWEST).await?;
        if self.settings.change_log {
            stats.head = end_of(self.log_head(call, &context.tenant).await?);
        }
        Ok(stats)
    }

    /// The time at one end; `None` also where pages may not have the order.
    async fn edge(
        &self,
        call: Call<'_>,
        context: &CallContext,
        order: Order,
    ) -> Result<Option<Timestamp>> {
        if !self.settings.orders.contains(&order.field) {
            return Ok(None);
        }
        let first = Query::new(1).with_order(order).with_projection(Projection::narrow());
        let page = query::page(self, call, context, &first).await?;
        Ok(page.items.first().map(|item| item.occurred_at))
    }

    async fn check_all(&self, call: Call<'_>) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        report.checks.push("the store's own document can be read".to_owned());
        if let Err(error) = self.read_record(call).await {
            report.faults.push(fault("the store's document", error)?);
            return Ok(report);
        }
        let (mut tenants, mut memories, mut token) = (0_u64, 0_u64, String::new());
        'all: loop {
            let page = i32::try_from(PAGE).unwrap_or(i32::MAX);
            let (names, next) =
                self.wire.list(call, &self.names.root, &self.names.tenants, page, token).await?;
            for name in names {
                tenants += 1;
                memories += self.check_tenant(call, &name, &mut report).await?;
                if report.faults.len() >= FAULTS {
                    report.faults.push("and perhaps more: the check ended here".to_owned());
                    break 'all;
                }
            }
            token = next;
            if token.is_empty() {
                break;
            }
        }
        report.checks.push(format!("{tenants} documents of tenants can be read"));
        report.checks.push(format!(
            "{memories} memories can be read, without content, payload and vectors, and their sort \
             keys and filter keys are those of their fields"
        ));
        Ok(report)
    }

    /// Checks a tenant; says how many memories it read.
    async fn check_tenant(
        &self,
        call: Call<'_>,
        name: &str,
        report: &mut VerifyReport,
    ) -> Result<u64> {
        let state = match tenant_of(name) {
            Ok(tenant) => self.tenant_now(call, &tenant).await,
            Err(error) => Err(error),
        };
        let known = match state {
            Ok(state) => state.listed,
            Err(error) => {
                report.faults.push(fault(&format!("tenant {}", last(name)), error)?);
                true
            }
        };
        let mask = memory_mask();
        let (mut count, mut after) = (0, None::<String>);
        loop {
            let query = query::all(&self.names, after.as_deref(), PAGE, &mask);
            let found = self.wire.query(call, name, query, Entries::FREE).await?;
            if !known && count == 0 && !found.is_empty() {
                report.faults.push(format!("tenant {} has memories and is not listed", last(name)));
            }
            for found in &found {
                count += 1;
                let at = || format!("memory {} of tenant {}", last(&found.name), last(name));
                match check_memory(&self.settings, found) {
                    Ok(None) => {}
                    Ok(Some(what)) => report.faults.push(format!("{}: {what}", at())),
                    Err(error) => report.faults.push(fault(&at(), error)?),
                }
                if report.faults.len() >= FAULTS {
                    return Ok(count);
                }
            }
            if found.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                return Ok(count);
            }
            after = found.last().map(|found| found.name.clone());
        }
    }
}

/// The line of a document that cannot be read; any other error ends the check.
fn fault(what: &str, error: Error) -> Result<String> {
    if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) {
        return Ok(format!("{what}: {}", error.message()));
    }
    Err(error)
}

/// Every field of a memory but its content, payload and vectors.
pub(super) fn memory_mask() -> Vec<String> {
    let mut projection = Projection::narrow();
    projection.metadata = true;
    let mut paths = model::mask(&projection, &[]);
    paths.extend(model::row_mask());
    paths.extend(
        [f::BY_ID, f::BY_OCCURRED, f::BY_CREATED, f::BY_UPDATED, f::KEYS, f::LISTS]
            .map(str::to_owned),
    );
    paths.sort();
    paths.dedup();
    paths
}

/// What a memory's document holds for its indexes, made anew from its other fields.
///
/// # Errors
/// `Corrupt`, `Unsupported`: naming the document.
pub(super) fn made_anew(
    settings: &FirestoreSettings,
    found: &Found,
) -> Result<(Row, HashMap<String, Value>)> {
    let row = Row::read(found)?;
    let item = model::item(found, &[])?;
    let put = Put { item, vectors: Vectors::default(), precondition: Default::default() };
    let document = model::document(settings, found.name.clone(), &put, &row.commit);
    Ok((row, document.fields))
}

/// What is wrong with a memory that can be read; `None` for nothing.
fn check_memory(settings: &FirestoreSettings, found: &Found) -> Result<Option<&'static str>> {
    let (_, anew) = made_anew(settings, found)?;
    for field in [f::BY_ID, f::BY_OCCURRED, f::BY_CREATED, f::BY_UPDATED] {
        if found.fields.get(field) != anew.get(field) {
            return Ok(Some("a sort key is not that of its field"));
        }
    }
    for field in [f::KEYS, f::LISTS] {
        // Keys that other settings declared may be there too.
        let keys = |fields: &HashMap<String, Value>, key: &MetaKey| match fields
            .get(field)
            .and_then(|value| value.value_type.as_ref())
        {
            Some(ValueType::MapValue(map)) => map.fields.get(key.as_str()).cloned(),
            _ => None,
        };
        let agree = |key: &MetaKey| keys(&found.fields, key) == keys(&anew, key);
        if !settings.filter_keys.keys().all(agree) {
            return Ok(Some("a filter key is not that of its metadata: declare_filter_keys"));
        }
    }
    Ok(None)
}

fn value_of<'a>(found: &'a Found, field: &str) -> Option<&'a ValueType> {
    found.fields.get(field)?.value_type.as_ref()
}

impl FirestoreStore {
    /// Some of the tenants that have a document, listed or not, by name after the document `after`.
    pub(super) async fn some_tenants(
        &self,
        call: Call<'_>,
        after: Option<&str>,
    ) -> Result<Vec<TenantId>> {
        let most = usize::try_from(PAGE).unwrap_or(usize::MAX);
        let scan = Scan::of(&self.names.tenants).after(after).limit(most).select(&[]);
        let found = self.scan(call, &self.names.root, scan).await?;
        found.iter().map(|found| tenant_of(&found.name)).collect()
    }
}
