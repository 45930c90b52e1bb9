//! The embedder over HTTP against a scripted server on loopback.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod answers;
mod failures;
mod settings;
pub(crate) mod stub;
mod waiting;

use std::sync::Arc;

use futures::executor::block_on;
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{CallContext, Error, ManualClock, Result, TenantId, Timestamp};
use memory_embed::http::{HttpEmbedder, HttpSettings};

use self::stub::{Answer, Request, Stub};

const NOW: &str = "2025-11-06T08:49:00Z";

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::parse(NOW).unwrap()))
}

fn context() -> CallContext {
    CallContext::new(TenantId::new("t").unwrap())
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Vectors of two components with which a text's bytes can be told: its length and 1.
fn lengths(request: &Request) -> Answer {
    let vectors: Vec<Vec<f32>> =
        request.input().iter().map(|text| vec![f32::from(length(text)), 1.0]).collect();
    Answer::vectors(&vectors)
}

fn length(text: &str) -> u16 {
    u16::try_from(text.len()).unwrap()
}

fn settings(stub: &Stub) -> HttpSettings {
    HttpSettings::new(stub.url(), "a-model", 2)
}

fn embedder(settings: HttpSettings) -> HttpEmbedder {
    HttpEmbedder::new(settings, clock()).unwrap()
}

fn embed(embedder: &HttpEmbedder, input: &[&str]) -> Result<Vec<Vec<f32>>> {
    block_on(embedder.embed(&context(), &texts(input), EmbedPurpose::Document))
}

/// All that an error shows of itself and of its causes.
fn shown(error: &Error) -> String {
    let mut shown = format!("{error}\n{error:?}\n{error:#?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        shown += &format!("\n{error}\n{error:?}");
        cause = error.source();
    }
    shown
}
