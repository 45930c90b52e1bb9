//! The model against the frozen output of another implementation, and its faults.
//!
//! `ORCHESTRA_MEMORY_TEST_MODEL` names the folder of the model's files; `cargo xtask test` sets it.
//! Without it the tests that need them say that they are skipped, and in CI that is a failure.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper that fails fails its test, and one that is skipped says so"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::executor::block_on;
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{
    CallContext, Clock as _, Deadline, ErrorKind, HealthStatus, ManualClock, TenantId, Timestamp,
};
use memory_embed::minilm::{
    MOST_WINDOWS, MiniLm, MiniLmOptions, Precision, WINDOW, instructions, space,
};
use serde_json::Value;

const VARIABLE: &str = "ORCHESTRA_MEMORY_TEST_MODEL";

/// The model's folder, or a loud word that the test is skipped.
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os(VARIABLE).map(PathBuf::from);
    if folder.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{VARIABLE} must be set in CI");
        eprintln!("SKIPPED: {VARIABLE} is not set; `cargo xtask test` sets it");
    }
    folder
}

fn model() -> Option<MiniLm> {
    folder().map(|folder| MiniLm::open(folder, MiniLmOptions::default()).unwrap())
}

fn int8(folder: &Path) -> MiniLm {
    let options = MiniLmOptions::default().with_precision(Precision::Int8);
    MiniLm::open(folder, options).unwrap()
}

fn context() -> CallContext {
    CallContext::new(TenantId::new("t").unwrap())
}

fn embed(model: &MiniLm, texts: &[&str]) -> memory_core::Result<Vec<Vec<f32>>> {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    block_on(model.embed(&context(), &texts, EmbedPurpose::Document))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

struct Sample {
    text: String,
    ids: Vec<u32>,
    vector: Vec<f32>,
}

/// What `make_parity.py` wrote.
fn samples() -> Vec<Sample> {
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let scale = line["scale"].as_f64().unwrap() / 32_767.0;
        let codes = STANDARD.decode(line["vector"].as_str().unwrap()).unwrap();
        let codes = codes.as_chunks::<2>().0;
        let ids = line["ids"].as_array().unwrap();
        Sample {
            text: line["text"].as_str().unwrap().to_owned(),
            ids: ids.iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect(),
            #[expect(clippy::cast_possible_truncation, reason = "components of a unit vector")]
            vector: codes
                .iter()
                .map(|code| (f64::from(i16::from_le_bytes(*code)) * scale) as f32)
                .collect(),
        }
    };
    include_str!("../data/parity.jsonl").lines().map(read).collect()
}

#[test]
fn tokens_are_those_of_the_other_implementation() {
    let Some(model) = model() else { return };
    let samples = samples();
    assert!(samples.len() > 250);
    let mut wrong = Vec::new();
    for sample in &samples {
        let ids = block_on(model.tokens(&sample.text)).unwrap();
        if ids != sample.ids {
            wrong.push(format!("{:?}\n   {ids:?}\n   {:?}", sample.text, sample.ids));
        }
    }
    assert!(wrong.is_empty(), "{} texts differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn vectors_are_those_of_the_other_implementation() {
    let Some(model) = model() else { return };
    let samples = samples();
    assert!(samples.iter().any(|sample| sample.ids.len() > WINDOW * 3));
    assert!(samples.iter().any(|sample| sample.ids.len() > WINDOW * MOST_WINDOWS));
    let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
    let vectors = embed(&model, &texts).unwrap();
    for (sample, vector) in samples.iter().zip(&vectors) {
        space().check(vector).unwrap();
        let likeness = cosine(vector, &sample.vector);
        assert!(likeness > 0.999_99, "{:?}: {likeness}", sample.text);
    }
}

#[test]
fn every_set_of_instructions_gives_the_same_vectors() {
    let Some(folder) = folder() else { return };
    let samples = samples();
    // The slow sets get a share of the texts, lengths of one and two windows among them.
    let short = samples.iter().filter(|sample| sample.ids.len() < 2 * WINDOW);
    let some: Vec<&Sample> =
        short.enumerate().filter(|(at, _)| at % 4 == 0).map(|(_, s)| s).collect();
    assert!(some.len() > 60 && some.iter().any(|sample| sample.ids.len() > 150));
    let texts: Vec<&str> = some.iter().map(|sample| sample.text.as_str()).collect();
    for name in instructions() {
        let options = MiniLmOptions::default().with_instructions(name);
        let model = MiniLm::open(folder.clone(), options).unwrap();
        let vectors = embed(&model, &texts).unwrap();
        assert_eq!(model.loaded().unwrap().0, name);
        for (sample, vector) in some.iter().zip(&vectors) {
            let likeness = cosine(vector, &sample.vector);
            assert!(likeness > 0.999_99, "{name}: {:?}: {likeness}", sample.text);
        }
    }
    let options = MiniLmOptions::default().with_instructions("abacus");
    assert_eq!(MiniLm::open(folder, options).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_text_has_the_same_vector_alone_and_among_others() {
    let Some(model) = model() else { return };
    let long = "The ferry leaves at noon. ".repeat(400);
    let texts = ["tea", long.as_str(), " ", "\u{1}\u{2}", "Who drinks tea?", "日本語"];
    let together = embed(&model, &texts).unwrap();
    for (text, vector) in texts.iter().zip(&together) {
        let alone = embed(&model, &[text]).unwrap();
        assert_eq!(&alone[0], vector, "{text:.20?}");
    }
    let likeness = |a: usize, b: usize| cosine(&together[a], &together[b]);
    assert!(likeness(0, 4) > 0.5 && likeness(0, 4) > likeness(0, 1) + 0.2);
}

#[test]
fn odd_input_has_a_vector_or_a_clear_error() {
    let Some(model) = model() else { return };
    let megabyte = "x".repeat(1 << 20);
    let chinese = "茶".repeat(300_000);
    for text in [" ", "   \t\n", "\0", megabyte.as_str(), chinese.as_str(), "[SEP][CLS]"] {
        space().check(&embed(&model, &[text]).unwrap()[0]).unwrap();
    }
    assert!(embed(&model, &[]).unwrap().is_empty());
    for texts in [vec![""], vec!["tea", ""], vec!["tea"; 1_025]] {
        assert_eq!(embed(&model, &texts).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(embed(&model, &vec!["tea"; 1_024]).unwrap().len(), 1_024);
}

#[test]
fn a_call_whose_time_is_over_is_not_begun() {
    let Some(folder) = folder() else { return };
    let clock = Arc::new(ManualClock::new(Timestamp::parse("2025-03-01T09:30:00Z").unwrap()));
    let options = MiniLmOptions::default().with_threads(1).with_clock(clock.clone());
    let model = MiniLm::open(folder, options).unwrap();
    let at = |deadline| context().with_deadline(Some(Deadline::at(deadline)));
    let ask = |context: &CallContext| {
        block_on(model.embed(context, &["tea".to_owned()], EmbedPurpose::Query))
    };
    let now = clock.monotonic();
    assert_eq!(ask(&at(now)).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(ask(&at(now + Duration::from_secs(1))).unwrap().len(), 1);
}

#[test]
fn it_is_loaded_by_the_first_text_and_its_health_says_so() {
    let Some(model) = model() else { return };
    assert!(model.loaded().is_none());
    let health = block_on(model.health());
    assert_eq!(health.status, HealthStatus::Healthy);
    assert!(!health.details.contains_key("weight_bytes"));
    embed(&model, &["tea"]).unwrap();
    let (_, bytes) = model.loaded().unwrap();
    // The pooler, which sentences do not use, the positions beyond the window, and what is small
    // (norms and biases) are all that is left out.
    assert!((89_000_000..90_868_376).contains(&bytes), "{bytes}");
    assert!(block_on(model.health()).details.contains_key("weight_bytes"));
    let (sum, bytes) = model.read_weights_once().unwrap();
    assert!(sum.is_finite() && bytes == 6 * (4 * 384 * 384 + 2 * 384 * 1_536) * 4);
    assert!(!format!("{model:?}").contains("words"));
}

#[test]
fn int8_stays_near_and_says_that_it_is_another_space() {
    let Some(folder) = folder() else { return };
    let (model, full) = (int8(&folder), MiniLm::open(&folder, MiniLmOptions::default()).unwrap());
    let samples = samples();
    let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
    let vectors = embed(&model, &texts).unwrap();
    let mut likenesses = Vec::new();
    for (sample, vector) in samples.iter().zip(&vectors) {
        Precision::Int8.space().check(vector).unwrap();
        likenesses.push(cosine(vector, &sample.vector));
    }
    let mean = likenesses.iter().sum::<f64>() / f64::from(u32::try_from(texts.len()).unwrap());
    let least = likenesses.iter().copied().fold(f64::INFINITY, f64::min);
    eprintln!("cosine of int8 to the other implementation: mean {mean:.5}, least {least:.5}");
    assert!(mean > 0.995 && least > 0.98, "mean {mean}, least {least}");

    assert_eq!(model.space(), Precision::Int8.space());
    assert_eq!(full.space(), Precision::F32.space());
    assert_ne!(model.space(), full.space(), "vectors of the two are never mixed");
    let health = block_on(model.health());
    assert_eq!(health.details.get("precision").map(String::as_str), Some("int8"));
    let (_, bytes) = model.loaded().unwrap();
    block_on(full.load()).unwrap();
    let (_, whole) = full.loaded().unwrap();
    assert!(bytes * 100 < whole * 26, "{bytes} of {whole}");
    let (sum, read) = model.read_weights_once().unwrap();
    assert!(sum.is_finite() && read == 6 * (4 * 384 * 384 + 2 * 384 * 1_536));
}

#[test]
fn int8_gives_the_same_bits_with_every_set_of_instructions_and_in_any_company() {
    let Some(folder) = folder() else { return };
    let samples = samples();
    let short = samples.iter().filter(|sample| sample.ids.len() < 2 * WINDOW);
    let texts: Vec<&str> =
        short.enumerate().filter(|(at, _)| at % 16 == 0).map(|(_, s)| s.text.as_str()).collect();
    assert!(texts.len() > 15);
    let mut first: Option<Vec<Vec<f32>>> = None;
    for name in instructions() {
        let options =
            MiniLmOptions::default().with_instructions(name).with_precision(Precision::Int8);
        let vectors = embed(&MiniLm::open(&folder, options).unwrap(), &texts).unwrap();
        let first = first.get_or_insert_with(|| vectors.clone());
        for ((text, one), other) in texts.iter().zip(first).zip(&vectors) {
            assert_eq!(one, other, "{name}: {text:?}");
        }
    }
    let model = int8(&folder);
    for (text, together) in texts.iter().zip(first.unwrap()) {
        assert_eq!(embed(&model, &[text]).unwrap(), [together], "{text:?}");
    }
}

/// A copy of the model's files in a folder of the test's own.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "vocab.txt"] {
        fs::copy(from.join(name), to.path().join(name)).unwrap();
    }
    to
}

#[test]
fn files_that_are_not_the_models_are_refused() {
    let Some(folder) = folder() else { return };
    let open = |folder: &Path| MiniLm::open(folder, MiniLmOptions::default());
    for name in ["model.safetensors", "vocab.txt"] {
        let copied = copy(&folder);
        let path = copied.path().join(name);
        let whole = fs::read(&path).unwrap();

        // One bit in the middle of the weights, or of the vocabulary: found when it is loaded.
        let mut altered = whole.clone();
        altered[whole.len() / 2] ^= 1;
        fs::write(&path, &altered).unwrap();
        let model = open(copied.path()).unwrap();
        let error = embed(&model, &["tea"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.message().contains("model pull"), "{error}");
        let health = block_on(model.health());
        assert_eq!(health.status, HealthStatus::Unhealthy);
        assert!(health.reasons[0].contains(name), "{health:?}");
        // Once it is put right the same model serves.
        fs::write(&path, &whole).unwrap();
        assert_eq!(embed(&model, &["tea"]).unwrap().len(), 1);
        assert_eq!(block_on(model.health()).status, HealthStatus::Healthy);

        // A header that is none.
        let mut altered = whole.clone();
        altered[..16].fill(0xff);
        fs::write(&path, &altered).unwrap();
        let error = embed(&open(copied.path()).unwrap(), &["tea"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.message().contains(name) && error.message().contains("model pull"));

        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(open(copied.path()).unwrap_err().kind(), ErrorKind::Corrupt);
        fs::remove_file(&path).unwrap();
        let error = open(copied.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("model pull"), "{error}");
    }
}
