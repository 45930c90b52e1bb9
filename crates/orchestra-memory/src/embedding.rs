//! The embedder of a memory: where it comes from, or why there is none, and how it does.
//!
//! | file | what it holds |
//! |---|---|
//! | `background` | the thread that makes up for missing vectors |
//! | `open` | an embedder from settings |
//! | `texts` | calls of the embedder: in bounded parts, each answer checked |

mod background;
mod open;
mod texts;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memory_core::traits::Embedder;
use memory_core::{
    Clock, EmbeddingSpace, Error, ErrorKind, Health, HealthStatus, Result, TenantId,
};
use serde::Serialize;

use crate::layers::{Around, Composer};
use crate::settings::{EmbedWhen, EmbeddingSettings, OnEmbedFailure};

pub(crate) use background::{Background, Ender, Queued};
pub(crate) use texts::{FAULTS_IN_A_ROW, TextOutcome, text_of};

/// Most texts of one call of the embedder, where the settings say nothing. 256: as many as the
/// provider `http` has under way at once by its defaults, more than the local model needs for its
/// full speed, and few enough for a pass to be stopped within seconds.
const MOST_PER_CALL: usize = 256;

/// Where an embedder comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EmbedderSource {
    /// The local model, which the provider `auto` found on this machine.
    Auto,
    /// The local model, which the settings ask for.
    MiniLm,
    /// The server that the settings name.
    Http,
    /// The caller's own; see [`MemoryBuilder::embedder`](crate::MemoryBuilder::embedder).
    Own,
}

/// An embedder: what its vectors are, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EmbedderInfo {
    /// The space of its vectors.
    pub space: EmbeddingSpace,
    /// Where it comes from.
    pub source: EmbedderSource,
}

/// How a memory embeds, and how that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EmbeddingState {
    /// The embedder; `None` if there is none.
    pub embedder: Option<EmbedderInfo>,
    /// Why there is none, and what to do about it.
    pub absent: Option<String>,
    /// How the embedder is; `None` if there is none.
    pub health: Option<Health>,
    /// When vectors are made.
    pub when: EmbedWhen,
    /// Calls of the embedder, or of the store for what it made in the background, that failed
    /// since the memory was opened. A search that failed has told its caller and does not count.
    pub failures: u64,
    /// The last of those failures, in words.
    pub last_failure: Option<String>,
    /// Tenants that the thread in the background has still to look at, the one at hand included.
    pub waiting: u64,
}

/// What embeds for a memory. No part of it knows the store.
pub(crate) struct Embedding {
    attached: Option<Attached>,
    absent: Option<String>,
    /// What the settings say that callers' vectors are; only where nothing is attached.
    named: Option<EmbeddingSpace>,
    pub(crate) when: EmbedWhen,
    pub(crate) on_failure: OnEmbedFailure,
    batch_size: Option<usize>,
    clock: Arc<dyn Clock>,
    failures: Mutex<Failures>,
}

/// An embedder in use.
pub(crate) struct Attached {
    embedder: Arc<dyn Embedder>,
    forget: open::Forget,
    pub(crate) space: EmbeddingSpace,
    pub(crate) source: EmbedderSource,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Failures {
    count: u64,
    last: Option<String>,
}

impl Embedding {
    /// Opens what the settings name, or takes the caller's own in its place, and puts the layers
    /// around it.
    ///
    /// # Errors
    /// `Unsupported`: a provider that was not compiled in. Otherwise what keeps a provider that is
    /// named from being opened.
    pub(crate) fn open(
        settings: &EmbeddingSettings,
        own: Option<Arc<dyn Embedder>>,
        composer: &Composer<'_>,
    ) -> Result<(Self, Around)> {
        let found = match own {
            Some(embedder) => open::Found::Embedder(embedder, EmbedderSource::Own),
            None => open::find(settings, &composer.clock)?,
        };
        let mut around = Around::default();
        let (attached, absent) = match found {
            open::Found::Embedder(embedder, source) => {
                // Within the cache, which answers for what costs nothing.
                around = composer.embedder(source)?;
                let embedder = around.embedder(embedder);
                let (embedder, forget) = open::cached(embedder, settings.cache_entries);
                let space = embedder.space();
                let closed = AtomicBool::new(false);
                (Some(Attached { embedder, forget, space, source, closed }), None)
            }
            open::Found::Nothing(reason) => (None, Some(reason)),
        };
        let named = match &attached {
            Some(_) => None,
            None => settings.space()?,
        };
        let embedding = Self {
            attached,
            absent,
            named,
            when: settings.when,
            on_failure: settings.on_failure,
            batch_size: settings.batch_size,
            clock: Arc::clone(&composer.clock),
            failures: Mutex::default(),
        };
        Ok((embedding, around))
    }

    /// Asks the embedder nothing from now on; what was asked is answered.
    pub(crate) fn close(&self) {
        if let Some(attached) = self.attached() {
            attached.closed.store(true, Ordering::Relaxed);
        }
    }

    /// As if the embedder had been found on the machine.
    #[cfg(test)]
    pub(crate) fn found(mut self) -> Self {
        if let Some(attached) = &mut self.attached {
            attached.source = EmbedderSource::Auto;
        }
        self
    }

    /// The embedder.
    pub(crate) fn attached(&self) -> Option<&Attached> {
        self.attached.as_ref()
    }

    /// The embedder, if vectors are made with the writes.
    pub(crate) fn with_writes(&self) -> Option<&Attached> {
        self.attached().filter(|_| self.when == EmbedWhen::Write)
    }

    /// The embedder, if vectors are made in the background.
    pub(crate) fn in_background(&self) -> Option<&Attached> {
        self.attached().filter(|_| self.when == EmbedWhen::Background)
    }

    /// The space that the settings say callers' vectors are of: a tenant that has another one is
    /// a mistake.
    pub(crate) fn named(&self) -> Option<&EmbeddingSpace> {
        self.named.as_ref()
    }

    /// The space that is configured: the embedder's, or the one that the settings name.
    pub(crate) fn space(&self) -> Option<&EmbeddingSpace> {
        self.named().or(self.attached().map(|attached| &attached.space))
    }

    /// The space that the first vector of a caller declares; `None`: one of its own, by its
    /// length.
    pub(crate) fn declared(&self) -> Option<&EmbeddingSpace> {
        let explicit = self.attached().filter(|attached| !attached.stands_aside());
        self.named().or(explicit.map(|attached| &attached.space))
    }

    /// Why nothing embeds, for a note or an error.
    pub(crate) fn no_model(&self) -> String {
        let reason = self.absent.as_deref().unwrap_or("it was taken away");
        format!("there is no embedding model: {reason}")
    }

    /// Drops what this process keeps of the texts that it embedded for a tenant.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        if let Some(attached) = self.attached() {
            (attached.forget)(tenant);
        }
    }

    /// Most texts of one call of the embedder.
    pub(crate) fn texts_per_call(&self) -> usize {
        let most = self.attached().map_or(usize::MAX, |attached| attached.embedder.max_batch());
        self.batch_size.unwrap_or(MOST_PER_CALL).min(most).max(1)
    }

    /// Counts a failure.
    pub(crate) fn note_failure(&self, error: &Error) {
        let mut failures = self.failures();
        failures.count += 1;
        failures.last = Some(error.to_string());
    }

    pub(crate) fn info(&self) -> Option<EmbedderInfo> {
        let attached = self.attached()?;
        Some(EmbedderInfo { space: attached.space.clone(), source: attached.source })
    }

    /// How it goes; `waiting` is the background's part.
    pub(crate) async fn state(&self, waiting: u64) -> EmbeddingState {
        let health = match self.attached() {
            Some(attached) => Some(attached.embedder.health().await),
            None => None,
        };
        let failures = self.failures();
        EmbeddingState {
            embedder: self.info(),
            absent: self.absent.clone(),
            health,
            when: self.when,
            failures: failures.count,
            last_failure: failures.last.clone(),
            waiting,
        }
    }

    /// Takes in the embedder's health, if it was asked for by name: what is wrong with it lowers
    /// the memory to degraded, for records and words are there all the same.
    pub(crate) async fn lower(&self, health: &mut Health) {
        let Some(attached) = self.attached().filter(|attached| !attached.stands_aside()) else {
            return;
        };
        let mut part = attached.embedder.health().await;
        part.status = part.status.min(HealthStatus::Degraded);
        health.merge("embedder", part);
    }

    /// Every change is one assignment or addition, so that a panic elsewhere leaves it whole.
    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attached {
    /// # Errors
    /// `Unavailable`: the memory is closed.
    fn check_open(&self) -> Result<()> {
        match self.closed.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Unavailable, "the memory is closed")
                .with_operation("embed")
                .with_retryable(false)),
        }
    }

    /// Whether it was found rather than asked for, so that it leaves a tenant alone whose vectors
    /// are the caller's.
    pub(crate) fn stands_aside(&self) -> bool {
        self.source == EmbedderSource::Auto
    }
}

impl fmt::Debug for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedding")
            .field("embedder", &self.info())
            .field("absent", &self.absent)
            .field("when", &self.when)
            .finish_non_exhaustive()
    }
}
