//! One tenant's index: words, vectors, and what filters look at.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use memory_core::traits::{ChangePosition, HitContext, TenantSpaces};
use memory_core::{
    Cursor, Error, ErrorKind, MemoryId, MemoryItem, MetaValue, Metric, Result, Revision, SpaceId,
    Timestamp,
};
use memory_index::{DocEntry, DocKey, Storage, Surroundings, TenantIndex, VectorInput, VectorScan};
use memory_text::Analyzer;
use tokio::sync::Mutex;

/// What is kept of a memory beside its words and vectors.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) revision: Revision,
    /// Without content, payload and vectors: what filters look at.
    pub(super) item: MemoryItem,
}

/// The index of a tenant.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) index: TenantIndex,
    heads: HashMap<DocKey, Head>,
    keys: HashMap<MemoryId, DocKey>,
    next: DocKey,
    /// The slot of each space.
    spaces: BTreeMap<SpaceId, u8>,
    /// That of the spaces when the index was made.
    pub(super) spaces_version: u64,
    /// Up to where the change log has been read.
    pub(super) position: ChangePosition,
    /// Bytes of the heads, about.
    head_bytes: usize,
}

/// Bytes of a head beside its texts: the item, and its places in two tables.
const HEAD_BYTES: usize = size_of::<Head>() + 2 * (size_of::<DocKey>() + size_of::<MemoryId>());

impl Tenant {
    /// An empty index; `with_vectors`: of the vectors of these spaces too.
    pub(super) fn new(
        spaces: &TenantSpaces,
        with_vectors: bool,
        position: ChangePosition,
    ) -> Result<Self> {
        let mut index = TenantIndex::new();
        let mut slots = BTreeMap::new();
        for (slot, space) in (0..).zip(spaces.active.iter().chain(&spaces.next)) {
            if !with_vectors {
                break;
            }
            let metric = match space.metric() {
                Metric::Cosine => memory_index::Metric::Cosine,
                Metric::Dot => memory_index::Metric::Dot,
                Metric::Euclidean => memory_index::Metric::Euclidean,
            };
            let dimensions = usize::try_from(space.dimensions()).unwrap_or(usize::MAX);
            let scan =
                VectorScan::new(dimensions, metric, Storage::CodesAndRows).map_err(|error| {
                    odd("a space of the tenant cannot be indexed").with_source(error)
                })?;
            index.set_space(slot, scan);
            slots.insert(space.id(), slot);
        }
        Ok(Self {
            index,
            heads: HashMap::new(),
            keys: HashMap::new(),
            next: 1,
            spaces: slots,
            spaces_version: spaces.version,
            position,
            head_bytes: 0,
        })
    }

    /// Takes a record in, in place of an older one.
    pub(super) fn put(&mut self, analyzer: &Analyzer, item: MemoryItem) -> Result<()> {
        let revision = item
            .revision
            .clone()
            .ok_or_else(|| odd("the store gave a record without a revision"))?;
        let key = match self.keys.get(&item.id) {
            Some(key) => *key,
            None => {
                self.next += 1;
                self.next - 1
            }
        };
        // The speaker's name is a word of the turn: people ask for what somebody said.
        let joined = item.author.as_ref().map(|author| format!("{author}\n{}", item.content()));
        let terms = analyzer.terms(joined.as_deref().unwrap_or(item.content()));
        let words: Vec<(&str, u32)> =
            terms.terms.iter().map(|(term, count)| (term.as_str(), *count)).collect();
        let context = HitContext::of(&item);
        let rows: Vec<(u8, VectorInput<'_>)> = item
            .vectors
            .iter()
            .filter_map(|(space, row)| Some((*self.spaces.get(space)?, VectorInput::Row(row))))
            .collect();
        let until = item.expires_at.map_or(i64::MAX, Timestamp::as_micros);
        let entry = DocEntry::new(key, terms.tokens, &words)
            .named(item.id.as_str(), 0)
            .visible_until(until)
            .around(Surroundings {
                session: context.session,
                author: context.author.as_deref(),
                time: context.occurred_at.as_micros(),
                importance: context.importance,
            })
            .vectors(&rows);
        self.index
            .upsert(&entry)
            .map_err(|error| odd("a stored vector does not fit its space").with_source(error))?;
        let item = head_of(item);
        self.keys.insert(item.id.clone(), key);
        self.head_bytes += bytes_of(&item);
        if let Some(before) = self.heads.insert(key, Head { revision, item }) {
            self.head_bytes -= bytes_of(&before.item);
        }
        Ok(())
    }

    /// Takes a record out.
    pub(super) fn remove(&mut self, id: &MemoryId) {
        if let Some(key) = self.keys.remove(id) {
            self.index.remove(key);
            self.forget(key);
        }
    }

    /// Takes out what has expired.
    pub(super) fn expire(&mut self, now: Timestamp) {
        if self.index.next_expiry().is_none_or(|next| next > now.as_micros()) {
            return;
        }
        self.index.expire(now.as_micros());
        let index = &self.index;
        let gone: Vec<DocKey> =
            self.heads.keys().copied().filter(|key| !index.contains(*key)).collect();
        for key in gone {
            self.forget(key);
        }
        let heads = &self.heads;
        self.keys.retain(|_, key| heads.contains_key(key));
    }

    fn forget(&mut self, key: DocKey) {
        if let Some(head) = self.heads.remove(&key) {
            self.head_bytes -= bytes_of(&head.item);
        }
    }

    pub(super) fn head(&self, key: DocKey) -> Option<&Head> {
        self.heads.get(&key)
    }

    pub(super) fn space(&self, space: &SpaceId) -> Option<&VectorScan> {
        self.index.space(*self.spaces.get(space)?)
    }

    fn bytes(&self) -> usize {
        self.index.memory_bytes() + self.head_bytes
    }
}

/// An item without content, payload and vectors.
fn head_of(item: MemoryItem) -> MemoryItem {
    let mut head = MemoryItem::from_stored(item.id.clone(), String::new(), item.content_hash());
    head.user_id = item.user_id;
    head.agent_id = item.agent_id;
    head.session_id = item.session_id;
    head.kind = item.kind;
    head.role = item.role;
    head.author = item.author;
    head.metadata = item.metadata;
    head.importance = item.importance;
    head.occurred_at = item.occurred_at;
    head.created_at = item.created_at;
    head.updated_at = item.updated_at;
    head.expires_at = item.expires_at;
    head.revision = item.revision;
    head
}

/// Bytes of a head, about.
fn bytes_of(item: &MemoryItem) -> usize {
    let text = |length: usize| if length == 0 { 0 } else { length + 16 };
    let id = |id: Option<usize>| text(id.unwrap_or(0));
    let metadata: usize =
        item.metadata.iter().map(|(key, value)| text(key.as_str().len()) + size(value) + 48).sum();
    HEAD_BYTES
        + 2 * text(item.id.as_str().len())
        + id(item.user_id.as_ref().map(|it| it.as_str().len()))
        + id(item.agent_id.as_ref().map(|it| it.as_str().len()))
        + id(item.session_id.as_ref().map(|it| it.as_str().len()))
        + id(item.author.as_ref().map(String::len))
        + metadata
}

fn size(value: &MetaValue) -> usize {
    match value {
        MetaValue::Text(text) => text.len(),
        MetaValue::List(texts) => texts.iter().map(|text| text.len() + 24).sum(),
        _ => 0,
    }
}

/// An index that is being made: what has been read so far stays when a call is dropped.
#[derive(Debug)]
pub(super) struct Loading {
    pub(super) tenant: Tenant,
    pub(super) after: Option<Cursor>,
}

/// What a tenant's index takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) is_loaded: bool,
    pub(super) memories: usize,
    pub(super) bytes: usize,
}

/// The place of a tenant's index.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Held by who brings the index up to date.
    pub(super) gate: Mutex<Option<Loading>>,
    tenant: RwLock<Option<Tenant>>,
    /// The spaces' version that a search saw; the index has to be made with it or a later one.
    expected: AtomicU64,
    memories: AtomicUsize,
    bytes: AtomicUsize,
}

impl Slot {
    /// Up to where the index has read the log; `None` where it has to be made.
    pub(super) fn position(&self) -> Option<ChangePosition> {
        let tenant = self.tenant.read().unwrap_or_else(PoisonError::into_inner);
        let expected = self.expected.load(Ordering::Acquire);
        tenant.as_ref().filter(|tenant| tenant.spaces_version >= expected).map(|it| it.position)
    }

    /// Notes which version of the spaces a search needs.
    pub(super) fn expect(&self, version: u64) {
        self.expected.fetch_max(version, Ordering::AcqRel);
    }

    pub(super) fn expected(&self) -> u64 {
        self.expected.load(Ordering::Acquire)
    }

    /// Looks at the index.
    ///
    /// # Errors
    /// Those of `look`; `Unavailable`: it was let go of meanwhile.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Tenant) -> Result<T>) -> Result<T> {
        let tenant = self.tenant.read().unwrap_or_else(PoisonError::into_inner);
        let tenant = tenant.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the tenant's index is being made anew: try again")
        })?;
        look(tenant)
    }

    /// Changes the index, where there is one.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Tenant) -> T) -> Option<T> {
        let mut tenant = self.tenant.write().unwrap_or_else(PoisonError::into_inner);
        let tenant = tenant.as_mut()?;
        let answer = change(tenant);
        self.note(Some(tenant));
        Some(answer)
    }

    /// Sets the index, or takes it away.
    pub(super) fn set(&self, tenant: Option<Tenant>) {
        self.note(tenant.as_ref());
        *self.tenant.write().unwrap_or_else(PoisonError::into_inner) = tenant;
    }

    /// Whether something expires by now.
    pub(super) fn expires(&self, now: Timestamp) -> bool {
        let tenant = self.tenant.read().unwrap_or_else(PoisonError::into_inner);
        let next = tenant.as_ref().and_then(|tenant| tenant.index.next_expiry());
        next.is_some_and(|next| next <= now.as_micros())
    }

    fn note(&self, tenant: Option<&Tenant>) {
        self.memories.store(tenant.map_or(0, |it| it.heads.len()), Ordering::Relaxed);
        self.bytes.store(tenant.map_or(0, Tenant::bytes), Ordering::Relaxed);
    }

    pub(super) fn size(&self) -> Size {
        let bytes = self.bytes.load(Ordering::Relaxed);
        Size { is_loaded: bytes > 0, memories: self.memories.load(Ordering::Relaxed), bytes }
    }
}

/// The store answered what it should not.
pub(super) fn odd(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}
