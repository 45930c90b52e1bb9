//! What an emulator is sent in place of credentials.

use async_trait::async_trait;
use memory_core::Result;
use memory_core::traits::{AccessToken, CredentialProvider};

/// The token that Google's emulators take for the owner of every project. It is no secret, and no
/// real service takes it.
const OWNER: &str = "owner";

/// Credentials for an emulator: the token `owner`, which never ends. Nothing is asked for it.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct EmulatorCredentials;

impl EmulatorCredentials {
    /// The credentials.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl CredentialProvider for EmulatorCredentials {
    /// Never fails.
    async fn token(&self, _scopes: &[String]) -> Result<AccessToken> {
        Ok(AccessToken::new(OWNER.to_owned(), None))
    }
}
