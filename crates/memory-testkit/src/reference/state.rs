//! What the reference store holds.

use std::collections::{BTreeMap, BTreeSet};

use memory_core::limits::IDEMPOTENCY_MICROS;
use memory_core::traits::{
    Change, ChangeOp, ChangePosition, FencingToken, Lease, StoreKey, TenantSpaces, Tombstone,
};
use memory_core::{
    CommitId, CommitReceipt, ConsumerName, Filter, LeaseName, MemoryId, MemoryItem, Projection,
    SpaceId, TenantId, Timestamp, VectorProjection,
};

/// Everything.
pub(super) struct State {
    pub(super) closed: bool,
    pub(super) key: StoreKey,
    pub(super) tenants: BTreeMap<TenantId, Tenant>,
    pub(super) tombstones: BTreeSet<Tombstone>,
    sequence: u64,
}

impl State {
    pub(super) fn new(key: StoreKey) -> Self {
        Self {
            closed: false,
            key,
            tenants: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            sequence: 0,
        }
    }

    /// The next number of the one counter that revisions, positions and fencing tokens share:
    /// what never goes back is never used twice, whatever is erased meanwhile.
    pub(super) fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The last number given out.
    pub(super) fn last(&self) -> u64 {
        self.sequence
    }

    pub(super) fn tenant(&self, id: &TenantId) -> Option<&Tenant> {
        self.tenants.get(id)
    }

    pub(super) fn tenant_mut(&mut self, id: &TenantId) -> &mut Tenant {
        self.tenants.entry(id.clone()).or_default()
    }

    /// Adds an entry to a tenant's change log.
    pub(super) fn log(&mut self, tenant: &TenantId, op: ChangeOp) {
        let position = ChangePosition(self.next());
        let tenant = self.tenant_mut(tenant);
        tenant.log.push(Change { position, op });
        tenant.head = position;
    }

    /// Drops a tenant's change log, for it may name what was erased, and says so in it.
    pub(super) fn reset_log(&mut self, tenant: &TenantId) {
        let head = self.tenant_mut(tenant).head;
        self.log(tenant, ChangeOp::Reset);
        let tenant = self.tenant_mut(tenant);
        tenant.log.retain(|change| change.position > head);
        tenant.trimmed = head;
    }
}

/// One tenant.
#[derive(Default)]
pub(super) struct Tenant {
    /// Whether it has had a commit since it was last erased.
    pub(super) listed: bool,
    pub(super) records: BTreeMap<MemoryId, Record>,
    pub(super) spaces: TenantSpaces,
    pub(super) keys: BTreeMap<String, KeyRecord>,
    pub(super) log: Vec<Change>,
    pub(super) head: ChangePosition,
    /// Entries up to here have been dropped.
    pub(super) trimmed: ChangePosition,
    pub(super) consumers: BTreeMap<ConsumerName, ChangePosition>,
    pub(super) leases: BTreeMap<LeaseName, Lease>,
    pub(super) fence: Option<FencingToken>,
}

impl Tenant {
    /// The record of an id, unless it has expired.
    pub(super) fn visible(&self, id: &MemoryId, now: Timestamp) -> Option<&Record> {
        self.records.get(id).filter(|record| record.item.is_visible(now))
    }

    /// The visible records that pass a filter, by id.
    pub(super) fn passing<'a>(
        &'a self,
        filter: &'a Filter,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a Record> {
        self.records
            .values()
            .filter(move |record| record.item.is_visible(now) && filter.matches(&record.item))
    }
}

/// One item, whole, with its revision, and what the store knows about it besides.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) item: MemoryItem,
    pub(super) vectors: BTreeMap<SpaceId, Vec<f32>>,
    /// Which commit wrote it.
    pub(super) commit: CommitId,
    /// The counter's value when it was written.
    pub(super) sequence: u64,
}

impl Record {
    /// The item as a projection shows it.
    pub(super) fn project(&self, projection: &Projection) -> MemoryItem {
        let mut item = self.item.clone();
        if !projection.content {
            let full = item;
            let hash = full.content_hash();
            item = MemoryItem::from_stored(full.id, String::new(), hash);
            item.user_id = full.user_id;
            item.agent_id = full.agent_id;
            item.session_id = full.session_id;
            item.kind = full.kind;
            item.role = full.role;
            item.author = full.author;
            item.payload = full.payload;
            item.metadata = full.metadata;
            item.importance = full.importance;
            item.occurred_at = full.occurred_at;
            item.created_at = full.created_at;
            item.updated_at = full.updated_at;
            item.expires_at = full.expires_at;
            item.revision = full.revision;
        }
        if !projection.payload {
            item.payload = None;
        }
        if !projection.metadata {
            item.metadata.clear();
        }
        item.vectors = match &projection.vectors {
            VectorProjection::None => BTreeMap::new(),
            VectorProjection::All => self.vectors.clone(),
            VectorProjection::Space(space) => self
                .vectors
                .get(space)
                .map(|vector| BTreeMap::from([(space.clone(), vector.clone())]))
                .unwrap_or_default(),
        };
        item
    }
}

/// What is kept of a commit under a caller's key.
pub(super) struct KeyRecord {
    pub(super) digest: [u8; 32],
    pub(super) receipt: CommitReceipt,
    pub(super) at: Timestamp,
}

impl KeyRecord {
    /// Whether it still stands: for 24 hours.
    pub(super) fn stands(&self, now: Timestamp) -> bool {
        now.as_micros() - self.at.as_micros() < IDEMPOTENCY_MICROS
    }
}
