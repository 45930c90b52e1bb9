//! `cargo xtask eval`: how well the program finds what answers a question, by words, by meaning,
//! and by both, on the sample conversation, on one's own memories, or on a LoCoMo file.

mod locomo;
mod metrics;
mod options;
mod questions;
mod report;
mod store;
mod study;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::metadata::Metadata;
use crate::{demo, model, program, shell};
use metrics::{DEPTH, Scores, float};
use options::{Options, Source};
use questions::Questions;
use report::{Answer, Group, Times};
use store::{Store, Work};

/// What is to be evaluated.
struct Corpus {
    /// What the results are called.
    name: String,
    tenants: Vec<Tenant>,
    groups: Vec<Group>,
    /// Whether the words of the questions may stand in the results.
    with_text: bool,
}

/// Memories that are searched together, and questions about them.
struct Tenant {
    id: String,
    /// A file in the format of `import`.
    items: PathBuf,
    questions: Questions,
}

/// Evaluates what the arguments ask for.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    let target = Metadata::load()?.target_directory;
    let results = target.join("eval");
    let work = Work::new(&results)?;
    let corpus = corpus(&options, &work)?;
    if corpus.tenants.iter().all(|tenant| tenant.questions.kept.is_empty()) {
        bail!("{}: there is no question that a memory answers", corpus.name);
    }
    let out = options.out.clone();
    let out = out.unwrap_or_else(|| results.join(format!("{}.jsonl", corpus.name)));
    if let Some(folder) = out.parent() {
        // Now rather than after all the work.
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }

    let program = match &options.program {
        Some(path) => std::path::absolute(path)?,
        None => program::build_release(&target)?,
    };
    let studied = options.ablate || options.wrong;
    let model = match studied || options.arms.iter().any(|arm| arm.needs_model()) {
        true => Some(model::ensure(&program, &target).context(
            "the arms vector and both need the model; `--arms keyword` does without it",
        )?),
        false => None,
    };
    let with_model = model.is_some();
    let store = Store::new(program, model, options.config.as_deref(), &work)?;
    if options.ablate || options.wrong {
        return study(&options, &store, &work, &corpus);
    }
    let mut times: Vec<Times> = options
        .arms
        .iter()
        .map(|arm| Times {
            arm: *arm,
            questions: 0,
            processes: 0,
            first: Duration::ZERO,
            others: Duration::ZERO,
        })
        .collect();
    let (mut answers, mut memories, mut importing) = (Vec::new(), 0, Duration::ZERO);
    for tenant in &corpus.tenants {
        let (added, time) = store.import(&tenant.id, &tenant.items)?;
        eprintln!(
            "{}: {added} memories imported in {:.2} s; {} questions",
            tenant.id,
            time.as_secs_f64(),
            tenant.questions.kept.len()
        );
        if with_model {
            check_vectors(&store, &tenant.id, added)?;
        }
        memories += added;
        importing += time;
        for times in &mut times {
            let asked = store
                .ask(&tenant.id, times.arm, &tenant.questions.kept)
                .with_context(|| format!("{}, arm {}", tenant.id, times.arm.name()))?;
            times.questions += asked.hits.len();
            times.processes += usize::from(!asked.hits.is_empty());
            times.first += asked.first;
            times.others += asked.others;
            for (question, hits) in tenant.questions.kept.iter().zip(asked.hits) {
                let scores = Scores::of(&hits, &question.relevant);
                let tenant = tenant.id.as_str();
                answers.push(Answer { tenant, question, arm: times.arm, hits, scores });
            }
        }
    }

    let left_out: usize = corpus.tenants.iter().map(|tenant| tenant.questions.left_out).sum();
    let asked: usize = corpus.tenants.iter().map(|tenant| tenant.questions.kept.len()).sum();
    println!(
        "\n{}: {memories} memories in {} tenant(s), {asked} questions, the first {DEPTH} hits each; \
         {left_out} questions left out, since no memory answers them\n",
        corpus.name,
        corpus.tenants.len(),
    );
    println!("{}", report::scores(&answers, &corpus.groups, &options.arms));
    let seconds = importing.as_secs_f64();
    println!(
        "import: {seconds:.2} s, {:.0} memories per second, {} vectors\n",
        float(memories) / seconds,
        if with_model { "with" } else { "without" }
    );
    println!("{}", report::times(&times));

    let lines: String = answers
        .iter()
        .map(|answer| format!("{}\n", report::line(answer, corpus.with_text)))
        .collect();
    fs::write(&out, lines).with_context(|| out.display().to_string())?;
    println!("written, one line per question and arm: {}", out.display());
    Ok(())
}

/// Imports, and asks the same questions in many ways.
fn study(options: &Options, store: &Store, work: &Work, corpus: &Corpus) -> Result<()> {
    for tenant in &corpus.tenants {
        let (added, time) = store.import(&tenant.id, &tenant.items)?;
        eprintln!("{}: {added} memories imported in {:.2} s", tenant.id, time.as_secs_f64());
        check_vectors(store, &tenant.id, added)?;
    }
    if options.ablate {
        println!("{}", study::ablate(store, work, &corpus.tenants, options.stripped)?);
    }
    if options.wrong {
        println!("{}", study::wrong(store, &corpus.tenants)?);
    }
    Ok(())
}

/// Figures of a half-filled vector index would say nothing.
fn check_vectors(store: &Store, tenant: &str, added: usize) -> Result<()> {
    let embedded = store.embedded(tenant)?;
    if embedded < u64::try_from(added)? {
        bail!("{tenant}: only {embedded} of {added} memories have a vector");
    }
    Ok(())
}

/// Reads what is to be evaluated; files that the program is to import go into `work`.
fn corpus(options: &Options, work: &Work) -> Result<Corpus> {
    match &options.source {
        Source::Locomo(file) => conversations(file, options, work),
        Source::Plain { items, questions } => plain(stem(items), items, questions),
        Source::Sample => {
            let root = shell::root();
            plain("sample".into(), &root.join(demo::CONVERSATION), &root.join(demo::QUESTIONS))
        }
    }
}

fn conversations(file: &Path, options: &Options, work: &Work) -> Result<Corpus> {
    let mut all = locomo::read(&text(file)?).with_context(|| file.display().to_string())?;
    for name in &options.only {
        if !all.iter().any(|one| one.id == *name) {
            let known: Vec<_> = all.iter().map(|one| one.id.as_str()).collect();
            bail!("no conversation `{name}`; there are: {}", known.join(", "));
        }
    }
    all.retain(|one| options.only.is_empty() || options.only.contains(&one.id));
    let mut tenants = Vec::new();
    for (number, one) in all.into_iter().enumerate() {
        let mut turns = one.items;
        if options.stripped {
            turns.iter_mut().for_each(locomo::strip);
        }
        let lines: String = turns.iter().map(|item| format!("{item}\n")).collect();
        let items = work.file(&format!("conversation-{number}.jsonl"), &lines)?;
        tenants.push(Tenant { id: one.id, items, questions: one.questions });
    }
    let with_text = options.with_text;
    Ok(Corpus { name: stem(file), tenants, groups: Group::locomo(), with_text })
}

fn plain(name: String, items: &Path, questions: &Path) -> Result<Corpus> {
    let ids = questions::item_ids(&text(items)?).with_context(|| items.display().to_string())?;
    let read = questions::read(&text(questions)?, &ids)
        .with_context(|| questions.display().to_string())?;
    let groups = Group::plain(&read.kept);
    let tenant = Tenant { id: name.clone(), items: items.to_owned(), questions: read };
    Ok(Corpus { name, tenants: vec![tenant], groups, with_text: true })
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// The name of a file without its folder and its ending.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
