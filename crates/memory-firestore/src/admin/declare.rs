//! Filter keys that are declared after memories were written: every memory is given them.

use std::collections::HashMap;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::{CallContext, Error, Result, TenantId};

use super::upkeep::{made_anew, memory_mask};
use crate::BACKEND;
use crate::batch::fewer;
use crate::commit::{pause, too_contended};
use crate::fields as f;
use crate::model;
use crate::query;
use crate::store::FirestoreStore;
use crate::wire::{Call, Entries, Found, Refused, Write};

/// Documents of one request.
const PAGE: u32 = 200;

impl FirestoreStore {
    /// Gives every memory of every tenant the filter keys of the settings, and notes it in the
    /// store. The answer is how many memories were rewritten.
    ///
    /// A store whose memories lack a declared key refuses every other call with `Config`, for
    /// filters would miss them; open it with [`crate::OpenMode::Lazy`] for this one. No other
    /// process may write under settings that lack the keys, meanwhile or later.
    ///
    /// It can be called again at any time: memories that carry the keys are read and not written.
    /// Revisions, vectors and times stay as they are.
    ///
    /// Billed: one read for each memory, and one write for each that is rewritten.
    ///
    /// # Errors
    /// `Corrupt`, `Unsupported`: a memory that cannot be read; nothing after it was rewritten.
    /// `Unavailable` and whatever the service answers: call it again.
    ///
    /// # Cancellation
    /// What was rewritten stays; call it again.
    pub async fn declare_filter_keys(&self) -> Result<u64> {
        let call = Call { operation: "declare_filter_keys", context: None };
        let body = async {
            let _ticket = self.enter(None::<&CallContext>)?;
            let (mut rewritten, mut after) = (0, None::<TenantId>);
            loop {
                let name = after.as_ref().map(|tenant| self.names.tenant(tenant));
                let tenants = self.some_tenants(call, name.as_deref()).await?;
                let Some(last) = tenants.last().cloned() else { break };
                for tenant in &tenants {
                    rewritten += self.declare_in(call, tenant).await?;
                }
                after = Some(last);
            }
            self.promise_keys(call).await?;
            Ok(rewritten)
        };
        Box::pin(body)
            .await
            .map_err(|error: Error| error.with_backend(BACKEND).with_operation(call.operation))
    }

    async fn declare_in(&self, call: Call<'_>, tenant: &TenantId) -> Result<u64> {
        let parent = self.names.tenant(tenant);
        let mask = memory_mask();
        let (mut rewritten, mut after) = (0, None::<String>);
        let (mut lost, mut most) = (0, usize::MAX);
        'pages: loop {
            let query = query::all(&self.names, after.as_deref(), PAGE, &mask);
            let found = self.wire.query(call, &parent, query, Entries::FREE).await?;
            let Some(last) = found.last().map(|found| found.name.clone()) else {
                return Ok(rewritten);
            };
            let writes = found.iter().filter_map(|found| self.rewrite(found).transpose());
            let writes: Vec<_> = writes.collect::<Result<_>>()?;
            let mut left = &writes[..];
            while !left.is_empty() {
                let some = &left[..most.min(left.len())];
                let some = &some[..self.fitting(some)];
                let sent = self.wire.commit(call, some.to_vec(), Vec::new()).await;
                let Err(refused) = sent else {
                    rewritten += some.len() as u64;
                    left = &left[some.len()..];
                    continue;
                };
                match (fewer(&refused, some.len()), refused) {
                    (Some(fewer), _) => most = fewer,
                    (None, Refused::Error(error)) => return Err(error),
                    // One of them was written meanwhile: the same page once more, of which what
                    // was rewritten is read and not written.
                    (None, Refused::Contended) if lost < self.settings.contention_attempts => {
                        pause(self, call, lost).await;
                        lost += 1;
                        continue 'pages;
                    }
                    (None, Refused::Contended) => return Err(too_contended()),
                }
            }
            lost = 0;
            after = Some(last);
        }
    }

    /// The write that gives a memory the declared keys; `None` where it carries them.
    fn rewrite(&self, found: &Found) -> Result<Option<Write>> {
        let (row, anew) = made_anew(&self.settings, found)?;
        let kept = [f::KEYS, f::LISTS];
        if kept.iter().all(|field| found.fields.get(*field) == anew.get(*field)) {
            return Ok(None);
        }
        let mut fields: HashMap<_, _> =
            anew.into_iter().filter(|(field, _)| kept.contains(&field.as_str())).collect();
        fields.insert(f::REV.to_owned(), model::text(row.revision.as_str()));
        let document = proto::Document {
            name: found.name.clone(),
            fields,
            create_time: None,
            update_time: None,
        };
        let paths = [f::KEYS, f::LISTS, f::REV].map(str::to_owned).to_vec();
        Ok(Some(Write::update(document).masked(paths).if_updated_at(found.updated_at)))
    }
}
