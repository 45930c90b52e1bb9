//! all-MiniLM-L6-v2 on this machine's processor: 384 dimensions, made for sentences and short
//! paragraphs of English; other languages come out worse.
//!
//! | file | what it holds |
//! |---|---|
//! | `wordpiece` | a text to token ids |
//! | `windows` | where a long text is cut, and how its windows become one vector |
//! | `weights` | the format of the weights' file |
//! | `network` | token ids to a vector |
//! | `kernels` | the inner loops for AVX-512, AVX2, NEON and plain processors, chosen at run time |
//! | `math` | the arithmetic between matrix products |
//!
//! Numbers are f32 throughout. The weights are held once, in the order in which they are read:
//! one sentence takes little longer than reading them from memory.

mod kernels;
mod math;
mod network;
mod weights;
mod windows;
mod wordpiece;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::future::try_join_all;
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{
    CallContext, Clock, EmbeddingSpace, Error, ErrorKind, Health, HealthStatus, Metric, Result,
};

use crate::model::{Check, MINILM, open_verified, read_verified, status};
use crate::workers::Workers;
use network::{Network, Room, WIDTH};
use windows::Plan;

pub use windows::{MOST_WINDOWS, WINDOW};
pub use wordpiece::{TokenId, WordPiece};

/// Most texts of one call.
const MOST_TEXTS: usize = 1_024;

/// Tokens that go through the network together. 256: a product then reads each weight from memory
/// once for twenty tiles of tokens, so that arithmetic alone counts, and the buffers of a pass
/// take 2 MB, which stay in the processor's caches.
const CHUNK: usize = 256;

/// Bytes of texts that are cut into tokens and embedded in one job, without waking another thread
/// in between.
const SHORT: usize = 2_048;

/// The space of the model's vectors.
///
/// # Panics
/// Never: the names and sizes are valid, as a test shows.
#[must_use]
#[expect(clippy::expect_used, reason = "constants that a test checks")]
pub fn space() -> EmbeddingSpace {
    #[expect(clippy::cast_possible_truncation, reason = "384")]
    EmbeddingSpace::new(MINILM.name, MINILM.revision, WIDTH as u32, Metric::Cosine)
        .expect("a valid space")
}

/// How the model is run.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct MiniLmOptions {
    /// Threads that compute; as many as the machine has when `None`. At least one.
    pub threads: Option<usize>,
    /// The clock that deadlines go by; without one they are not looked at.
    pub clock: Option<Arc<dyn Clock>>,
}

impl MiniLmOptions {
    /// Sets how many threads compute.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets the clock that deadlines go by: that of whoever makes the contexts of calls.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }
}

/// The model. It is loaded by the first text; what computes are threads of its own.
///
/// A text of more than [`WINDOW`] tokens is embedded by windows: their vectors are added up,
/// weighted by their tokens, and brought to length 1. A text of more than [`MOST_WINDOWS`] windows
/// is embedded by that many, spread evenly over it.
///
/// The tokenizer knows the special tokens of the model, such as `[SEP]`, by their text, as the
/// model's own does: a text that contains them has another vector, and nothing else happens.
///
/// Both purposes give the same vector.
pub struct MiniLm {
    shared: Arc<Shared>,
    workers: Workers,
}

struct Shared {
    folder: PathBuf,
    clock: Option<Arc<dyn Clock>>,
    loaded: Mutex<Option<Arc<Loaded>>>,
    /// Buffers that no pass uses just now; at most one a thread.
    rooms: Mutex<Vec<Room>>,
}

struct Loaded {
    pieces: WordPiece,
    network: Network,
}

/// What the first job of a call comes to.
enum Begun {
    /// The vectors: the texts were short.
    Done(Vec<Vec<f32>>),
    /// Sequences still to be embedded, in chunks, and how they become vectors.
    Cut(Arc<Loaded>, Vec<Vec<Vec<TokenId>>>, Plan),
}

impl MiniLm {
    /// The model whose files lie in `folder`. They are looked at, not read: the first call of
    /// [`Embedder::embed`], or [`MiniLm::load`], reads and verifies them.
    ///
    /// # Errors
    /// `NotFound`: a file is missing. `Corrupt`: one has another size than it should have. Both say
    /// what to do.
    pub fn open(folder: impl Into<PathBuf>, options: MiniLmOptions) -> Result<Self> {
        let folder = folder.into();
        if let Some(problem) = status(&MINILM, &folder, Check::Sizes).problem() {
            return Err(problem);
        }
        let threads = options
            .threads
            .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
            .unwrap_or(1);
        let shared = Shared {
            folder,
            clock: options.clock,
            loaded: Mutex::default(),
            rooms: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), workers: Workers::new("minilm", threads) })
    }

    /// The folder of its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// Loads it, if that was not done yet: reads both files, compares their checksums, and packs
    /// the weights for this processor.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`: the files are not those of the model. `Unavailable`: they cannot be
    /// read. After a failure the next call tries again.
    ///
    /// # Cancellation
    /// Loading goes on, and the next call finds it done.
    pub async fn load(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.workers.run(move || shared.loaded().map(|_| ())).await?
    }

    /// What it is, once it is loaded: the instruction set in use and the bytes of its weights.
    #[must_use]
    pub fn loaded(&self) -> Option<(&'static str, usize)> {
        let loaded = lock(&self.shared.loaded);
        loaded.as_ref().map(|loaded| (loaded.network.kernels(), loaded.network.bytes()))
    }

    /// The tokens of a text as the network gets them, with both brackets and without any cut.
    ///
    /// # Errors
    /// As [`MiniLm::load`].
    ///
    /// # Cancellation
    /// Leaves nothing.
    pub async fn tokens(&self, text: &str) -> Result<Vec<TokenId>> {
        let (shared, text) = (Arc::clone(&self.shared), text.to_owned());
        self.workers
            .run(move || {
                let loaded = shared.loaded()?;
                let (first, last) = loaded.pieces.brackets();
                Ok([&[first], loaded.pieces.encode(&text).as_slice(), &[last]].concat())
            })
            .await?
    }

    /// Reads every weight of the layers once, on the calling thread, and gives their sum and their
    /// bytes: what no pass over one sentence can be faster than. For measurements.
    ///
    /// # Errors
    /// As [`MiniLm::load`]. It blocks.
    pub fn read_weights_once(&self) -> Result<(f32, usize)> {
        let loaded = self.shared.loaded()?;
        let sum = loaded.network.dense().map(|dense| loaded.network.sum(dense.panels())).sum();
        let numbers: usize = loaded.network.dense().map(|dense| dense.panels().len()).sum();
        Ok((sum, numbers * size_of::<f32>()))
    }
}

impl Shared {
    /// The loaded model. Whoever comes while another loads it waits for that.
    fn loaded(&self) -> Result<Arc<Loaded>> {
        let mut loaded = lock(&self.loaded);
        if let Some(loaded) = &*loaded {
            return Ok(Arc::clone(loaded));
        }
        let [weights, vocabulary] = MINILM.files else {
            return Err(Error::new(ErrorKind::Unexpected, "the model has two files"));
        };
        let path = |name: &str| self.folder.join(name);
        let pieces =
            WordPiece::from_vocabulary(&read_verified(vocabulary, &path(vocabulary.name))?)?;
        let mut file = open_verified(weights, &path(weights.name))?;
        let network = Network::read(&mut file, pieces.len(), *kernels::active())?;
        file.finish()?;
        let new = Arc::new(Loaded { pieces, network });
        *loaded = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Whether the call's time is over.
    fn check(&self, context: &CallContext) -> Result<()> {
        match &self.clock {
            Some(clock) => context.check_deadline(clock.monotonic()),
            None => Ok(()),
        }
    }

    /// Cuts texts into tokens and windows, and embeds them at once if they are few.
    fn begin(&self, context: &CallContext, texts: &[String]) -> Result<Begun> {
        self.check(context)?;
        let loaded = self.loaded()?;
        let (sequences, plan) = windows::cut(&loaded.pieces, texts);
        if sequences.iter().map(Vec::len).sum::<usize>() <= CHUNK {
            let vectors = self.pass(&loaded, &sequences);
            return Ok(Begun::Done(plan.pool(vectors)));
        }
        Ok(Begun::Cut(loaded, windows::chunks(sequences, CHUNK), plan))
    }

    fn pass(&self, loaded: &Loaded, sequences: &[Vec<TokenId>]) -> Vec<Vec<f32>> {
        let mut room = lock(&self.rooms).pop().unwrap_or_default();
        let vectors = loaded.network.forward(sequences, &mut room);
        lock(&self.rooms).push(room);
        vectors
    }
}

#[async_trait]
impl Embedder for MiniLm {
    fn space(&self) -> EmbeddingSpace {
        space()
    }

    fn max_batch(&self) -> usize {
        MOST_TEXTS
    }

    /// # Cancellation
    /// A chunk of 256 tokens that is being computed is finished; the others are not begun.
    async fn embed(
        &self,
        context: &CallContext,
        texts: &[String],
        _purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        if texts.len() > MOST_TEXTS {
            return Err(Error::invalid(format!(
                "a call embeds at most {MOST_TEXTS} texts; this has {}",
                texts.len()
            )));
        }
        if texts.iter().any(String::is_empty) {
            return Err(Error::invalid("an empty text has no embedding"));
        }
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let begin = |texts: Vec<String>| {
            let (shared, context) = (Arc::clone(&self.shared), context.clone());
            self.workers.run(move || shared.begin(&context, &texts))
        };
        let bytes: usize = texts.iter().map(String::len).sum();
        let parts = if bytes <= SHORT { 1 } else { self.workers.most() };
        let begun = texts.chunks(texts.len().div_ceil(parts)).map(|part| begin(part.to_vec()));
        let mut vectors = Vec::with_capacity(texts.len());
        for begun in try_join_all(begun).await? {
            match begun? {
                Begun::Done(done) => vectors.extend(done),
                Begun::Cut(loaded, chunks, plan) => {
                    let jobs = chunks.into_iter().map(|chunk| {
                        let (shared, context) = (Arc::clone(&self.shared), context.clone());
                        let loaded = Arc::clone(&loaded);
                        self.workers.run(move || {
                            shared.check(&context)?;
                            Ok::<_, Error>(shared.pass(&loaded, &chunk))
                        })
                    });
                    let passed: Result<Vec<_>> = try_join_all(jobs).await?.into_iter().collect();
                    vectors.extend(plan.pool(passed?.into_iter().flatten().collect()));
                }
            }
        }
        Ok(vectors)
    }

    /// Unhealthy where a file is missing or has another size; contents are compared when they are
    /// loaded.
    async fn health(&self) -> Health {
        let mut health = Health::healthy();
        health.detail("folder", self.shared.folder.display().to_string());
        match self.loaded() {
            Some((kernels, bytes)) => {
                health.detail("instructions", kernels);
                health.detail("weight_bytes", bytes.to_string());
            }
            None => health.detail("instructions", kernels::active().name()),
        }
        if let Some(problem) = status(&MINILM, &self.shared.folder, Check::Sizes).problem() {
            // A model that is loaded serves on; the next process will not find it.
            let serves = self.loaded().is_some();
            let status = if serves { HealthStatus::Degraded } else { HealthStatus::Unhealthy };
            health.lower(status, problem.message());
        }
        health
    }
}

impl fmt::Debug for MiniLm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MiniLm")
            .field("folder", &self.shared.folder)
            .field("threads", &self.workers.most())
            .field("loaded", &self.loaded().is_some())
            .finish()
    }
}

/// What a lock guards here is whole after each change, so that a panic elsewhere does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_is_the_models() {
        assert_eq!(space().id().as_str(), "384/cosine/all-MiniLM-L6-v2@53aa5117");
    }
}
