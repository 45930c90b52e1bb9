//! Callers' idempotency keys: one document a commit, written with it, for 24 hours.
//!
//! Fields: `v`; `digest`, 32 bytes; `result`, JSON, or `""` where what it names was erased; `users`,
//! whose items it names; `delete_at`, for the service's TTL and for the next commit under the key.
//! Revisions are told by the document's own update time, which is that of the whole commit.

use std::collections::{BTreeSet, HashMap};

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::traits::ChangePosition;
use memory_core::{
    CommitReceipt, ContentHash, Error, ErrorKind, IdempotencyKey, MemoryId, Result, Revision,
    TenantId, Timestamp, Write, WriteResult, limits,
};
use proto::value::ValueType;
use serde::{Deserialize, Serialize};

use super::plan::Decision;
use super::size;
use crate::error::corrupt;
use crate::model;
use crate::names::Names;
use crate::revision::Parts;
use crate::store::FirestoreStore;
use crate::wire::{self, Found};

const DIGEST: &str = "digest";
pub(crate) const RESULT: &str = "result";
pub(crate) const USERS: &str = "users";
const DELETE_AT: &str = "delete_at";

/// The name of a key's document.
pub(crate) fn name(names: &Names, tenant: &TenantId, key: &IdempotencyKey) -> String {
    names.below(tenant, &names.keys, key.key())
}

/// What a commit did, as its key's document has it.
#[derive(Serialize, Deserialize)]
struct Kept {
    position: Option<ChangePosition>,
    results: Vec<KeptResult>,
}

#[derive(Serialize, Deserialize)]
struct KeptResult {
    id: MemoryId,
    existed: bool,
    /// The expiry and content hash of an item that the commit itself put.
    #[serde(skip_serializing_if = "Option::is_none")]
    put: Option<(Option<Timestamp>, String)>,
    /// The revision of an item that an earlier attempt put.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
}

/// A key's document.
pub(crate) struct KeyRow {
    updated_at: i64,
    digest: Vec<u8>,
    result: String,
    delete_at: i64,
}

impl KeyRow {
    /// # Errors
    /// `Corrupt`, `Unsupported`.
    pub(crate) fn read(found: &Found) -> Result<Self> {
        model::check_shape(&found.fields)?;
        let field = |name| found.fields.get(name).and_then(|v| v.value_type.as_ref());
        let (
            Some(ValueType::BytesValue(digest)),
            Some(ValueType::StringValue(result)),
            Some(ValueType::TimestampValue(delete_at)),
        ) = (field(DIGEST), field(RESULT), field(DELETE_AT))
        else {
            return Err(corrupt("idempotency key"));
        };
        Ok(Self {
            updated_at: found.updated_at,
            digest: digest.clone(),
            result: result.clone(),
            delete_at: wire::micros(delete_at),
        })
    }

    /// Whether the 24 hours have not passed.
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        now.as_micros() < self.delete_at
    }

    /// The answer that the first commit under the key got.
    ///
    /// # Errors
    /// `InvalidInput`: another request. `Conflict`: what it wrote has been erased.
    pub(crate) fn replay(&self, key: &IdempotencyKey) -> Result<CommitReceipt> {
        if self.digest != key.digest() {
            return Err(Error::invalid("the idempotency key belongs to another request"));
        }
        if self.result.is_empty() {
            return Err(Error::new(
                ErrorKind::Conflict,
                "what the first request under the idempotency key wrote has been erased",
            ));
        }
        let bad = || corrupt("idempotency result");
        let kept: Kept = serde_json::from_str(&self.result).map_err(|_| bad())?;
        let results = kept
            .results
            .into_iter()
            .map(|kept| {
                let revision = match kept.put {
                    Some((until, hash)) => {
                        let hash = ContentHash::parse(&hash).map_err(|_| bad())?;
                        Some(Parts::new(self.updated_at, until, &hash).issue())
                    }
                    None => kept.revision,
                };
                Ok(WriteResult { id: kept.id, revision, existed: kept.existed })
            })
            .collect::<Result<_>>()?;
        Ok(CommitReceipt { results, position: kept.position, replayed: true })
    }
}

/// The write of a key's document: new, or in place of one whose time is over.
///
/// # Errors
/// `InvalidInput`: the commit's results are more than a document can hold.
pub(crate) fn write(
    store: &FirestoreStore,
    tenant: &TenantId,
    key: &IdempotencyKey,
    old: Option<&KeyRow>,
    decided: &[(&Write, &Result<Decision>)],
    position: Option<ChangePosition>,
    now: Timestamp,
) -> Result<wire::Write> {
    let mut users = BTreeSet::new();
    let mut results = Vec::with_capacity(decided.len());
    for (write, decision) in decided {
        // A commit under a key happens whole: no write of it was refused.
        let Ok(decision) = decision else { continue };
        let result = decision.result(write, None);
        let put = match (write, decision) {
            (Write::Put(put), Decision::Put { .. }) => {
                Some((put.item.expires_at, put.item.content_hash().to_string()))
            }
            _ => None,
        };
        if let Write::Put(put) = write {
            users.extend(put.item.user_id.as_ref().map(|user| user.as_str()));
        }
        results.push(KeptResult {
            id: result.id,
            existed: result.existed,
            put,
            revision: result.revision,
        });
    }
    let kept = Kept { position, results };
    let text = serde_json::to_string(&kept).map_err(|error| {
        Error::new(ErrorKind::Unexpected, "a receipt has no JSON").with_source(error)
    })?;
    let delete_at = now.as_micros().saturating_add(limits::IDEMPOTENCY_MICROS);
    let fields = HashMap::from([
        model::shape_field(),
        (DIGEST.to_owned(), model::value(ValueType::BytesValue(key.digest().to_vec()))),
        (RESULT.to_owned(), model::text(text)),
        (USERS.to_owned(), model::texts(users)),
        (DELETE_AT.to_owned(), model::time(delete_at)),
    ]);
    let name = name(&store.names, tenant, key);
    let document = proto::Document { name, fields, create_time: None, update_time: None };
    size::check(&store.settings, &document)?;
    Ok(wire::Write::update(document).if_still(old.map(|old| old.updated_at)))
}
