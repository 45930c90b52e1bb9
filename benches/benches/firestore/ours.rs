//! The store, through the traits that the rest of the project uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use async_trait::async_trait;
use memory_core::traits::{
    AccessToken, BulkWriter as _, CredentialProvider, HitRecords, NoLedger, NoObserver,
    RecordStore as _, RecordStoreExt as _, StoreMeta as _, TenantSpaces, VectorIndex, VectorQuery,
};
use memory_core::{
    CallContext, Commit, CompareOp, EmbeddingSpace, Field, Filter, IdSource as _, Kind, MemoryId,
    MemoryItem, MetaKey, Metric, Precondition, Projection, Query, RandomIds, Role, Scalar,
    SessionId, SystemClock, TenantId, UserId, Vectors, Write,
};
use memory_firestore::{FirestoreSettings, FirestoreStore};

use crate::{Contestant, NEIGHBOURS, PAGE, Raw};

/// The emulator's token.
#[derive(Debug)]
struct Owner;

#[async_trait]
impl CredentialProvider for Owner {
    async fn token(&self, _scopes: &[String]) -> memory_core::Result<AccessToken> {
        Ok(AccessToken::new("owner".to_owned(), None))
    }
}

/// The store and one of its tenants.
pub(crate) struct Ours {
    store: Arc<FirestoreStore>,
    context: CallContext,
    space: EmbeddingSpace,
    topic: MetaKey,
}

impl Ours {
    /// A store with its default settings.
    pub(crate) async fn new(host: &str, project: &str) -> Result<Self> {
        let mut settings = FirestoreSettings::new(project);
        settings.emulator = Some(host.to_owned());
        let clock = Arc::new(SystemClock::new());
        let store =
            FirestoreStore::open(settings, Arc::new(Owner), clock, Arc::new(NoLedger)).await?;
        Self::of(store, "read").await
    }

    async fn of(store: Arc<FirestoreStore>, tenant: &str) -> Result<Self> {
        let context = CallContext::new(TenantId::new(tenant)?);
        let dimensions = u32::try_from(benches::DIMENSIONS)?;
        let space = EmbeddingSpace::new("bench", "1", dimensions, Metric::Cosine)?;
        let before = store.spaces(&context).await?;
        let spaces = TenantSpaces { active: Some(space.clone()), next: None, ..before };
        store.set_spaces(&context, &spaces).await?;
        Ok(Self { store, context, space, topic: MetaKey::new("topic")? })
    }

    fn write(&self, raw: &Raw) -> Result<Write> {
        let id = MemoryId::new(raw.id.as_str())?;
        let mut item = MemoryItem::new(id, raw.content.as_str(), raw.occurred_at)?
            .with_user(UserId::new("ada")?)
            .with_session(SessionId::new(raw.session.as_str())?)
            .with_kind(Kind::Message);
        item.role = Some(Role::User);
        item.author = Some("Ada".to_owned());
        item.importance = Some(0.5);
        item.metadata.insert(self.topic.clone(), "tea".into());
        let vectors = BTreeMap::from([(self.space.id(), raw.vector.clone())]);
        Ok(Write::put(item, Vectors::Replace(vectors), Precondition::Absent))
    }
}

#[async_trait]
impl Contestant for Ours {
    async fn elsewhere(&self, name: &str) -> Result<Arc<dyn Contestant>> {
        Ok(Arc::new(Self::of(Arc::clone(&self.store), name).await?))
    }

    async fn get(&self, id: &str) -> Result<()> {
        let found = self.store.fetch_one(&self.context, &MemoryId::new(id)?).await?;
        ensure!(found.is_some_and(|item| !item.content().is_empty()), "it is not there");
        Ok(())
    }

    async fn add(&self, raw: &Raw) -> Result<()> {
        let commit = Commit::new(RandomIds.commit_id(), vec![self.write(raw)?]);
        self.store.commit(&self.context, commit).await?;
        Ok(())
    }

    async fn page(&self, session: &str) -> Result<()> {
        let filter =
            Filter::Compare(Field::SessionId, CompareOp::Eq, Scalar::Text(session.to_owned()));
        let page = self.store.query(&self.context, &Query::new(PAGE).with_filter(filter)).await?;
        ensure!(page.items.len() == usize::try_from(PAGE)?, "the page is not full");
        Ok(())
    }

    async fn nearest(&self, vector: &[f32]) -> Result<()> {
        let records = HitRecords { first: NEIGHBOURS, projection: Projection::full() };
        let filter = Filter::Compare(Field::UserId, CompareOp::Eq, Scalar::Text("ada".to_owned()));
        let query = VectorQuery::new(self.space.clone(), vector.to_vec(), NEIGHBOURS)
            .with_filter(filter)
            .with_records(Some(records));
        let found = VectorIndex::search(&*self.store, &self.context, &query).await?;
        ensure!(found.hits.len() == usize::try_from(NEIGHBOURS)?, "neighbours are missing");
        ensure!(found.hits.iter().all(|hit| hit.item.is_some()), "records are missing");
        Ok(())
    }

    async fn load(&self, raws: &Arc<[Raw]>, _writers: usize) -> Result<()> {
        let writes = raws.iter().map(|raw| self.write(raw)).collect::<Result<Vec<_>>>()?;
        let id = RandomIds.commit_id();
        let answers = self.store.write_many(&self.context, id, writes, false, &NoObserver).await?;
        for answer in answers {
            answer?;
        }
        Ok(())
    }
}
