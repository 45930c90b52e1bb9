//! The store of one evaluation: a temporary folder, the program with its options, an import, and
//! questions that are asked one after the other.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::metrics::DEPTH;
use super::options::Arm;
use super::questions::Question;
use crate::{program, shell};

/// A folder that goes when this goes.
pub(crate) struct Work(PathBuf);

impl Work {
    /// Makes an empty folder beside the results; another evaluation at the same time has another.
    pub(crate) fn new(beside: &Path) -> Result<Self> {
        let folder = beside.join(format!("work-{}", std::process::id()));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self(folder))
    }

    /// Writes a file into the folder, and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What cannot be removed lies in the target folder, where it does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program on the store of an evaluation.
#[derive(Clone)]
pub(crate) struct Store {
    program: PathBuf,
    model: PathBuf,
    config: PathBuf,
    url: String,
}

/// The answers to many questions, and the time that they took.
pub(crate) struct Asked {
    /// The ids of the hits of each question, best first.
    pub(crate) hits: Vec<Vec<String>>,
    /// The relevance of each answer, where it is known.
    pub(crate) relevance: Vec<Option<f64>>,
    /// From the start of the program to its first answer.
    pub(crate) first: Duration,
    /// From the first answer to the last.
    pub(crate) others: Duration,
}

impl Store {
    /// A new store in `work`. Without `config` the program has its default settings, whatever the
    /// person's own say; without `model` it has no model, even if the person has one.
    pub(crate) fn new(
        program: PathBuf,
        model: Option<PathBuf>,
        config: Option<&Path>,
        work: &Work,
    ) -> Result<Self> {
        let config = match config {
            Some(path) => std::path::absolute(path)?,
            None => work.file("config.toml", "")?,
        };
        let model = model.unwrap_or_else(|| work.0.join("no-model"));
        let url = format!("sqlite:{}", work.0.join("memory.db").display());
        Ok(Self { program, model, config, url })
    }

    /// The same store, under other settings.
    pub(crate) fn with_config(&self, config: PathBuf) -> Self {
        Self { config, ..self.clone() }
    }

    /// Imports a file into a tenant, and returns how many memories it held and how long it took.
    pub(crate) fn import(&self, tenant: &str, items: &Path) -> Result<(usize, Duration)> {
        let items = std::path::absolute(items)?;
        let mut command = self.command(tenant);
        // The user serves memories that say nothing of whom they belong to.
        command.arg("import").arg(&items).args(["--user", "evaluation", "--json"]);
        let (output, time) = shell::timed(|| command.stderr(Stdio::inherit()).output());
        let output = output.context("cannot start the program")?;
        let added = imported(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("import of {}", items.display()))?;
        if !output.status.success() {
            bail!("the import of {} failed ({})", items.display(), output.status);
        }
        Ok((added, time))
    }

    /// How many memories of the tenant have a vector.
    pub(crate) fn embedded(&self, tenant: &str) -> Result<u64> {
        let text = shell::capture(self.command(tenant).args(["stats", "--json"]))?;
        let stats: Value = serde_json::from_str(&text).context("`stats` wrote no JSON")?;
        stats["tenant_stats"]["embedded"].as_u64().context("`stats` counts no embedded memories")
    }

    /// Asks the questions in one process, each when the one before has been answered.
    pub(crate) fn ask(&self, tenant: &str, arm: Arm, questions: &[Question]) -> Result<Asked> {
        let mut command = self.command(tenant);
        command.args(["search", "--queries", "-", "--json", "--arm", arm.name()]);
        command.args(["--limit", &DEPTH.to_string()]);
        let mut answers = Vec::with_capacity(questions.len());
        let (head, rest) = questions.split_at(questions.len().min(1));
        let (dialogue, first) = shell::timed(|| {
            let mut dialogue = Dialogue::open(&mut command)?;
            for question in head {
                answers.push(dialogue.answer(question)?);
            }
            anyhow::Ok(dialogue)
        });
        let mut dialogue = dialogue?;
        let (result, others) = shell::timed(|| {
            for question in rest {
                answers.push(dialogue.answer(question)?);
            }
            anyhow::Ok(())
        });
        result?;
        dialogue.close()?;
        let (hits, relevance) = answers.into_iter().unzip();
        Ok(Asked { hits, relevance, first, others })
    }

    fn command(&self, tenant: &str) -> Command {
        let mut command = program::command(&self.program, &self.model);
        // In one word, since a name may begin with a dash.
        command.args(["--store", &self.url, &format!("--tenant={tenant}")]);
        command.arg("--config").arg(&self.config);
        command
    }
}

/// How many memories an import has added, from what it wrote; a line that it refused is an error.
fn imported(output: &str) -> Result<usize> {
    let mut refused = Vec::new();
    for line in output.lines() {
        let line: Value = serde_json::from_str(line).context("`import` wrote no JSON")?;
        if let Some(message) = line["error"]["message"].as_str() {
            refused.push(format!("line {}: {message}", line["line"]));
        } else if let Some(added) = line["import"]["added"].as_u64() {
            if !refused.is_empty() {
                break;
            }
            return Ok(usize::try_from(added)?);
        }
    }
    match refused.as_slice() {
        [] => bail!("the program said nothing of what it imported"),
        [first, ..] => bail!("{} line(s) were refused; {first}", refused.len()),
    }
}

/// A search process, asked through its standard input.
struct Dialogue {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Dialogue {
    fn open(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the program")?;
        let answers = BufReader::new(child.stdout.take().context("no output to read from")?);
        Ok(Self { child, answers })
    }

    fn answer(&mut self, question: &Question) -> Result<(Vec<String>, Option<f64>)> {
        let mut asked = question.narrowed.clone();
        asked.insert("query_id".to_owned(), json!(question.id));
        asked.insert("text".to_owned(), json!(question.text));
        let stdin = self.child.stdin.as_mut().context("no input to write to")?;
        let mut line = Value::Object(asked).to_string();
        line.push('\n');
        // A program that has ended reads nothing; that no answer comes then says so.
        let _ = stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush());
        line.clear();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            let status = self.child.wait()?;
            bail!("the search ended before its questions did ({status})");
        }
        hits(&line, &question.id).with_context(|| format!("question {}", question.id))
    }

    fn close(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the search failed at its end ({status})");
        }
        Ok(())
    }
}

/// The ids of the hits of an answer, and its relevance.
fn hits(line: &str, question: &str) -> Result<(Vec<String>, Option<f64>)> {
    let answer: Value = serde_json::from_str(line).context("the answer is no JSON")?;
    if let Some(message) = answer["error"]["message"].as_str() {
        bail!("{message}");
    }
    if answer["query_id"] != question {
        bail!("the answer is to question {}", answer["query_id"]);
    }
    let hits = answer["hits"].as_array().context("the answer has no list `hits`")?;
    let ids: Result<_> = hits
        .iter()
        .take(DEPTH)
        .map(|hit| hit["id"].as_str().map(str::to_owned).context("a hit has no id"))
        .collect();
    Ok((ids?, answer["relevance"].as_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_counts_what_it_added() {
        let summary = r#"{"import": {"lines": 2, "added": 2, "bad": 0}}"#;
        assert_eq!(imported(summary).unwrap(), 2);
        assert!(imported("").is_err());
        let refused = r#"{"line": 2, "error": {"kind": "invalid_input", "message": "no content"}}"#;
        let error = imported(&format!("{refused}\n{summary}")).unwrap_err().to_string();
        assert!(error.contains("1 line") && error.contains("line 2: no content"), "{error}");
    }

    #[test]
    fn an_answer_gives_its_ids_in_order() {
        let line = r#"{"query_id": "q1", "hits": [{"id": "b", "score": 1}, {"id": "a"}],
                       "relevance": 0.5}"#;
        let (ids, relevance) = hits(line, "q1").unwrap();
        assert_eq!((ids, relevance), (vec!["b".to_owned(), "a".to_owned()], Some(0.5)));
        assert!(hits(line, "q2").is_err());
        assert!(hits(r#"{"query_id": "q1"}"#, "q1").is_err());
        let refused = r#"{"query_id": null, "line": 1, "error": {"message": "no model"}}"#;
        assert_eq!(hits(refused, "q1").unwrap_err().to_string(), "no model");
    }

    #[test]
    fn a_working_folder_goes_when_it_is_dropped() {
        let beside = std::env::temp_dir().join("xtask-eval-store");
        let work = Work::new(&beside).unwrap();
        let file = work.file("a.txt", "a").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "a");
        drop(work);
        assert!(!file.exists());
        // Another test run may be at work in the folder beside it.
        let _ = fs::remove_dir(&beside);
    }
}
