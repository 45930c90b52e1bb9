//! Searching: by words, by meaning, by a caller's vector.

use memory_core::traits::EmbedPurpose;
use memory_core::{CallContext, EmbeddingSpace, Error, ErrorKind, Result};
use memory_search::{ArmSelection, SearchAnswer, SearchRequest};

use super::TenantMemory;
use super::spaces::{self, KnownSpace};
use super::vectors::Stance;
use crate::embedding::Attached;

impl TenantMemory {
    /// Finds memories by words, by meaning, by a vector, or by several of them.
    ///
    /// Where there is an embedder, a text without a vector is embedded, and both arms run: words,
    /// and vectors of the tenant's active space. Where that cannot be (no embedder, no vector in
    /// the tenant yet, vectors of the caller's own), words alone run and a note in the answer says
    /// why; arms that were asked for by name are then an error. Under
    /// [`ArmSelection::KeywordOnly`] nothing is embedded. Nothing falls back in silence: an
    /// embedder that fails fails the search.
    ///
    /// # Errors
    /// `InvalidInput`: neither text nor vector, or a limit, filter or vector that is none; an arm
    /// that was asked for and cannot be had. `Unsupported`: an arm without its index, or an
    /// undeclared key. `Config`: the embedder's space is another one than the tenant's. Otherwise
    /// also what the embedder met.
    pub async fn search(&self, request: &SearchRequest) -> Result<SearchAnswer> {
        self.note_use();
        let context = self.context(None);
        let searcher = &self.inner().searcher;
        let Some(text) = meant(request) else {
            return searcher.search(&context, request).await;
        };
        // Nothing is embedded for a request that is refused anyway.
        request.validate().map_err(|error| error.with_operation("search"))?;
        let embedding = &self.inner().embedding;
        let Some(attached) = embedding.attached() else {
            let request = request.clone().with_no_vector_reason(embedding.no_model());
            return searcher.search(&context, &request).await;
        };
        let reason = match self.stance(&context, attached).await? {
            Stance::Serves(known) => {
                let vector = query_vector(attached, &context, text).await?;
                let request = request.clone().with_vector(known.space.clone(), vector);
                let answer = searcher.search(&context, &request).await;
                match answer {
                    Err(error) if error.kind() == ErrorKind::InvalidInput && known.remembered => {}
                    answer => return answer,
                }
                // Perhaps for the space, which the tenant may no longer have.
                match self.stance_now(&context, attached).await? {
                    Stance::Serves(_) => return searcher.search(&context, &request).await,
                    stance => no_vector(&stance),
                }
            }
            stance => no_vector(&stance),
        };
        let request = request.clone().with_no_vector_reason(reason);
        searcher.search(&context, &request).await
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
        let by_words = matches!(request.arms, ArmSelection::Auto | ArmSelection::KeywordOnly);
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

/// The text of a request that would be embedded: it has no vector, and wants the vector arm or
/// does not mind.
fn meant(request: &SearchRequest) -> Option<&str> {
    let text = request.text.as_deref().filter(|_| request.vector.is_none())?;
    (request.arms != ArmSelection::KeywordOnly).then_some(text)
}

/// Why a text of a search is not embedded though there is an embedder.
fn no_vector(stance: &Stance) -> String {
    match stance {
        Stance::Aside(active) => format!(
            "no query vector was given, and the tenant's vectors are the caller's own ({active})"
        ),
        Stance::Undeclared | Stance::Serves(_) => {
            "none of the tenant's memories has a vector yet (`orchestra-memory embed --missing` \
             makes them)"
                .to_owned()
        }
    }
}

/// Embeds the text of a search.
async fn query_vector(attached: &Attached, context: &CallContext, text: &str) -> Result<Vec<f32>> {
    let texts = [text.to_owned()];
    let embedded = attached.embed(context, &texts, EmbedPurpose::Query).await;
    let vector = embedded.map(|mut vectors| vectors.pop()).map_err(|error| {
        let instead = Error::new(
            error.kind(),
            format!(
                "the search text could not be embedded: {}; search by words alone works without \
                 the model (`--arm keyword`)",
                error.message()
            ),
        );
        let instead = instead.with_operation("search").with_retryable(error.is_retryable());
        let instead = match error.retry_after() {
            Some(wait) => instead.with_retry_after(wait),
            None => instead,
        };
        instead.with_source(error)
    })?;
    vector.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the embedding model gave no vector"))
}
