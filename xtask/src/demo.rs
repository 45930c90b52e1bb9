//! `cargo xtask demo`: builds the program, imports the sample conversation, and asks it questions
//! by words alone and by words and meaning.
//!
//! The store stays in the target folder until the next demo, so that one can go on with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::metadata::Metadata;
use crate::{model, program, shell};

/// The sample conversation, below the root folder.
pub(crate) const CONVERSATION: &str = "samples/conversation.jsonl";

/// The questions about it.
pub(crate) const QUESTIONS: &str = "samples/questions.jsonl";

/// The questions that are shown the way a person would ask them, two in the words of the
/// conversation and two in others; all of them go in one call afterwards.
const SHOWN: [&str; 4] = ["q04", "q11", "q22", "q26"];

/// The options of `search` that leave out the meaning, and those that do not.
const BY_WORDS: [&str; 2] = ["--arm", "keyword"];
const BY_BOTH: [&str; 2] = ["--arm", "both"];

/// Plays the demo.
pub(crate) fn run() -> Result<()> {
    let target = Metadata::load()?.target_directory;
    title("Building the program");
    let path = program::build_release(&target)?;
    title("The model for searching by meaning");
    let model = model::ensure(&path, &target)?;

    let folder = target.join("demo");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let store = format!("sqlite:{}", shown(&folder.join("memory.db")));
    let program = Program { path, model, store };

    let memories = lines(CONVERSATION)?;
    title(&format!(
        "Importing {} memories: ten months in the lives of Nora, Tomas, Ines and their assistant Pip",
        memories.len()
    ));
    println!("Each call below has `--store {}` as well,", program.store);
    println!("and {}={} in its environment.\n", program::MODEL_DIR, shown(&program.model));
    program.show(&["import", CONVERSATION])?;

    let questions = lines(QUESTIONS)?;
    title("Asking, by words alone and by words and meaning, with the reasons");
    for id in SHOWN {
        let question = questions.iter().find(|question| question["query_id"] == id);
        let text = field(question.with_context(|| format!("no question {id}"))?, "text")?;
        let search = ["search", text, "--limit", "2"];
        program.show(&[&search[..], &BY_WORDS].concat())?;
        program.show(&[&search[..], &BY_BOTH, &["--explain"]].concat())?;
    }

    title(&format!("Asking all {} questions, both ways", questions.len()));
    let search = ["search", "--queries", QUESTIONS, "--json"];
    let by_words = program.answer(&[&search[..], &BY_WORDS].concat())?;
    let by_both = program.answer(&[&search[..], &BY_BOTH].concat())?;
    report(&questions, &by_words, &by_both)?;

    title("What was said last, and what the store holds");
    program.show(&["history", "--user", "nora", "--limit", "3"])?;
    program.show(&["stats"])?;

    title("Go on with it");
    println!("export {}={}", program::MODEL_DIR, shown(&program.model));
    let path = shown(&program.path);
    let go_on = [
        r#"search "How many sperm whales did we see?" --explain"#,
        r#"search "the footbridge" --user nora --limit 5"#,
        r#"add "Otter learnt to sit today." --user nora --author Nora"#,
        "history --session s7",
        "doctor",
        "--help",
    ];
    for rest in go_on {
        println!("{path} --store {} {rest}", program.store);
    }
    Ok(())
}

/// The built program with the demo's store and the model.
struct Program {
    path: PathBuf,
    model: PathBuf,
    store: String,
}

impl Program {
    fn command(&self, args: &[&str]) -> Command {
        // The demo shows the program as it comes, whatever the person has set up.
        let mut command = program::command(&self.path, &self.model);
        command.args(["--store", &self.store]).args(args);
        command
    }

    /// Shows the call as one would type it, and lets the program answer on the screen.
    fn show(&self, args: &[&str]) -> Result<()> {
        let mut typed = Command::new("orchestra-memory");
        println!("$ {}", shell::describe(typed.args(args)));
        let status = self.command(args).status().context("cannot start the program")?;
        if !status.success() {
            bail!("`orchestra-memory {}` failed ({status})", args.join(" "));
        }
        println!();
        Ok(())
    }

    /// Shows the call, and reads the program's answer as one JSON object a line.
    fn answer(&self, args: &[&str]) -> Result<BTreeMap<String, Value>> {
        let mut typed = Command::new("orchestra-memory");
        println!("$ {}", shell::describe(typed.args(args)));
        let answers = parse(&shell::capture(&mut self.command(args))?)?;
        answers.into_iter().map(|one| Ok((field(&one, "query_id")?.to_owned(), one))).collect()
    }
}

/// One line a question, with the place of the first answer among the hits of either way.
fn report(
    questions: &[Value],
    by_words: &BTreeMap<String, Value>,
    by_both: &BTreeMap<String, Value>,
) -> Result<()> {
    println!("\nplace of the answer by words, and by words and meaning; a dash: not found\n");
    let (mut words, mut both) = (0, 0);
    for question in questions {
        let (alone, fused) = (rank(question, by_words)?, rank(question, by_both)?);
        words += usize::from(alone.is_some());
        both += usize::from(fused.is_some());
        println!("{} {}   {}", place(alone), place(fused), field(question, "text")?);
    }
    let all = questions.len();
    println!("\nanswered: {words} of {all} by words, {both} of {all} by words and meaning");
    if both * 2 < all {
        bail!("that is fewer than half: the search is out of order");
    }
    Ok(())
}

/// The place of the first hit that answers the question, from 1 on.
fn rank(question: &Value, answers: &BTreeMap<String, Value>) -> Result<Option<usize>> {
    let id = field(question, "query_id")?;
    let answer = answers.get(id).with_context(|| format!("no answer to question {id}"))?;
    let relevant = array(question, "relevant")?;
    let hits = array(answer, "hits")?;
    Ok(hits.iter().position(|hit| relevant.contains(&hit["id"])).map(|at| at + 1))
}

fn place(rank: Option<usize>) -> String {
    rank.map_or_else(|| "  -".to_owned(), |rank| format!("{rank:>3}"))
}

fn title(text: &str) {
    println!("\n\u{2500}\u{2500} {text}\n");
}

/// The path as one types it in the root folder.
fn shown(path: &Path) -> String {
    path.strip_prefix(shell::root()).unwrap_or(path).display().to_string()
}

fn lines(path: &str) -> Result<Vec<Value>> {
    let text = fs::read_to_string(shell::root().join(path)).with_context(|| path.to_owned())?;
    parse(&text).with_context(|| path.to_owned())
}

fn parse(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).context("a line is no JSON")).collect()
}

fn field<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("no text `{key}` in {value}"))
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key].as_array().with_context(|| format!("no list `{key}` in {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_samples_fit_together() {
        let memories = lines(CONVERSATION).unwrap();
        let ids: BTreeSet<_> = memories.iter().map(|one| field(one, "id").unwrap()).collect();
        assert_eq!(ids.len(), memories.len(), "an id occurs twice");
        let of = |key: &str| -> BTreeSet<_> {
            memories.iter().filter_map(|one| one[key].as_str()).collect()
        };
        assert!(memories.iter().filter(|one| one["kind"] == "message").count() >= 130);
        assert!(of("session_id").len() >= 6 && of("author").len() >= 3);
        let questions = lines(QUESTIONS).unwrap();
        assert!(questions.len() >= 15);
        let names: BTreeSet<_> =
            questions.iter().map(|one| field(one, "query_id").unwrap()).collect();
        assert_eq!(names.len(), questions.len(), "a question occurs twice");
        assert!(SHOWN.iter().all(|id| names.contains(id)));
        for question in &questions {
            let relevant = array(question, "relevant").unwrap();
            assert!(!relevant.is_empty());
            for id in relevant {
                assert!(ids.contains(id.as_str().unwrap()), "{id} is no memory");
            }
        }
        for fact in memories.iter().filter(|one| one["kind"] == "fact") {
            for id in array(&fact["metadata"], "learnt_from").unwrap() {
                assert!(ids.contains(id.as_str().unwrap()), "{id} is no memory");
            }
        }
    }

    /// The words of a text that carry meaning, less the names in `names`.
    fn words(text: &str, names: &[&str]) -> BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.chars().count() >= 4 && !names.contains(word))
            .map(str::to_lowercase)
            .collect()
    }

    #[test]
    fn the_last_questions_share_no_word_with_their_answers() {
        let memories = lines(CONVERSATION).unwrap();
        let questions = lines(QUESTIONS).unwrap();
        let id = |one: &Value| field(one, "query_id").unwrap().to_owned();
        let paraphrased: Vec<_> = questions.iter().filter(|one| id(one) >= "q21".into()).collect();
        assert!(paraphrased.len() >= 6);
        for question in paraphrased {
            let asked = words(field(question, "text").unwrap(), &["Nora"]);
            assert!(asked.len() >= 2, "{question}");
            for relevant in array(question, "relevant").unwrap() {
                let memory = memories.iter().find(|one| one["id"] == *relevant).unwrap();
                let said = words(field(memory, "content").unwrap(), &[]);
                assert!(asked.is_disjoint(&said), "{question} and {memory}");
            }
        }
    }

    #[test]
    fn the_place_of_an_answer_is_that_of_the_first_relevant_hit() {
        let question = serde_json::json!({"query_id": "q", "relevant": ["a", "b"]});
        let answer = |ids: &[&str]| {
            let hits: Vec<_> = ids.iter().map(|id| serde_json::json!({"id": id})).collect();
            BTreeMap::from([("q".to_owned(), serde_json::json!({"hits": hits}))])
        };
        assert_eq!(rank(&question, &answer(&["x", "b", "a"])).unwrap(), Some(2));
        assert_eq!(rank(&question, &answer(&["x"])).unwrap(), None);
        assert!(rank(&question, &BTreeMap::new()).is_err());
        assert_eq!((place(Some(2)).as_str(), place(None).as_str()), ("  2", "  -"));
    }
}
