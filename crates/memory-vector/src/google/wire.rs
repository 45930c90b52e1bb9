//! One request: admitted by the ledger, with a token, bounded in time, counted.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use google_cloud_auth::credentials::{CacheableResource, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::error::Error as Fault;
use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::options::RequestOptions;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_vectorsearch_v1::client::{
    DataObjectSearchService, DataObjectService, VectorSearchService,
};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use memory_core::traits::{CredentialProvider, Ledger, Usage};
use memory_core::{CallContext, Clock, Deadline, Error, ErrorKind, Result};
use memory_google_auth::{CLOUD_PLATFORM_SCOPE, QUOTA_PROJECT_HEADER};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::BACKEND;
use super::error::{self, Effect, Failed};
use super::settings::GoogleVectorSettings;

/// The three clients of the service, and what every request goes through.
pub(crate) struct Wire {
    pub(crate) collections: VectorSearchService,
    pub(crate) objects: DataObjectService,
    pub(crate) searches: DataObjectSearchService,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    timeout: Duration,
    /// Requests that may write at once.
    writers: Semaphore,
}

/// What a request belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) operation: &'static str,
    pub(crate) effect: Effect,
    pub(crate) deadline: Option<Deadline>,
}

impl Call {
    pub(crate) fn reads(operation: &'static str, context: &CallContext) -> Self {
        Self { operation, effect: Effect::Reads, deadline: context.deadline }
    }

    pub(crate) fn writes(operation: &'static str, context: &CallContext) -> Self {
        Self { operation, effect: Effect::Writes, deadline: context.deadline }
    }

    /// A call of the composition's own, without a tenant.
    pub(crate) fn own(operation: &'static str, effect: Effect) -> Self {
        Self { operation, effect, deadline: None }
    }
}

impl Wire {
    /// # Errors
    /// `Config`: the endpoint is no URL, the certificates of the system cannot be had, or the
    /// environment names another universe of Google's than `googleapis.com`.
    pub(crate) async fn new(
        settings: &GoogleVectorSettings,
        credentials: Arc<dyn CredentialProvider>,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Self> {
        memory_google_auth::install_crypto();
        let quota =
            match &settings.quota_project {
                None => None,
                Some(project) => Some(HeaderValue::from_str(project).map_err(|_| {
                    Error::new(ErrorKind::Config, "the quota project has odd letters")
                })?),
            };
        let tokens = Arc::new(Tokens {
            provider: credentials,
            scopes: vec![CLOUD_PLATFORM_SCOPE.to_owned()],
            quota,
        });
        let failed = |_| {
            Error::new(
                ErrorKind::Config,
                "no client can be made: is endpoint a URL, are the system's certificates there, and \
                 does GOOGLE_CLOUD_UNIVERSE_DOMAIN name another universe?",
            )
        };
        macro_rules! client {
            ($client:ty) => {
                <$client>::builder()
                    .with_endpoint(settings.endpoint.as_str())
                    .with_credentials(Lent(Arc::clone(&tokens)))
                    .with_retry_policy(NeverRetry)
                    .build()
                    .await
                    .map_err(failed)?
            };
        }
        Ok(Self {
            collections: client!(VectorSearchService),
            objects: client!(DataObjectService),
            searches: client!(DataObjectSearchService),
            clock,
            ledger,
            timeout: Duration::from_millis(settings.request_timeout_ms),
            writers: Semaphore::new(settings.concurrency),
        })
    }

    /// Sends one request within the settings' timeout and the call's deadline.
    ///
    /// # Errors
    /// What the ledger says; `Timeout`; what [`error::map`] makes of the client's error.
    pub(crate) async fn send<T, F>(
        &self,
        call: Call,
        request: impl FnOnce(RequestOptions) -> F,
        usage: impl FnOnce(&T) -> Usage,
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let own = |error: Error| Failed { code: None, error };
        self.check(call.deadline).map_err(own)?;
        let _permit = match call.effect {
            Effect::Reads => None,
            Effect::Writes => Some(self.turn(call.deadline).await.map_err(own)?),
        };
        self.check(call.deadline).map_err(own)?;
        self.ledger.admit(BACKEND, call.operation).map_err(own)?;
        let left = call.deadline.map(|deadline| deadline.remaining(self.clock.monotonic()));
        let limit = left.map_or(self.timeout, |left| left.min(self.timeout));
        let mut options = RequestOptions::default();
        options.set_attempt_timeout(limit);
        // The token is fetched outside of the client's own timeout.
        let answer = tokio::time::timeout(limit, Box::pin(request(options)))
            .await
            .unwrap_or_else(|_| Err(Fault::timeout("the answer took too long")));
        match answer {
            Ok(answer) => {
                self.ledger.record(BACKEND, call.operation, usage(&answer));
                Ok(answer)
            }
            Err(fault) => {
                let mut failed = error::map(&fault, call.effect);
                if failed.error.kind() == ErrorKind::Timeout && failed.code.is_none() {
                    failed.error =
                        failed.error.with_context("limit_ms", limit.as_millis().to_string());
                }
                Err(failed)
            }
        }
    }

    /// Waits for a place among those that write, until the deadline.
    async fn turn(&self, deadline: Option<Deadline>) -> Result<SemaphorePermit<'_>> {
        let waiting = self.writers.acquire();
        let place = match deadline {
            None => waiting.await,
            Some(deadline) => {
                let left = deadline.remaining(self.clock.monotonic());
                tokio::time::timeout(left, waiting).await.map_err(|_| {
                    Error::new(ErrorKind::Timeout, "other writes took until the deadline")
                })?
            }
        };
        // It is closed nowhere.
        place.map_err(|_| Error::new(ErrorKind::Unexpected, "no request can be sent any more"))
    }

    fn check(&self, deadline: Option<Deadline>) -> Result<()> {
        match deadline {
            Some(deadline) if deadline.remaining(self.clock.monotonic()).is_zero() => {
                Err(Error::new(ErrorKind::Timeout, "the deadline had passed before a request"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

impl Failed {
    /// Whether the service gave this code.
    pub(crate) fn is(&self, code: Code) -> bool {
        self.code == Some(code)
    }
}

/// The workspace's credentials as the client wants them.
struct Tokens {
    provider: Arc<dyn CredentialProvider>,
    scopes: Vec<String>,
    quota: Option<HeaderValue>,
}

/// The same for each of the three clients.
#[derive(Clone)]
struct Lent(Arc<Tokens>);

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl CredentialsProvider for Lent {
    async fn headers(
        &self,
        _extensions: http::Extensions,
    ) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let failed = |error: Error| CredentialsError::from_source(error.is_retryable(), error);
        let token = self.0.provider.token(&self.0.scopes).await.map_err(failed)?;
        let mut value =
            HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
                failed(Error::new(ErrorKind::PermissionDenied, "the token has odd letters"))
            })?;
        value.set_sensitive(true);
        let mut data = HeaderMap::new();
        data.insert(AUTHORIZATION, value);
        if let Some(quota) = &self.0.quota {
            data.insert(HeaderName::from_static(QUOTA_PROJECT_HEADER), quota.clone());
        }
        Ok(CacheableResource::New { entity_tag: EntityTag::new(), data })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}
