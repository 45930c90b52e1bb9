//! Words and vectors in this process, over the records of any store that has a change log.
//!
//! A tenant's index is made from its records when it is first searched, and each search follows the
//! change log first: what was acknowledged before the search began is found, and what was deleted is
//! not. There is nothing to drain and nothing to repair, for the index holds nothing of its own; a
//! log that was trimmed further than the index had read makes it anew. What has expired goes at its
//! instant.
//!
//! Vectors are kept with their records by the store; this index reads them. Memory is bounded over
//! all tenants: those searched longest ago go first.
//!
//! What it costs: the first search of a tenant reads each of its records once; each later one asks
//! the change log, and reads the records that changed.

mod follow;
mod search;
mod settings;
mod tenant;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lru::LruCache;
use memory_core::traits::{
    ChangeLog, IndexHits, KeywordEntry, KeywordIndex, KeywordQuery, RecordStore, SchemaInfo,
    StoreKey, StoreMeta, TenantSpaces, Tombstone, UpsertOutcome, VectorEntry, VectorIndex,
    VectorQuery,
};
use memory_core::{
    CallContext, Capabilities, Capability, Clock, EmbeddingSpace, Error, ErrorKind, Filter,
    FilterKeys, Health, MemoryId, Result, TenantId, limits,
};
use memory_text::{Analyzer, Language};

pub use settings::LocalSettings;

use tenant::Slot;

/// What the index is made over: the parts of one store.
#[derive(Clone, Debug)]
pub struct LocalParts {
    /// The records.
    pub records: Arc<dyn RecordStore>,
    /// Their change log.
    pub changes: Arc<dyn ChangeLog>,
    /// The tenants' embedding spaces.
    pub meta: Arc<dyn StoreMeta>,
    /// What keeps vectors with the records; `None`: this index is of words alone.
    pub vectors: Option<Arc<dyn VectorIndex>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What the indexes hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalStats {
    /// Tenants whose index is in memory.
    pub tenants: usize,
    /// Their memories.
    pub memories: usize,
    /// Bytes, about.
    pub bytes: usize,
    /// Indexes that were made from the records.
    pub loads: u64,
}

/// Words and vectors of each tenant, in this process.
#[derive(Debug)]
pub struct LocalIndexes {
    parts: LocalParts,
    settings: LocalSettings,
    analyzer: Analyzer,
    slots: Mutex<LruCache<TenantId, Arc<Slot>>>,
    loads: std::sync::atomic::AtomicU64,
    closed: AtomicBool,
}

/// Most tenants that are remembered, whatever they take.
const TENANTS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

impl LocalIndexes {
    /// Indexes over a store; nothing is read yet.
    ///
    /// # Errors
    /// `Config`: a setting out of its range, or an unknown language.
    pub fn new(parts: LocalParts, settings: LocalSettings) -> Result<Arc<Self>> {
        let faults = settings.faults();
        if !faults.is_empty() {
            return Err(Error::new(ErrorKind::Config, faults.join("; ")));
        }
        let language: Language = settings
            .language
            .parse()
            .map_err(|_| Error::new(ErrorKind::Config, settings::LANGUAGE))?;
        Ok(Arc::new(Self {
            parts,
            settings,
            analyzer: Analyzer::new(language),
            slots: Mutex::new(LruCache::new(TENANTS)),
            loads: std::sync::atomic::AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }))
    }

    /// What they hold.
    #[must_use]
    pub fn stats(&self) -> LocalStats {
        let slots = self.locked();
        let mut stats =
            LocalStats { loads: self.loads.load(Ordering::Relaxed), ..LocalStats::default() };
        for (_, slot) in slots.iter() {
            let size = slot.size();
            stats.tenants += usize::from(size.is_loaded);
            stats.memories += size.memories;
            stats.bytes += size.bytes;
        }
        stats
    }

    fn locked(&self) -> MutexGuard<'_, LruCache<TenantId, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot of a tenant, made where there is none.
    fn slot(&self, tenant: &TenantId) -> Result<Arc<Slot>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Unavailable, "the index is closed")
                .with_retryable(false)
                .with_backend(self.name()));
        }
        Ok(self.locked().get_or_insert(tenant.clone(), Arc::default).clone())
    }

    /// Lets go of the tenants searched longest ago while all together take more than they may; that
    /// of the last search stays.
    fn settle(&self) {
        let mut slots = self.locked();
        let mut bytes: usize = slots.iter().map(|(_, slot)| slot.size().bytes).sum();
        while bytes > self.settings.most_bytes() && slots.len() > 1 {
            let Some((_, slot)) = slots.pop_lru() else { return };
            bytes = bytes.saturating_sub(slot.size().bytes);
        }
    }

    fn name(&self) -> &'static str {
        self.parts.records.capabilities().backend
    }

    /// Filters name what the store's own searches would take.
    fn check_filter(&self, filter: &Filter) -> Result<()> {
        let FilterKeys::Declared(declared) = self.parts.records.capabilities().filter_keys else {
            return Ok(());
        };
        for field in filter.fields() {
            if let memory_core::Field::Metadata(key) = &field
                && !declared.contains(key)
            {
                return Err(Error::unsupported(format!(
                    "the metadata key `{key}` is not declared in `filter_keys`; filters take \
                     declared keys"
                )));
            }
        }
        Ok(())
    }

    fn vectors(&self) -> Result<&Arc<dyn VectorIndex>> {
        self.parts.vectors.as_ref().ok_or_else(|| {
            Error::unsupported("the index in this process is of words alone here")
                .with_backend(self.name())
        })
    }

    fn close_now(&self) {
        self.closed.store(true, Ordering::Release);
        self.locked().clear();
    }

    /// Those of the records' back end, and the searches: a commit covers the index, for the index has
    /// read the log when it answers.
    fn own_capabilities(&self) -> Capabilities {
        let mut capabilities = self.parts.records.capabilities();
        capabilities.set.insert(Capability::KeywordSearch);
        capabilities.set.insert(Capability::CoLocated);
        if let Some(vectors) = &self.parts.vectors {
            capabilities.set.insert(Capability::VectorSearch);
            capabilities.exact_vectors = true;
            capabilities.max_dimensions = vectors.capabilities().max_dimensions;
        }
        capabilities
    }
}

#[async_trait]
impl KeywordIndex for LocalIndexes {
    /// The text is the record's, so that nothing is to be kept: says whether it is that of the entry.
    async fn upsert(
        &self,
        context: &CallContext,
        entries: &[KeywordEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        let ids: Vec<MemoryId> = entries.iter().map(|entry| entry.id.clone()).collect();
        let projection = memory_core::Projection::narrow();
        if ids.len() > limits::FETCH_IDS {
            return Err(Error::invalid("one call takes up to 1,000 entries"));
        }
        let found = self.parts.records.fetch(context, &ids, &projection).await?;
        let outcome = |(entry, item): (&KeywordEntry, Option<memory_core::MemoryItem>)| match item {
            Some(item) if item.revision.as_ref() == Some(&entry.revision) => UpsertOutcome::Stored,
            _ => UpsertOutcome::Stale,
        };
        Ok(entries.iter().zip(found).map(outcome).collect())
    }

    async fn remove(&self, _context: &CallContext, ids: &[MemoryId]) -> Result<()> {
        if ids.len() > limits::FETCH_IDS {
            return Err(Error::invalid("one call takes up to 1,000 ids"));
        }
        Err(Error::unsupported("the keyword index follows the records: delete the item"))
    }

    async fn search(&self, context: &CallContext, query: &KeywordQuery) -> Result<IndexHits> {
        query.validate()?;
        self.check_filter(&query.filter)?;
        let terms = self.analyzer.query_terms(&query.text);
        if terms.is_empty() {
            return Ok(IndexHits { hits: Vec::new(), exact: true });
        }
        let slot = self.slot(&context.tenant)?;
        let head = self.follow(context, &slot).await?;
        search::reached(head, query.at_least)?;
        slot.with(|tenant| search::keywords(tenant, query, terms))
    }

    async fn authors(&self, context: &CallContext, names: &[String]) -> Result<Vec<String>> {
        let slot = self.slot(&context.tenant)?;
        self.follow(context, &slot).await?;
        slot.with(|tenant| Ok(search::authors(tenant, names)))
    }

    async fn health(&self) -> Health {
        Health::healthy()
    }

    async fn close(&self) -> Result<()> {
        self.close_now();
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        self.own_capabilities()
    }
}

#[async_trait]
impl VectorIndex for LocalIndexes {
    async fn upsert(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        self.vectors()?.upsert(context, space, entries).await
    }

    async fn remove(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()> {
        self.vectors()?.remove(context, space, ids).await
    }

    async fn missing(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        after: Option<MemoryId>,
        limit: u32,
    ) -> Result<Vec<MemoryId>> {
        self.vectors()?.missing(context, space, after, limit).await
    }

    async fn search(&self, context: &CallContext, query: &VectorQuery) -> Result<IndexHits> {
        query.validate()?;
        self.check_filter(&query.filter)?;
        self.vectors()?;
        let slot = self.slot(&context.tenant)?;
        let spaces = self.parts.meta.spaces(context).await?;
        if spaces.find(&query.space.id()).is_none() {
            return Err(search::no_space(&spaces, &query.space));
        }
        slot.expect(spaces.version);
        let head = self.follow(context, &slot).await?;
        search::reached(head, query.at_least)?;
        slot.with(|tenant| search::nearest(tenant, query))
    }

    async fn health(&self) -> Health {
        Health::healthy()
    }

    async fn close(&self) -> Result<()> {
        self.close_now();
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        self.own_capabilities()
    }
}

/// What the store knows about itself; the analyser is this index's.
#[async_trait]
impl StoreMeta for LocalIndexes {
    async fn schema(&self) -> Result<SchemaInfo> {
        self.parts.meta.schema().await
    }
    async fn spaces(&self, context: &CallContext) -> Result<TenantSpaces> {
        self.parts.meta.spaces(context).await
    }
    async fn set_spaces(
        &self,
        context: &CallContext,
        spaces: &TenantSpaces,
    ) -> Result<TenantSpaces> {
        self.parts.meta.set_spaces(context, spaces).await
    }
    async fn analyser(&self) -> Result<Option<String>> {
        Ok(Some(self.analyzer.fingerprint()))
    }
    async fn store_key(&self) -> Result<StoreKey> {
        self.parts.meta.store_key().await
    }
    async fn erased(&self, context: &CallContext, ids: &[MemoryId]) -> Result<Vec<bool>> {
        self.parts.meta.erased(context, ids).await
    }
    async fn add_tombstones(&self, tombstones: &[Tombstone]) -> Result<()> {
        self.parts.meta.add_tombstones(tombstones).await
    }
}
