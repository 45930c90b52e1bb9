//! The boundary to the service: every request of the crate is sent here, and nowhere else.
//!
//! Each is admitted by the ledger, bounded by the request's timeout and the caller's deadline, sent
//! once, and written into the ledger with what it costs. Errors are the project's own.

mod channels;
mod entries;
mod messages;
mod send;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::traits::{CredentialProvider, Ledger, Usage};
use memory_core::{CallContext, Clock, Error, ErrorKind, Result};
use prost::Message as _;
use tonic::metadata::{Ascii, MetadataValue};

use crate::BACKEND;
use crate::error::Effect;
use crate::settings::FirestoreSettings;
use channels::Channels;
pub(crate) use entries::Entries;
use messages::CommitRequest;
pub(crate) use messages::{Operation, Write, micros, timestamp};
use send::{Failed, client, commit_on, is_contention};

/// What the credentials must allow.
const SCOPE: &str = "https://www.googleapis.com/auth/datastore";
/// Index entries of an aggregation that are billed as one read.
pub(crate) const ENTRIES_A_READ: u64 = 1_000;

/// Sees every query as it is sent, for tests that hold queries against the index definitions.
pub trait QueryRecorder: Send + Sync + Debug {
    /// `method` is `RunQuery` or `RunAggregationQuery`, `request` the encoded message.
    fn record(&self, method: &'static str, request: &[u8]);
}

/// On whose behalf a request is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The name in errors and the ledger.
    pub(crate) operation: &'static str,
    /// The caller's context, for its deadline.
    pub(crate) context: Option<&'a CallContext>,
}

/// A document that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its full name.
    pub(crate) name: String,
    /// Its fields.
    pub(crate) fields: HashMap<String, proto::Value>,
    /// When it was made, in microseconds since 1970. A replacement does not make it anew.
    pub(crate) created_at: i64,
    /// When it was last changed, in microseconds since 1970.
    pub(crate) updated_at: i64,
}

impl Found {
    fn new(document: proto::Document) -> Self {
        let created_at = document.create_time.as_ref().map_or(0, micros);
        let updated_at = document.update_time.as_ref().map_or(0, micros);
        Self { name: document.name, fields: document.fields, created_at, updated_at }
    }
}

/// Why a commit did not happen.
#[derive(Debug)]
pub(crate) enum Refused {
    /// A precondition does not hold, or other writers hold the documents: look again.
    Contended,
    /// Anything else.
    Error(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The boundary.
#[derive(Debug)]
pub(crate) struct Wire {
    channels: Channels,
    credentials: Arc<dyn CredentialProvider>,
    scopes: [String; 1],
    database: String,
    routing: MetadataValue<Ascii>,
    /// Whether an emulator is asked, which takes a fixed token.
    emulated: bool,
    quota_project: Option<MetadataValue<Ascii>>,
    timeout: Duration,
    request_bytes: usize,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    recorder: Option<Arc<dyn QueryRecorder>>,
}

impl Wire {
    pub(crate) fn new(
        settings: &FirestoreSettings,
        database: String,
        credentials: Arc<dyn CredentialProvider>,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn Ledger>,
        recorder: Option<Arc<dyn QueryRecorder>>,
    ) -> Result<Self> {
        let routing = MetadataValue::try_from(&database).map_err(|_| {
            Error::new(ErrorKind::Config, "the project or database has odd letters")
        })?;
        let quota_project = settings
            .quota_project
            .as_ref()
            .map(MetadataValue::try_from)
            .transpose()
            .map_err(|_| Error::new(ErrorKind::Config, "the quota project has odd letters"))?;
        Ok(Self {
            channels: Channels::new(settings)?,
            emulated: settings.emulator.is_some(),
            quota_project,
            credentials,
            scopes: [SCOPE.to_owned()],
            database,
            routing,
            timeout: Duration::from_millis(settings.request_timeout_ms),
            request_bytes: settings.request_bytes(),
            clock,
            ledger,
            recorder,
        })
    }

    /// Most bytes of one request.
    pub(crate) fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    /// Reads documents by name: one answer for each, in order. `mask` names the fields to bring, all
    /// where it is `None`.
    ///
    /// Billed: one read for each name, found or not.
    pub(crate) async fn get(
        &self,
        call: Call<'_>,
        names: Vec<String>,
        mask: Option<Vec<String>>,
    ) -> Result<Vec<Option<Found>>> {
        if let [name] = &names[..]
            && let Some(found) = self.get_one(call, name, mask.as_deref()).await?
        {
            return Ok(vec![found]);
        }
        Ok(self.get_in(call, names, mask, None).await?.0)
    }

    /// Reads one document by the call that is for one, which spares both sides a stream. `None`
    /// where the answer does not say whether it is the document that is missing, or its database.
    async fn get_one(
        &self,
        call: Call<'_>,
        name: &str,
        mask: Option<&[String]>,
    ) -> Result<Option<Option<Found>>> {
        let request = proto::GetDocumentRequest {
            name: name.to_owned(),
            mask: mask.map(|paths| proto::DocumentMask { field_paths: paths.to_vec() }),
            consistency_selector: None,
        };
        let least = Usage::reads(1);
        let sent = self.attempt(call, Effect::Reads, least, request, async |channel, request| {
            Ok(client(channel).get_document(request).await?.into_inner())
        });
        let (found, bytes) = match sent.await {
            Ok(document) => {
                let bytes = document.encoded_len();
                (Some(Found::new(document)), bytes)
            }
            Err(Failed::Status(status)) if status.code() == tonic::Code::NotFound => {
                if !status.message().contains(name) {
                    return Ok(None);
                }
                (None, 0)
            }
            Err(failed) => return Err(failed.into_error(call, Effect::Reads)),
        };
        self.spend(call, Usage::reads(1).with_bytes(bytes as u64));
        Ok(Some(found))
    }

    /// As [`Wire::get`] within a new transaction, whose id comes along.
    pub(crate) async fn get_in_transaction(
        &self,
        call: Call<'_>,
        names: Vec<String>,
        mask: Option<Vec<String>>,
    ) -> Result<(Vec<Option<Found>>, Vec<u8>)> {
        let mode = proto::transaction_options::Mode::ReadWrite(
            proto::transaction_options::ReadWrite::default(),
        );
        let options = proto::TransactionOptions { mode: Some(mode) };
        let selector =
            proto::batch_get_documents_request::ConsistencySelector::NewTransaction(options);
        self.get_in(call, names, mask, Some(selector)).await
    }

    async fn get_in(
        &self,
        call: Call<'_>,
        names: Vec<String>,
        mask: Option<Vec<String>>,
        selector: Option<proto::batch_get_documents_request::ConsistencySelector>,
    ) -> Result<(Vec<Option<Found>>, Vec<u8>)> {
        let count = names.len();
        let request = proto::BatchGetDocumentsRequest {
            database: self.database.clone(),
            documents: names.clone(),
            mask: mask.map(|field_paths| proto::DocumentMask { field_paths }),
            consistency_selector: selector,
        };
        let answers: Vec<proto::BatchGetDocumentsResponse> = self
            .send(call, Usage::reads(count as u64), request, async |channel, request| {
                client(channel).batch_get_documents(request).await?.into_inner().try_collect().await
            })
            .await?;
        let (mut found, mut transaction, mut bytes) = (HashMap::new(), Vec::new(), 0);
        for answer in answers {
            if !answer.transaction.is_empty() {
                transaction.clone_from(&answer.transaction);
            }
            if let Some(proto::batch_get_documents_response::Result::Found(document)) =
                answer.result
            {
                bytes += document.encoded_len();
                found.insert(document.name.clone(), Found::new(document));
            }
        }
        self.spend(call, Usage::reads(count as u64).with_bytes(bytes as u64));
        // A name that is asked for twice is answered once.
        let mut left: HashMap<&str, usize> = HashMap::with_capacity(names.len());
        for name in &names {
            *left.entry(name).or_default() += 1;
        }
        let in_order = names
            .iter()
            .map(|name| {
                let more = left.get_mut(name.as_str()).is_some_and(|left| {
                    *left -= 1;
                    *left > 0
                });
                if more { found.get(name).cloned() } else { found.remove(name) }
            })
            .collect();
        Ok((in_order, transaction))
    }

    /// Runs a query below `parent`.
    ///
    /// Billed: one read for each document, one at the least; `entries` index entries that the query
    /// is known to scan besides.
    pub(crate) async fn query(
        &self,
        call: Call<'_>,
        parent: &str,
        query: proto::StructuredQuery,
        entries: Entries,
    ) -> Result<Vec<Found>> {
        let answers = self.run_query(call, parent, query, None, entries).await?;
        Ok(self.billed(call, answers, entries))
    }

    /// As [`Wire::query`], while it is found out how many index entries the query scans.
    pub(crate) async fn query_while(
        &self,
        call: Call<'_>,
        parent: &str,
        query: proto::StructuredQuery,
        entries: impl Future<Output = Entries>,
    ) -> Result<Vec<Found>> {
        let answers = self.run_query(call, parent, query, None, Entries::FREE);
        let (answers, entries) = futures::join!(answers, entries);
        Ok(self.billed(call, answers?, entries))
    }

    /// As [`Wire::query`], of the documents as they were at `at`. Where that is `None` they are read
    /// as they are, and it is set to that time: so several queries see one state.
    pub(crate) async fn query_at(
        &self,
        call: Call<'_>,
        parent: &str,
        query: proto::StructuredQuery,
        at: &mut Option<prost_types::Timestamp>,
    ) -> Result<Vec<Found>> {
        let answers = self.run_query(call, parent, query, *at, Entries::FREE).await?;
        if at.is_none() {
            *at = answers.iter().rev().find_map(|answer| answer.read_time);
        }
        Ok(self.billed(call, answers, Entries::FREE))
    }

    async fn run_query(
        &self,
        call: Call<'_>,
        parent: &str,
        query: proto::StructuredQuery,
        at: Option<prost_types::Timestamp>,
        entries: Entries,
    ) -> Result<Vec<proto::RunQueryResponse>> {
        let request = proto::RunQueryRequest {
            parent: parent.to_owned(),
            query_type: Some(proto::run_query_request::QueryType::StructuredQuery(query)),
            consistency_selector: at.map(proto::run_query_request::ConsistencySelector::ReadTime),
            ..Default::default()
        };
        if let Some(recorder) = &self.recorder {
            recorder.record("RunQuery", &request.encode_to_vec());
        }
        // Of an answer that does not come nothing else is known.
        let least = Usage::reads(1 + entries.reads());
        self.send(call, least, request, async |channel, request| {
            client(channel).run_query(request).await?.into_inner().try_collect().await
        })
        .await
    }

    /// The documents of an answer, written into the ledger.
    fn billed(
        &self,
        call: Call<'_>,
        answers: Vec<proto::RunQueryResponse>,
        entries: Entries,
    ) -> Vec<Found> {
        let documents: Vec<_> = answers.into_iter().filter_map(|answer| answer.document).collect();
        let bytes: usize = documents.iter().map(prost::Message::encoded_len).sum();
        let reads = (documents.len() as u64).max(1) + entries.reads();
        let mut usage = Usage::reads(reads).with_bytes(bytes as u64);
        usage.index_entries = entries.count;
        self.spend(call, usage);
        documents.into_iter().map(Found::new).collect()
    }

    /// Counts what a query below `parent` finds.
    ///
    /// Billed: one read for up to 1,000 index entries.
    pub(crate) async fn count(
        &self,
        call: Call<'_>,
        parent: &str,
        query: proto::StructuredQuery,
    ) -> Result<u64> {
        use proto::structured_aggregation_query as aggregation;

        let count = aggregation::Aggregation {
            alias: "count".to_owned(),
            operator: Some(aggregation::aggregation::Operator::Count(
                aggregation::aggregation::Count { up_to: None },
            )),
        };
        let query = proto::StructuredAggregationQuery {
            aggregations: vec![count],
            query_type: Some(aggregation::QueryType::StructuredQuery(query)),
        };
        let request = proto::RunAggregationQueryRequest {
            parent: parent.to_owned(),
            query_type: Some(
                proto::run_aggregation_query_request::QueryType::StructuredAggregationQuery(query),
            ),
            ..Default::default()
        };
        if let Some(recorder) = &self.recorder {
            recorder.record("RunAggregationQuery", &request.encode_to_vec());
        }
        let answers: Vec<proto::RunAggregationQueryResponse> = self
            .send(call, Usage::reads(1), request, async |channel, request| {
                client(channel)
                    .run_aggregation_query(request)
                    .await?
                    .into_inner()
                    .try_collect()
                    .await
            })
            .await?;
        let value = answers
            .into_iter()
            .find_map(|answer| answer.result?.aggregate_fields.remove("count")?.value_type);
        let Some(proto::value::ValueType::IntegerValue(count)) = value else {
            return Err(crate::error::corrupt("count"));
        };
        let count = count.unsigned_abs();
        let mut usage = Usage::reads(count.div_ceil(ENTRIES_A_READ).max(1));
        usage.index_entries = count;
        self.spend(call, usage);
        Ok(count)
    }

    /// Writes all of this, or nothing. The answer is the update time of each write, in order, in
    /// microseconds: 0 for deletes and verifications.
    ///
    /// Billed: one write for each update and one delete for each delete.
    ///
    /// # Errors
    /// `InvalidInput`: more bytes than a request may have. Nothing was sent then.
    pub(crate) async fn commit(
        &self,
        call: Call<'_>,
        writes: Vec<Write>,
        transaction: Vec<u8>,
    ) -> Result<Vec<i64>, Refused> {
        let (mut updates, mut deletes) = (0, 0);
        for write in &writes {
            match write.operation {
                Some(Operation::Update(_)) => updates += 1,
                Some(Operation::Delete(_)) => deletes += 1,
                Some(Operation::Verify(_)) | None => {}
            }
        }
        let request = CommitRequest { database: self.database.clone(), writes, transaction };
        let bytes = request.encoded_len();
        if bytes > self.request_bytes {
            return Err(Refused::Error(
                Error::invalid(format!(
                    "the commit has {bytes} bytes as it is sent; a request takes {}: write less at \
                     once",
                    self.request_bytes
                ))
                .with_backend(BACKEND)
                .with_operation(call.operation),
            ));
        }
        let usage = Usage::writes(updates, deletes).with_bytes(bytes as u64);
        let response = match self.attempt(call, Effect::Writes, usage, request, commit_on).await {
            Ok(response) => response,
            Err(Failed::Status(status)) if is_contention(&status) => {
                return Err(Refused::Contended);
            }
            Err(failed) => return Err(Refused::Error(failed.into_error(call, Effect::Writes))),
        };
        self.spend(call, usage);
        Ok(response
            .write_results
            .iter()
            .map(|result| result.update_time.as_ref().map_or(0, micros))
            .collect())
    }

    /// Ends a transaction that writes nothing.
    pub(crate) async fn rollback(&self, call: Call<'_>, transaction: Vec<u8>) -> Result<()> {
        let request = proto::RollbackRequest { database: self.database.clone(), transaction };
        self.send(call, Usage::default(), request, async |channel, request| {
            client(channel).rollback(request).await.map(|_| ())
        })
        .await
    }

    /// Lists documents of a collection below `parent`, also those that have only children.
    ///
    /// Billed: one read for each.
    pub(crate) async fn list(
        &self,
        call: Call<'_>,
        parent: &str,
        collection: &str,
        page_size: i32,
        page_token: String,
    ) -> Result<(Vec<String>, String)> {
        let request = proto::ListDocumentsRequest {
            parent: parent.to_owned(),
            collection_id: collection.to_owned(),
            page_size,
            page_token,
            mask: Some(proto::DocumentMask { field_paths: vec![crate::fields::V.to_owned()] }),
            show_missing: true,
            ..Default::default()
        };
        let answer = self
            .send(call, Usage::reads(1), request, async |channel, request| {
                Ok(client(channel).list_documents(request).await?.into_inner())
            })
            .await?;
        self.spend(call, Usage::reads((answer.documents.len() as u64).max(1)));
        let names = answer.documents.into_iter().map(|document| document.name).collect();
        Ok((names, answer.next_page_token))
    }

    /// How long a request may take.
    pub(crate) fn allowance(&self, call: Call<'_>) -> Result<Duration> {
        let Some(context) = call.context else { return Ok(self.timeout) };
        let now = self.clock.monotonic();
        context.check_deadline(now)?;
        Ok(context.deadline.map_or(self.timeout, |by| by.remaining(now).min(self.timeout)))
    }

    fn spend(&self, call: Call<'_>, usage: Usage) {
        self.ledger.record(BACKEND, call.operation, usage);
    }
}
