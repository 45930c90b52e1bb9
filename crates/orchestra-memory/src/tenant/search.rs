//! Searching: by words, by meaning, by a caller's vector.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures::future::{Either, select};
use futures::poll;
use memory_core::traits::{EmbedPurpose, VectorQuery};
use memory_core::{CallContext, EmbeddingSpace, Error, ErrorKind, Filter, Result, Vectors, Write};
use memory_search::{Arm, ArmSelection, Hit, SearchAnswer, SearchRequest};
use memory_text::question::{names, without_names};

use super::TenantMemory;
use super::spaces::{self, KnownSpace};
use super::vectors::Stance;
use crate::embedding::Attached;
use crate::lacking::{Known, Question};

/// Why there is nothing to search by meaning.
const NONE_YET: &str = "none of the tenant's memories has a vector yet (`orchestra-memory embed \
                        --missing` makes them)";

/// Why a search by meaning may have missed something.
const SOME_LACK: &str = "some of the tenant's memories have no vector yet and are found by words \
                         alone (`orchestra-memory embed --missing` makes them)";

/// The same where there is no search by words.
const SOME_MISSED: &str = "some of the tenant's memories have no vector yet and are not found \
                           (`orchestra-memory embed --missing` makes them)";

/// Words that a question has at the least once the names of authors are taken out: `Who is Ada`
/// has two left, which mean nothing.
const FEWEST_WORDS: usize = 3;

/// How a search went that found nothing, for there is nothing yet to search.
const BY_MEANING_ALONE: &str = "searched by meaning alone: this store has no keyword index";

impl TenantMemory {
    /// Finds memories by words, by meaning, by a vector, or by several of them.
    ///
    /// Where there is an embedder, a text without a vector is embedded, and both arms run: words,
    /// and vectors of the tenant's active space. Where that cannot be (no embedder, no vector in
    /// the tenant yet, vectors of the caller's own), words alone run and a note in the answer says
    /// why; arms that were asked for by name are then an error. Under
    /// [`ArmSelection::KeywordOnly`] nothing is embedded. Nothing falls back in silence: an
    /// embedder that fails fails the search, and where some memories have no vector a note says
    /// so. What is known of that may be some seconds old, where others write as well; of a store
    /// that bills what it reads, no more is known than what this process wrote, for looking would
    /// cost a read for each memory.
    ///
    /// A store without a keyword index is searched by meaning alone, and a note says so; while
    /// none of the tenant's memories has a vector, nothing is found there.
    ///
    /// # Errors
    /// `InvalidInput`: neither text nor vector, or a limit, filter or vector that is none; an arm
    /// that was asked for and cannot be had. `Unsupported`: an arm without its index, a text alone
    /// where there is neither a keyword index nor an embedder, or an undeclared key. `Config`: the embedder's space is another one than the tenant's. Otherwise
    /// also what the embedder met.
    pub async fn search(&self, request: &SearchRequest) -> Result<SearchAnswer> {
        self.note_use();
        let context = self.context(None);
        let inner = self.inner();
        let searcher = &inner.searcher;
        let Some(text) = meant(request) else {
            return searcher.search(&context, request).await;
        };
        // Nothing is embedded for a request that is refused anyway.
        request.validate().map_err(|error| error.with_operation("search"))?;
        let embedding = &inner.embedding;
        let Some(attached) = embedding.attached() else {
            let request = request.clone().with_no_vector_reason(embedding.no_model());
            return searcher.search(&context, &request).await;
        };
        let without = match self.search_meaning(&context, attached, text, request).await? {
            Ok(answer) => return Ok(answer),
            Err(without) => without,
        };
        let words = inner.backend.keywords.is_some();
        if without.none_yet && !words && request.arms == ArmSelection::Auto {
            let notes = vec![BY_MEANING_ALONE.to_owned(), without.reason];
            return Ok(SearchAnswer::nothing(vec![Arm::Vector], notes));
        }
        let request = request.clone().with_no_vector_reason(without.reason);
        searcher.search(&context, &request).await
    }

    /// Embeds the text of a request and searches with its vector as well.
    ///
    /// # Errors
    /// The inner one says why there is nothing to search by meaning.
    async fn search_meaning(
        &self,
        context: &CallContext,
        attached: &Attached,
        text: &str,
        request: &SearchRequest,
    ) -> Result<Result<SearchAnswer, Without>> {
        let stance = self.stance(context, attached).await?;
        let Stance::Serves(known) = stance else { return Ok(Err(no_vector(&stance))) };
        let words = self.inner().backend.keywords.is_some();
        let asked = self.without_authors(context, text).await?;
        let vector = query_vector(attached, context, &asked, words).await?;
        let request = request.clone().with_vector(known.space.clone(), vector);
        let mut found = self.search_both_ways(context, &request, &known.space).await;
        let refused = |error: &Error| error.kind() == ErrorKind::InvalidInput;
        if known.remembered && found.as_ref().is_err_and(refused) {
            // Perhaps for the space, which the tenant may no longer have.
            let stance = self.stance_now(context, attached).await?;
            let Stance::Serves(known) = stance else { return Ok(Err(no_vector(&stance))) };
            found = self.search_both_ways(context, &request, &known.space).await;
        }
        Ok(found?.ok_or_else(Without::none_yet))
    }

    /// The text to embed for a question: without the names of authors, whom the keyword index
    /// knows. They stand before the text of most memories that are embedded, and say little of what
    /// is asked. A question that is hardly more than a name keeps it.
    async fn without_authors<'t>(
        &self,
        context: &CallContext,
        text: &'t str,
    ) -> Result<Cow<'t, str>> {
        let inner = self.inner();
        let settings = inner.searcher.settings().context;
        let (true, Some(keywords)) = (settings.without_names, &inner.backend.keywords) else {
            return Ok(Cow::Borrowed(text));
        };
        let names: Vec<String> = names(text).into_iter().map(str::to_owned).collect();
        if names.is_empty() {
            return Ok(Cow::Borrowed(text));
        }
        let authors = keywords.authors(context, &names).await?;
        let rest = without_names(text, &authors);
        let words = rest.split_whitespace().filter(|word| word.contains(char::is_alphanumeric));
        Ok(if words.count() < FEWEST_WORDS { Cow::Borrowed(text) } else { Cow::Owned(rest) })
    }

    /// As [`TenantMemory::search`], with a vector of the tenant's active space beside what the
    /// request holds.
    ///
    /// # Errors
    /// `InvalidInput` also where the vector does not belong to the active space, and where the
    /// tenant has no space yet and a vector is needed: for a search without text, or for arms that
    /// were asked for. Otherwise it is then searched by words, and the answer says so. `Config`:
    /// the settings name another space than the tenant has.
    pub async fn search_with_vector(
        &self,
        request: SearchRequest,
        vector: Vec<f32>,
    ) -> Result<SearchAnswer> {
        self.note_use();
        let context = self.context(None);
        let mut known = self.active_space(&context).await?;
        if let Some(guess) = known.take_if(|known| known.remembered) {
            match self.search_in(&context, &guess.space, &request, &vector).await {
                Err(error) if error.kind() == ErrorKind::InvalidInput => {
                    // Perhaps for the space, which the tenant may no longer have.
                    let (_, now) = self.read_spaces(&context).await?;
                    if now.as_ref() == Some(&guess.space) {
                        return Err(error);
                    }
                    known = now.map(KnownSpace::read);
                }
                done => return done,
            }
        }
        if let Some(known) = known {
            return self.search_in(&context, &known.space, &request, &vector).await;
        }
        let by_words = match request.arms {
            ArmSelection::Auto => self.inner().backend.keywords.is_some(),
            arms => arms == ArmSelection::KeywordOnly,
        };
        if request.text.is_none() || !by_words {
            return Err(Error::invalid(
                "the tenant has no embedding space yet: none of its memories has a vector",
            )
            .with_operation("search"));
        }
        let mut answer = self.inner().searcher.search(&context, &request).await?;
        answer.notes.push(
            "The vector was not used: none of the tenant's memories has a vector yet.".to_owned(),
        );
        Ok(answer)
    }

    /// Searches with the vector of a text that was embedded, and finds out whether memories lack
    /// theirs; `None`: every memory does.
    async fn search_both_ways(
        &self,
        context: &CallContext,
        request: &SearchRequest,
        space: &EmbeddingSpace,
    ) -> Result<Option<SearchAnswer>> {
        let (mut answer, lacks) = match self.inner().bills {
            true => self.with_known_lacking(context, space, request).await?,
            false => {
                let searched = self.inner().searcher.search(context, request);
                self.with_lacking(context, space, searched).await?
            }
        };
        if !lacks {
            return Ok(Some(answer));
        }
        let by_meaning = |hit: &Hit| hit.arms.iter().any(|arm| arm.arm == Arm::Vector);
        if !answer.hits.iter().any(by_meaning) && !self.has_vectors(context, request).await? {
            return Ok(None);
        }
        let note = match self.inner().backend.keywords {
            Some(_) => SOME_LACK,
            None => SOME_MISSED,
        };
        answer.notes.push(note.to_owned());
        Ok(Some(answer))
    }

    /// A search, and whether some of the tenant's memories lack a vector, as far as is known. It
    /// waits for that only where nothing is known.
    async fn with_lacking(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        search: impl Future<Output = Result<SearchAnswer>>,
    ) -> Result<(SearchAnswer, bool)> {
        let inner = self.inner();
        let (lacking, began) = (&inner.lacking, inner.clock.monotonic());
        let (lacks, question) = match lacking.get(self.id(), began) {
            Known::New(lacks) => return Ok((search.await?, lacks)),
            Known::Nothing => (None, self.ask_lacking(context.clone(), space)),
            // It may outlast this search, and its deadline.
            Known::Old(lacks, None) => {
                let context = CallContext::new(self.id().clone());
                (Some(lacks), self.ask_lacking(context, space))
            }
            Known::Old(lacks, Some(question)) => (Some(lacks), question),
        };
        let took = || inner.clock.monotonic().saturating_sub(began);
        let (answer, now) = match select(pin!(search), question).await {
            Either::Left((answer, mut question)) => {
                let answer = answer?;
                match lacks {
                    None => (answer, question.await.map(|now| (now, Some(took())))),
                    // It may be answered by now, or not even be on its way.
                    Some(lacks) => match poll!(&mut question) {
                        Poll::Ready(now) => (answer, now.map(|now| (now, None))),
                        Poll::Pending => {
                            lacking.keep(self.id(), question);
                            return Ok((answer, lacks));
                        }
                    },
                }
            }
            Either::Right((now, search)) => {
                let now = now.map(|now| (now, lacks.is_none().then(took)));
                (search.await?, now)
            }
        };
        // A store that cannot say is asked again; what it found stands.
        let Some((now, took)) = now else { return Ok((answer, lacks.unwrap_or(false))) };
        lacking.put(self.id(), now, inner.clock.monotonic(), took);
        Ok((answer, now))
    }

    /// As [`TenantMemory::with_lacking`], of a store that bills what it reads, and that would have
    /// to look at every memory that has a vector: it goes by what this process knows. Where nothing
    /// at all is found the store is asked, for it then looks at the first memory and no further.
    async fn with_known_lacking(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        request: &SearchRequest,
    ) -> Result<(SearchAnswer, bool)> {
        let inner = self.inner();
        let answer = inner.searcher.search(context, request).await?;
        let lacks = match inner.lacking.get(self.id(), inner.clock.monotonic()) {
            Known::New(lacks) | Known::Old(lacks, _) => lacks,
            Known::Nothing if answer.hits.is_empty() && request.filter == Filter::All => {
                self.ask_lacking(context.clone(), space).await.unwrap_or(false)
            }
            Known::Nothing => false,
        };
        Ok((answer, lacks))
    }

    /// Takes in that a commit was done; `bare`: it wrote memories without a vector, which searches
    /// say from then on.
    pub(super) fn note_written(&self, bare: bool) {
        if bare {
            self.inner().lacking.written_without(self.id(), self.inner().bills);
        }
    }

    /// Takes in that vectors were made, and that it is not known whether some are left to make.
    pub(super) fn note_made(&self) {
        match self.inner().bills {
            // Nobody would ask.
            true => self.inner().lacking.forget(self.id()),
            false => self.inner().lacking.made(self.id()),
        }
    }

    /// Asks whether a memory lacks a vector.
    fn ask_lacking(&self, context: CallContext, space: &EmbeddingSpace) -> Question {
        let (vectors, space) = (Arc::clone(&self.inner().backend.vectors), space.clone());
        Box::pin(async move {
            let missing = vectors.missing(&context, &space, None, 1).await;
            missing.ok().map(|ids| !ids.is_empty())
        })
    }

    /// Whether any memory has a vector.
    async fn has_vectors(&self, context: &CallContext, request: &SearchRequest) -> Result<bool> {
        let Some((space, vector)) = request.vector.clone() else { return Ok(false) };
        let nearest = VectorQuery::new(space, vector, 1).with_at_least(request.at_least);
        let found = self.inner().backend.vectors.search(context, &nearest).await?;
        Ok(!found.hits.is_empty())
    }

    async fn search_in(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        request: &SearchRequest,
        vector: &[f32],
    ) -> Result<SearchAnswer> {
        spaces::check(space, vector)?;
        let request = request.clone().with_vector(space.clone(), vector.to_vec());
        self.inner().searcher.search(context, &request).await
    }
}

/// Whether a write is of a memory without a vector.
pub(super) fn is_bare(write: &Write) -> bool {
    match write {
        Write::Put(put) => match &put.vectors {
            Vectors::Replace(vectors) => vectors.is_empty(),
            Vectors::Keep => false,
        },
        Write::Delete(_) => false,
    }
}

/// The text of a request that would be embedded: it has no vector, and wants the vector arm or
/// does not mind.
fn meant(request: &SearchRequest) -> Option<&str> {
    let text = request.text.as_deref().filter(|_| request.vector.is_none())?;
    (request.arms != ArmSelection::KeywordOnly).then_some(text)
}

/// Why a text is not searched by meaning though there is an embedder.
struct Without {
    reason: String,
    /// Whether no memory of the tenant has a vector.
    none_yet: bool,
}

impl Without {
    fn none_yet() -> Self {
        Self { reason: NONE_YET.to_owned(), none_yet: true }
    }
}

fn no_vector(stance: &Stance) -> Without {
    match stance {
        Stance::Aside(active) => Without {
            reason: format!(
                "no query vector was given, and the tenant's vectors are the caller's own \
                 ({active})"
            ),
            none_yet: false,
        },
        Stance::Undeclared | Stance::Serves(_) => Without::none_yet(),
    }
}

/// Embeds the text of a search. `words`: whether there is a search without it.
async fn query_vector(
    attached: &Attached,
    context: &CallContext,
    text: &str,
    words: bool,
) -> Result<Vec<f32>> {
    let texts = [text.to_owned()];
    let embedded = attached.embed(context, &texts, EmbedPurpose::Query).await;
    let vector = embedded.map(|mut vectors| vectors.pop()).map_err(|error| {
        let advice = match words {
            true => "; search by words alone works without the model (`--arm keyword`)",
            false => "",
        };
        let message = format!("the search text could not be embedded: {}{advice}", error.message());
        let instead = Error::new(error.kind(), message);
        let instead = instead.with_operation("search").with_retryable(error.is_retryable());
        let instead = match error.retry_after() {
            Some(wait) => instead.with_retry_after(wait),
            None => instead,
        };
        instead.with_source(error)
    })?;
    vector.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the embedding model gave no vector"))
}
