//! The local model: one sentence, a thousand turns, loading, and memory.
//!
//! Limits: a pass over one sentence reads the weights of all layers once, 42 MB; the baseline reads
//! them and does nothing else, on the same thread. More tokens than a tile holds are bound by
//! arithmetic: 21 MFLOP a token. Loading is bound by reading the files; the baseline reads them into
//! memory and looks at nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use benches::{Numbers, Times, head, ms, row};
use futures::executor::block_on;
use memory_core::traits::{EmbedPurpose, Embedder as _};
use memory_core::{CallContext, TenantId};
use memory_embed::minilm::{MiniLm, MiniLmOptions};
use memory_embed::model::{MINILM, default_folder};

/// 13 tokens, the brackets among them.
const SENTENCE: &str = "Ada drinks green tea at four with her sister in London";

/// Turns of a conversation.
const TURNS: usize = 1_000;

fn main() -> Result<()> {
    let named = std::env::var_os("ORCHESTRA_MEMORY_MODEL_DIR").map(PathBuf::from);
    let folder = named.or_else(default_folder).context("no folder for models")?;
    let context = CallContext::new(TenantId::new("bench")?);
    let resident = resident_bytes();
    let model = MiniLm::open(&folder, MiniLmOptions::default().with_threads(1))?;
    // First, while nothing else has been held.
    memory(&model, &context, resident)?;
    loading(&folder)?;
    one_sentence(&model, &context)?;
    turns(&folder, &context)
}

fn embed(model: &MiniLm, context: &CallContext, texts: &[String]) -> Result<Vec<Vec<f32>>> {
    Ok(block_on(model.embed(context, texts, EmbedPurpose::Document))?)
}

fn loading(folder: &Path) -> Result<()> {
    let (mut subject, mut baseline) = (Times::default(), Times::default());
    for _ in 0..5 {
        baseline.run(|| {
            let read = |name: &str| std::fs::read(folder.join(name));
            let bytes = MINILM.files.iter().map(|file| Ok(read(file.name)?.len()));
            bytes.sum::<Result<usize>>()
        })?;
        let model = MiniLm::open(folder, MiniLmOptions::default())?;
        subject.run(|| Ok(block_on(model.load())?))?;
    }
    head("Loading the model", &["what", "median ms", "least ms", "times the reading"]);
    row(&["read the files".to_owned(), ms(baseline.median()?), ms(baseline.least()?), "1".into()]);
    let ratio = ratio(subject.median()?, baseline.median()?);
    let what = "load: read, compare checksums, pack".to_owned();
    row(&[what, ms(subject.median()?), ms(subject.least()?), ratio]);
    Ok(())
}

fn one_sentence(model: &MiniLm, context: &CallContext) -> Result<()> {
    let tokens = block_on(model.tokens(SENTENCE))?.len();
    ensure!(tokens == 13, "the sentence has {tokens} tokens");
    let texts = [SENTENCE.to_owned()];
    let (mut subject, mut baseline) = (Times::default(), Times::default());
    let mut sum = 0.0;
    for _ in 0..200 {
        sum += baseline.run(|| Ok(model.read_weights_once()?.0))?;
        subject.run(|| embed(model, context, &texts))?;
    }
    ensure!(sum.is_finite(), "the weights are numbers");
    let (kernels, _) = model.loaded().context("it is loaded")?;
    let title = format!("One sentence of 13 tokens, one thread, {kernels}");
    head(&title, &["what", "median ms", "least ms", "times the reading (median)", "(least)"]);
    let one = || "1".to_owned();
    let what = "read the weights of all layers once".to_owned();
    row(&[what, ms(baseline.median()?), ms(baseline.least()?), one(), one()]);
    row(&[
        "embed".to_owned(),
        ms(subject.median()?),
        ms(subject.least()?),
        ratio(subject.median()?, baseline.median()?),
        ratio(subject.least()?, baseline.least()?),
    ]);
    Ok(())
}

fn turns(folder: &Path, context: &CallContext) -> Result<()> {
    // Words that the vocabulary has, so that a turn has as many tokens as one of a conversation.
    let known: Vec<&str> = SENTENCE.split(' ').collect();
    let mut numbers = Numbers::new(11);
    let mut turn = || {
        let pick = |_| known[usize::try_from(numbers.next_u64() % 11).unwrap_or(0)];
        (0..benches::WORDS).map(pick).collect::<Vec<_>>().join(" ")
    };
    let texts: Vec<String> = (0..TURNS).map(|_| turn()).collect();
    let title = format!("{TURNS} turns of {} words", benches::WORDS);
    head(&title, &["threads", "seconds", "turns a second", "tokens a second", "times one thread"]);
    let mut one = None;
    for threads in [1, std::thread::available_parallelism()?.get()] {
        let model = MiniLm::open(folder, MiniLmOptions::default().with_threads(threads))?;
        block_on(model.load())?;
        let mut times = Times::default();
        for _ in 0..3 {
            times.run(|| embed(&model, context, &texts))?;
        }
        let seconds = times.median()?.as_secs_f64();
        let base = *one.get_or_insert(seconds);
        let rate = |count: f64| format!("{:.0}", count / seconds);
        row(&[
            threads.to_string(),
            format!("{seconds:.2}"),
            rate(1_000.0),
            rate(28_000.0),
            format!("{:.2}", base / seconds),
        ]);
    }
    Ok(())
}

fn memory(model: &MiniLm, context: &CallContext, before: Option<u64>) -> Result<()> {
    embed(model, context, &[SENTENCE.repeat(20)])?;
    let (_, weights) = model.loaded().context("it is loaded")?;
    let (Some(before), Some(after)) = (before, resident_bytes()) else { return Ok(()) };
    head("Memory", &["what", "MB", "times the file"]);
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let line = |what: &str, bytes: u64| {
        let file = MINILM.bytes() as f64;
        row(&[
            what.into(),
            format!("{:.1}", bytes as f64 / 1e6),
            format!("{:.2}", bytes as f64 / file),
        ]);
    };
    line("the model's files", MINILM.bytes());
    line("its weights as they are held", weights as u64);
    line("resident since before it was opened", after.saturating_sub(before));
    Ok(())
}

fn ratio(subject: std::time::Duration, baseline: std::time::Duration) -> String {
    format!("{:.2}", subject.as_secs_f64() / baseline.as_secs_f64())
}

/// What the process holds, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
