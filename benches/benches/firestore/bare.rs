//! The bare crate, as its documentation shows it: records that serialise themselves, the fluent
//! interface, and its simple batch writer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use firestore::{
    FirestoreDb, FirestoreDbOptions, FirestoreFindNearestDistanceMeasure,
    FirestoreFindNearestOptions, FirestoreInstant, FirestoreTimestamp, FirestoreVector,
};
use memory_core::{ContentHash, IdSource as _, RandomIds, Timestamp};
use serde::{Deserialize, Serialize, Serializer};
use tokio::task::JoinSet;

use crate::{Contestant, NEIGHBOURS, PAGE, Raw};

/// The collection of a tenant's memories.
const MEMORIES: &str = "memories";
/// The collection of tenants.
const TENANTS: &str = "bare";
/// The field of the vector, with a name as long as the store's own.
const VECTOR: &str = "vector_s0123456789ab";
/// What the name of the store's own begins with.
const VECTOR_PREFIX: &str = "vector_s";
/// Documents of a batch: as in the crate's documentation, half a megabyte of these.
const BATCH: usize = 100;
/// The fields that are read: all but the vector and what only queries use.
const FIELDS: [&str; 15] = [
    "v",
    "user_id",
    "agent_id",
    "session_id",
    "kind",
    "role",
    "author",
    "content",
    "content_hash",
    "metadata",
    "importance",
    "occurred_at",
    "created_at",
    "updated_at",
    "visible_until",
];

/// What is stored: what the store itself stores of the same memory. The crate wants it to be readable
/// as well, but nobody reads it.
#[derive(Serialize, Deserialize)]
struct Stored {
    v: i64,
    #[serde(skip_deserializing)]
    commit: Bytes,
    user_id: String,
    agent_id: String,
    session_id: String,
    kind: String,
    role: String,
    author: String,
    content: String,
    content_hash: String,
    metadata: BTreeMap<String, String>,
    importance: f64,
    occurred_at: FirestoreTimestamp,
    created_at: FirestoreTimestamp,
    updated_at: FirestoreTimestamp,
    visible_until: FirestoreTimestamp,
    by_id: String,
    by_occurred: String,
    by_created: String,
    by_updated: String,
    spaces: Vec<String>,
    vector_s0123456789ab: FirestoreVector,
}

/// What is read.
#[derive(Deserialize)]
#[expect(dead_code, reason = "the whole record is read, as a user's would be")]
struct Read {
    v: i64,
    user_id: String,
    agent_id: String,
    session_id: String,
    kind: String,
    role: String,
    author: String,
    content: String,
    content_hash: String,
    metadata: BTreeMap<String, String>,
    importance: f64,
    occurred_at: FirestoreTimestamp,
    created_at: FirestoreTimestamp,
    updated_at: FirestoreTimestamp,
    visible_until: FirestoreTimestamp,
    #[serde(rename = "_distance", default)]
    distance: Option<f64>,
}

/// What a create brings back: as little as can be asked for.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only that it comes is of interest")]
struct Created {
    v: i64,
}

/// Bytes that are stored as such.
#[derive(Default)]
struct Bytes([u8; 16]);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

fn instant(time: Timestamp) -> Result<FirestoreTimestamp> {
    Ok(FirestoreTimestamp(FirestoreInstant::from_microsecond(time.as_micros())?))
}

impl Stored {
    fn new(raw: &Raw) -> Result<Self> {
        let time = instant(raw.occurred_at)?;
        let key = format!("{:016x}{}", raw.occurred_at.as_micros(), raw.id);
        Ok(Self {
            v: 1,
            commit: Bytes(*RandomIds.commit_id().as_bytes()),
            user_id: "ada".to_owned(),
            agent_id: String::new(),
            session_id: raw.session.clone(),
            kind: "message".to_owned(),
            role: "user".to_owned(),
            author: "Ada".to_owned(),
            content: raw.content.clone(),
            content_hash: ContentHash::of(&raw.content).to_string(),
            metadata: BTreeMap::from([("topic".to_owned(), "tea".to_owned())]),
            importance: 0.5,
            occurred_at: time,
            created_at: time,
            updated_at: time,
            visible_until: instant(Timestamp::FAR_FUTURE)?,
            by_id: raw.id.clone(),
            by_occurred: key.clone(),
            by_created: key.clone(),
            by_updated: key,
            spaces: vec!["s0123456789ab".to_owned()],
            vector_s0123456789ab: vector(&raw.vector),
        })
    }
}

fn vector(components: &[f32]) -> FirestoreVector {
    components.iter().map(|component| f64::from(*component)).into()
}

/// A client and the document of one tenant.
#[derive(Clone)]
pub(crate) struct Bare {
    db: FirestoreDb,
    parent: String,
}

impl Bare {
    /// A client of the emulator that the environment names, without retries, and with the same
    /// request timeout as the store's.
    pub(crate) async fn new(project: &str) -> Result<Self> {
        let options = FirestoreDbOptions::new(project.to_owned())
            .with_max_retries(0)
            .with_request_timeout(Duration::from_secs(15));
        Self::of(FirestoreDb::with_options(options).await?, "read")
    }

    fn of(db: FirestoreDb, tenant: &str) -> Result<Self> {
        let parent = db.parent_path(TENANTS, tenant)?.into();
        Ok(Self { db, parent })
    }

    /// One trivial request: a field of one document, as it comes.
    pub(crate) async fn trip(&self, id: &str) -> Result<()> {
        let found = self.db.fluent().select().fields(["v"]).by_id_in(MEMORIES);
        found.parent(&self.parent).one(id).await?.context("the document is not there")?;
        Ok(())
    }

    /// Fails where the store's documents no longer have the fields that these have.
    pub(crate) async fn check_contents(&self, raw: &Raw) -> Result<()> {
        let store = self.db.parent_path("tenants", "read")?;
        let mut fields = Vec::new();
        for parent in [store.as_ref(), self.parent.as_str()] {
            let found = self.db.fluent().select().by_id_in(MEMORIES).parent(parent);
            let document = found.one(&raw.id).await?.context("the document is not there")?;
            let name = |name: &String| match name.starts_with(VECTOR_PREFIX) {
                true => VECTOR.to_owned(),
                false => name.clone(),
            };
            fields.push(document.fields.keys().map(name).collect::<BTreeSet<_>>());
        }
        ensure!(fields[0] == fields[1], "the bare documents have other fields: {fields:?}");
        Ok(())
    }

    async fn batches(&self, raws: &[Raw]) -> Result<()> {
        let writer = self.db.create_simple_batch_writer().await?;
        for part in raws.chunks(BATCH) {
            let mut batch = writer.new_batch();
            for raw in part {
                self.db
                    .fluent()
                    .update()
                    .in_col(MEMORIES)
                    .document_id(&raw.id)
                    .parent(&self.parent)
                    .object(&Stored::new(raw)?)
                    .add_to_batch(&mut batch)?;
            }
            let answer = batch.write().await?;
            ensure!(answer.statuses.len() == part.len(), "writes have no answer");
            ensure!(answer.statuses.iter().all(|status| status.code == 0), "a write failed");
        }
        Ok(())
    }
}

#[async_trait]
impl Contestant for Bare {
    async fn elsewhere(&self, name: &str) -> Result<Arc<dyn Contestant>> {
        Ok(Arc::new(Self::of(self.db.clone(), name)?))
    }

    async fn get(&self, id: &str) -> Result<()> {
        let found: Option<Read> = self
            .db
            .fluent()
            .select()
            .fields(FIELDS)
            .by_id_in(MEMORIES)
            .parent(&self.parent)
            .obj()
            .one(id)
            .await?;
        ensure!(found.is_some_and(|item| !item.content.is_empty()), "it is not there");
        Ok(())
    }

    async fn add(&self, raw: &Raw) -> Result<()> {
        let _created: Created = self
            .db
            .fluent()
            .insert()
            .into(MEMORIES)
            .document_id(&raw.id)
            .parent(&self.parent)
            .return_only_fields(["v"])
            .object(&Stored::new(raw)?)
            .execute()
            .await?;
        Ok(())
    }

    async fn page(&self, session: &str) -> Result<()> {
        let now = FirestoreTimestamp::now();
        let page: Vec<Read> = self
            .db
            .fluent()
            .select()
            .fields(FIELDS)
            .from(MEMORIES)
            .parent(&self.parent)
            .filter(|filter| {
                filter.for_all([
                    filter.field("session_id").eq(session),
                    filter.field("visible_until").greater_than(now),
                ])
            })
            .order(|order| {
                order.fields([
                    order.field("by_occurred").desc(),
                    order.field("visible_until").desc(),
                ])
            })
            .limit(PAGE)
            .obj()
            .query()
            .await?;
        ensure!(page.len() == usize::try_from(PAGE)?, "the page is not full");
        Ok(())
    }

    async fn nearest(&self, near: &[f32]) -> Result<()> {
        let options = FirestoreFindNearestOptions::new(
            VECTOR.to_owned(),
            vector(near),
            FirestoreFindNearestDistanceMeasure::Cosine,
            NEIGHBOURS,
        )
        .with_distance_result_field("_distance".to_owned());
        let found: Vec<Read> = self
            .db
            .fluent()
            .select()
            .fields(FIELDS.into_iter().chain(["_distance"]))
            .from(MEMORIES)
            .parent(&self.parent)
            .filter(|filter| filter.for_all([filter.field("user_id").eq("ada")]))
            .find_nearest_with_options(options)
            .obj()
            .query()
            .await?;
        ensure!(found.len() == usize::try_from(NEIGHBOURS)?, "neighbours are missing");
        ensure!(found.iter().all(|hit| hit.distance.is_some()), "distances are missing");
        Ok(())
    }

    async fn load(&self, raws: &Arc<[Raw]>, writers: usize) -> Result<()> {
        let share = raws.len().div_ceil(writers);
        let mut tasks = JoinSet::new();
        for first in (0..raws.len()).step_by(share) {
            let (bare, raws) = (self.clone(), Arc::clone(raws));
            tasks.spawn(
                async move { bare.batches(&raws[first..raws.len().min(first + share)]).await },
            );
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }
}
