//! A client's link to the simulated server: every trait, each call a request through the weather.
//!
//! A request is a task of its own, so that it goes on when its client has given up or gone down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{
    ChangeBatch, ChangeLog, ChangePosition, EraseScope, EraseStep, EraseToken, FencingToken,
    IndexHits, KeywordEntry, KeywordIndex, KeywordQuery, Lease, LeaseStore, RecordStore,
    SchemaInfo, StoreKey, StoreMeta, SweepStep, TenantSpaces, Tombstone, UpsertOutcome,
    VectorEntry, VectorIndex, VectorQuery,
};
use memory_core::{
    CallContext, Capabilities, Commit, CommitReceipt, ConsumerName, EmbeddingSpace, Error,
    ErrorKind, Filter, Health, LeaseName, MemoryId, MemoryItem, Outcome, Page, Projection, Query,
    Result,
};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::faults::FaultKind;
use super::history::{Answer, Wire};
use super::server::{Flaw, Server, Ticket, room_context};
use super::weather::{Fate, Journey};

tokio::task_local! {
    /// The call of the history that the running task is about.
    pub(super) static CALL: usize;
}

/// One process's link.
#[derive(Debug)]
pub(super) struct Link {
    server: Arc<Server>,
    process: usize,
}

/// What a lost request looks like to its client.
fn lost(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, "the connection broke before the answer came")
        .with_operation(operation)
        .with_backend("sim")
        .with_unknown_outcome()
}

impl Link {
    pub(super) fn new(server: Arc<Server>, process: usize) -> Self {
        Self { server, process }
    }

    /// Sends one request: `run` is what the server does when it arrives.
    async fn send<T, F, R>(
        &self,
        operation: &'static str,
        resend: bool,
        context: &CallContext,
        run: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Server>, Ticket, CallContext) -> R + Send + 'static,
        R: Future<Output = Result<T>> + Send + 'static,
    {
        let server = &self.server;
        let call = CALL.try_with(|call| *call).ok();
        let fate = server.fate();
        let wire = {
            let mut log = server.history.log();
            let (order, at, process) = (log.place(), server.at(), self.process);
            let (answer, done) = (None, None);
            log.wires.push(Wire { order, at, process, call, operation, resend, answer, done });
            log.wires.len() - 1
        };
        let ticket = Ticket { wire, call };
        let answer = match fate {
            Fate::Refused { kind, after, retry_after } => {
                sleep(after).await;
                server.count(match (kind, retry_after) {
                    (_, Some(_)) => FaultKind::RateLimited,
                    (ErrorKind::Unavailable, None) if !server.is_up() => FaultKind::Down,
                    _ => FaultKind::Refused,
                });
                let error = Error::new(kind, "the server refuses the request for now")
                    .with_operation(operation)
                    .with_backend("sim");
                Err(match retry_after {
                    Some(wait) => error.with_retry_after(wait),
                    None => error,
                })
            }
            Fate::Sent(journey) => {
                if journey.slow {
                    server.count(FaultKind::Slow);
                }
                let (told, answer) = oneshot::channel();
                let mut context = context.clone();
                if !journey.heeds_deadline {
                    context.deadline = None;
                }
                let road = Road { server: Arc::clone(server), ticket, operation, journey };
                tokio::spawn(road.travel(context, run, told));
                match answer.await {
                    Ok(answer) => answer,
                    // Silence: whoever waits has to give up by himself.
                    Err(_) => std::future::pending().await,
                }
            }
        };
        let mut log = server.history.log();
        let noted = match &answer {
            Ok(_) => Answer::Ok,
            Err(error) => Answer::Failed {
                kind: error.kind(),
                outcome: error.outcome(),
                retry_after: error.retry_after(),
            },
        };
        let order = log.place();
        log.wires[wire].answer = Some((order, server.at(), noted));
        drop(log);
        match answer {
            Err(error)
                if server.flaw == Some(Flaw::LossReportedAsFailure)
                    && error.outcome() == Outcome::Unknown =>
            {
                Err(Error::new(error.kind(), error.message()).with_operation(operation))
            }
            answer => answer,
        }
    }
}

impl Link {
    /// Sends a request that names no tenant.
    async fn about_store<T, F, R>(&self, operation: &'static str, run: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Server>) -> R + Send + 'static,
        R: Future<Output = Result<T>> + Send + 'static,
    {
        self.send(operation, false, &room_context(0), move |server, _, _| run(server)).await
    }
}

/// The way of one request.
struct Road {
    server: Arc<Server>,
    ticket: Ticket,
    operation: &'static str,
    journey: Journey,
}

impl Road {
    async fn travel<T, F, R>(self, context: CallContext, run: F, told: oneshot::Sender<Result<T>>)
    where
        F: FnOnce(Arc<Server>, Ticket, CallContext) -> R + Send,
        R: Future<Output = Result<T>> + Send,
    {
        let Self { server, ticket, operation, journey } = self;
        let arrival = journey.there;
        if let Some(there) = arrival {
            sleep(there).await;
        }
        if journey.revocable && told.is_closed() {
            return;
        }
        let answer = if arrival.is_some() && server.is_up() {
            server.executed(ticket, told.is_closed());
            // The store answers at once: nothing comes between the parts of one execution.
            let answer = run(Arc::clone(&server), ticket, context).await;
            if let Some(back) = journey.back {
                sleep(back).await;
                // Nobody may be there any more to hear it.
                let _ = told.send(answer);
                return;
            }
            server.count(FaultKind::AnswerLost);
            None
        } else {
            server.count(FaultKind::RequestLost);
            None::<Result<T>>
        };
        drop(answer);
        if let Some(after) = journey.told {
            sleep(after.saturating_sub(arrival.unwrap_or_default())).await;
            let _ = told.send(Err(lost(operation)));
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl RecordStore for Link {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        let resend = commit.resend;
        self.send("commit", resend, context, move |server, ticket, context| async move {
            server.commit(ticket, context, commit).await
        })
        .await
    }
    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        let (ids, projection) = (ids.to_vec(), projection.clone());
        self.send("fetch", false, context, move |server, _, context| async move {
            server.fetch(context, ids, projection).await
        })
        .await
    }
    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        let query = query.clone();
        self.send("query", false, context, move |server, _, context| async move {
            server.store.query(&context, &query).await
        })
        .await
    }
    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        let filter = filter.clone();
        self.send("count", false, context, move |server, _, context| async move {
            server.store.count(&context, &filter).await
        })
        .await
    }
    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        self.send("sweep_expired", false, context, move |server, _, context| async move {
            server.store.sweep_expired(&context, limit).await
        })
        .await
    }
    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        let scope = scope.clone();
        self.send("erase", false, context, move |server, _, context| async move {
            server.store.erase(&context, &scope, resume).await
        })
        .await
    }
    async fn health(&self) -> Health {
        Health::healthy()
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
    fn capabilities(&self) -> Capabilities {
        RecordStore::capabilities(&self.server.store)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl VectorIndex for Link {
    async fn upsert(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        let (space, entries) = (space.clone(), entries.to_vec());
        self.send("vector_upsert", false, context, move |server, ticket, context| async move {
            server.upsert(ticket, context, space, entries).await
        })
        .await
    }
    async fn remove(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()> {
        let (space, ids) = (space.clone(), ids.to_vec());
        self.send("vector_remove", false, context, move |server, _, context| async move {
            VectorIndex::remove(&server.store, &context, &space, &ids).await
        })
        .await
    }
    async fn missing(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        after: Option<MemoryId>,
        limit: u32,
    ) -> Result<Vec<MemoryId>> {
        let space = space.clone();
        self.send("vector_missing", false, context, move |server, _, context| async move {
            server.store.missing(&context, &space, after, limit).await
        })
        .await
    }
    async fn search(&self, context: &CallContext, query: &VectorQuery) -> Result<IndexHits> {
        let query = query.clone();
        self.send("vector_search", false, context, move |server, _, context| async move {
            VectorIndex::search(&server.store, &context, &query).await
        })
        .await
    }
    async fn health(&self) -> Health {
        Health::healthy()
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
    fn capabilities(&self) -> Capabilities {
        VectorIndex::capabilities(&self.server.store)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KeywordIndex for Link {
    async fn upsert(
        &self,
        context: &CallContext,
        entries: &[KeywordEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        let entries = entries.to_vec();
        self.send("keyword_upsert", false, context, move |server, _, context| async move {
            KeywordIndex::upsert(&server.store, &context, &entries).await
        })
        .await
    }
    async fn remove(&self, context: &CallContext, ids: &[MemoryId]) -> Result<()> {
        let ids = ids.to_vec();
        self.send("keyword_remove", false, context, move |server, _, context| async move {
            KeywordIndex::remove(&server.store, &context, &ids).await
        })
        .await
    }
    async fn search(&self, context: &CallContext, query: &KeywordQuery) -> Result<IndexHits> {
        let query = query.clone();
        self.send("keyword_search", false, context, move |server, _, context| async move {
            KeywordIndex::search(&server.store, &context, &query).await
        })
        .await
    }
    async fn authors(&self, context: &CallContext, names: &[String]) -> Result<Vec<String>> {
        let names = names.to_vec();
        self.send("keyword_authors", false, context, move |server, _, context| async move {
            server.store.authors(&context, &names).await
        })
        .await
    }
    async fn health(&self) -> Health {
        Health::healthy()
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
    fn capabilities(&self) -> Capabilities {
        KeywordIndex::capabilities(&self.server.store)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ChangeLog for Link {
    async fn read_changes(
        &self,
        context: &CallContext,
        after: ChangePosition,
        limit: u32,
    ) -> Result<ChangeBatch> {
        self.send("read_changes", false, context, move |server, _, context| async move {
            server.store.read_changes(&context, after, limit).await
        })
        .await
    }
    async fn acknowledge(
        &self,
        context: &CallContext,
        consumer: &ConsumerName,
        position: ChangePosition,
    ) -> Result<()> {
        let consumer = consumer.clone();
        self.send("acknowledge", false, context, move |server, ticket, context| async move {
            server.acknowledge(ticket, context, consumer, position).await
        })
        .await
    }
    async fn consumers(
        &self,
        context: &CallContext,
    ) -> Result<BTreeMap<ConsumerName, ChangePosition>> {
        self.send("consumers", false, context, move |server, _, context| async move {
            server.store.consumers(&context).await
        })
        .await
    }
    async fn forget_consumer(&self, context: &CallContext, consumer: &ConsumerName) -> Result<()> {
        let consumer = consumer.clone();
        self.send("forget_consumer", false, context, move |server, _, context| async move {
            server.store.forget_consumer(&context, &consumer).await
        })
        .await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl LeaseStore for Link {
    async fn acquire(
        &self,
        context: &CallContext,
        name: &LeaseName,
        life: Duration,
    ) -> Result<Option<Lease>> {
        let name = name.clone();
        self.send("acquire", false, context, move |server, ticket, context| async move {
            server.acquire(ticket, context, name, life).await
        })
        .await
    }
    async fn renew(
        &self,
        context: &CallContext,
        lease: &Lease,
        life: Duration,
    ) -> Result<Option<Lease>> {
        let lease = lease.clone();
        self.send("renew", false, context, move |server, ticket, context| async move {
            server.renew(ticket, context, lease, life).await
        })
        .await
    }
    async fn release(&self, context: &CallContext, lease: &Lease) -> Result<()> {
        let lease = lease.clone();
        self.send("release", false, context, move |server, ticket, context| async move {
            server.release(ticket, context, lease).await
        })
        .await
    }
    async fn set_write_fence(
        &self,
        context: &CallContext,
        fence: Option<FencingToken>,
    ) -> Result<()> {
        self.send("set_write_fence", false, context, move |server, ticket, context| async move {
            server.set_fence(ticket, context, fence).await
        })
        .await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl StoreMeta for Link {
    async fn schema(&self) -> Result<SchemaInfo> {
        self.about_store("schema", |server| async move { server.store.schema().await }).await
    }
    async fn spaces(&self, context: &CallContext) -> Result<TenantSpaces> {
        self.send("spaces", false, context, move |server, _, context| async move {
            server.store.spaces(&context).await
        })
        .await
    }
    async fn set_spaces(
        &self,
        context: &CallContext,
        spaces: &TenantSpaces,
    ) -> Result<TenantSpaces> {
        let spaces = spaces.clone();
        self.send("set_spaces", false, context, move |server, ticket, context| async move {
            server.set_spaces(ticket, context, spaces).await
        })
        .await
    }
    async fn analyser(&self) -> Result<Option<String>> {
        self.about_store("analyser", |server| async move { server.store.analyser().await }).await
    }
    async fn store_key(&self) -> Result<StoreKey> {
        self.about_store("store_key", |server| async move { server.store.store_key().await }).await
    }
    async fn erased(&self, context: &CallContext, ids: &[MemoryId]) -> Result<Vec<bool>> {
        let ids = ids.to_vec();
        self.send("erased", false, context, move |server, _, context| async move {
            server.store.erased(&context, &ids).await
        })
        .await
    }
    async fn add_tombstones(&self, tombstones: &[Tombstone]) -> Result<()> {
        let tombstones = tombstones.to_vec();
        self.about_store("add_tombstones", move |server| async move {
            server.store.add_tombstones(&tombstones).await
        })
        .await
    }
}
