//! The cache over an embedder that keeps what it is asked.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::executor::block_on;
use futures::future::join_all;
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{
    CallContext, EmbeddingSpace, Error, ErrorKind, Health, HealthStatus, Metric, Result, TenantId,
};
use memory_embed::{CacheStats, CachedEmbedder};
use proptest::prelude::*;

use EmbedPurpose::{Document, Query};

type Script = dyn Fn(&[String], EmbedPurpose) -> Result<Vec<Vec<f32>>> + Send + Sync;

/// Answers by a script, and keeps the calls.
struct Recorder {
    calls: Mutex<Vec<(Vec<String>, EmbedPurpose)>>,
    script: Box<Script>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

#[async_trait]
impl Embedder for Recorder {
    fn space(&self) -> EmbeddingSpace {
        EmbeddingSpace::new("recorder", "1", 2, Metric::Cosine).unwrap()
    }

    fn max_batch(&self) -> usize {
        4
    }

    async fn embed(
        &self,
        _: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        self.calls.lock().unwrap().push((texts.to_vec(), purpose));
        (self.script)(texts, purpose)
    }

    async fn health(&self) -> Health {
        let mut health = Health::healthy();
        health.lower(HealthStatus::Degraded, "so so");
        health
    }
}

impl Recorder {
    fn new(
        script: impl Fn(&[String], EmbedPurpose) -> Result<Vec<Vec<f32>>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { calls: Mutex::new(Vec::new()), script: Box::new(script) })
    }

    fn good() -> Arc<Self> {
        Self::new(|texts, purpose| Ok(texts.iter().map(|text| vector(text, purpose)).collect()))
    }

    /// The texts of each call since the last look.
    fn sent(&self) -> Vec<Vec<String>> {
        self.calls.lock().unwrap().drain(..).map(|(texts, _)| texts).collect()
    }
}

/// A vector that tells texts of different bytes and different purposes apart.
fn vector(text: &str, purpose: EmbedPurpose) -> Vec<f32> {
    let sum = text.bytes().fold(7_u16, |sum, byte| (sum * 31 + u16::from(byte)) % 1_999);
    vec![f32::from(sum), if purpose == Query { 1.0 } else { 2.0 }]
}

fn context() -> CallContext {
    CallContext::new(TenantId::new("t").unwrap())
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn embed(cache: &CachedEmbedder, texts: &[&str], purpose: EmbedPurpose) -> Result<Vec<Vec<f32>>> {
    block_on(cache.embed(&context(), &owned(texts), purpose))
}

fn embed_for(cache: &CachedEmbedder, tenant: &TenantId, texts: &[&str]) -> Vec<Vec<f32>> {
    let context = CallContext::new(tenant.clone());
    block_on(cache.embed(&context, &owned(texts), Document)).unwrap()
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

/// Embeds and compares with what the inner embedder would have answered.
fn check(cache: &CachedEmbedder, texts: &[&str], purpose: EmbedPurpose) {
    let expected: Vec<Vec<f32>> = texts.iter().map(|text| vector(text, purpose)).collect();
    assert_eq!(embed(cache, texts, purpose).unwrap(), expected);
}

fn numbers(stats: CacheStats) -> (u64, u64, usize) {
    (stats.hits, stats.misses, stats.entries)
}

#[test]
fn texts_that_are_there_are_not_sent_and_answers_keep_their_order() {
    let inner = Recorder::good();
    let cache = CachedEmbedder::new(Arc::clone(&inner) as _, 10);
    check(&cache, &["a", "b"], Document);
    assert_eq!(inner.sent(), [["a", "b"]]);
    check(&cache, &["c", "b", "d", "a"], Document);
    assert_eq!(inner.sent(), [["c", "d"]]);
    check(&cache, &["a", "d", "c"], Document);
    assert!(inner.sent().is_empty());
    assert_eq!(numbers(cache.stats()), (5, 4, 4));
}

#[test]
fn a_text_that_stands_twice_in_a_call_is_sent_once() {
    let inner = Recorder::good();
    let cache = CachedEmbedder::new(Arc::clone(&inner) as _, 10);
    check(&cache, &["a", "b", "a", "a"], Document);
    assert_eq!(inner.sent(), [["a", "b"]]);
    assert_eq!(numbers(cache.stats()), (2, 2, 2));
}

#[test]
fn purposes_are_kept_apart() {
    let inner = Recorder::good();
    let cache = CachedEmbedder::new(Arc::clone(&inner) as _, 10);
    check(&cache, &["a"], Document);
    check(&cache, &["a"], Query);
    let calls = std::mem::take(&mut *inner.calls.lock().unwrap());
    assert_eq!(calls, [(owned(&["a"]), Document), (owned(&["a"]), Query)]);
    check(&cache, &["a"], Query);
    check(&cache, &["a"], Document);
    assert!(inner.sent().is_empty());
}

#[test]
fn tenants_share_no_entry_and_share_the_room() {
    let inner = Recorder::good();
    let cache = CachedEmbedder::new(Arc::clone(&inner) as _, 3);
    let (one, two) = (tenant("one"), tenant("two"));
    for tenant in [&one, &two] {
        assert_eq!(embed_for(&cache, tenant, &["a"]), [vector("a", Document)]);
        assert_eq!(inner.sent(), [["a"]], "each sends it for itself");
        assert_eq!(embed_for(&cache, tenant, &["a"]), [vector("a", Document)]);
        assert!(inner.sent().is_empty());
    }
    assert_eq!(numbers(cache.stats()), (2, 2, 2));
    embed_for(&cache, &two, &["b", "c"]);
    assert_eq!(cache.stats().entries, 3);
}

#[test]
fn what_is_forgotten_is_embedded_anew_and_what_others_have_is_kept() {
    let inner = Recorder::good();
    let cache = CachedEmbedder::new(Arc::clone(&inner) as _, 10);
    let (one, two) = (tenant("one"), tenant("two"));
    embed_for(&cache, &one, &["a", "b"]);
    let question = CallContext::new(one.clone());
    block_on(cache.embed(&question, &owned(&["a"]), Query)).unwrap();
    embed_for(&cache, &two, &["a"]);
    inner.sent();
    embed_for(&cache, &one, &["a", "b"]);
    assert!(inner.sent().is_empty());
    cache.forget(&one);
    assert_eq!(cache.stats().entries, 1);
    embed_for(&cache, &two, &["a"]);
    assert!(inner.sent().is_empty());
    block_on(cache.embed(&question, &owned(&["a"]), Query)).unwrap();
    embed_for(&cache, &one, &["a", "b"]);
    assert_eq!(inner.sent(), [owned(&["a"]), owned(&["a", "b"])]);
    // It is kept again.
    embed_for(&cache, &one, &["b"]);
    assert!(inner.sent().is_empty());
    // Nothing there, and no room at all.
    cache.forget(&tenant("three"));
    assert_eq!(cache.stats().entries, 4);
    CachedEmbedder::new(inner, 0).forget(&one);
}

#[test]
fn a_call_under_way_keeps_nothing_of_what_is_forgotten_meanwhile() {
    let forget: Arc<Mutex<Option<Arc<CachedEmbedder>>>> = Arc::default();
    let meanwhile = Arc::clone(&forget);
    let inner = Recorder::new(move |texts, purpose| {
        if let Some(cache) = meanwhile.lock().unwrap().take() {
            cache.forget(&tenant("t"));
        }
        Ok(texts.iter().map(|text| vector(text, purpose)).collect())
    });
    let cache = Arc::new(CachedEmbedder::new(inner, 10));
    *forget.lock().unwrap() = Some(Arc::clone(&cache));
    check(&cache, &["a"], Document);
    assert_eq!(cache.stats().entries, 0);
    check(&cache, &["a"], Document);
    assert_eq!(cache.stats().entries, 1);
}

#[test]
fn texts_are_not_normalised() {
    let inner = Recorder::good();
    let cache = CachedEmbedder::new(Arc::clone(&inner) as _, 10);
    check(&cache, &["a", "A", "a ", "\u{e4}"], Document);
    check(&cache, &["a\u{308}"], Document);
    assert_eq!(numbers(cache.stats()), (0, 5, 5));
}

#[test]
fn the_text_used_longest_ago_makes_room() {
    let inner = Recorder::good();
    let cache = CachedEmbedder::new(Arc::clone(&inner) as _, 2);
    check(&cache, &["a", "b"], Document);
    check(&cache, &["a"], Document);
    check(&cache, &["c"], Document);
    assert_eq!(cache.stats().entries, 2);
    inner.sent();
    // "a" was used after "b".
    check(&cache, &["a", "c"], Document);
    assert!(inner.sent().is_empty());
    check(&cache, &["b"], Document);
    assert_eq!(inner.sent(), [["b"]]);
    // A call of more texts than there is room for is answered whole.
    check(&cache, &["w", "x", "y", "z"], Document);
    assert_eq!(cache.stats().entries, 2);
}

#[test]
fn without_room_nothing_is_kept() {
    let inner = Recorder::good();
    let cache = CachedEmbedder::new(Arc::clone(&inner) as _, 0);
    check(&cache, &["a", "a"], Document);
    check(&cache, &["a"], Document);
    assert_eq!(inner.sent(), [["a"], ["a"]]);
    assert_eq!(numbers(cache.stats()), (1, 2, 0));
}

#[test]
fn errors_are_handed_on_and_not_kept() {
    let failures = Mutex::new(2);
    let inner = Recorder::new(move |texts, purpose| {
        let mut left = failures.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return Err(Error::new(ErrorKind::RateLimited, "slower"));
        }
        Ok(texts.iter().map(|text| vector(text, purpose)).collect())
    });
    let cache = CachedEmbedder::new(Arc::clone(&inner) as _, 10);
    for _ in 0..2 {
        let error = embed(&cache, &["a"], Document).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert_eq!(cache.stats().entries, 0);
    }
    check(&cache, &["a"], Document);
    assert_eq!(inner.sent(), [["a"], ["a"], ["a"]]);
    assert_eq!(numbers(cache.stats()), (0, 3, 1));
}

#[test]
fn answers_that_are_not_one_vector_of_the_space_for_each_text_are_corrupt_and_not_kept() {
    let good = || vec![1.0, 2.0];
    for (answer, words) in [
        (vec![], "0 vectors for 2 texts"),
        (vec![good()], "1 vectors for 2 texts"),
        (vec![good(), good(), good()], "3 vectors for 2 texts"),
        (vec![good(), vec![1.0]], "vector 1"),
        (vec![vec![1.0, f32::NAN], good()], "vector 0"),
        (vec![vec![1.0, f32::INFINITY], good()], "vector 0"),
        (vec![good(), vec![0.0, 0.0]], "vector 1"),
    ] {
        let inner = Recorder::new(move |_, _| Ok(answer.clone()));
        let cache = CachedEmbedder::new(inner, 10);
        let error = embed(&cache, &["a", "b"], Document).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(words), "{error}");
        assert_eq!(cache.stats().entries, 0);
    }
}

#[test]
fn bad_input_is_refused_whatever_is_kept() {
    let inner = Recorder::good();
    let cache = CachedEmbedder::new(Arc::clone(&inner) as _, 10);
    assert_eq!(cache.max_batch(), 4);
    check(&cache, &["a", "b", "c", "d"], Document);
    for (texts, words) in
        [(&["a", "b", "c", "d", "a"][..], "4 texts at the most, not 5"), (&["a", ""][..], "text 1")]
    {
        let error = embed(&cache, texts, Document).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains(words), "{error}");
    }
    assert_eq!(inner.sent().len(), 1);
    assert!(embed(&cache, &[], Document).unwrap().is_empty());
    assert!(inner.sent().is_empty());
}

#[test]
fn space_and_health_are_those_of_the_inner_embedder() {
    let inner = Recorder::good();
    let cache = CachedEmbedder::new(Arc::clone(&inner) as _, 10);
    check(&cache, &["a", "a"], Document);
    assert_eq!(cache.space(), inner.space());
    let health = block_on(cache.health());
    assert_eq!(health.status, HealthStatus::Degraded);
    assert_eq!(health.reasons, ["so so"]);
    let details: Vec<_> = health.details.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(details, [("cache.entries", "1"), ("cache.hits", "1"), ("cache.misses", "1")]);
}

#[test]
fn nothing_of_a_text_is_shown() {
    let cache = CachedEmbedder::new(Recorder::good(), 10);
    check(&cache, &["canary"], Document);
    let shown = format!("{cache:?} {cache:#?} {:?}", cache.stats());
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("entries: 1"), "{shown}");
}

#[test]
fn calls_side_by_side_are_each_answered_whole() {
    let cache = Arc::new(CachedEmbedder::new(Recorder::good(), 3));
    let threads: Vec<_> = (0..4)
        .map(|offset| {
            let cache = Arc::clone(&cache);
            std::thread::spawn(move || {
                let names: Vec<String> =
                    (0..40).map(|n| format!("text {}", (n * 7 + offset) % 9)).collect();
                let context = context();
                let calls = names.chunks(4).map(|texts| cache.embed(&context, texts, Document));
                for (texts, vectors) in names.chunks(4).zip(block_on(join_all(calls))) {
                    let expected: Vec<Vec<f32>> =
                        texts.iter().map(|text| vector(text, Document)).collect();
                    assert_eq!(vectors.unwrap(), expected);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let stats = cache.stats();
    assert_eq!(stats.hits + stats.misses, 160);
    assert!(stats.entries <= 3);
}

proptest! {
    #[test]
    fn the_cache_answers_as_its_embedder_would(
        entries in 0_usize..5,
        calls in prop::collection::vec((prop::collection::vec("[a-f]", 0..5), any::<bool>()), 0..20),
    ) {
        let cache = CachedEmbedder::new(Recorder::good(), entries);
        for (texts, query) in &calls {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            check(&cache, &texts, if *query { Query } else { Document });
        }
        let asked: usize = calls.iter().map(|(texts, _)| texts.len()).sum();
        let stats = cache.stats();
        prop_assert_eq!(stats.hits + stats.misses, asked as u64);
        prop_assert!(stats.entries <= entries);
    }
}
