//! Credentials of the library at work: they fetch and refresh on a runtime of their own.
//!
//! The library refreshes in a task that nobody else can end, on the runtime on which it was built,
//! and its requests have no bound in time. On a caller's runtime the task would end with that
//! runtime, after which the library panics, and a request that hangs would stay for ever. On a
//! runtime of its own (one thread, made with the first token) it ends with the value.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use google_cloud_auth::build_errors::Error as BuildError;
use google_cloud_auth::credentials::service_account::AccessSpecifier;
use google_cloud_auth::credentials::{
    AccessToken, AccessTokenCredentials, external_account, impersonated, mds, service_account,
    user_account,
};
use google_cloud_auth::errors::CredentialsError;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::document::{Document, DocumentKind};
use crate::failure::Failure;

/// What tokens are made of.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file or a variable.
    Document(Box<Document>),
    /// The metadata server at this host.
    Metadata(String),
}

impl Source {
    /// Whether the library itself takes it. Nothing is sent: its task is never run.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self) -> Result<(), String> {
        let idle = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|_| "it cannot be checked: this system gives no event loop".to_owned())?;
        let built = self.build(idle.handle(), &[crate::CLOUD_PLATFORM_SCOPE.to_owned()]);
        idle.shutdown_background();
        built.map(|_| ())
    }

    /// The library's credentials, which begin to fetch on that runtime at once.
    ///
    /// # Errors
    /// Why there are none; the library's words, which may hold a part of a field, are dropped.
    fn build(&self, on: &Handle, scopes: &[String]) -> Result<AccessTokenCredentials, String> {
        let _within = on.enter();
        let scopes = scopes.iter().cloned();
        let built = match self {
            Self::Metadata(host) => mds::Builder::default()
                .with_endpoint(format!("http://{host}"))
                .with_scopes(scopes)
                .build_access_token_credentials(),
            Self::Document(document) => {
                let json = document.json.clone();
                match document.kind {
                    DocumentKind::ServiceAccount => service_account::Builder::new(json)
                        .with_access_specifier(AccessSpecifier::from_scopes(scopes))
                        .build_access_token_credentials(),
                    DocumentKind::AuthorizedUser => user_account::Builder::new(json)
                        .with_scopes(scopes)
                        .build_access_token_credentials(),
                    DocumentKind::Impersonated => impersonated::Builder::new(json)
                        .with_scopes(scopes)
                        .build_access_token_credentials(),
                    DocumentKind::ExternalAccount => external_account::Builder::new(json)
                        .with_scopes(scopes)
                        .build_access_token_credentials(),
                }
            }
        };
        built.map_err(|error| reason(&error).to_owned())
    }
}

fn reason(error: &BuildError) -> &'static str {
    if error.is_not_supported() {
        "the library does not support it: of another universe than googleapis.com, or of a kind \
         that it leaves out"
    } else if error.is_unknown_type() {
        "the library does not know its kind, or that of its source"
    } else {
        "the library does not take its fields: one is missing or is not of its type"
    }
}

/// A runtime that ends with its value, wherever that is dropped.
#[derive(Debug)]
pub(crate) struct Owned(Option<Runtime>);

impl Owned {
    /// One thread, and at most two more while names of hosts are looked up.
    pub(crate) fn new() -> Result<Self, ()> {
        Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .thread_name("google-auth")
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
            .map_err(|_| ())
    }

    fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }

    /// Starts a task. Its handle can be awaited on any runtime, or without one.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        #[expect(clippy::expect_used, reason = "it is taken by drop alone")]
        self.handle().expect("a runtime until the value is dropped").spawn(task)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waits for nothing, and may be called within another runtime.
            runtime.shutdown_background();
        }
    }
}

/// Credentials for one set of scopes.
#[derive(Debug)]
pub(crate) struct Live {
    credentials: Hidden,
    runtime: Owned,
}

/// The library shows the secret of a client in its `Debug`.
struct Hidden(AccessTokenCredentials);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessTokenCredentials(redacted)")
    }
}

impl Live {
    /// Starts to fetch a token.
    ///
    /// # Errors
    /// `Config`: the library does not take the credentials. `Unavailable`: no thread can be had.
    pub(crate) fn start(source: &Source, scopes: &[String]) -> Result<Self, Failure> {
        let none = || Failure::away("no thread can be had to fetch a token", true);
        let runtime = Owned::new().map_err(|()| none())?;
        let handle = runtime.handle().ok_or_else(none)?;
        let credentials = Hidden(source.build(handle, scopes).map_err(Failure::config)?);
        Ok(Self { credentials, runtime })
    }

    /// The token, at once if there is one, or else when it comes, within `bound`.
    ///
    /// # Cancellation
    /// The fetching goes on when the future is dropped, and serves the next call.
    pub(crate) async fn token(&self, bound: Duration) -> Result<AccessToken, Failure> {
        if let Some(answer) = self.at_once()? {
            return answer.map_err(|error| Failure::of(&error));
        }
        let credentials = self.credentials.0.clone();
        let task = self
            .runtime
            .spawn(async move { tokio::time::timeout(bound, credentials.access_token()).await });
        match task.await {
            Ok(Ok(answer)) => answer.map_err(|error| Failure::of(&error)),
            Ok(Err(_)) => Err(Failure::away(
                format!("the issuer did not answer within {} ms", bound.as_millis()),
                true,
            )),
            Err(_) => Err(broken()),
        }
    }

    /// Asks without waiting. The library panics where its task has ended by a panic.
    fn at_once(&self) -> Result<Option<Result<AccessToken, CredentialsError>>, Failure> {
        let asked = catch_unwind(AssertUnwindSafe(|| {
            let future = pin!(self.credentials.0.access_token());
            future.poll(&mut Context::from_waker(Waker::noop()))
        }));
        match asked {
            Ok(Poll::Ready(answer)) => Ok(Some(answer)),
            Ok(Poll::Pending) => Ok(None),
            Err(_) => Err(broken()),
        }
    }
}

fn broken() -> Failure {
    Failure::away(
        "the library broke off, as it does where a new token has ended already or the system's \
         certificates are gone; are they in place, and is the clock right?",
        true,
    )
}
