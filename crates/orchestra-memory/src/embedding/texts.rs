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

/// What became of one text.
#[derive(Debug)]
pub(crate) enum TextOutcome {
    /// Its vector, of the embedder's space.
    Vector(Vec<f32>),
    /// The embedder refuses this text, whatever stands beside it.
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
    /// Embeds texts, any number of them. A call that is refused for its input is halved until the
    /// bad texts stand alone; any other failure ends it.
    pub(crate) async fn texts(
        &self,
        attached: &Attached,
        context: &CallContext,
        texts: &[String],
    ) -> Texts {
        let mut outcomes: Vec<_> = texts.iter().map(|_| TextOutcome::Failed).collect();
        let size = self.texts_per_call();
        for first in (0..texts.len()).step_by(size) {
            // The ranges that wait, the next one last.
            let mut waiting =
                Vec::from([Range { start: first, end: texts.len().min(first + size) }]);
            while let Some(range) = waiting.pop() {
                let part = &texts[range.clone()];
                match attached.embed(context, part, EmbedPurpose::Document).await {
                    Ok(vectors) => {
                        for (outcome, vector) in outcomes[range].iter_mut().zip(vectors) {
                            *outcome = TextOutcome::Vector(vector);
                        }
                    }
                    Err(error) if error.kind() != ErrorKind::InvalidInput => {
                        return Texts { outcomes, fault: Some(error) };
                    }
                    Err(_) if part.len() > 1 => {
                        let middle = range.start + part.len() / 2;
                        waiting.push(middle..range.end);
                        waiting.push(range.start..middle);
                    }
                    Err(error) => outcomes[range.start] = TextOutcome::Refused(error),
                }
            }
        }
        Texts { outcomes, fault: None }
    }
}

impl Attached {
    /// One call: as many vectors as texts, each of the embedder's space.
    ///
    /// # Errors
    /// Those of the embedder. `Corrupt`: its answer is not what was asked for.
    pub(crate) async fn embed(
        &self,
        context: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
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
