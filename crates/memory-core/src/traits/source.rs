//! Raw documents of collections that this project did not write.

use std::fmt::Debug;

use async_trait::async_trait;
use serde_json::Value;

use crate::error::Result;

/// One raw document.
#[derive(Clone, PartialEq)]
pub struct RawDocument {
    /// Its collection.
    pub collection: String,
    /// Its id there.
    pub id: String,
    /// Its fields as JSON; times as RFC 3339 texts.
    pub data: Value,
}

impl Debug for RawDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawDocument")
            .field("collection", &self.collection)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Some raw documents, in order of id.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct DocumentPage {
    /// The documents.
    pub documents: Vec<RawDocument>,
    /// Whether more follow the last one.
    pub more: bool,
}

/// A reader of raw documents. Reads only. Reachable from an admin handle only.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait DocumentSource: Send + Sync + Debug {
    /// The collections that it can see.
    ///
    /// # Errors
    /// As every call.
    async fn collections(&self) -> Result<Vec<String>>;

    /// The documents of a collection after an id, in byte order of ids.
    ///
    /// # Errors
    /// `InvalidInput`: a limit of 0 or above 1,000.
    async fn documents(
        &self,
        collection: &str,
        after: Option<String>,
        limit: u32,
    ) -> Result<DocumentPage>;
}
