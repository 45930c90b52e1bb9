//! How a request is sent, what its failure is, and what is written down of one without an answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::traits::Usage;
use memory_core::{Error, ErrorKind, Outcome, Result};
use proto::firestore_client::FirestoreClient;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::messages::CommitRequest;
use super::{Call, Wire};
use crate::BACKEND;
use crate::error::{Effect, map, never_sent};

/// How much longer than the caller the server may think that a request is waited for.
const GRACE: Duration = Duration::from_millis(250);

/// Largest message either way: the service's limit of a request, and as much for an answer's part.
const MOST_ANSWER: usize = 16 * 1024 * 1024;

/// A request on its way: dropped while it is open, it is written into the ledger with the least that
/// it is billed.
struct Sent<'a> {
    wire: &'a Wire,
    call: Call<'a>,
    least: Usage,
    open: AtomicBool,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if *self.open.get_mut() && self.least != Usage::default() {
            self.wire.spend(self.call, self.least);
        }
    }
}

/// Whether a request that failed so is billed nothing: it did not arrive, there was no such
/// document, or it did not write.
fn is_free(status: &Status, effect: Effect) -> bool {
    match effect {
        Effect::Reads => status.code() == Code::NotFound || never_sent(status),
        Effect::Writes => map(status, effect).outcome() != Outcome::Unknown,
    }
}

impl Wire {
    /// Sends a request that reads; `least` is what it is billed if it fails on its way.
    pub(super) async fn send<Q, A>(
        &self,
        call: Call<'_>,
        least: Usage,
        request: Q,
        run: impl AsyncFnOnce(Channel, Request<Q>) -> Result<A, Status>,
    ) -> Result<A> {
        let answer = self.attempt(call, Effect::Reads, least, request, run).await;
        answer.map_err(|failed| failed.into_error(call, Effect::Reads))
    }

    /// Sends a request once. What an answer is billed is the caller's to write down; `least` is
    /// written down where none comes, also if the caller does not wait for it, for the service may
    /// have done the work.
    pub(super) async fn attempt<Q, A>(
        &self,
        call: Call<'_>,
        effect: Effect,
        least: Usage,
        request: Q,
        run: impl AsyncFnOnce(Channel, Request<Q>) -> Result<A, Status>,
    ) -> Result<A, Failed> {
        let most = self.allowance(call)?;
        self.ledger.admit(BACKEND, call.operation)?;
        let sent = Sent { wire: self, call, least, open: AtomicBool::new(false) };
        // A request's state machine is large, and several can stand in one call: on the heap, where
        // one allocation is nothing beside a round trip.
        let work = Box::pin(async {
            let bearer = if self.emulated {
                // No token of the real service goes over a line in plain text.
                "Bearer owner".to_owned()
            } else {
                format!("Bearer {}", self.credentials.token(&self.scopes).await?.expose())
            };
            let mut request = Request::new(request);
            let mut bearer = MetadataValue::try_from(bearer).map_err(|_| {
                Error::new(ErrorKind::PermissionDenied, "the token has odd letters")
            })?;
            bearer.set_sensitive(true);
            request.metadata_mut().insert("authorization", bearer);
            request.metadata_mut().insert("google-cloud-resource-prefix", self.routing.clone());
            if let Some(project) = &self.quota_project {
                request.metadata_mut().insert("x-goog-user-project", project.clone());
            }
            // The server is told a little more than is waited for: whoever gives up first says why,
            // and this side knows whether something was sent.
            request.set_timeout(most + GRACE);
            sent.open.store(true, Ordering::Relaxed);
            let answer = run(self.channels.next(), request).await;
            if answer.as_ref().err().is_none_or(|status| is_free(status, effect)) {
                sent.open.store(false, Ordering::Relaxed);
            }
            answer.map_err(Failed::Status)
        });
        match tokio::time::timeout(most, work).await {
            Ok(answer) => answer,
            Err(_) => {
                let mut error = Error::new(ErrorKind::Timeout, "Firestore did not answer in time");
                if effect == Effect::Writes && sent.open.load(Ordering::Relaxed) {
                    error = error.with_unknown_outcome();
                }
                Err(Failed::Error(error))
            }
        }
    }
}

/// A request that failed: with the server's status, or before it was sent.
pub(super) enum Failed {
    Status(Status),
    Error(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Failed {
    pub(super) fn into_error(self, call: Call<'_>, effect: Effect) -> Error {
        match self {
            Self::Status(status) => map(&status, effect),
            Self::Error(error) => error,
        }
        .with_backend(BACKEND)
        .with_operation(call.operation)
    }
}

/// Whether a commit was refused for what its documents are, or for who else writes them: it did not
/// happen then.
pub(super) fn is_contention(status: &Status) -> bool {
    match status.code() {
        Code::FailedPrecondition | Code::AlreadyExists | Code::NotFound | Code::Aborted => true,
        // What the emulator says of an update time that is newer than the document's.
        Code::InvalidArgument => status.message().contains("base version"),
        _ => false,
    }
}

pub(super) fn client(channel: Channel) -> FirestoreClient<Channel> {
    FirestoreClient::new(channel)
        .max_decoding_message_size(MOST_ANSWER)
        .max_encoding_message_size(MOST_ANSWER)
}

/// The service's method `Commit`, with this crate's own message: the generated client has the
/// published one alone.
pub(super) async fn commit_on(
    channel: Channel,
    request: Request<CommitRequest>,
) -> Result<proto::CommitResponse, Status> {
    let mut grpc = tonic::client::Grpc::new(channel)
        .max_decoding_message_size(MOST_ANSWER)
        .max_encoding_message_size(MOST_ANSWER);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let codec = tonic_prost::ProstCodec::<CommitRequest, proto::CommitResponse>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(
        "/google.firestore.v1.Firestore/Commit",
    );
    Ok(grpc.unary(request, path, codec).await?.into_inner())
}
