//! all-MiniLM-L6-v2 on this machine's processor: 384 dimensions, made for sentences and short
//! paragraphs of English; other languages come out worse.
//!
//! | file | what it holds |
//! |---|---|
//! | `wordpiece` | a text to token ids |
//! | `windows` | where a long text is cut, and how its windows become one vector |
//! | `weights` | the format of the weights' file |
//! | `network` | token ids to a vector |
//! | `matrix` | weights in the precision that was chosen |
//! | `kernels` | the inner loops for AVX-512, AVX2, NEON and plain processors, chosen at run time |
//! | `int8` | matrix products in whole numbers of eight bits, the same |
//! | `math` | the arithmetic between matrix products |
//!
//! Numbers are f32 throughout, unless [`Precision::Int8`] is asked for: weights and what they are
//! multiplied with have eight bits then, and all else is f32. The weights are held once, in the
//! order in which they are read: one sentence in f32 takes about twice the time of reading them
//! from memory.

mod int8;
mod kernels;
mod math;
mod matrix;
mod network;
mod weights;
mod windows;
mod wordpiece;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{
    CallContext, Clock, EmbeddingSpace, Error, ErrorKind, Health, HealthStatus, Metric, Result,
};

use crate::cached::check_texts;
use crate::model::{Check, MINILM, ModelFile, open_verified, read_verified, status};
use crate::workers::Workers;
use kernels::Kernels;
use matrix::Arithmetic;
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

/// What the weights are held and multiplied in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32 bits, as the file has them.
    #[default]
    F32,
    /// Eight bits: made of the file's when it is loaded, each output of a layer and each row of the
    /// word embeddings with a scale of its own; what they are multiplied with is brought to eight
    /// bits token by token. A quarter of the memory. Vectors differ from those of
    /// [`Precision::F32`], so that they are a space of their own; they are the same, bit for bit,
    /// with every set of instructions.
    Int8,
}

impl Precision {
    /// `f32` or `int8`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }

    /// The space of the model's vectors in this precision. Vectors of one are not compared with
    /// those of the other: the revision of [`Precision::Int8`] ends in `-int8`.
    ///
    /// # Panics
    /// Never: the names and sizes are valid, as a test shows.
    #[must_use]
    #[expect(clippy::expect_used, reason = "constants that a test checks")]
    pub fn space(self) -> EmbeddingSpace {
        let revision = match self {
            Self::F32 => MINILM.revision.to_owned(),
            Self::Int8 => format!("{}-int8", MINILM.revision),
        };
        #[expect(clippy::cast_possible_truncation, reason = "384")]
        EmbeddingSpace::new(MINILM.name, revision, WIDTH as u32, Metric::Cosine)
            .expect("a valid space")
    }
}

/// The space of the model's vectors in the default precision; see [`Precision::space`].
#[must_use]
pub fn space() -> EmbeddingSpace {
    Precision::default().space()
}

/// How the model is run.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct MiniLmOptions {
    /// Threads that compute; as many as the machine has when `None`. At least one.
    pub threads: Option<usize>,
    /// The clock that deadlines go by; without one they are not looked at.
    pub clock: Option<Arc<dyn Clock>>,
    /// One of [`instructions`], by name; the fastest when `None`. For measurements and tests.
    pub instructions: Option<&'static str>,
    /// What the weights are held and multiplied in.
    pub precision: Precision,
}

/// The sets of instructions that this processor can compute with, the fastest first: `avx512`,
/// `avx2`, `neon`, and always `portable`.
#[must_use]
pub fn instructions() -> Vec<&'static str> {
    kernels::available().iter().map(Kernels::name).collect()
}

impl MiniLmOptions {
    /// Sets how many threads compute.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets the instructions to compute with, one of [`instructions`].
    #[must_use]
    pub fn with_instructions(mut self, name: &'static str) -> Self {
        self.instructions = Some(name);
        self
    }

    /// Sets what the weights are held and multiplied in.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
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
    kernels: Kernels,
    precision: Precision,
    loaded: OnceLock<Arc<Loaded>>,
    /// Held by whoever loads; why that failed the last time, if it did.
    loading: Mutex<()>,
    failed: Mutex<Option<String>>,
    /// Buffers that no pass uses just now; at most one a thread.
    rooms: Mutex<Vec<Room>>,
}

struct Loaded {
    pieces: WordPiece,
    network: Network,
}

/// Texts that were cut into tokens.
enum Begun {
    /// The vectors: the texts were short.
    Done(Vec<Vec<f32>>),
    /// Sequences still to be embedded, in chunks, and how they become vectors.
    Cut(Vec<Vec<Vec<TokenId>>>, Plan),
}

impl MiniLm {
    /// The model whose files lie in `folder`. They are looked at, not read: the first call of
    /// [`Embedder::embed`], or [`MiniLm::load`], reads and verifies them.
    ///
    /// # Errors
    /// `NotFound`: a file is missing. `Corrupt`: one has another size than it should have. Both say
    /// what to do. `PermissionDenied`, `InvalidInput`, `Unavailable`: one cannot be looked at, or is
    /// no file. `Unsupported`: instructions that this processor does not have.
    pub fn open(folder: impl Into<PathBuf>, options: MiniLmOptions) -> Result<Self> {
        let folder = folder.into();
        if let Some(problem) = status(&MINILM, &folder, Check::Sizes).problem() {
            return Err(named(problem));
        }
        let kernels = match options.instructions {
            None => *kernels::active(),
            Some(name) => {
                let found = kernels::available().into_iter().find(|set| set.name() == name);
                found.ok_or_else(|| {
                    let known = instructions().join(", ");
                    named(Error::unsupported(format!("this processor computes with: {known}")))
                })?
            }
        };
        let threads = options
            .threads
            .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
            .unwrap_or(1);
        let shared = Shared {
            folder,
            clock: options.clock,
            kernels,
            precision: options.precision,
            loaded: OnceLock::new(),
            loading: Mutex::default(),
            failed: Mutex::default(),
            rooms: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), workers: Workers::new("minilm", threads) })
    }

    /// What its weights are held and multiplied in.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.shared.precision
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
    /// `NotFound`, `Corrupt`: the files are not those of the model. `Unavailable`,
    /// `PermissionDenied`, `InvalidInput`: they cannot be read. After a failure the next call tries
    /// again.
    ///
    /// # Cancellation
    /// Loading goes on, and the next call finds it done.
    pub async fn load(&self) -> Result<()> {
        if self.shared.loaded.get().is_some() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        self.workers.run(move || shared.loaded().map(|_| ())).await?
    }

    /// What it is, once it is loaded: the instruction set of its matrix products, one of
    /// [`instructions`] or, in [`Precision::Int8`], `avx512vnni`, `avx2` or `portable`, and the
    /// bytes of its weights.
    #[must_use]
    pub fn loaded(&self) -> Option<(&'static str, usize)> {
        let loaded = self.shared.loaded.get();
        loaded.map(|loaded| (loaded.network.kernels(), loaded.network.bytes()))
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

    /// Reads every weight of the layers once, on the calling thread, and gives a sum of all of them
    /// and their bytes: what no pass over one sentence can be faster than, unless the processor's
    /// caches hold them. For measurements.
    ///
    /// # Errors
    /// As [`MiniLm::load`]. It blocks.
    pub fn read_weights_once(&self) -> Result<(f32, usize)> {
        Ok(self.shared.loaded()?.network.sum())
    }
}

impl Shared {
    /// The loaded model. Whoever comes while another loads it waits for that.
    fn loaded(&self) -> Result<Arc<Loaded>> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(Arc::clone(loaded));
        }
        let _only_one = lock(&self.loading);
        if let Some(loaded) = self.loaded.get() {
            return Ok(Arc::clone(loaded));
        }
        let read = self.read().map_err(named);
        *lock(&self.failed) = read.as_ref().err().map(|error| error.message().to_owned());
        let read = Arc::new(read?);
        Ok(Arc::clone(self.loaded.get_or_init(|| read)))
    }

    fn read(&self) -> Result<Loaded> {
        let [weights, vocabulary] = MINILM.files else {
            return Err(Error::new(ErrorKind::Unexpected, "the model has two files"));
        };
        let path = |file: &ModelFile| self.folder.join(file.name);
        let pieces = WordPiece::from_vocabulary(&read_verified(vocabulary, &path(vocabulary))?)?;
        let mut file = open_verified(weights, &path(weights))?;
        let network = Network::read(&mut file, pieces.len(), self.kernels, self.precision);
        // Where the file is another one, that says more than what could not be made of it.
        file.finish()?;
        Ok(Loaded { pieces, network: network? })
    }

    /// Whether the call's time is over.
    fn check(&self, context: &CallContext) -> Result<()> {
        match &self.clock {
            Some(clock) => context.check_deadline(clock.monotonic()),
            None => Ok(()),
        }
    }

    /// Cuts texts into tokens and windows, and embeds them at once if they are few.
    fn begin(&self, context: &CallContext, texts: &[String], at_once: bool) -> Result<Begun> {
        self.check(context)?;
        let loaded = self.loaded()?;
        let (sequences, plan) = windows::cut(&loaded.pieces, texts);
        if at_once && sequences.iter().map(Vec::len).sum::<usize>() <= CHUNK {
            let vectors = self.pass(&loaded, &sequences);
            return Ok(Begun::Done(plan.pool(vectors)));
        }
        Ok(Begun::Cut(windows::chunks(sequences, CHUNK), plan))
    }

    fn later(&self, context: &CallContext, chunk: &[Vec<TokenId>]) -> Result<Vec<Vec<f32>>> {
        self.check(context)?;
        Ok(self.pass(&*self.loaded()?, chunk))
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
        self.shared.precision.space()
    }

    fn max_batch(&self) -> usize {
        MOST_TEXTS
    }

    /// Short texts go before the parts of long calls, so that a question does not wait behind an
    /// import.
    ///
    /// # Errors
    /// Those of [`MiniLm::load`]. `Timeout`: the deadline had passed when a thread got to a part;
    /// while a call waits for one, nothing looks at it.
    ///
    /// # Cancellation
    /// A chunk of 256 tokens that is being computed is finished; the others are not begun.
    async fn embed(
        &self,
        context: &CallContext,
        texts: &[String],
        _purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        check_texts(texts, MOST_TEXTS).map_err(named)?;
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        // By one thread, whatever the call has for others.
        self.load().await?;
        let bytes: usize = texts.iter().map(String::len).sum();
        let short = bytes <= SHORT;
        let parts = if short { 1 } else { self.workers.most() };
        let begun = texts.chunks(texts.len().div_ceil(parts)).map(|part| {
            let (shared, context, part) =
                (Arc::clone(&self.shared), context.clone(), part.to_vec());
            let job = move || shared.begin(&context, &part, short);
            async move {
                match short {
                    true => self.workers.run(job).await?,
                    false => self.workers.run_later(job).await?,
                }
            }
        });
        let (mut chunks, mut plans) = (Vec::new(), Vec::new());
        for begun in try_join_all(begun).await? {
            match begun {
                Begun::Done(vectors) => return Ok(vectors),
                Begun::Cut(more, plan) => {
                    chunks.extend(more);
                    plans.push(plan);
                }
            }
        }
        // No more than there are threads wait at a time, so that calls take turns.
        let passes = chunks.into_iter().map(|chunk| {
            let (shared, context) = (Arc::clone(&self.shared), context.clone());
            async move { self.workers.run_later(move || shared.later(&context, &chunk)).await? }
        });
        let passed: Vec<Vec<Vec<f32>>> =
            stream::iter(passes).buffered(self.workers.most()).try_collect().await?;
        let mut vectors = passed.into_iter().flatten();
        Ok(plans.iter().flat_map(|plan| plan.pool(&mut vectors)).collect())
    }

    /// Unhealthy where a file is missing or has another size, and after a load that failed, until
    /// one succeeds; contents are compared when they are loaded. A model that is loaded serves on
    /// without its files: it is degraded then.
    async fn health(&self) -> Health {
        let mut health = Health::healthy();
        health.detail("folder", self.shared.folder.display().to_string());
        let arithmetic = Arithmetic::new(self.shared.kernels, self.shared.precision);
        health.detail("precision", self.shared.precision.name());
        health.detail("instructions", arithmetic.products());
        if let Some((_, bytes)) = self.loaded() {
            health.detail("weight_bytes", bytes.to_string());
        }
        let folder = self.shared.folder.clone();
        let looked = self.workers.run(move || status(&MINILM, &folder, Check::Sizes).problem());
        let problem = match looked.await {
            Ok(problem) => problem.map(|problem| problem.message().to_owned()),
            Err(error) => Some(error.message().to_owned()),
        };
        match (problem.or_else(|| lock(&self.shared.failed).clone()), self.loaded()) {
            (None, _) => {}
            (Some(problem), Some(_)) => health.lower(HealthStatus::Degraded, problem),
            (Some(problem), None) => health.lower(HealthStatus::Unhealthy, problem),
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

fn named(error: Error) -> Error {
    error.with_backend("minilm").with_operation("embed")
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
        let int8 = Precision::Int8.space();
        assert_eq!(int8.id().as_str(), "384/cosine/all-MiniLM-L6-v2@53aa5117-int8");
        assert_eq!(Precision::F32.space(), space());
    }
}
