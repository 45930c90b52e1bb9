//! Bulk writes behind a policy: only what failed in a way worth it is sent again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use memory_core::traits::{BulkObserver, BulkProgress, BulkWriter};
use memory_core::{
    CallContext, CommitId, Error, ErrorKind, MemoryId, Outcome, Precondition, Result, Write,
    WriteResult,
};
use memory_layers::{Layer as _, RetryLayer, RetrySettings, TimeoutLayer};

use crate::support::{Drawn, MS, Time, finish, tenant};

/// What becomes of a write in one call.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Done,
    Refused(ErrorKind),
    Lost,
}

use Fate::{Done, Lost, Refused};

#[derive(Debug)]
enum Reply {
    Each(Vec<Fate>),
    Whole(Error),
}

/// Answers as the script says and notes what it was sent.
#[derive(Debug, Default)]
struct Script {
    replies: Mutex<VecDeque<Reply>>,
    sent: Mutex<Vec<(String, bool)>>,
}

#[async_trait]
impl BulkWriter for Script {
    async fn write_many(
        &self,
        _context: &CallContext,
        _id: CommitId,
        writes: Vec<Write>,
        resend: bool,
        observer: &dyn BulkObserver,
    ) -> Result<Vec<Result<WriteResult>>> {
        let names = writes.iter().map(|write| write.id().as_str()).collect::<String>();
        self.sent.lock().unwrap().push((names, resend));
        let fates = match self.replies.lock().unwrap().pop_front() {
            Some(Reply::Whole(error)) => return Err(error),
            Some(Reply::Each(fates)) => fates,
            None => vec![Done; writes.len()],
        };
        let mut progress = BulkProgress { total: writes.len() as u64, ..BulkProgress::default() };
        let mut answers = Vec::new();
        for (write, fate) in writes.iter().zip(fates) {
            let answer = match fate {
                Done => Ok(WriteResult { id: write.id().clone(), revision: None, existed: false }),
                Refused(kind) => Err(Error::new(kind, "as the script says")),
                Lost => Err(Error::new(ErrorKind::Unavailable, "lost").with_unknown_outcome()),
            };
            progress.done += 1;
            progress.failed += u64::from(answer.is_err());
            observer.progress(progress);
            answers.push(answer);
        }
        Ok(answers)
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<BulkProgress>>);

impl BulkObserver for Seen {
    fn progress(&self, progress: BulkProgress) {
        self.0.lock().unwrap().push(progress);
    }
}

struct End {
    answers: Result<Vec<Result<WriteResult>>>,
    sent: Vec<(String, bool)>,
    seen: Vec<BulkProgress>,
}

impl End {
    /// `+` for what was done, `?` for what is unknown, `-` for what was not applied.
    fn marks(&self) -> String {
        let mark = |answer: &Result<WriteResult>| match answer {
            Ok(_) => '+',
            Err(error) if error.outcome() == Outcome::Unknown => '?',
            Err(_) => '-',
        };
        self.answers.as_ref().unwrap().iter().map(mark).collect()
    }

    fn sent(&self) -> Vec<(&str, bool)> {
        self.sent.iter().map(|(names, resend)| (names.as_str(), *resend)).collect()
    }
}

/// Writes of `ids`, one letter each, through a retry layer between two timeouts.
fn load(ids: &str, resend: bool, replies: Vec<Reply>) -> End {
    let time = Time::jumping();
    let (clock, timer) = (time.clock.clone(), time.clone());
    let ids_from = Drawn::new(5);
    let retry =
        RetryLayer::new(RetrySettings::default(), clock.clone(), timer.clone(), ids_from).unwrap();
    let timeout = TimeoutLayer::new(60_000 * MS, clock, timer);
    let script = Arc::new(Script { replies: Mutex::new(replies.into()), ..Script::default() });
    let inner: Arc<dyn BulkWriter> = script.clone();
    let writer = timeout.bulk(retry.bulk(timeout.bulk(inner, "script"), "script"), "script");
    let write =
        |name: char| Write::delete(MemoryId::new(name.to_string()).unwrap(), Precondition::Any);
    let writes: Vec<Write> = ids.chars().map(write).collect();
    let (total, seen, context) = (writes.len() as u64, Seen::default(), tenant());
    let id = CommitId::from_bytes([1; 16]);
    let answers = finish(writer.write_many(&context, id, writes, resend, &seen));
    let seen = seen.0.into_inner().unwrap();
    let mut last = BulkProgress { total, ..BulkProgress::default() };
    for next in &seen {
        assert!(next.done >= last.done && next.failed >= last.failed, "back: {seen:?}");
        assert!(next.failed <= next.done && next.done <= total && next.total == total, "{seen:?}");
        last = *next;
    }
    let sent = script.sent.lock().unwrap().clone();
    if let Ok(answers) = &answers {
        let failed = answers.iter().filter(|answer| answer.is_err()).count() as u64;
        assert_eq!(last, BulkProgress { done: total, failed, total });
    }
    End { answers, sent, seen }
}

const BUSY: Fate = Refused(ErrorKind::Unavailable);
const TAKEN: Fate = Refused(ErrorKind::Conflict);

#[test]
fn only_what_is_worth_it_is_sent_again() {
    let end = load("abcd", false, vec![Reply::Each(vec![Done, BUSY, TAKEN, Done])]);
    assert_eq!(end.sent(), [("abcd", false), ("b", false)]);
    assert_eq!(end.marks(), "++-+");
    // The twin: nothing failed, nothing is sent again.
    let end = load("abcd", false, Vec::new());
    assert_eq!((end.sent(), end.marks().as_str()), (vec![("abcd", false)], "++++"));
    assert_eq!(end.seen.len(), 4, "after each answer");
}

#[test]
fn what_is_unknown_is_sent_as_a_resend_and_apart() {
    let end = load("abcd", false, vec![Reply::Each(vec![Lost, BUSY, Done, Lost])]);
    assert_eq!(end.sent(), [("abcd", false), ("b", false), ("ad", true)]);
    assert_eq!(end.marks(), "++++");
    let end = load("ab", true, vec![Reply::Each(vec![Lost, BUSY])]);
    assert_eq!(end.sent(), [("ab", true), ("ab", true)], "the caller had sent them before");
}

#[test]
fn an_unknown_outcome_stays_with_its_write() {
    let busy = || Reply::Each(vec![BUSY]);
    let first = Reply::Each(vec![Lost, BUSY]);
    let end = load("ab", false, vec![first, busy(), busy(), busy(), busy(), busy(), busy()]);
    assert_eq!(end.sent.len(), 7, "two, and then each part three times more");
    assert_eq!(end.marks(), "?-");
    // Nor does the refusal of a resend say that no earlier attempt was applied; its kind stands.
    let refused = |first| {
        let script = vec![Reply::Each(vec![first]), Reply::Each(vec![TAKEN])];
        let end = load("a", false, script);
        let marks = end.marks();
        let kind = end.answers.unwrap()[0].as_ref().unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Conflict);
        marks
    };
    assert_eq!((refused(Lost).as_str(), refused(BUSY).as_str()), ("?", "-"));
}

#[test]
fn a_failure_of_the_whole_call_is_one_of_each_write() {
    let lost = || Error::new(ErrorKind::Unavailable, "lost").with_unknown_outcome();
    let end = load("ab", false, vec![Reply::Whole(lost())]);
    assert_eq!((end.sent(), end.marks().as_str()), (vec![("ab", false), ("ab", true)], "++"));
    // What stood before it stands.
    let first = Reply::Each(vec![Done, BUSY]);
    let away = || Reply::Whole(Error::new(ErrorKind::Unavailable, "away").with_retryable(false));
    let end = load("ab", false, vec![first, away()]);
    assert_eq!(end.marks(), "+-");
    // With no answer at all it is the answer.
    let end = load("ab", false, vec![away()]);
    assert_eq!(end.answers.unwrap_err().message(), "away");
    assert!(end.seen.is_empty());
    // An empty load is still the store's to answer.
    let end = load("", false, vec![away()]);
    assert!(end.answers.is_err());
    assert_eq!(load("", false, Vec::new()).marks(), "");
}

#[test]
fn an_answer_too_few_is_a_fault_and_nothing_is_known() {
    let end = load("ab", false, vec![Reply::Each(vec![Done])]);
    let error = end.answers.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unexpected, Outcome::Unknown));
}
