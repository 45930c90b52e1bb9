//! The local model: one sentence, a thousand turns, loading, and memory, in f32 and in int8.
//!
//! Limits: a pass over one sentence reads the weights of all layers once, 42 MB in f32 and 11 MB in
//! int8; the baseline reads them and does nothing else, on the same thread. (Caches that hold the
//! weights make both faster; in int8 many do.) More tokens than a tile holds are bound by
//! arithmetic: 21 million products and as many sums a token. Loading is bound by reading the files;
//! the baseline reads them into memory and looks at nothing.
//!
//! The other baseline of one sentence is onnxruntime on an int8 model of the same network, on one
//! thread: of its time the pass alone counts, of ours the tokens, the way to another thread and
//! back, and the mean as well.

#[path = "embed/onnx.rs"]
mod onnx;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use benches::{Numbers, Times, head, ms, row};
use futures::executor::block_on;
use memory_core::traits::{EmbedPurpose, Embedder as _};
use memory_core::{CallContext, TenantId};
use memory_embed::minilm::{MiniLm, MiniLmOptions, Precision, instructions};
use memory_embed::model::{MINILM, default_folder};
use onnx::Onnx;

/// 13 tokens, the brackets among them.
const SENTENCE: &str = "Ada drinks green tea at four with her sister in London";

/// Turns of a conversation.
const TURNS: usize = 1_000;

/// Rounds of one sentence.
const ROUNDS: usize = 400;

fn main() -> Result<()> {
    let named = std::env::var_os("ORCHESTRA_MEMORY_MODEL_DIR").map(PathBuf::from);
    let folder = named.or_else(default_folder).context("no folder for models")?;
    let context = CallContext::new(TenantId::new("bench")?);
    // First, while nothing else has been held.
    let models = memory(&folder, &context)?;
    loading(&folder)?;
    one_sentence(&models, &context)?;
    drop(models);
    beside_onnx(&folder, &context)?;
    turns(&folder, &context)
}

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Int8];

fn options(precision: Precision) -> MiniLmOptions {
    MiniLmOptions::default().with_threads(1).with_precision(precision)
}

fn embed(model: &MiniLm, context: &CallContext, texts: &[String]) -> Result<Vec<Vec<f32>>> {
    Ok(block_on(model.embed(context, texts, EmbedPurpose::Document))?)
}

fn loading(folder: &Path) -> Result<()> {
    let mut baseline = Times::default();
    let mut subjects = PRECISIONS.map(|precision| (precision, Times::default()));
    for _ in 0..5 {
        baseline.run(|| {
            let read = |name: &str| std::fs::read(folder.join(name));
            let bytes = MINILM.files.iter().map(|file| Ok(read(file.name)?.len()));
            bytes.sum::<Result<usize>>()
        })?;
        for (precision, times) in &mut subjects {
            let model = MiniLm::open(folder, options(*precision))?;
            times.run(|| Ok(block_on(model.load())?))?;
        }
    }
    head("Loading the model", &["what", "median ms", "least ms", "times the reading"]);
    row(&["read the files".to_owned(), ms(baseline.median()?), ms(baseline.least()?), "1".into()]);
    for (precision, times) in &subjects {
        let what = format!("load: read, compare checksums, pack in {}", precision.name());
        let ratio = ratio(times.median()?, baseline.median()?);
        row(&[what, ms(times.median()?), ms(times.least()?), ratio]);
    }
    Ok(())
}

/// A model's instructions and precision, as a row names it.
fn named(model: &MiniLm) -> Result<String> {
    let (instructions, _) = model.loaded().context("it is loaded")?;
    Ok(format!("{}, {instructions}", model.precision().name()))
}

fn one_sentence(models: &[MiniLm], context: &CallContext) -> Result<()> {
    let texts = [SENTENCE.to_owned()];
    let title = "One sentence of 13 tokens, one thread, beside the reading of the weights";
    head(title, &["what", "median ms", "least ms", "times the reading (median)", "(least)"]);
    for model in models {
        let tokens = block_on(model.tokens(SENTENCE))?.len();
        ensure!(tokens == 13, "the sentence has {tokens} tokens");
        let (mut subject, mut baseline) = (Times::default(), Times::default());
        let mut sum = 0.0;
        for _ in 0..ROUNDS / 2 {
            sum += baseline.run(|| Ok(model.read_weights_once()?.0))?;
            subject.run(|| embed(model, context, &texts))?;
        }
        ensure!(sum.is_finite(), "the weights are numbers");
        let what = format!("{}: read the weights of all layers once", named(model)?);
        let one = || "1".to_owned();
        row(&[what, ms(baseline.median()?), ms(baseline.least()?), one(), one()]);
        row(&[
            format!("{}: embed", named(model)?),
            ms(subject.median()?),
            ms(subject.least()?),
            ratio(subject.median()?, baseline.median()?),
            ratio(subject.least()?, baseline.least()?),
        ]);
    }
    Ok(())
}

fn beside_onnx(folder: &Path, context: &CallContext) -> Result<()> {
    let mut subjects = Vec::new();
    for precision in PRECISIONS {
        for name in instructions() {
            // Plain loops are for processors without the others.
            if name != "portable" || instructions().len() == 1 {
                let model = MiniLm::open(folder, options(precision).with_instructions(name))?;
                block_on(model.load())?;
                subjects.push((model, Times::default()));
            }
        }
    }
    let texts = [SENTENCE.to_owned()];
    let (first, _) = subjects.first().context("there is a set of instructions")?;
    let tokens = block_on(first.tokens(SENTENCE))?;
    let want = embed(first, context, &texts)?.concat();
    let tokens = tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut other = Onnx::start()?;
    let mut baseline = Times::default();
    for _ in 0..ROUNDS {
        for (model, times) in &mut subjects {
            times.run(|| embed(model, context, &texts))?;
        }
        if let Ok(onnx) = &mut other {
            let (time, vector) = onnx.pass(&tokens)?;
            let likeness = cosine(&want, &vector);
            ensure!(likeness > 0.95, "the baseline computes something else: {likeness}");
            baseline.add(time);
        }
    }
    let title = "One sentence of 13 tokens, one thread, beside onnxruntime in int8";
    head(title, &["what", "median ms", "least ms", "times onnxruntime (median)", "(least)"]);
    let none = || "-".to_owned();
    match &other {
        Ok(onnx) => row(&[
            onnx.name.clone(),
            ms(baseline.median()?),
            ms(baseline.least()?),
            "1".to_owned(),
            "1".to_owned(),
        ]),
        Err(why) => row(&[format!("onnxruntime: not here: {why}"), none(), none(), none(), none()]),
    }
    for (model, times) in &subjects {
        let against = |time: Duration, base: Result<Duration>| match base {
            Ok(base) => ratio(time, base),
            Err(_) => none(),
        };
        row(&[
            named(model)?,
            ms(times.median()?),
            ms(times.least()?),
            against(times.median()?, baseline.median()),
            against(times.least()?, baseline.least()),
        ]);
    }
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
    let columns = ["precision", "threads", "seconds", "turns a second", "tokens a second"];
    head(&title, &[columns.as_slice(), &["times one thread in f32"]].concat());
    let mut one = None;
    for precision in PRECISIONS {
        for threads in [1, std::thread::available_parallelism()?.get()] {
            let model = MiniLm::open(folder, options(precision).with_threads(threads))?;
            block_on(model.load())?;
            let mut times = Times::default();
            for _ in 0..3 {
                times.run(|| embed(&model, context, &texts))?;
            }
            let seconds = times.median()?.as_secs_f64();
            let base = *one.get_or_insert(seconds);
            let rate = |count: f64| format!("{:.0}", count / seconds);
            row(&[
                precision.name().to_owned(),
                threads.to_string(),
                format!("{seconds:.2}"),
                rate(1_000.0),
                rate(28_000.0),
                format!("{:.2}", base / seconds),
            ]);
        }
    }
    Ok(())
}

/// What the models take, each on top of what was there before; they are kept, so that none gets
/// the room of another.
fn memory(folder: &Path, context: &CallContext) -> Result<Vec<MiniLm>> {
    let mut rows = vec![("the model's files".to_owned(), MINILM.bytes())];
    let mut models = Vec::new();
    for precision in PRECISIONS {
        let before = resident_bytes();
        let model = MiniLm::open(folder, options(precision))?;
        embed(&model, context, &[SENTENCE.repeat(20)])?;
        let (_, weights) = model.loaded().context("it is loaded")?;
        rows.push((format!("{}: its weights as they are held", precision.name()), weights as u64));
        if let (Some(before), Some(after)) = (before, resident_bytes()) {
            let what = format!("{}: resident since before it was opened", precision.name());
            rows.push((what, after.saturating_sub(before)));
        }
        models.push(model);
    }
    head("Memory", &["what", "MB", "times the file"]);
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    for (what, bytes) in rows {
        let (bytes, file) = (bytes as f64, MINILM.bytes() as f64);
        row(&[what, format!("{:.1}", bytes / 1e6), format!("{:.2}", bytes / file)]);
    }
    Ok(models)
}

fn ratio(subject: Duration, baseline: Duration) -> String {
    format!("{:.2}", subject.as_secs_f64() / baseline.as_secs_f64())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

/// What the process holds, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
