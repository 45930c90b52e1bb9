//! Credentials of cloud services.

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;
use crate::time::Timestamp;

/// A token to send with a request.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    secret: String,
    expires_at: Option<Timestamp>,
}

impl AccessToken {
    /// Wraps a token.
    #[must_use]
    pub fn new(secret: String, expires_at: Option<Timestamp>) -> Self {
        Self { secret, expires_at }
    }

    /// The secret. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.secret
    }

    /// When it ends, if that is known.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Where tokens come from. The only place that handles credentials.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait CredentialProvider: Send + Sync + fmt::Debug {
    /// A token that is valid for these scopes for a minute at least.
    ///
    /// # Errors
    /// `Config`: there are no credentials; the message says where they were looked for.
    /// `PermissionDenied`: they were refused. `Unavailable`: the issuer cannot be reached.
    async fn token(&self, scopes: &[String]) -> Result<AccessToken>;
}
