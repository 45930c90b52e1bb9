//! The messages of a commit, with one operation that the published definitions leave out.
//!
//! The service's own clients send `verify` (field 5 of a write): the precondition of a document that
//! the commit does not write. The published definitions skip the number. Everything else is theirs.

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;

/// A commit, as the service's method takes it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CommitRequest {
    #[prost(string, tag = "1")]
    pub(crate) database: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) writes: Vec<Write>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) transaction: Vec<u8>,
}

/// One write of a commit.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Write {
    #[prost(message, optional, tag = "3")]
    pub(crate) update_mask: Option<proto::DocumentMask>,
    #[prost(message, optional, tag = "4")]
    pub(crate) current_document: Option<proto::Precondition>,
    #[prost(oneof = "Operation", tags = "1, 2, 5")]
    pub(crate) operation: Option<Operation>,
}

/// What a write does.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Operation {
    #[prost(message, tag = "1")]
    Update(proto::Document),
    #[prost(string, tag = "2")]
    Delete(String),
    #[prost(string, tag = "5")]
    Verify(String),
}

impl Write {
    /// Creates or replaces a document, or with a mask those of its fields.
    pub(crate) fn update(document: proto::Document) -> Self {
        Self {
            update_mask: None,
            current_document: None,
            operation: Some(Operation::Update(document)),
        }
    }

    /// Removes a document.
    pub(crate) fn delete(name: String) -> Self {
        Self { update_mask: None, current_document: None, operation: Some(Operation::Delete(name)) }
    }

    /// Does nothing but hold the commit to the precondition.
    pub(crate) fn verify(name: String) -> Self {
        Self { update_mask: None, current_document: None, operation: Some(Operation::Verify(name)) }
    }

    /// Writes these fields only; one that the document lacks is removed.
    pub(crate) fn masked(mut self, paths: Vec<String>) -> Self {
        self.update_mask = Some(proto::DocumentMask { field_paths: paths });
        self
    }

    /// If the document does, or does not, exist.
    pub(crate) fn if_exists(mut self, exists: bool) -> Self {
        let condition = proto::precondition::ConditionType::Exists(exists);
        self.current_document = Some(proto::Precondition { condition_type: Some(condition) });
        self
    }

    /// If the document was last changed at this time, in microseconds since 1970.
    pub(crate) fn if_updated_at(mut self, micros: i64) -> Self {
        let condition = proto::precondition::ConditionType::UpdateTime(timestamp(micros));
        self.current_document = Some(proto::Precondition { condition_type: Some(condition) });
        self
    }

    /// If the document is still as it was read: last changed at this time, or not there.
    pub(crate) fn if_still(self, updated_at: Option<i64>) -> Self {
        match updated_at {
            Some(micros) => self.if_updated_at(micros),
            None => self.if_exists(false),
        }
    }
}

/// Microseconds since 1970 as the service writes times.
pub(crate) fn timestamp(micros: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// The microseconds of a time of the service.
pub(crate) fn micros(time: &prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1_000)
}
