//! What a layer is made of: a policy about calls, and one wrapper that puts it around every trait.
//!
//! A policy says how one call is run: how often, how long, when, and what is noted about it. It
//! knows the call's operation, tenant and deadline, and never its content. [`Layered`] implements
//! each trait of the core by handing every method to the policy, once for all policies.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use memory_core::{CallContext, Deadline, Health, Result};

use crate::answer::Answer;
use crate::operation::Operation;

/// What a policy may know of a call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Which operation.
    pub operation: Operation,
    /// The back end's name, as in its errors; for an embedder `embedder`.
    pub backend: &'static str,
    /// Tenant, deadline and fence; `None` for the few calls about a whole store.
    pub context: Option<&'a CallContext>,
    /// How many things it is about: writes, ids, texts, or the limit of a page. 1 if it is about
    /// itself.
    pub asked: usize,
    /// Whether the caller says that it has sent it before with an unknown outcome.
    pub resend: bool,
}

impl Call<'_> {
    /// The deadline that the caller set.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.context.and_then(|context| context.deadline)
    }

    /// The first attempt at it, as the caller made it.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        Attempt { deadline: self.deadline(), resend: self.resend }
    }
}

/// How one attempt is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// By when it must have ended; at the caller's deadline or before it.
    pub deadline: Option<Deadline>,
    /// Whether an attempt before had an unknown outcome, so that the store looks for its own work.
    /// Counts for [`crate::Safety::Resend`] alone.
    pub resend: bool,
}

impl Attempt {
    /// The context to send: the caller's, copied only where the deadline is another.
    #[must_use]
    pub fn context<'c>(&self, context: &'c CallContext) -> Cow<'c, CallContext> {
        if self.deadline == context.deadline {
            return Cow::Borrowed(context);
        }
        Cow::Owned(context.clone().with_deadline(self.deadline))
    }
}

/// How calls are run. Clones share their state.
pub trait Policy: Clone + Debug + Send + Sync + 'static {
    /// Runs one call: `send` makes one attempt at it each time it is called.
    ///
    /// # Errors
    /// Those of the attempts, and the policy's own.
    ///
    /// # Cancellation
    /// Dropping the future drops the attempt under way and leaves nothing of the policy behind.
    fn run<T, F, A>(&self, call: &Call<'_>, send: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Answer,
        F: FnMut(Attempt) -> A + Send,
        A: Future<Output = Result<T>> + Send;

    /// Adds what the policy knows to the health of what it wraps.
    fn health(&self, health: &mut Health);

    /// Closes: refuses new calls if that is its part, lets those under way end, and runs `close`.
    ///
    /// # Errors
    /// Those of `close`.
    fn close<A>(&self, close: A) -> impl Future<Output = Result<()>> + Send
    where
        A: Future<Output = Result<()>> + Send;
}

/// A part of a back end behind a policy.
#[derive(Debug)]
pub struct Layered<T: ?Sized, P> {
    pub(crate) inner: Arc<T>,
    pub(crate) policy: P,
    pub(crate) backend: &'static str,
}

impl<T: ?Sized, P: Policy> Layered<T, P> {
    /// Puts a policy around a part; `backend` is the name of the back end.
    #[must_use]
    pub fn new(inner: Arc<T>, policy: P, backend: &'static str) -> Self {
        Self { inner, policy, backend }
    }

    /// A call about the whole store.
    pub(crate) fn about_store(&self, operation: Operation) -> Call<'static> {
        Call { operation, backend: self.backend, context: None, asked: 1, resend: false }
    }

    /// A call of a tenant.
    pub(crate) fn of<'a>(
        &self,
        operation: Operation,
        context: &'a CallContext,
        asked: usize,
    ) -> Call<'a> {
        Call { operation, backend: self.backend, context: Some(context), asked, resend: false }
    }
}

/// A limit of rows as a count.
pub(crate) fn rows(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
