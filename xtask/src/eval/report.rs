//! What an evaluation says: a table for people, and one JSON line per question and arm.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::locomo;
use super::metrics::{CUT_10, CUTS, Scores, float, place};
use super::options::Arm;
use super::questions::Question;

/// One question, answered by one arm.
pub(crate) struct Answer<'a> {
    /// The tenant that was searched.
    pub(crate) tenant: &'a str,
    pub(crate) question: &'a Question,
    pub(crate) arm: Arm,
    /// The ids of the hits, best first.
    pub(crate) hits: Vec<String>,
    pub(crate) scores: Scores,
}

/// Questions whose mean is shown in a row.
pub(crate) struct Group {
    label: String,
    /// The categories in it; all questions where it is empty.
    categories: Vec<String>,
}

impl Group {
    /// The main figure of LoCoMo, and each of its categories.
    pub(crate) fn locomo() -> Vec<Self> {
        let main = locomo::MAIN.map(str::to_owned).to_vec();
        let main = Self { label: "1 to 4".to_owned(), categories: main };
        let each = locomo::CATEGORIES.iter().map(|(category, name)| Self {
            label: format!("{category} {name}"),
            categories: vec![(*category).to_owned()],
        });
        std::iter::once(main).chain(each).collect()
    }

    /// All questions, and each category that occurs.
    pub(crate) fn plain(questions: &[Question]) -> Vec<Self> {
        let mut names: Vec<_> = questions.iter().filter_map(|one| one.category.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let all = Self { label: "all".to_owned(), categories: Vec::new() };
        let each =
            names.into_iter().map(|name| Self { label: name.clone(), categories: vec![name] });
        std::iter::once(all).chain(each).collect()
    }

    fn holds(&self, question: &Question) -> bool {
        self.categories.is_empty()
            || question.category.as_ref().is_some_and(|name| self.categories.contains(name))
    }
}

/// The table of the scores: a row per group and arm; groups without a question are left out.
pub(crate) fn scores(answers: &[Answer<'_>], groups: &[Group], arms: &[Arm]) -> String {
    let mut rows = vec![vec!["category".to_owned(), "arm".to_owned(), "questions".to_owned()]];
    rows[0].extend(CUTS.map(|cut| format!("recall@{cut}")));
    rows[0].extend(["MRR".to_owned(), "NDCG@10".to_owned()]);
    for group in groups {
        for arm in arms {
            let of_row: Vec<_> = answers
                .iter()
                .filter(|answer| answer.arm == *arm && group.holds(answer.question))
                .map(|answer| &answer.scores)
                .collect();
            if of_row.is_empty() {
                continue;
            }
            let mean = Scores::mean(of_row.iter().copied());
            let mut row =
                vec![group.label.clone(), arm.name().to_owned(), of_row.len().to_string()];
            row.extend(mean.recall.map(|value| format!("{value:.3}")));
            row.extend([mean.reciprocal_rank, mean.ndcg].map(|value| format!("{value:.3}")));
            rows.push(row);
        }
    }
    table(&rows, 2)
}

/// What an arm has cost.
pub(crate) struct Times {
    pub(crate) arm: Arm,
    /// Questions that were asked, over all tenants.
    pub(crate) questions: usize,
    /// Processes that were started, one a tenant.
    pub(crate) processes: usize,
    /// From the start of each process to its first answer, summed.
    pub(crate) first: Duration,
    /// From each first answer to the last, summed.
    pub(crate) others: Duration,
}

/// The table of the times.
pub(crate) fn times(times: &[Times]) -> String {
    let head = ["arm", "questions", "first answer", "questions per second"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for one in times {
        let first = one.first.as_secs_f64() / float(one.processes.max(1));
        let others = one.questions.saturating_sub(one.processes);
        let rate = match others {
            0 => "-".to_owned(),
            _ => format!("{:.0}", float(others) / one.others.as_secs_f64()),
        };
        rows.push(vec![
            one.arm.name().to_owned(),
            one.questions.to_string(),
            format!("{first:.2} s"),
            rate,
        ]);
    }
    table(&rows, 1)
}

/// A Markdown table whose columns stand under each other; the first `left` are flush left, the
/// others flush right. The first row is the head.
pub(crate) fn table(rows: &[Vec<String>], left: usize) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(&match at < left {
                true => format!("| {cell:<width$} "),
                false => format!("| {cell:>width$} "),
            });
        }
        text.push_str("|\n");
        if number == 0 {
            for (at, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                text.push_str(&match at < left {
                    true => format!("|{dashes}-"),
                    false => format!("|{dashes}:"),
                });
            }
            text.push_str("|\n");
        }
    }
    text
}

/// The line of an answer; the words of the question only `with_text`.
pub(crate) fn line(answer: &Answer<'_>, with_text: bool) -> Value {
    let relevant = &answer.question.relevant;
    let ranks: Map<String, Value> =
        relevant.iter().map(|id| (id.clone(), json!(place(&answer.hits, id)))).collect();
    let mut line = json!({
        "tenant": answer.tenant,
        "query_id": answer.question.id,
        "category": answer.question.category,
        "arm": answer.arm.name(),
        "relevant": relevant,
        "ranks": ranks,
        "hits": answer.hits,
        "recall@10": answer.scores.recall[CUT_10],
        "rr": answer.scores.reciprocal_rank,
        "ndcg@10": answer.scores.ndcg,
    });
    if with_text {
        line["text"] = json!(answer.question.text);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(id: &str, category: Option<&str>) -> Question {
        Question {
            id: id.to_owned(),
            text: "who".to_owned(),
            category: category.map(str::to_owned),
            relevant: vec!["a".to_owned(), "b".to_owned()],
            narrowed: Map::new(),
        }
    }

    fn answer<'a>(question: &'a Question, arm: Arm, hits: &[&str]) -> Answer<'a> {
        let hits: Vec<String> = hits.iter().map(|id| (*id).to_owned()).collect();
        let scores = Scores::of(&hits, &question.relevant);
        Answer { tenant: "t", question, arm, hits, scores }
    }

    #[test]
    fn a_row_is_the_mean_of_an_arm_over_a_group() {
        let questions =
            [question("q1", Some("1")), question("q2", Some("2")), question("q3", Some("5"))];
        let answers = [
            answer(&questions[0], Arm::Keyword, &["a", "b"]),
            answer(&questions[1], Arm::Keyword, &["x"]),
            answer(&questions[2], Arm::Keyword, &["x", "a"]),
            answer(&questions[0], Arm::Both, &["a", "b"]),
        ];
        let table = scores(&answers, &Group::locomo(), &[Arm::Keyword, Arm::Both]);
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(rows[0][..4], ["category", "arm", "questions", "recall@1"]);
        assert_eq!(
            rows[2],
            [
                "1 to 4", "keyword", "2", "0.250", "0.500", "0.500", "0.500", "0.500", "0.500",
                "0.500"
            ]
        );
        assert_eq!(rows[3][..4], ["1 to 4", "both", "1", "0.500"]);
        assert_eq!(rows[4][..3], ["1 multi-hop", "keyword", "1"]);
        assert_eq!(rows.last().unwrap()[..4], ["5 adversarial", "keyword", "1", "0.000"]);
        // A head, a rule, two rows with both arms, two with one; categories 3 and 4 have none.
        assert_eq!(rows.len(), 2 + 2 * 2 + 2);
        let widths: Vec<_> = table.lines().map(str::len).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
    }

    #[test]
    fn plain_questions_are_grouped_by_the_categories_that_occur() {
        let labels = |questions: &[Question]| -> Vec<String> {
            Group::plain(questions).into_iter().map(|group| group.label).collect()
        };
        assert_eq!(labels(&[question("q1", None)]), ["all"]);
        let some = [question("q1", Some("why")), question("q2", Some("who")), question("q3", None)];
        assert_eq!(labels(&some), ["all", "who", "why"]);
        let groups = Group::plain(&some);
        assert!(groups[0].holds(&some[2]) && !groups[1].holds(&some[2]));
    }

    #[test]
    fn a_line_has_the_place_of_each_relevant_id() {
        let question = question("q1", Some("2"));
        let answer = answer(&question, Arm::Vector, &["x", "b"]);
        let found = line(&answer, false);
        assert_eq!(found["ranks"], json!({"a": null, "b": 2}));
        assert_eq!(found["hits"], json!(["x", "b"]));
        assert_eq!((&found["tenant"], &found["arm"]), (&json!("t"), &json!("vector")));
        assert_eq!((&found["recall@10"], &found["rr"]), (&json!(0.5), &json!(0.5)));
        assert_eq!(found.get("text"), None);
        assert_eq!(line(&answer, true)["text"], "who");
    }

    #[test]
    fn the_rate_leaves_out_the_first_answer_of_each_process() {
        let one = Times {
            arm: Arm::Keyword,
            questions: 12,
            processes: 2,
            first: Duration::from_secs(1),
            others: Duration::from_secs(2),
        };
        let table = times(&[one]);
        let cells: Vec<_> = table.lines().nth(2).unwrap().split('|').map(str::trim).collect();
        assert_eq!(cells, ["", "keyword", "12", "0.50 s", "5", ""]);
    }
}
