//! Credentials of Google services: where they are looked for, and tokens from them.
//!
//! [`find`] goes through a fixed order of places and gives a
//! [`CredentialProvider`](memory_core::traits::CredentialProvider), or says what it tried and why
//! nothing served. What is set and cannot be used fails; nothing after it is tried.
//!
//! The flows themselves (signed assertions, refresh tokens, workload identity, impersonation, the
//! metadata server) are those of the library `google-cloud-auth`. This crate adds the order, the
//! checks at open, bounds in time, the typed errors, and that no secret gets out of it:
//! the library's own messages and causes, which quote answers of servers, are dropped.
//!
//! TLS is rustls with the provider `ring` and the certificates of the system; see
//! [`install_crypto`].
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use memory_core::SystemClock;
//! use memory_google_auth::{CredentialChoice, DATASTORE_SCOPE, GoogleAuthSettings};
//! use memory_google_auth::{ProcessEnvironment, find};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let mut settings = GoogleAuthSettings::default();
//! settings.credentials = CredentialChoice::Emulator;
//! let clock = Arc::new(SystemClock::new());
//! let provider = find(&settings, &ProcessEnvironment, clock).await?;
//! let token = provider.token(&[DATASTORE_SCOPE.to_owned()]).await?;
//! assert_eq!(token.expose(), "owner");
//! # Ok::<(), memory_core::Error>(())
//! # }).unwrap();
//! ```

mod crypto;
mod document;
mod emulator;
mod environment;
mod failure;
mod find;
mod live;
mod metadata;
mod provider;
mod settings;
mod shown;

pub use crypto::install_crypto;
pub use emulator::EmulatorCredentials;
pub use environment::{Environment, ProcessEnvironment};
pub use find::{Located, Place, find, locate};
pub use settings::{CredentialChoice, DEFAULT_KEY_VARIABLE, GoogleAuthSettings};

/// The scope of Firestore and Datastore.
pub const DATASTORE_SCOPE: &str = "https://www.googleapis.com/auth/datastore";

/// The scope of every service; what an account may do is left to its roles. An empty list of scopes
/// means this one.
pub const CLOUD_PLATFORM_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The header in which a request names the project that its quota and its cost count for:
/// [`Located::quota_project`].
pub const QUOTA_PROJECT_HEADER: &str = "x-goog-user-project";

/// What errors of this crate name as their back end.
const BACKEND: &str = "google-auth";
