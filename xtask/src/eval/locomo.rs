//! The file format of LoCoMo: conversations of two people in dated sessions, and questions with
//! the turns that answer them. The file itself is its authors' and no part of this project.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::questions::{Question, Questions};

/// The categories and what the benchmark calls them.
pub(crate) const CATEGORIES: [(&str, &str); 5] = [
    ("1", "multi-hop"),
    ("2", "temporal"),
    ("3", "open-domain"),
    ("4", "single-hop"),
    ("5", "adversarial"),
];

/// The categories that the main figure is made of.
pub(crate) const MAIN: [&str; 4] = ["1", "2", "3", "4"];

/// One conversation.
pub(crate) struct Conversation {
    /// What it is called: its `sample_id`.
    pub(crate) id: String,
    /// Its turns as memories, in the format of `orchestra-memory import`.
    pub(crate) items: Vec<Value>,
    /// Its questions; those without a turn that exists are left out.
    pub(crate) questions: Questions,
}

/// Reads a file.
///
/// # Errors
///
/// What is not in the format: the message names the conversation and what is missing.
pub(crate) fn read(text: &str) -> Result<Vec<Conversation>> {
    let file: Value = serde_json::from_str(text).context("no JSON")?;
    let list = file.as_array().context("no list of conversations")?;
    let mut known = BTreeSet::new();
    list.iter()
        .map(|entry| {
            let id = field(entry, "sample_id")?;
            if !known.insert(id) {
                bail!("conversation {id} occurs twice");
            }
            conversation(id, entry).with_context(|| format!("conversation {id}"))
        })
        .collect()
}

/// Makes a fact of a turn: what was said and when, and neither by whom nor in which conversation.
pub(crate) fn strip(item: &mut Value) {
    if let Some(item) = item.as_object_mut() {
        for key in ["session_id", "author", "role"] {
            item.remove(key);
        }
        item.insert("kind".to_owned(), json!("fact"));
    }
}

fn conversation(id: &str, entry: &Value) -> Result<Conversation> {
    let said = entry["conversation"].as_object().context("no object `conversation`")?;
    let items = turns(id, said)?;
    let ids: BTreeSet<&str> = items.iter().filter_map(|item| item["id"].as_str()).collect();
    if ids.len() != items.len() {
        bail!("a `dia_id` occurs twice");
    }
    let (mut kept, mut left_out) = (Vec::new(), 0);
    for (index, asked) in entry["qa"].as_array().context("no list `qa`")?.iter().enumerate() {
        let question = question(id, index + 1, asked, &ids)
            .with_context(|| format!("question {}", index + 1))?;
        if question.relevant.is_empty() { left_out += 1 } else { kept.push(question) }
    }
    Ok(Conversation { id: id.to_owned(), items, questions: Questions { kept, left_out } })
}

/// The turns of all sessions, in their order.
fn turns(id: &str, said: &Map<String, Value>) -> Result<Vec<Value>> {
    // By number: as text, session 10 would stand before session 2.
    let sessions: BTreeMap<u32, &Vec<Value>> = said
        .iter()
        .filter_map(|(key, value)| {
            Some((key.strip_prefix("session_")?.parse().ok()?, value.as_array()?))
        })
        .collect();
    let first = said.get("speaker_a").and_then(Value::as_str).context("no text `speaker_a`")?;
    let mut items = Vec::new();
    for (number, turns) in sessions {
        let key = format!("session_{number}_date_time");
        let time = said.get(&key).and_then(Value::as_str).with_context(|| format!("no `{key}`"))?;
        let start = DateTime::parse(time).with_context(|| format!("`{key}` is no time: {time}"))?;
        for (seconds, turn) in (0..).zip(turns) {
            let speaker = field(turn, "speaker")?;
            let mut content = field(turn, "text")?.to_owned();
            if let Some(caption) = turn["blip_caption"].as_str() {
                content.push_str(&format!(" [image: {caption}]"));
            }
            items.push(json!({
                "id": field(turn, "dia_id")?,
                "user_id": id,
                "session_id": format!("session_{number}"),
                "kind": "message",
                "role": if speaker == first { "user" } else { "assistant" },
                "author": speaker,
                "content": content,
                "occurred_at": start.after(seconds).to_rfc3339(),
            }));
        }
    }
    Ok(items)
}

fn question(id: &str, number: usize, asked: &Value, turns: &BTreeSet<&str>) -> Result<Question> {
    let mut relevant: Vec<String> = Vec::new();
    for text in asked["evidence"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        for turn in evidence(text) {
            if turns.contains(turn.as_str()) && !relevant.contains(&turn) {
                relevant.push(turn);
            }
        }
    }
    Ok(Question {
        id: format!("{id}:{number}"),
        text: field(asked, "question")?.to_owned(),
        category: Some(asked["category"].as_u64().context("no number `category`")?.to_string()),
        relevant,
        narrowed: Map::new(),
    })
}

/// The turns that a piece of evidence names, as `D1:2`: it may hold several, a colon behind the
/// letter, and leading zeros.
fn evidence(text: &str) -> Vec<String> {
    let mut turns = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('D') {
        rest = &rest[at + 1..];
        let Some((session, behind)) = number(rest.strip_prefix(':').unwrap_or(rest)) else {
            continue;
        };
        let Some((turn, behind)) = behind.strip_prefix(':').and_then(number) else { continue };
        turns.push(format!("D{session}:{turn}"));
        rest = behind;
    }
    turns
}

/// The number that a text begins with, and what follows it.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// A moment without a zone; taken as UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DateTime {
    year: u32,
    /// 1 to 12.
    month: u32,
    /// 1 to 31.
    day: u32,
    /// Seconds since midnight.
    second: u32,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

impl DateTime {
    /// Reads a time such as `1:45 pm on 6 May, 2021`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_lowercase().replace(',', " ");
        let mut words = text.split_whitespace();
        let (hour, minute) = words.next()?.split_once(':')?;
        let (hour, minute) = (hour.parse::<u32>().ok()?, minute.parse::<u32>().ok()?);
        let afternoon = match words.next()? {
            "am" => 0,
            "pm" => 12,
            _ => return None,
        };
        if words.next()? != "on" {
            return None;
        }
        let day: u32 = words.next()?.parse().ok()?;
        let name = words.next()?;
        let month = (1..).zip(MONTHS).find(|(_, month)| *month == name)?.0;
        let year: u32 = words.next()?.parse().ok()?;
        let fits = words.next().is_none()
            && (1..=12).contains(&hour)
            && minute < 60
            && (1000..=9999).contains(&year)
            && (1..=days(year, month)).contains(&day);
        // Twelve o'clock is hour 0 of its half of the day.
        let second = (hour % 12 + afternoon) * 3600 + minute * 60;
        fits.then_some(Self { year, month, day, second })
    }

    /// The moment so many seconds later.
    fn after(mut self, seconds: u32) -> Self {
        self.second += seconds;
        while self.second >= 86_400 {
            self.second -= 86_400;
            self.day += 1;
            if self.day > days(self.year, self.month) {
                (self.day, self.month) = (1, self.month + 1);
            }
            if self.month > 12 {
                (self.month, self.year) = (1, self.year + 1);
            }
        }
        self
    }

    fn to_rfc3339(self) -> String {
        let Self { year, month, day, second } = self;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// How many days a month has.
fn days(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn field<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("no text `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in the shape of the benchmark's, with its oddities; every word is made up.
    fn file() -> Value {
        json!([{
            "sample_id": "talk-1",
            "conversation": {
                "speaker_a": "Wanda", "speaker_b": "Egon",
                "session_1_date_time": "12:05 am on 29 February, 2024",
                "session_1": [
                    {"speaker": "Wanda", "dia_id": "D1:1", "text": "My kite is red."},
                    {"speaker": "Egon", "dia_id": "D1:2", "text": "Mine is torn.",
                     "img_url": ["x"], "blip_caption": "a torn kite", "query": "kite"},
                ],
                "session_2_date_time": "3:30 pm on 1 March, 2024",
                "session_2": [
                    {"speaker": "Egon", "dia_id": "D2:1", "text": "I sewed it."},
                ],
                "session_10_date_time": "9:00 am on 2 March, 2024",
                "session_10": [
                    {"speaker": "Wanda", "dia_id": "D10:1", "text": "It flies!"},
                ],
                "session_11_date_time": "9:00 am on 3 March, 2024",
            },
            "qa": [
                {"question": "Which kite is torn?", "answer": "Egon's",
                 "evidence": ["D1:2", "D1:02; D:2:1"], "category": 1},
                {"question": "When does it fly?", "answer": 2, "evidence": ["D10:1"], "category": 2},
                {"question": "Who lost it?", "adversarial_answer": "x", "evidence": ["D9:9"],
                 "category": 5},
                {"question": "Why?", "answer": "x", "evidence": [], "category": 3},
            ],
        }])
    }

    #[test]
    fn a_conversation_becomes_memories_and_questions() {
        let read = read(&file().to_string()).unwrap();
        let [talk] = read.as_slice() else { panic!("one conversation was given") };
        assert_eq!(talk.id, "talk-1");
        let ids: Vec<_> = talk.items.iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["D1:1", "D1:2", "D2:1", "D10:1"]);
        assert_eq!(
            talk.items[1],
            json!({"id": "D1:2", "user_id": "talk-1", "session_id": "session_1",
                   "kind": "message", "role": "assistant", "author": "Egon",
                   "content": "Mine is torn. [image: a torn kite]",
                   "occurred_at": "2024-02-29T00:05:01Z"})
        );
        let mut fact = talk.items[1].clone();
        strip(&mut fact);
        assert_eq!(
            fact,
            json!({"id": "D1:2", "user_id": "talk-1", "kind": "fact",
                   "content": "Mine is torn. [image: a torn kite]",
                   "occurred_at": "2024-02-29T00:05:01Z"})
        );
        assert_eq!(talk.items[0]["role"], "user");
        assert_eq!(talk.items[2]["occurred_at"], "2024-03-01T15:30:00Z");
        assert_eq!(talk.questions.left_out, 2);
        let [first, second] = talk.questions.kept.as_slice() else { panic!("two have evidence") };
        assert_eq!((first.id.as_str(), first.category.as_deref()), ("talk-1:1", Some("1")));
        assert_eq!(first.relevant, ["D1:2", "D2:1"]);
        assert_eq!((second.id.as_str(), second.text.as_str()), ("talk-1:2", "When does it fly?"));
    }

    #[test]
    fn what_is_missing_is_named_with_its_conversation() {
        for (pointer, missing) in [
            ("/0/conversation/speaker_a", "speaker_a"),
            ("/0/conversation/session_2_date_time", "session_2_date_time"),
            ("/0/conversation/session_1/0/dia_id", "dia_id"),
            ("/0/qa", "qa"),
            ("/0/qa/1/category", "category"),
        ] {
            let mut file = file();
            *file.pointer_mut(pointer).unwrap() = Value::Null;
            let Err(error) = read(&file.to_string()) else { panic!("accepted without {pointer}") };
            let error = format!("{error:#}");
            assert!(error.contains("talk-1") && error.contains(missing), "{error}");
        }
        assert!(read("{}").is_err());
        let mut twice = file();
        let first = twice[0].clone();
        twice.as_array_mut().unwrap().push(first);
        assert!(read(&twice.to_string()).is_err());
    }

    #[test]
    fn evidence_is_found_however_it_is_written() {
        for (text, turns) in [
            ("D1:2", &["D1:2"] as &[&str]),
            ("D:1:2", &["D1:2"]),
            ("D7:03", &["D7:3"]),
            ("D3:4; D5:16", &["D3:4", "D5:16"]),
            ("D3:4 D5:16,D:12:1.", &["D3:4", "D5:16", "D12:1"]),
            ("DD1:2", &["D1:2"]),
            ("D1:D2:3", &["D2:3"]),
            ("D", &[]),
            ("D1", &[]),
            ("D1:", &[]),
            ("D:1", &[]),
            ("D::1:2", &[]),
            ("d1:2", &[]),
            ("D99999999999:1", &[]),
            ("", &[]),
            ("Dé1:2 D3:4", &["D3:4"]),
        ] {
            assert_eq!(evidence(text), turns, "{text}");
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, time) in [
            ("1:45 pm on 6 May, 2021", "2021-05-06T13:45:00Z"),
            ("12:07 am on 14 September, 2021", "2021-09-14T00:07:00Z"),
            ("12:30 pm on 1 January, 2024", "2024-01-01T12:30:00Z"),
            ("9:05 AM on 31 december 2022", "2022-12-31T09:05:00Z"),
            ("11:59 pm on 29 February, 2024", "2024-02-29T23:59:00Z"),
        ] {
            assert_eq!(DateTime::parse(text).unwrap().to_rfc3339(), time);
        }
        for text in [
            "",
            "6 May, 2021",
            "13:45 on 6 May, 2021",
            "13:45 pm on 6 May, 2021",
            "0:10 am on 6 May, 2021",
            "1:60 pm on 6 May, 2021",
            "1:45 pm on 29 February, 2023",
            "1:45 pm on 31 April, 2021",
            "1:45 pm on 6 Mai, 2021",
            "1:45 pm on 6 May, 2021 or so",
        ] {
            assert_eq!(DateTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn seconds_carry_into_minutes_days_and_years() {
        let after = |text, seconds| DateTime::parse(text).unwrap().after(seconds).to_rfc3339();
        assert_eq!(after("1:59 pm on 6 May, 2021", 61), "2021-05-06T14:00:01Z");
        assert_eq!(after("11:59 pm on 31 December, 2023", 60), "2024-01-01T00:00:00Z");
        assert_eq!(after("11:59 pm on 28 February, 2023", 60), "2023-03-01T00:00:00Z");
        assert_eq!(after("11:59 pm on 28 February, 2024", 60), "2024-02-29T00:00:00Z");
    }

    #[test]
    fn the_main_figure_leaves_out_the_adversarial_questions_only() {
        let all: Vec<_> = CATEGORIES.iter().map(|(category, _)| *category).collect();
        assert_eq!(all[..4], MAIN);
        assert_eq!(CATEGORIES[4], ("5", "adversarial"));
    }
}
