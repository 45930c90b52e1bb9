//! `cargo xtask demo`: builds the program, imports the sample conversation, and asks it questions.
//!
//! The store stays in the target folder until the next demo, so that one can go on with it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::metadata::Metadata;
use crate::shell;

const CONVERSATION: &str = "samples/conversation.jsonl";
const QUESTIONS: &str = "samples/questions.jsonl";

/// How many questions are shown the way a person would ask them; the others go in one call.
const SHOWN: usize = 4;

/// Plays the demo.
pub(crate) fn run() -> Result<()> {
    let target = Metadata::load()?.target_directory;
    title("Building the program");
    shell::run(shell::cargo().args(["build", "--release", "--package", "orchestra-memory-cli"]))?;

    let folder = target.join("demo");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let program = Program {
        path: target
            .join("release")
            .join("orchestra-memory")
            .with_extension(env::consts::EXE_EXTENSION),
        store: format!("sqlite:{}", shown(&folder.join("memory.db"))),
    };

    let memories = lines(CONVERSATION)?;
    title(&format!(
        "Importing {} memories: ten months in the lives of Nora, Tomas, Ines and their assistant Pip",
        memories.len()
    ));
    println!("Each call below has `--store {}` as well.\n", program.store);
    program.show(&["import", CONVERSATION])?;

    let questions = lines(QUESTIONS)?;
    title("Asking, with the reasons for each answer");
    for question in questions.iter().take(SHOWN) {
        let limit = question["limit"].to_string();
        program.show(&["search", field(question, "text")?, "--limit", &limit, "--explain"])?;
    }

    title(&format!("Asking all {} questions in one call", questions.len()));
    let answers = program.answer(&["search", "--queries", QUESTIONS, "--json"])?;
    report(&memories, &questions, &answers)?;

    title("What was said last, and what the store holds");
    program.show(&["history", "--user", "nora", "--limit", "3"])?;
    program.show(&["stats"])?;

    title("Go on with it");
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

/// The built program with the demo's store.
struct Program {
    path: PathBuf,
    store: String,
}

impl Program {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(shell::root());
        // The demo shows the program as it comes, whatever the person has set up.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("ORCHESTRA_MEMORY") {
                command.env_remove(name);
            }
        }
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
    fn answer(&self, args: &[&str]) -> Result<Vec<Value>> {
        let mut typed = Command::new("orchestra-memory");
        println!("$ {}", shell::describe(typed.args(args)));
        parse(&shell::capture(&mut self.command(args))?)
    }
}

/// One line a question: whether an answer is among the hits, and the hit that shows it.
fn report(memories: &[Value], questions: &[Value], answers: &[Value]) -> Result<()> {
    let contents: BTreeMap<&str, &str> = memories
        .iter()
        .map(|memory| Ok((field(memory, "id")?, field(memory, "content")?)))
        .collect::<Result<_>>()?;
    let mut found = 0;
    for question in questions {
        let id = field(question, "query_id")?;
        let answer = answers
            .iter()
            .find(|answer| answer["query_id"] == id)
            .with_context(|| format!("no answer to question {id}"))?;
        let hits: Vec<&str> =
            array(answer, "hits")?.iter().map(|hit| field(hit, "id")).collect::<Result<_>>()?;
        let relevant = array(question, "relevant")?;
        let rank = hits.iter().position(|hit| relevant.iter().any(|id| id == hit));
        found += usize::from(rank.is_some());
        let place = rank.map_or("  -".to_owned(), |rank| format!("{:>3}", rank + 1));
        let best = hits.get(rank.unwrap_or(0)).copied().unwrap_or_default();
        println!("{place}  {}", field(question, "text")?);
        println!("     {best:<7} {}", contents.get(best).copied().unwrap_or("(no hit)"));
    }
    println!("\n{found} of {} questions are answered among their first hits.", questions.len());
    println!("The number before a question is the answer's place; a dash, that it was not found.");
    if found * 2 < questions.len() {
        bail!("that is fewer than half: the search is out of order");
    }
    Ok(())
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
}
