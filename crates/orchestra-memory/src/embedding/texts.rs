//! Calls of the embedder: in bounded parts, each answer checked, a bad text apart from the others.

use std::borrow::Cow;
use std::ops::Range;

use memory_core::traits::EmbedPurpose;
use memory_core::{CallContext, Error, ErrorKind, MemoryItem, Result};

use super::{Attached, Embedding};

/// What of a memory is embedded: its content, behind the author's name where it has one, as the
/// keyword index counts that name among the words. Much of a turn's meaning is who says it.
pub(crate) fn text_of(item: &MemoryItem) -> Cow<'_, str> {
    match &item.author {
        Some(author) => Cow::Owned(format!("{author}: {}", item.content())),
        None => Cow::Borrowed(item.content()),
    }
}

/// Texts in a row whose calls fail, each by itself, after which the fault is the embedder's and not
/// the texts'. 3: one text that a server chokes on is passed over, two that stand side by side as
/// well, and an embedder that is away costs no more calls than that.
pub(crate) const FAULTS_IN_A_ROW: usize = 3;

/// What became of one text.
#[derive(Debug)]
pub(crate) enum TextOutcome {
    /// Its vector, of the embedder's space.
    Vector(Vec<f32>),
    /// The embedder refuses this text, whatever stands beside it, or fails at it alone.
    Refused(Error),
    /// It was not reached, or went with a call that failed.
    Failed,
}

/// What became of some texts.
#[derive(Debug)]
pub(crate) struct Texts {
    /// One for each text, in order.
    pub(crate) outcomes: Vec<TextOutcome>,
    /// The fault of the embedder that ended it: no text after it was sent.
    pub(crate) fault: Option<Error>,
}

impl Embedding {
    /// Whether a fault may be that of a text in the call, so that the others are worth a call
    /// without it. Credentials, settings, a pace that is too fast and the caller's own deadline
    /// stand for every text.
    pub(crate) fn may_be_of_a_text(&self, error: &Error, context: &CallContext) -> bool {
        match error.kind() {
            ErrorKind::PermissionDenied
            | ErrorKind::Config
            | ErrorKind::Unsupported
            | ErrorKind::RateLimited
            | ErrorKind::Overloaded => false,
            ErrorKind::Timeout => context.check_deadline(self.clock.monotonic()).is_ok(),
            // A server that asks for a pause has looked at no text.
            _ => error.retry_after().is_none(),
        }
    }

    /// Embeds texts, any number of them, so that a bad one takes no other with it.
    ///
    /// A call that is refused for its input, or whose answer makes no sense, is halved until the
    /// bad texts stand alone; answers that make no sense of any text are the embedder's fault and
    /// end this. After another fault that may be a text's, up to
    /// [`FAULTS_IN_A_ROW`] of the call's texts are sent by themselves: if each fails, it is the
    /// embedder's fault and ends this; else the call is halved as well, and a text that fails
    /// alone is passed over as refused. After so many of those in a row it is asked again whether
    /// the embedder answers at all. Three calls a text are the most that this takes. A fault that
    /// is no text's ends it at once.
    pub(crate) async fn texts(
        &self,
        attached: &Attached,
        context: &CallContext,
        texts: &[String],
    ) -> Texts {
        let outcomes = texts.iter().map(|_| TextOutcome::Failed).collect();
        let mut calls = Calls {
            embedding: self,
            attached,
            context,
            texts,
            outcomes,
            answers: false,
            doubtful: Vec::new(),
        };
        let size = self.texts_per_call();
        for first in (0..texts.len()).step_by(size) {
            let part = first..texts.len().min(first + size);
            if let Err(fault) = calls.part(part).await {
                // It was the embedder, and none of these texts.
                for doubtful in std::mem::take(&mut calls.doubtful) {
                    calls.outcomes[doubtful] = TextOutcome::Failed;
                }
                return Texts { outcomes: calls.outcomes, fault: Some(fault) };
            }
        }
        Texts { outcomes: calls.outcomes, fault: None }
    }
}

/// The calls for some texts.
struct Calls<'a> {
    embedding: &'a Embedding,
    attached: &'a Attached,
    context: &'a CallContext,
    texts: &'a [String],
    outcomes: Vec<TextOutcome>,
    /// Whether the embedder has answered to any of them.
    answers: bool,
    /// The texts that failed alone, by a fault that may be the embedder's, since it last answered.
    doubtful: Vec<usize>,
}

impl Calls<'_> {
    /// The texts of one call, or of several where that one fails.
    ///
    /// # Errors
    /// A fault of the embedder.
    async fn part(&mut self, part: Range<usize>) -> Result<()> {
        // The ranges that wait, the next one last.
        let mut waiting = vec![part.clone()];
        // Whether the embedder has answered since a call of this part failed.
        let mut asked = false;
        while let Some(range) = waiting.pop() {
            if self.is_done(&range) {
                continue;
            }
            let Err(error) = self.send(range.clone()).await else { continue };
            let alone = range.len() == 1;
            if is_an_answer(&error) {
                asked = true;
            } else if !self.embedding.may_be_of_a_text(&error, self.context) {
                return Err(error);
            } else if alone {
                if !self.answers {
                    return Err(error);
                }
                self.doubtful.push(range.start);
                // Asked with those that are farthest away: bad texts come in company.
                if self.doubtful.len() >= FAULTS_IN_A_ROW
                    && let Some(rest) = waiting.first().cloned()
                    && !self.asks(&rest).await?
                {
                    return Err(error);
                }
            } else if !asked {
                if !self.asks(&range).await? {
                    return Err(error);
                }
                asked = true;
            }
            if alone {
                self.outcomes[range.start] = TextOutcome::Refused(error);
            } else {
                let middle = range.start + range.len() / 2;
                waiting.push(middle..range.end);
                waiting.push(range.start..middle);
            }
        }
        self.makes_sense(part)
    }

    /// Whether every text of a range has its vector.
    fn is_done(&self, range: &Range<usize>) -> bool {
        let made = |outcome: &TextOutcome| matches!(outcome, TextOutcome::Vector(_));
        self.outcomes[range.clone()].iter().all(made)
    }

    /// Sends a range of the texts in one call.
    async fn send(&mut self, range: Range<usize>) -> Result<()> {
        let texts = &self.texts[range.clone()];
        let sent = self.attached.embed(self.context, texts, EmbedPurpose::Document).await;
        if sent.as_ref().err().is_none_or(is_an_answer) {
            self.answers = true;
            self.doubtful.clear();
        }
        for (outcome, vector) in self.outcomes[range].iter_mut().zip(sent?) {
            *outcome = TextOutcome::Vector(vector);
        }
        Ok(())
    }

    /// Whether the embedder answers at all: to the first text of a range, to the middle one or to
    /// the last, each by itself.
    ///
    /// # Errors
    /// A fault that is no text's.
    async fn asks(&mut self, range: &Range<usize>) -> Result<bool> {
        let mut places = vec![range.start, range.start + range.len() / 2, range.end - 1];
        places.dedup();
        for place in places {
            match self.send(place..place + 1).await {
                Ok(()) => return Ok(true),
                Err(error) if is_an_answer(&error) => return Ok(true),
                Err(error) if self.embedding.may_be_of_a_text(&error, self.context) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether the embedder made sense of a text of a call, or of one before.
    ///
    /// # Errors
    /// `Corrupt`: it did not, so that the fault is its own, a wrong number of dimensions say.
    fn makes_sense(&mut self, part: Range<usize>) -> Result<()> {
        let made = |outcome: &TextOutcome| matches!(outcome, TextOutcome::Vector(_));
        let senseless = |outcome: &TextOutcome| matches!(outcome, TextOutcome::Refused(error) if error.kind() == ErrorKind::Corrupt);
        if self.outcomes.iter().any(made) || !self.outcomes[part.clone()].iter().all(senseless) {
            return Ok(());
        }
        let mut last = Ok(());
        for outcome in &mut self.outcomes[part] {
            if let TextOutcome::Refused(error) = std::mem::replace(outcome, TextOutcome::Failed) {
                last = Err(error);
            }
        }
        last
    }
}

/// Whether an error says that the embedder is there and has looked at the texts.
fn is_an_answer(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Corrupt)
}

impl Attached {
    /// One call: as many vectors as texts, each of the embedder's space.
    ///
    /// # Errors
    /// Those of the embedder. `Corrupt`: its answer is not what was asked for. `Unavailable`: the
    /// memory is closed.
    pub(crate) async fn embed(
        &self,
        context: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        self.check_open()?;
        let vectors = self
            .embedder
            .embed(context, texts, purpose)
            .await
            .map_err(|error| error.with_operation("embed"))?;
        if vectors.len() != texts.len() {
            return Err(self.corrupt(format!(
                "the embedding model gave {} vectors for {} texts",
                vectors.len(),
                texts.len()
            )));
        }
        for vector in &vectors {
            if let Err(error) = self.space.check(vector) {
                return Err(self.corrupt(format!(
                    "the embedding model gave a vector that is none of its space: {}",
                    error.message()
                )));
            }
        }
        Ok(vectors)
    }

    fn corrupt(&self, message: String) -> Error {
        Error::new(ErrorKind::Corrupt, message)
            .with_operation("embed")
            .with_context("space", self.space.to_string())
    }
}
