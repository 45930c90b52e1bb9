//! Which embedding space a caller's vector belongs to: the one that the tenant had when it was last
//! read, or, where that is refused, the one that it has now.

use memory_core::traits::TenantSpaces;
use memory_core::{CallContext, EmbeddingSpace, Error, ErrorKind, Metric, Result};

use super::TenantMemory;

/// The model of a space that is declared by a caller's vector alone.
pub(super) const CALLER: &str = "caller";

/// The context of an error that concerns one tenant alone: its active space, the value, is none
/// that the embedder or the settings can do anything with.
pub(crate) const TENANT_SPACE: &str = "tenant_space";

/// How often a lost race for the declaration is read again. Each loss means that somebody else
/// declared a space or an erasure took it away, so that more than a few mean a fault.
const ATTEMPTS: usize = 4;

/// A space of the tenant, and how it is known.
#[derive(Clone, Debug)]
pub(super) struct KnownSpace {
    pub(super) space: EmbeddingSpace,
    /// Whether an earlier call read it. If the store then refuses what names it, the tenant may
    /// have another one by now.
    pub(super) remembered: bool,
}

impl KnownSpace {
    pub(super) fn read(space: EmbeddingSpace) -> Self {
        Self { space, remembered: false }
    }
}

impl TenantMemory {
    /// The tenant's embedding spaces: the active one, which vectors of callers belong to and
    /// searches use, and the one that it is being moved to. None until the first vector.
    ///
    /// This reads them. Calls that take a vector go by what was read in the last five seconds, and
    /// read again where the store refuses that: a space that is taken away or declared anew is
    /// noticed at once, and an active space that changes places with the next one within that time.
    ///
    /// # Errors
    /// As every call.
    pub async fn spaces(&self) -> Result<TenantSpaces> {
        self.inner().backend.meta.spaces(&self.context(None)).await
    }

    /// The active space, checked against the settings; `None` while the tenant has none.
    pub(super) async fn active_space(&self, context: &CallContext) -> Result<Option<KnownSpace>> {
        if let Some(known) = self.remembered() {
            return Ok(Some(known));
        }
        let (_, active) = self.read_spaces(context).await?;
        Ok(active.map(KnownSpace::read))
    }

    /// The space that a caller's vector belongs to, declared if the tenant has none yet.
    ///
    /// # Errors
    /// `InvalidInput`: the vector cannot belong to it; both lengths are named. `Config`: the
    /// settings name another space than the tenant has.
    pub(super) async fn space_for(
        &self,
        context: &CallContext,
        vector: &[f32],
    ) -> Result<KnownSpace> {
        // A vector that does not fit what is remembered may fit what the tenant has now.
        match self.remembered() {
            Some(known) if check(&known.space, vector).is_ok() => Ok(known),
            _ => self.space_now(context, vector).await.map(KnownSpace::read),
        }
    }

    /// As [`TenantMemory::space_for`], as the store has it.
    pub(super) async fn space_now(
        &self,
        context: &CallContext,
        vector: &[f32],
    ) -> Result<EmbeddingSpace> {
        let wanted = || {
            let wanted = self.wanted(vector)?;
            // Before it is declared: a vector that nothing can be done with declares nothing.
            check(&wanted, vector)?;
            Ok(wanted)
        };
        let active = self.active_or_declared(context, wanted).await?;
        check(&active, vector)?;
        Ok(active)
    }

    /// The active space as the store has it; the wanted one is declared if there is none.
    pub(super) async fn active_or_declared(
        &self,
        context: &CallContext,
        wanted: impl Fn() -> Result<EmbeddingSpace>,
    ) -> Result<EmbeddingSpace> {
        for _ in 0..ATTEMPTS {
            let read_at = self.inner().clock.monotonic();
            let (spaces, active) = self.read_spaces(context).await?;
            if let Some(active) = active {
                return Ok(active);
            }
            let wanted = wanted()?;
            let declared = TenantSpaces { active: Some(wanted.clone()), ..spaces };
            match self.inner().backend.meta.set_spaces(context, &declared).await {
                Ok(_) => {
                    self.inner().spaces.put(self.id(), wanted.clone(), read_at);
                    return Ok(wanted);
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Conflict, "the tenant's embedding spaces keep changing")
            .with_operation("declare_space"))
    }

    /// Forgets the tenant's space, so that the next call reads it, and what has a vector in it.
    pub(super) fn forget_space(&self) {
        self.inner().spaces.forget(self.id());
        self.inner().lacking.forget(self.id());
    }

    pub(super) fn remembered(&self) -> Option<KnownSpace> {
        let inner = self.inner();
        let space = inner.spaces.get(self.id(), inner.clock.monotonic())?;
        Some(KnownSpace { space, remembered: true })
    }

    /// The spaces as the store has them, and the active one, checked against the settings. What
    /// is remembered is that one afterwards.
    pub(super) async fn read_spaces(
        &self,
        context: &CallContext,
    ) -> Result<(TenantSpaces, Option<EmbeddingSpace>)> {
        let read_at = self.inner().clock.monotonic();
        let spaces = self.inner().backend.meta.spaces(context).await?;
        let active = match spaces.active.clone().map(|active| self.agreed(active)).transpose() {
            Ok(Some(active)) => {
                self.inner().spaces.put(self.id(), active.clone(), read_at);
                Some(active)
            }
            other => {
                self.forget_space();
                other?
            }
        };
        Ok((spaces, active))
    }

    fn wanted(&self, vector: &[f32]) -> Result<EmbeddingSpace> {
        match self.inner().embedding.declared() {
            Some(space) => Ok(space.clone()),
            None if vector.is_empty() => Err(Error::invalid("the vector has no components")),
            None => {
                let dimensions = u32::try_from(vector.len()).unwrap_or(u32::MAX);
                EmbeddingSpace::new(CALLER, "1", dimensions, Metric::Cosine)
            }
        }
    }

    /// Settings that name one space while the tenant has another are a mistake: the vectors of
    /// the two cannot be compared.
    fn agreed(&self, active: EmbeddingSpace) -> Result<EmbeddingSpace> {
        match self.inner().embedding.named() {
            Some(named) if *named != active => Err(Error::new(
                ErrorKind::Config,
                format!("the settings name the embedding space {named}; the tenant's is {active}"),
            )
            .with_context(TENANT_SPACE, active.to_string())),
            _ => Ok(active),
        }
    }
}

/// Checks a vector; a wrong length names the space as well as both lengths.
pub(super) fn check(space: &EmbeddingSpace, vector: &[f32]) -> Result<()> {
    space.check(vector).map_err(|error| error.with_context("space", space.id().to_string()))
}
