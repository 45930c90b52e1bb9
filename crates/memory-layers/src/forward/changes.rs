//! A change log behind a policy.

use std::collections::BTreeMap;

use async_trait::async_trait;
use memory_core::traits::{ChangeBatch, ChangeLog, ChangePosition};
use memory_core::{CallContext, ConsumerName, Result};

use crate::operation::Operation;
use crate::policy::{Attempt, Layered, Policy, rows};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Policy> ChangeLog for Layered<dyn ChangeLog, P> {
    async fn read_changes(
        &self,
        context: &CallContext,
        after: ChangePosition,
        limit: u32,
    ) -> Result<ChangeBatch> {
        let call = self.of(Operation::ReadChanges, context, rows(limit));
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            ChangeLog::read_changes(inner, &attempt.context(context), after, limit).await
        };
        self.policy.run(&call, send).await
    }
    async fn acknowledge(
        &self,
        context: &CallContext,
        consumer: &ConsumerName,
        position: ChangePosition,
    ) -> Result<()> {
        let call = self.of(Operation::Acknowledge, context, 1);
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            ChangeLog::acknowledge(inner, &attempt.context(context), consumer, position).await
        };
        self.policy.run(&call, send).await
    }
    async fn consumers(
        &self,
        context: &CallContext,
    ) -> Result<BTreeMap<ConsumerName, ChangePosition>> {
        let call = self.of(Operation::Consumers, context, 1);
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            ChangeLog::consumers(inner, &attempt.context(context)).await
        };
        self.policy.run(&call, send).await
    }
    async fn forget_consumer(&self, context: &CallContext, consumer: &ConsumerName) -> Result<()> {
        let call = self.of(Operation::ForgetConsumer, context, 1);
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            ChangeLog::forget_consumer(inner, &attempt.context(context), consumer).await
        };
        self.policy.run(&call, send).await
    }
}
