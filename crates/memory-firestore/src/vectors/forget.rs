//! What a space leaves behind that a tenant does not name any more.

use std::collections::HashMap;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::{EmbeddingSpace, ErrorKind, Result, TenantId};
use proto::structured_query as query;

use super::note_unreadable;
use crate::batch;
use crate::commit::{pause, too_contended};
use crate::fields as f;
use crate::guard::TenantState;
use crate::model::{self, Row};
use crate::store::FirestoreStore;
use crate::wire::{Call, Entries, Found, Refused, Write};

/// Removes the vectors of a space that the tenant does not name, as it must be before the tenant
/// names it again: what comes back without having been embedded anew is older than it seems.
///
/// Nobody keeps vectors in a space that is not named, so there are fewer of them with every step.
/// Each step holds only while the tenant's document is as `state` has it: once another process has
/// named the space, its vectors are new ones. Items and revisions stay as they are.
///
/// Billed: one read and one write for each vector; one read where there is none. A step that meets
/// other writers reads the tenant's document and its items again.
///
/// [`Refused::Contended`]: the tenant's document is another one now.
///
/// # Cancellation
/// What was removed stays removed.
pub(crate) async fn forget(
    store: &FirestoreStore,
    call: Call<'_>,
    tenant: &TenantId,
    state: &TenantState,
    space: &EmbeddingSpace,
) -> Result<(), Refused> {
    let (short, field) = (model::short_name(&space.id()), model::vector_field(&space.id()));
    let parent = store.names.tenant(tenant);
    let (mut lost, mut most) = (0, usize::MAX);
    while lost < store.settings.contention_attempts {
        let left = having(store, &short);
        let found = store.wire.query(call, &parent, left, Entries::FREE).await?;
        if found.is_empty() {
            return Ok(());
        }
        let writes = found.iter().map(|found| without(store, found, &short, &field));
        let mut writes = writes.collect::<Result<Vec<_>>>()?;
        let refused = loop {
            writes.truncate(most.min(store.fitting(&writes)));
            let sent = store.commit_beside(call, tenant, state, writes.clone()).await;
            let Err(refused) = sent else { break None };
            let Some(fewer) = batch::fewer(&refused, writes.len()) else { break Some(refused) };
            most = fewer;
        };
        match refused {
            None => lost = 0,
            Some(Refused::Error(error)) => return Err(Refused::Error(error)),
            Some(Refused::Contended) => {
                pause(store, call, lost).await;
                lost += 1;
                if store.tenant_now(call, tenant).await?.updated_at != state.updated_at {
                    return Err(Refused::Contended);
                }
            }
        }
    }
    Err(Refused::Error(too_contended()))
}

/// Some of the items that have a vector in a space, expired ones too.
fn having(store: &FirestoreStore, short: &str) -> proto::StructuredQuery {
    let field = |path: &str| query::FieldReference { field_path: path.to_owned() };
    let has = query::FieldFilter {
        field: Some(field(f::SPACES)),
        op: query::field_filter::Operator::ArrayContains.into(),
        value: Some(model::text(short)),
    };
    let fields = model::row_mask().iter().map(|path| field(path)).collect();
    proto::StructuredQuery {
        select: Some(query::Projection { fields }),
        from: vec![query::CollectionSelector {
            collection_id: store.names.memories.clone(),
            all_descendants: false,
        }],
        r#where: Some(query::Filter {
            filter_type: Some(query::filter::FilterType::FieldFilter(has)),
        }),
        limit: Some(i32::try_from(store.settings.sweep_batch).unwrap_or(i32::MAX)),
        ..proto::StructuredQuery::default()
    }
}

/// The write that takes a vector out of a document.
///
/// # Errors
/// `Unsupported`: a document of a newer shape.
fn without(store: &FirestoreStore, found: &Found, short: &str, field: &str) -> Result<Write> {
    let mut fields = HashMap::new();
    let mut mask = vec![field.to_owned(), f::SPACES.to_owned()];
    match Row::read(found) {
        Ok(row) => {
            let others = row.spaces.iter().map(String::as_str).filter(|space| *space != short);
            fields.insert(f::SPACES.to_owned(), model::texts(others));
            fields.insert(f::REV.to_owned(), model::text(row.revision.as_str()));
            mask.push(f::REV.to_owned());
        }
        // It has no revision to keep; without its list it is out of the way.
        Err(error) if error.kind() == ErrorKind::Corrupt => note_unreadable(store, &error),
        Err(error) => return Err(error),
    }
    let document = proto::Document { name: found.name.clone(), fields, ..Default::default() };
    Ok(Write::update(document).masked(mask).if_updated_at(found.updated_at))
}
