//! A small embedder for tests: hashed bags of words. It counts its calls, and fails as it is told.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{
    CallContext, ContentHash, EmbeddingSpace, Error, ErrorKind, Health, HealthStatus, Metric,
    Result,
};

/// Components of a vector.
pub(crate) const DIMENSIONS: u32 = 256;

/// What it refuses, wherever it stands in a text.
pub(crate) const REFUSED: &str = "unspeakable";

/// Words that it takes for the same.
const SAME: [(&str, &str); 3] = [("beverage", "tea"), ("feline", "cat"), ("residence", "home")];

/// The embedder. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Words(Arc<State>);

#[derive(Debug)]
struct State {
    space: EmbeddingSpace,
    max_batch: usize,
    /// The texts of each call.
    calls: Mutex<Vec<(EmbedPurpose, Vec<String>)>>,
    /// Calls that are still to fail, in this way.
    failing: Mutex<(usize, Failure)>,
    /// Whether calls wait for ever.
    held: AtomicBool,
    waiting: AtomicUsize,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Kind(ErrorKind),
    /// It answers with one vector too few.
    Short,
    /// Its vectors have one component too many.
    Long,
    /// A component is no number.
    Nan,
    Panic,
}

impl Words {
    pub(crate) fn new() -> Self {
        Self::of("words", 8)
    }

    /// One of another name, and how many texts it takes at once.
    pub(crate) fn of(model: &str, max_batch: usize) -> Self {
        Self(Arc::new(State {
            space: EmbeddingSpace::new(model, "1", DIMENSIONS, Metric::Cosine).unwrap(),
            max_batch,
            calls: Mutex::default(),
            failing: Mutex::new((0, Failure::Panic)),
            held: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn embedder(&self) -> Arc<dyn Embedder> {
        Arc::new(self.clone())
    }

    /// The next so many calls fail.
    pub(crate) fn fail(&self, calls: usize, failure: Failure) {
        *self.0.failing.lock().unwrap() = (calls, failure);
    }

    /// The next calls do not end.
    pub(crate) fn hold(&self) {
        self.0.held.store(true, Ordering::SeqCst);
    }

    /// How many calls wait for ever.
    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::SeqCst)
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.lock().unwrap().len()
    }

    /// Every text that was sent, and what for; forgotten afterwards.
    pub(crate) fn take(&self) -> Vec<(EmbedPurpose, Vec<String>)> {
        std::mem::take(&mut self.0.calls.lock().unwrap())
    }

    /// Every document that was sent; forgotten afterwards.
    pub(crate) fn documents(&self) -> BTreeSet<String> {
        let documents = |(purpose, texts): (_, Vec<String>)| {
            assert_eq!(purpose, EmbedPurpose::Document);
            texts
        };
        self.take().into_iter().flat_map(documents).collect()
    }

    /// How many handles of it there are.
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

/// The vector of a text: a one at the place of each word's hash, whatever the order.
pub(crate) fn vector(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; DIMENSIONS as usize];
    vector[0] = 0.01;
    for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()) {
        let word = SAME.iter().find(|(other, _)| *other == word).map_or(word, |(_, same)| same);
        if word.len() > 2 {
            let hash = ContentHash::of(word);
            let hash = u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]);
            vector[usize::from(hash) % (DIMENSIONS as usize - 1) + 1] += 1.0;
        }
    }
    vector
}

#[async_trait]
impl Embedder for Words {
    fn space(&self) -> EmbeddingSpace {
        self.0.space.clone()
    }

    fn max_batch(&self) -> usize {
        self.0.max_batch
    }

    async fn embed(
        &self,
        _: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        assert!(!texts.is_empty() && texts.len() <= self.0.max_batch, "{}", texts.len());
        self.0.calls.lock().unwrap().push((purpose, texts.to_vec()));
        if self.0.held.load(Ordering::SeqCst) {
            self.0.waiting.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        let failure = {
            let mut failing = self.0.failing.lock().unwrap();
            let fails = failing.0 > 0;
            failing.0 -= usize::from(fails);
            fails.then_some(failing.1)
        };
        if texts.iter().any(|text| text.contains(REFUSED)) {
            return Err(Error::invalid("a text cannot be embedded"));
        }
        let mut vectors: Vec<Vec<f32>> = texts.iter().map(|text| vector(text)).collect();
        match failure {
            None => {}
            Some(Failure::Kind(kind)) => return Err(Error::new(kind, "the model is away")),
            Some(Failure::Short) => drop(vectors.pop()),
            Some(Failure::Long) => vectors[0].push(1.0),
            Some(Failure::Nan) => vectors[0][1] = f32::NAN,
            Some(Failure::Panic) => panic!("on purpose"),
        }
        Ok(vectors)
    }

    async fn health(&self) -> Health {
        let mut health = Health::healthy();
        if self.0.failing.lock().unwrap().0 > 0 {
            health.lower(HealthStatus::Unhealthy, "the model is away");
        }
        health
    }
}
