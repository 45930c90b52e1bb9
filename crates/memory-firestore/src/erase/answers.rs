//! What an erasure does to the answers that are kept under idempotency keys.

use std::collections::HashMap;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::traits::EraseScope;
use memory_core::{CallContext, Result};

use super::Part;
use crate::admin::{Op, Scan};
use crate::batch;
use crate::commit::{RESULT, USERS, pause, too_contended};
use crate::model;
use crate::names::last;
use crate::store::FirestoreStore;
use crate::wire::{Call, Found, Refused, Write};

/// Clears some of the answers that name memories of the scope: a user's lose what they say, so that
/// a repetition is told so, and a tenant's go. What was kept since the erasure began stays.
///
/// Billed: one read and one write or delete for each.
pub(super) async fn clear(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    scope: &EraseScope,
    server: i64,
    after: Option<&str>,
) -> Result<Part> {
    let parent = store.names.tenant(&context.tenant);
    let after = after.map(|id| format!("{parent}/{}/{id}", store.names.keys));
    let most = usize::try_from(store.settings.erase_batch).unwrap_or(usize::MAX);
    for attempt in 0..store.settings.contention_attempts {
        let scan = Scan::of(&store.names.keys).after(after.as_deref()).limit(most).select(&[]);
        let scan = match scope {
            EraseScope::User(user) => {
                scan.filter(USERS, Op::ArrayContains, model::text(user.as_str()))
            }
            EraseScope::Tenant => scan,
        };
        let found = store.scan(call, &parent, scan).await?;
        let name = |found: &Found| last(&found.name).to_owned();
        let mut next = found.last().filter(|_| found.len() == most).map(name);
        let gone: Vec<_> = found.into_iter().filter(|found| found.updated_at <= server).collect();
        let mut writes: Vec<_> = gone
            .iter()
            .map(|found| {
                let write = match scope {
                    EraseScope::User(_) => cleared(found.name.clone()),
                    EraseScope::Tenant => Write::delete(found.name.clone()),
                };
                write.if_updated_at(found.updated_at)
            })
            .collect();
        if writes.is_empty() {
            return Ok(Part { erased: 0, next });
        }
        let mut fits = store.fitting(&writes);
        let refused = loop {
            if fits < writes.len() {
                writes.truncate(fits);
                next = gone.get(fits - 1).map(name);
            }
            let sent = store.wire.commit(call, writes.clone(), Vec::new()).await;
            let Err(refused) = sent else { return Ok(Part { erased: 0, next }) };
            let Some(fewer) = batch::fewer(&refused, writes.len()) else { break refused };
            fits = fewer;
        };
        match refused {
            Refused::Error(error) => return Err(error),
            // The service removed one whose time was over, or a new commit has taken its place.
            Refused::Contended => pause(store, call, attempt).await,
        }
    }
    Err(too_contended())
}

/// The key stays taken, with its digest and its end.
fn cleared(name: String) -> Write {
    let fields =
        HashMap::from([(RESULT.to_owned(), model::text("")), (USERS.to_owned(), model::texts([]))]);
    Write::update(proto::Document { name, fields, create_time: None, update_time: None })
        .masked(vec![RESULT.to_owned(), USERS.to_owned()])
}
