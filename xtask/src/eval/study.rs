//! `--ablate` and `--wrong`: what each signal is worth, and how well it is told that nothing is
//! relevant. Both ask the same store many times, with other settings or of other conversations.

use anyhow::Result;

use super::Tenant;
use super::locomo::{CATEGORIES, MAIN};
use super::metrics::{CUT_10, Scores, float};
use super::options::Arm;
use super::questions::Question;
use super::report::table;
use super::store::{Store, Work};

/// The conversations that the defaults were chosen on.
const FITTED: [&str; 3] = ["conv-26", "conv-30", "conv-41"];
/// The conversations that they were confirmed on.
const CONFIRMING: [&str; 2] = ["conv-42", "conv-43"];

/// Settings under a name.
struct Variant {
    name: &'static str,
    /// A part of `[search.context]`, or whole sections.
    settings: &'static str,
    /// Whether it stands on nothing rather than on the defaults.
    alone: bool,
}

const fn without(name: &'static str, settings: &'static str) -> Variant {
    Variant { name, settings, alone: false }
}

const fn alone(name: &'static str, settings: &'static str) -> Variant {
    Variant { name, settings, alone: true }
}

/// No signal, as [`alone`] begins; what a variant sets itself is left out of it.
const NOTHING: [(&str, &str); 8] = [
    ("next", "0.0"),
    ("second", "0.0"),
    ("previous", "0.0"),
    ("speaker", "0.0"),
    ("date", "0.0"),
    ("session", "0.0"),
    ("without_names", "false"),
    ("candidates", "100"),
];

const DEFAULTS: Variant = without("defaults", "");
const NONE: Variant = alone("no signal", "");

const VARIANTS: [Variant; 19] = [
    DEFAULTS,
    without("- lending to neighbours", "next = 0.0\nsecond = 0.0\nprevious = 0.0"),
    without("- lending backwards", "previous = 0.0"),
    without("- lending two ahead", "second = 0.0"),
    without("- speaker", "speaker = 0.0"),
    without("- date", "date = 0.0"),
    without("- session", "session = 0.0"),
    without("- base", "base = 0.0"),
    without("- names taken out of the embedded question", "without_names = false"),
    without(
        "- candidates: 100 an arm, as for ten hits",
        "[search]\ncandidates_per_hit = 2\n[search.context]\ncandidates = 100",
    ),
    without(
        "- candidates: 50 an arm",
        "[search]\ncandidates_per_hit = 1\n[search.context]\ncandidates = 50",
    ),
    without("+ recency 0.5", "recency = 0.5"),
    without("- BM25 1.2, 0.75", "[search.keyword]\nk1 = 1.2\nb = 0.75"),
    NONE,
    alone("no signal + lending", "next = 0.5\nsecond = 0.3\nprevious = 0.2"),
    alone("no signal + speaker", "speaker = 0.5"),
    alone("no signal + date", "date = 1.0"),
    alone("no signal + session", "session = 0.3"),
    alone("no signal + names taken out", "without_names = true"),
];

impl Variant {
    /// The settings file of the program.
    fn file(&self) -> String {
        let set =
            |name: &str| self.settings.lines().any(|line| line.split(" = ").next() == Some(name));
        let mut text = String::new();
        if self.settings.starts_with('[') {
            return format!("{}\n", self.settings);
        }
        text.push_str("[search.context]\n");
        if self.alone {
            for (name, value) in NOTHING.iter().filter(|(name, _)| !set(name)) {
                text.push_str(&format!("{name} = {value}\n"));
            }
        }
        text.push_str(self.settings);
        text.push('\n');
        text
    }
}

/// The scores of one question, and whose it is.
struct Scored<'a> {
    tenant: &'a str,
    question: &'a Question,
    scores: Scores,
}

type Split = (&'static str, fn(&Scored<'_>) -> bool);

fn main_categories(scored: &Scored<'_>) -> bool {
    scored.question.category.as_deref().is_some_and(|name| MAIN.contains(&name))
}

fn fitted(scored: &Scored<'_>) -> bool {
    FITTED.contains(&scored.tenant)
}

fn confirming(scored: &Scored<'_>) -> bool {
    CONFIRMING.contains(&scored.tenant)
}

const SPLITS: [Split; 5] = [
    ("1 to 4", |scored| main_categories(scored)),
    ("fitted", |scored| main_categories(scored) && fitted(scored)),
    ("confirming", |scored| main_categories(scored) && confirming(scored)),
    ("others", |scored| main_categories(scored) && !fitted(scored) && !confirming(scored)),
    ("5", |scored| !main_categories(scored)),
];

/// Asks every question with each of the settings, and returns two tables: the defaults by
/// category and by conversation, and each of the settings. `few`: only the defaults and no signal.
pub(crate) fn ablate(store: &Store, work: &Work, tenants: &[Tenant], few: bool) -> Result<String> {
    let mut rows = vec![vec!["settings".to_owned()]];
    let mut first = String::new();
    for (number, variant) in VARIANTS.iter().enumerate() {
        if few && variant.name != DEFAULTS.name && variant.name != NONE.name {
            continue;
        }
        let config = work.file(&format!("variant-{number}.toml"), &variant.file())?;
        let scored = ask(&store.with_config(config), tenants)?;
        eprintln!("{}: {} questions", variant.name, scored.len());
        if number == 0 {
            first = splits(&scored, tenants);
            let kept = SPLITS.iter().filter(|(_, holds)| scored.iter().any(holds));
            rows[0].extend(
                kept.flat_map(|(name, _)| [format!("{name} recall@10"), format!("{name} NDCG@10")]),
            );
        }
        let mut row = vec![variant.name.to_owned()];
        for (_, holds) in &SPLITS {
            let of: Vec<_> = scored.iter().filter(|scored| holds(scored)).collect();
            row.extend(cells(&of));
        }
        rows.push(row);
    }
    Ok(format!("{first}\n{}", table(&rows, 1)))
}

fn ask<'a>(store: &Store, tenants: &'a [Tenant]) -> Result<Vec<Scored<'a>>> {
    let mut all = Vec::new();
    for tenant in tenants {
        let asked = store.ask(&tenant.id, Arm::Both, &tenant.questions.kept)?;
        for (question, hits) in tenant.questions.kept.iter().zip(asked.hits) {
            let scores = Scores::of(&hits, &question.relevant);
            all.push(Scored { tenant: &tenant.id, question, scores });
        }
    }
    Ok(all)
}

fn cells(of: &[&Scored<'_>]) -> Vec<String> {
    if of.is_empty() {
        return Vec::new();
    }
    let mean = Scores::mean(of.iter().map(|scored| &scored.scores));
    [mean.recall[CUT_10], mean.ndcg].map(|value| format!("{value:.3}")).to_vec()
}

/// The defaults by category and by conversation.
fn splits(scored: &[Scored<'_>], tenants: &[Tenant]) -> String {
    let head = ["questions", "count", "recall@10", "NDCG@10"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut add = |name: String, of: Vec<&Scored<'_>>| {
        if !of.is_empty() {
            let mut row = vec![name, of.len().to_string()];
            row.extend(cells(&of));
            rows.push(row);
        }
    };
    for (name, holds) in &SPLITS {
        add((*name).to_owned(), scored.iter().filter(|scored| holds(scored)).collect());
    }
    for (category, name) in CATEGORIES {
        for (part, holds) in
            [("fitted", fitted as fn(&Scored<'_>) -> bool), ("confirming", confirming)]
        {
            let own = |scored: &&Scored<'_>| {
                scored.question.category.as_deref() == Some(category) && holds(scored)
            };
            add(format!("{category} {name}, {part}"), scored.iter().filter(own).collect());
        }
    }
    for tenant in tenants {
        let own = |scored: &&Scored<'_>| scored.tenant == tenant.id && main_categories(scored);
        add(format!("1 to 4, {}", tenant.id), scored.iter().filter(own).collect());
    }
    table(&rows, 1)
}

/// Asks each conversation its own questions and those of the others in its split, and returns how
/// well a least relevance tells them apart. Both kinds count the same, however many they are.
pub(crate) fn wrong(store: &Store, tenants: &[Tenant]) -> Result<String> {
    let mut text = String::new();
    for (name, split) in [("fitted", &FITTED as &[&str]), ("confirming", &CONFIRMING)] {
        let of: Vec<_> = tenants.iter().filter(|one| split.contains(&one.id.as_str())).collect();
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for asked in &of {
            for asker in &of {
                let questions: Vec<Question> = asker
                    .questions
                    .kept
                    .iter()
                    .filter(|one| one.category.as_deref().is_some_and(|name| MAIN.contains(&name)))
                    .cloned()
                    .collect();
                let answers = store.ask(&asked.id, Arm::Both, &questions)?.relevance;
                let known = answers.into_iter().flatten();
                if asked.id == asker.id { own.extend(known) } else { others.extend(known) }
            }
        }
        if own.is_empty() || others.is_empty() {
            continue;
        }
        text.push_str(&format!(
            "{name}: {} questions of the conversation itself, {} of another\n\n{}\n",
            own.len(),
            others.len(),
            thresholds(&own, &others)
        ));
    }
    Ok(text)
}

fn thresholds(own: &[f64], others: &[f64]) -> String {
    let head =
        ["least relevance", "own kept", "others kept", "precision of none", "recall of none"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for tenth in 1..=9_u32 {
        let least = f64::from(tenth) / 10.0;
        let kept = |of: &[f64]| {
            float(of.iter().filter(|relevance| **relevance >= least).count()) / float(of.len())
        };
        let (own, others) = (kept(own), kept(others));
        let refused = (1.0 - own) + (1.0 - others);
        let precision = if refused > 0.0 { (1.0 - others) / refused } else { 1.0 };
        let mut row = vec![format!("{least:.1}")];
        row.extend([own, others, precision, 1.0 - others].map(|value| format!("{value:.3}")));
        rows.push(row);
    }
    table(&rows, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_that_stands_alone_sets_every_other_signal_to_nothing() {
        let file = alone("x", "speaker = 0.5").file();
        assert!(file.starts_with("[search.context]\n"));
        assert!(file.contains("speaker = 0.5") && !file.contains("speaker = 0.0"), "{file}");
        assert!(file.contains("session = 0.0") && file.contains("without_names = false"), "{file}");
        assert_eq!(DEFAULTS.file(), "[search.context]\n\n");
        assert!(without("x", "[search.keyword]\nk1 = 1.0").file().starts_with("[search.keyword]"));
        // A name that begins like another is another.
        assert!(alone("x", "date_days = 3").file().contains("date = 0.0"));
    }

    #[test]
    fn a_threshold_is_judged_on_both_kinds_alike() {
        let table = thresholds(&[0.9, 0.9, 0.9, 0.15], &[0.05, 0.95]);
        let rows: Vec<Vec<&str>> =
            table.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        // At .2: of four own ones one is refused, of two others one: .5 / (.25 + .5).
        assert_eq!(rows[3][1..6], ["0.2", "0.750", "0.500", "0.667", "0.500"]);
    }
}
