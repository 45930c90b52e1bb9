//! The space of a batch's vectors.

use memory_core::{CallContext, Error, ErrorKind, Result};

use super::BatchResult;
use super::ready::Ready;
use crate::embedding::Attached;
use crate::options::ItemOutcome;
use crate::report::VectorState;
use crate::tenant::TenantMemory;
use crate::tenant::spaces::{self, KnownSpace};
use crate::tenant::vectors::{Stance, judge, stands_aside};

/// The space of a batch's vectors: looked up once, and once more if what an earlier call had read
/// proves wrong. A space that changes after that is refused by the store.
#[derive(Debug, Default)]
pub(super) struct BatchSpace {
    pub(super) known: Option<KnownSpace>,
    /// Whether it is another one than vectors were checked against.
    pub(super) moved: bool,
}

impl BatchSpace {
    pub(super) fn is_a_guess(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.remembered)
    }
}

impl TenantMemory {
    /// Whether a vector fits the batch's space; finds that space first if it is not known yet.
    ///
    /// # Errors
    /// The outer error is not the vector's fault; the inner one is.
    pub(super) async fn fit(
        &self,
        context: &CallContext,
        vector: &[f32],
        space: &mut BatchSpace,
    ) -> Result<Result<()>> {
        if let Some(known) = &space.known {
            let checked = spaces::check(&known.space, vector);
            if checked.is_ok() || !known.remembered {
                return Ok(checked);
            }
            self.look_again(context, space).await?;
            if let Some(known) = &space.known {
                return Ok(spaces::check(&known.space, vector));
            }
        }
        let found = match space.moved {
            true => self.space_now(context, vector).await.map(KnownSpace::read),
            false => self.space_for(context, vector).await,
        };
        match found {
            Ok(found) => {
                space.known = Some(found);
                Ok(Ok(()))
            }
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    /// Reads the batch's space, which an earlier call had read.
    pub(super) async fn look_again(
        &self,
        context: &CallContext,
        space: &mut BatchSpace,
    ) -> Result<()> {
        let (_, now) = self.read_spaces(context).await?;
        space.moved = now.as_ref() != space.known.as_ref().map(|known| &known.space);
        space.known = now.map(KnownSpace::read);
        Ok(())
    }

    /// Takes out the memories whose vectors do not fit the space that the batch moved to, and the
    /// made vectors where that space is the caller's.
    ///
    /// # Errors
    /// `Config`: it is one that made vectors have nothing to do with.
    pub(super) async fn without_misfits(
        &self,
        context: &CallContext,
        part: Vec<Ready>,
        space: &mut BatchSpace,
        result: &mut BatchResult,
    ) -> Result<Vec<Ready>> {
        let mut left = Vec::with_capacity(part.len());
        for mut ready in part {
            let fits = match (ready.state, ready.vector()) {
                (_, None) => Ok(()),
                (VectorState::Made, Some(_)) => {
                    if let Some(reason) = self.settle(context, space).await? {
                        ready.set_vector(None, VectorState::Aside);
                        result.note(reason);
                    }
                    Ok(())
                }
                (_, Some(vector)) => self.fit(context, vector, space).await?,
            };
            match fits {
                Ok(()) => left.push(ready),
                Err(error) => result.outcomes[ready.place] = ItemOutcome::Failed(error),
            }
        }
        Ok(left)
    }

    /// Makes sure that the batch's space is the one of made vectors, declared if the tenant has
    /// none; or gives the reason why they are left out.
    ///
    /// # Errors
    /// `Config`: the tenant has a space of another model.
    pub(super) async fn settle(
        &self,
        context: &CallContext,
        space: &mut BatchSpace,
    ) -> Result<Option<Error>> {
        let Some(attached) = self.inner().embedding.attached() else {
            return Err(Error::new(ErrorKind::Unexpected, "the embedder of a vector is gone"));
        };
        let stance = match &space.known {
            Some(known) if known.space == attached.space => return Ok(None),
            // What somebody else's vector was checked against was read some time ago.
            Some(known) if known.remembered => self.stance_of_now(context, attached).await?,
            Some(known) => judge(attached, known.clone())?,
            None => self.stance_declared(context, attached).await?,
        };
        let (now, reason) = match stance {
            Stance::Serves(known) => (known, None),
            Stance::Aside(active) => {
                let reason = stands_aside(attached, &active);
                (KnownSpace::read(active), Some(reason))
            }
            Stance::Undeclared => {
                return Err(Error::new(ErrorKind::Unexpected, "a declared space is not there"));
            }
        };
        // Callers' vectors of the batch were checked against what was known before.
        space.moved |= space.known.as_ref().is_some_and(|known| known.space != now.space);
        space.known = Some(now);
        Ok(reason)
    }

    async fn stance_of_now(&self, context: &CallContext, attached: &Attached) -> Result<Stance> {
        self.read_spaces(context).await?;
        self.stance_declared(context, attached).await
    }
}
