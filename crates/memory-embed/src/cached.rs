//! A bounded cache by tenant and text, over any embedder.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lru::LruCache;
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{
    CallContext, ContentHash, EmbeddingSpace, Error, ErrorKind, Health, Result, TenantId,
};

/// A text is known by its hash: the cache holds no memory text. The tenant is shared by the keys
/// of a call.
type Key = (Arc<TenantId>, EmbedPurpose, ContentHash);
type Vector = Arc<[f32]>;

/// What a [`CachedEmbedder`] did so far, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Texts that were not sent to the inner embedder: their vectors were there, or the same text
    /// stood in the same call already.
    pub hits: u64,
    /// Texts that were sent to it, whether it answered or failed.
    pub misses: u64,
    /// Vectors held now.
    pub entries: usize,
}

/// Keeps the vectors of the texts that were used last, so that they are not computed again.
///
/// The key is the tenant, the purpose and the SHA-256 of the text; the vectors of `entries` texts
/// are kept, `4 * dimensions` bytes and some hundred more for each. Texts that are not there go to
/// the inner embedder in one call, each once; calls that miss the same text at the same time each
/// send it. Errors are not kept.
///
/// Tenants share no entry, so that none can tell by the time of a call what another one has
/// embedded; they share the room. What is kept outlives the memory it came from until it makes room
/// or [`CachedEmbedder::forget`] drops it, which is to be called where texts are erased.
///
/// # Cancellation
/// Dropping the future of a call drops the one of the inner embedder; nothing is kept of it.
pub struct CachedEmbedder {
    inner: Arc<dyn Embedder>,
    space: EmbeddingSpace,
    state: Mutex<State>,
}

struct State {
    /// `None`: a cache without room.
    vectors: Option<LruCache<Key, Vector>>,
    hits: u64,
    misses: u64,
    /// How often something was forgotten: what was looked up before is not kept after.
    forgotten: u64,
}

impl CachedEmbedder {
    /// A cache of at most `entries` vectors; with 0 nothing is kept.
    #[must_use]
    pub fn new(inner: Arc<dyn Embedder>, entries: usize) -> Self {
        // `sparse`: room is taken as it is needed, not for all entries at once.
        let vectors = NonZeroUsize::new(entries).map(LruCache::sparse);
        let space = inner.space();
        let state = State { vectors, hits: 0, misses: 0, forgotten: 0 };
        Self { inner, space, state: Mutex::new(state) }
    }

    /// Drops all that is kept of a tenant, hashes and vectors; others keep theirs. Of calls that
    /// are under way, whatever their tenant, nothing is kept; a call that begins later is kept as
    /// ever. Looks at every entry once.
    pub fn forget(&self, tenant: &TenantId) {
        let mut state = self.lock();
        state.forgotten += 1;
        let Some(vectors) = state.vectors.as_mut() else { return };
        let theirs: Vec<Key> = vectors
            .iter()
            .filter(|((owner, ..), _)| **owner == *tenant)
            .map(|(key, _)| key.clone())
            .collect();
        for key in &theirs {
            vectors.pop(key);
        }
    }

    /// What the cache did so far, and what it holds.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let state = self.lock();
        CacheStats {
            hits: state.hits,
            misses: state.misses,
            entries: state.vectors.as_ref().map_or(0, LruCache::len),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock, and a cache half changed is still a cache.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks every text up.
    fn look_up(&self, tenant: &TenantId, texts: &[String], purpose: EmbedPurpose) -> Lookup {
        let tenant = Arc::new(tenant.clone());
        let key = |text: &String| (Arc::clone(&tenant), purpose, ContentHash::of(text));
        let keys: Vec<Key> = texts.iter().map(key).collect();
        let mut known: HashMap<Key, usize> = HashMap::new();
        let mut state = self.lock();
        let mut lookup = Lookup {
            places: Vec::with_capacity(texts.len()),
            missing: Vec::new(),
            forgotten: state.forgotten,
        };
        for (at, key) in keys.into_iter().enumerate() {
            let found = state.vectors.as_mut().and_then(|vectors| vectors.get(&key));
            let place = if let Some(vector) = found {
                Place::Found(Arc::clone(vector))
            } else if let Some(sent) = known.get(&key) {
                Place::Sent(*sent)
            } else {
                let sent = lookup.missing.len();
                known.insert(key.clone(), sent);
                lookup.missing.push((at, key));
                state.misses += 1;
                lookup.places.push(Place::Sent(sent));
                continue;
            };
            state.hits += 1;
            lookup.places.push(place);
        }
        lookup
    }

    /// Checks what the inner embedder answered: one vector for each text, of the space.
    fn check(&self, vectors: &[Vec<f32>], texts: usize) -> Result<()> {
        let corrupt = |message| Err(Error::new(ErrorKind::Corrupt, message));
        if vectors.len() != texts {
            return corrupt(format!(
                "the embedder answered {} vectors for {texts} texts",
                vectors.len()
            ));
        }
        for (at, vector) in vectors.iter().enumerate() {
            if let Err(error) = self.space.check(vector) {
                return corrupt(format!(
                    "vector {at} of the embedder's answer is not of its space: {}",
                    error.message()
                ));
            }
        }
        Ok(())
    }

    /// Keeps what was sent, unless something was forgotten since it was looked up.
    fn keep(&self, missing: Vec<(usize, Key)>, forgotten: u64, fresh: &[Vector]) {
        let mut state = self.lock();
        if state.forgotten != forgotten {
            return;
        }
        if let Some(vectors) = state.vectors.as_mut() {
            for ((_, key), vector) in missing.into_iter().zip(fresh) {
                vectors.put(key, Arc::clone(vector));
            }
        }
    }
}

/// What every embedder refuses, whatever it is.
///
/// # Errors
/// `InvalidInput`: more texts than a call may have, or an empty one.
pub(crate) fn check_texts(texts: &[String], most: usize) -> Result<()> {
    if texts.len() > most {
        return Err(Error::invalid(format!(
            "a call of this embedder takes {most} texts at the most, not {}; split it",
            texts.len()
        )));
    }
    match texts.iter().position(String::is_empty) {
        Some(at) => Err(Error::invalid(format!("text {at} is empty; leave it out"))),
        None => Ok(()),
    }
}

/// Where the vectors of a call come from.
struct Lookup {
    /// One for each text.
    places: Vec<Place>,
    /// The texts that have to be sent: their number in the call, and their key.
    missing: Vec<(usize, Key)>,
    /// [`State::forgotten`] at that time.
    forgotten: u64,
}

enum Place {
    Found(Vector),
    /// The number among those sent.
    Sent(usize),
}

#[async_trait]
impl Embedder for CachedEmbedder {
    fn space(&self) -> EmbeddingSpace {
        self.space.clone()
    }

    /// That of the inner embedder, for a call may miss all of its texts.
    fn max_batch(&self) -> usize {
        self.inner.max_batch()
    }

    async fn embed(
        &self,
        context: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        check_texts(texts, self.max_batch())?;
        let Lookup { places, missing, forgotten } = self.look_up(&context.tenant, texts, purpose);
        let mut fresh: Vec<Vector> = Vec::new();
        if !missing.is_empty() {
            let sent: Vec<String> = missing.iter().map(|(at, _)| texts[*at].clone()).collect();
            let vectors = self.inner.embed(context, &sent, purpose).await?;
            self.check(&vectors, sent.len())?;
            fresh = vectors.into_iter().map(Vector::from).collect();
            self.keep(missing, forgotten, &fresh);
        }
        let vector = |place: &Place| match place {
            Place::Found(vector) => vector.to_vec(),
            Place::Sent(at) => fresh[*at].to_vec(),
        };
        Ok(places.iter().map(vector).collect())
    }

    /// That of the inner embedder, with the cache's numbers as details.
    async fn health(&self) -> Health {
        let mut health = self.inner.health().await;
        let stats = self.stats();
        health.detail("cache.hits", stats.hits.to_string());
        health.detail("cache.misses", stats.misses.to_string());
        health.detail("cache.entries", stats.entries.to_string());
        health
    }
}

impl fmt::Debug for CachedEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedEmbedder")
            .field("inner", &self.inner)
            .field("stats", &self.stats())
            .finish()
    }
}
