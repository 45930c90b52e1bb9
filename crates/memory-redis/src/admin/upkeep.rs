//! Figures, checks, and what Redis has its own ways for.

use std::sync::LazyLock;

use async_trait::async_trait;
use memory_core::traits::{
    BackupReport, ChangePosition, StoreStats, StoreUpkeep, TenantStats, VerifyReport,
};
use memory_core::{CallContext, Error, Result, TenantId, Timestamp};
use redis::Value;

use super::{count, directory, head, list, meta, text};
use crate::error::corrupt;
use crate::fields::from_sortable;
use crate::keys::TenantKeys;
use crate::state;
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};

static FIGURES: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/figures.lua"), Effect::Reads));

/// Memories of one script: some 5 ms of the server's one thread.
const STEP: &str = "1000";
/// Tenants of one page of a walk over all of them.
const TENANTS: u32 = 1_000;
/// Most faults of one tenant that a check lists.
const FAULTS: usize = 20;

/// One memory as a look at all of them sees it.
struct Seen {
    kind: String,
    occurred: Option<i64>,
    visible: Option<i64>,
    has_vector: bool,
    /// The sorted sets that do not have it.
    lacks: String,
}

/// Looks at each memory of a tenant.
async fn look(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    vector: &str,
    checks: bool,
    mut see: impl FnMut(Seen),
) -> Result<()> {
    let base = [store.keys.tenant(&context.tenant).base().to_owned()];
    let mut after = b"-".to_vec();
    loop {
        let checks = if checks { b"1".to_vec() } else { Vec::new() };
        let args = [after, STEP.into(), vector.into(), checks];
        let answer = list(store.wire.script(call, &FIGURES, &base, &args).await?)?;
        let [_, last, rows @ ..] = &answer[..] else {
            return Err(corrupt("the server's answer to a look at memories is odd"));
        };
        for row in rows.chunks_exact(5) {
            see(Seen {
                kind: text(&row[0])?,
                occurred: from_sortable(text(&row[1])?.as_bytes()),
                visible: from_sortable(text(&row[2])?.as_bytes()),
                has_vector: !text(&row[3])?.is_empty(),
                lacks: text(&row[4])?,
            });
        }
        let last = text(last)?;
        if last.is_empty() {
            return Ok(());
        }
        after = format!("({last}").into_bytes();
    }
}

async fn cardinality(store: &RedisStore, call: Call<'_>, tenant: &TenantId) -> Result<[u64; 4]> {
    let keys = store.keys.tenant(tenant);
    let commands = ["x:i", "x:o", "x:c", "x:u"].map(|set| {
        let mut command = redis::cmd("ZCARD");
        command.arg(keys.named(set));
        command
    });
    let answers = store.wire.many_at(call, keys.base(), &commands, Effect::Reads).await?;
    let counts = answers.into_iter().map(|answer| count(&answer?)).collect::<Result<Vec<_>>>()?;
    counts.try_into().map_err(|_| corrupt("a pipeline has another number of answers"))
}

/// Every tenant.
async fn all(store: &RedisStore, call: Call<'_>) -> Result<Vec<TenantId>> {
    let mut tenants = Vec::new();
    loop {
        let page = directory::tenants(store, call, tenants.last(), TENANTS).await?;
        tenants.extend(page.tenants);
        if !page.more {
            return Ok(tenants);
        }
    }
}

/// A number of the answer to `INFO`.
fn info(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line?.trim().parse().ok()
}

#[async_trait]
impl StoreUpkeep for RedisStore {
    /// A round trip for each thousand memories.
    async fn tenant_stats(&self, context: &CallContext) -> Result<TenantStats> {
        self.run("tenant_stats", Some(context), async |call| {
            let state = state::load(self, call, context).await?;
            let vector =
                state.spaces.active.as_ref().map(|space| TenantKeys::vector_field(&space.id()));
            let mut stats = TenantStats::default();
            let now = self.clock.now();
            look(self, call, context, vector.as_deref().unwrap_or_default(), false, |seen| {
                let Some(at) = seen.occurred.and_then(|at| Timestamp::from_micros(at).ok()) else {
                    return;
                };
                if seen.visible.is_some_and(|until| until <= now.as_micros()) {
                    stats.expired += 1;
                    return;
                }
                stats.items += 1;
                *stats.by_kind.entry(seen.kind).or_default() += 1;
                stats.embedded += u64::from(seen.has_vector);
                stats.oldest = Some(stats.oldest.map_or(at, |oldest| oldest.min(at)));
                stats.newest = Some(stats.newest.map_or(at, |newest| newest.max(at)));
            })
            .await?;
            stats.head = ChangePosition(head(self, call, context).await?);
            Ok(stats)
        })
        .await
    }

    /// `tenants`, `items` (expired ones too), `tombstones`, and of all primaries together `keys`,
    /// `memory_bytes` and `memory_limit_bytes` (0: none). A round trip for each tenant.
    async fn store_stats(&self) -> Result<StoreStats> {
        self.run("store_stats", None, async |call| {
            let mut stats = StoreStats::default();
            let tenants = all(self, call).await?;
            let mut items = 0;
            for tenant in &tenants {
                items += cardinality(self, call, tenant).await?[0];
            }
            let mut set = |name: &str, number: u64| {
                stats.numbers.insert(name.to_owned(), number);
            };
            set("tenants", tenants.len() as u64);
            set("items", items);
            set("tombstones", meta::tombstones(self, call).await?);
            let answers =
                self.wire.each_primary(call, &redis::cmd("DBSIZE"), Effect::Reads).await?;
            let mut keys = 0;
            for (_, answer) in answers {
                keys += count(&answer?)?;
            }
            set("keys", keys);
            let mut command = redis::cmd("INFO");
            command.arg("memory");
            let (mut used, mut most) = (0, 0);
            for (_, answer) in self.wire.each_primary(call, &command, Effect::Reads).await? {
                let told = match answer? {
                    Value::VerbatimString { text, .. } => text,
                    other => text(&other)?,
                };
                used += info(&told, "used_memory").unwrap_or_default();
                most += info(&told, "maxmemory").unwrap_or_default();
            }
            set("memory_bytes", used);
            set("memory_limit_bytes", most);
            Ok(stats)
        })
        .await
    }

    /// That each memory has the fields that every one has and is in every sorted set that it belongs
    /// to, and that those of all memories have as many members as there are memories. Not looked for
    /// are a member too many of an owner's set, which a count of that owner's alone shows, or of that
    /// of what expires, which a sweep removes; what the fields hold is checked when it is read.
    ///
    /// A round trip for each thousand memories, and two for each tenant. A tenant that is written to
    /// meanwhile may be reported with other numbers of members.
    async fn verify(&self) -> Result<VerifyReport> {
        self.run("verify", None, async |call| {
            let tenants = all(self, call).await?;
            let mut report = VerifyReport::default();
            let mut items = 0_u64;
            for tenant in tenants.iter().cloned() {
                let context = CallContext::new(tenant);
                let (mut faults, mut more) = (Vec::new(), 0);
                look(self, call, &context, "", true, |seen| {
                    items += 1;
                    if seen.lacks.is_empty() {
                        return;
                    }
                    if faults.len() < FAULTS {
                        faults.push(format!(
                            "tenant {}: a memory is not in {}",
                            context.tenant, seen.lacks
                        ));
                    } else {
                        more += 1;
                    }
                })
                .await?;
                if more > 0 {
                    faults.push(format!("tenant {}: {more} more such memories", context.tenant));
                }
                let [ids, occurred, created, updated] =
                    cardinality(self, call, &context.tenant).await?;
                if [occurred, created, updated] != [ids; 3] {
                    faults.push(format!(
                        "tenant {}: {ids} memories, and {occurred}, {created} and {updated} \
                         places by time",
                        context.tenant
                    ));
                }
                report.faults.extend(faults);
            }
            report.checks.push(format!(
                "{items} memories of {} tenants were held against the sorted sets that they belong to",
                tenants.len()
            ));
            Ok(report)
        })
        .await
    }

    /// `Unsupported`: the server's own snapshots are the way.
    async fn backup(&self, _target: &str) -> Result<BackupReport> {
        self.run("backup", None, async |_| {
            Err(Error::unsupported(
                "a store on Redis is backed up by the server: BGSAVE writes a snapshot of one \
                 moment, which is copied from the server's folder, or a replica is stopped and copied",
            ))
        })
        .await
    }
}
