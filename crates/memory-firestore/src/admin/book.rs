//! The store's own document: its shape, its key, and which metadata keys every memory carries.
//!
//! It is read once by each process and made by the first write to the store. Until then there is
//! nothing to read, and a reader needs no right to write.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use hmac::{Hmac, KeyInit as _, Mac as _};
use memory_core::traits::{StoreKey, Tombstone};
use memory_core::{Error, ErrorKind, MemoryId, Result, TenantId};
use proto::value::ValueType;
use sha2::Sha256;
use tokio::sync::OnceCell;

use super::scan::{Op, Scan};
use crate::commit::{pause, too_contended};
use crate::error::corrupt;
use crate::guard;
use crate::model;
use crate::settings::{FilterKeyType, FirestoreSettings};
use crate::store::FirestoreStore;
use crate::wire::{Call, Found, Refused, Write};

const KEY: &str = "store_key";
const FILTER_KEYS: &str = "filter_keys";

/// Metadata keys that every memory carries in its indexes, and whether as a list too.
pub(super) type Carried = BTreeMap<String, bool>;

/// The store's document.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Its shape.
    pub(super) shape: i64,
    key: StoreKey,
    carried: Carried,
    updated_at: i64,
}

/// What is remembered of the store's own document.
#[derive(Debug, Default)]
pub(crate) struct StoreBook {
    record: Mutex<Option<Arc<Record>>>,
    /// Done once the document says what this process writes.
    written: OnceCell<()>,
}

impl StoreBook {
    pub(super) fn known(&self) -> Option<Arc<Record>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn(&self, record: Record) -> Arc<Record> {
        let record = Arc::new(record);
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&record));
        record
    }
}

impl Record {
    fn read(found: &Found) -> Result<Self> {
        model::check_shape(&found.fields)?;
        let field = |name| found.fields.get(name).and_then(|value| value.value_type.as_ref());
        let shape = match field(crate::fields::V) {
            Some(ValueType::IntegerValue(shape)) => *shape,
            _ => return Err(corrupt("shape")),
        };
        let key = match field(KEY) {
            Some(ValueType::BytesValue(bytes)) => {
                StoreKey::from_bytes(bytes.as_slice().try_into().map_err(|_| corrupt("store key"))?)
            }
            _ => return Err(corrupt("store key")),
        };
        let bad = || corrupt("list of filter keys");
        let carried = match field(FILTER_KEYS) {
            Some(ValueType::MapValue(map)) => map
                .fields
                .iter()
                .map(|(key, list)| match list.value_type {
                    Some(ValueType::BooleanValue(list)) => Ok((key.clone(), list)),
                    _ => Err(bad()),
                })
                .collect::<Result<_>>()?,
            _ => return Err(bad()),
        };
        Ok(Self { shape, key, carried, updated_at: found.updated_at })
    }

    /// The write of the document: new, or in place of the one that was read.
    fn write(&self, name: String) -> Write {
        let carried = self
            .carried
            .iter()
            .map(|(key, list)| (key.clone(), model::value(ValueType::BooleanValue(*list))));
        let key = ValueType::BytesValue(self.key.expose().to_vec());
        let fields = HashMap::from([
            model::shape_field(),
            (KEY.to_owned(), model::value(key)),
            (FILTER_KEYS.to_owned(), model::map(carried.collect())),
        ]);
        let write =
            Write::update(proto::Document { name, fields, create_time: None, update_time: None });
        if self.updated_at == 0 {
            return write.if_exists(false);
        }
        write.if_updated_at(self.updated_at)
    }
}

/// What the settings declare.
fn declared(settings: &FirestoreSettings) -> Carried {
    let keys = settings.filter_keys.iter();
    keys.map(|(key, of)| (key.to_string(), *of == FilterKeyType::List)).collect()
}

/// The declared keys that not every memory carries.
fn lacking<'a>(declared: &'a Carried, carried: &Carried) -> Vec<&'a str> {
    let lacks = |(key, list): &(&'a String, &'a bool)| {
        carried.get(*key).is_none_or(|as_list| **list && !as_list)
    };
    declared.iter().filter(lacks).map(|(key, _)| key.as_str()).collect()
}

/// What is carried by memories of both kinds.
fn common(declared: &Carried, carried: &Carried) -> Carried {
    let both = |(key, list): (&String, &bool)| {
        declared.get(key).map(|as_list| (key.clone(), *list && *as_list))
    };
    carried.iter().filter_map(both).collect()
}

/// What is left of an erased id: HMAC-SHA256 under the store key of tenant and id, each after its
/// length in bytes as a big-endian `u64`. No memory has the id `""`: its tombstone names what the
/// store keeps of a tenant without keeping its name.
pub(super) fn tombstone(key: &StoreKey, tenant: &TenantId, id: &str) -> Tombstone {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("any length will do");
    for part in [tenant.as_str(), id] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    Tombstone(mac.finalize().into_bytes().into())
}

/// A tombstone's bytes as hexadecimal digits.
pub(super) fn digits(tombstone: &Tombstone) -> String {
    crate::names::digits(&tombstone.0)
}

/// Looks at the store's document for the first time.
///
/// Billed: one read, and one more where not all declared keys are carried.
///
/// # Errors
/// `Unsupported`: a newer shape. `Config`: memories that were written before a filter key was
/// declared.
pub(crate) async fn check_store(store: &FirestoreStore, call: Call<'_>) -> Result<()> {
    let record = store.read_record(call).await?;
    store.check_keys(call, record.as_deref()).await
}

impl FirestoreStore {
    /// Reads the store's document; `None` where there is none yet.
    pub(super) async fn read_record(&self, call: Call<'_>) -> Result<Option<Arc<Record>>> {
        let found = self.wire.get(call, vec![self.names.store()], None).await?;
        let record = found.into_iter().next().flatten().map(|found| Record::read(&found));
        let record = record.transpose().map_err(|error| match error.kind() {
            ErrorKind::Unsupported => error,
            _ => error.with_context("document", "the store's own"),
        })?;
        Ok(record.map(|record| self.book.learn(record)))
    }

    /// # Errors
    /// `Config`: a declared key that older memories lack.
    async fn check_keys(&self, call: Call<'_>, record: Option<&Record>) -> Result<()> {
        let declared = declared(&self.settings);
        let none = Carried::new();
        let lacking = lacking(&declared, record.map_or(&none, |record| &record.carried));
        if lacking.is_empty() || self.is_empty(call).await? {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Config,
            format!(
                "memories were written before the filter keys {} were declared, and filters would \
                 miss them: open the store lazily and call declare_filter_keys once, when every \
                 writer has the new settings",
                lacking.join(", ")
            ),
        ))
    }

    /// Whether no tenant is listed.
    async fn is_empty(&self, call: Call<'_>) -> Result<bool> {
        let yes = model::value(ValueType::BooleanValue(true));
        let any = Scan::of(&self.names.tenants)
            .filter(guard::LISTED, Op::Equal, yes)
            .limit(1)
            .select(&[]);
        Ok(self.scan(call, &self.names.root, any).await?.is_empty())
    }

    /// Makes sure, once, that the store's document is there and promises no more keys than this
    /// process writes. Every commit does, before its first request.
    ///
    /// Billed: for the first of a process one write where the document has to be made or changed,
    /// else nothing.
    pub(crate) async fn store_written(&self, call: Call<'_>) -> Result<()> {
        let written = self.book.written.get_or_try_init(|| self.write_record(call));
        let written = self.in_time(call, written).await?;
        written.map(|_| ()).map_err(|error| crate::error::not_applied(&error))
    }

    async fn write_record(&self, call: Call<'_>) -> Result<()> {
        let declared = declared(&self.settings);
        let mut known = self.book.known();
        for attempt in 0..self.settings.contention_attempts {
            let wanted = match known.as_deref() {
                None => Record {
                    shape: model::SHAPE,
                    key: self.new_key(),
                    carried: declared.clone(),
                    updated_at: 0,
                },
                Some(record) => {
                    let carried = if lacking(&declared, &record.carried).is_empty() {
                        common(&declared, &record.carried)
                    } else {
                        declared.clone()
                    };
                    if carried == record.carried {
                        return Ok(());
                    }
                    Record { carried, ..record.clone() }
                }
            };
            self.check_keys(call, known.as_deref()).await?;
            match self.wire.commit(call, vec![wanted.write(self.names.store())], Vec::new()).await {
                Ok(times) => {
                    let updated_at = times.first().copied().unwrap_or_default();
                    self.book.learn(Record { updated_at, ..wanted });
                    return Ok(());
                }
                Err(Refused::Error(error)) => return Err(error),
                Err(Refused::Contended) => {}
            }
            pause(self, call, attempt).await;
            known = self.read_record(call).await?;
        }
        Err(too_contended())
    }

    /// Notes that every memory carries the declared keys.
    pub(super) async fn promise_keys(&self, call: Call<'_>) -> Result<()> {
        for attempt in 0..self.settings.contention_attempts {
            let record = match self.read_record(call).await? {
                Some(record) => Record { carried: declared(&self.settings), ..(*record).clone() },
                None => Record {
                    shape: model::SHAPE,
                    key: self.new_key(),
                    carried: declared(&self.settings),
                    updated_at: 0,
                },
            };
            match self.wire.commit(call, vec![record.write(self.names.store())], Vec::new()).await {
                Ok(_) => return self.read_record(call).await.map(|_| ()),
                Err(Refused::Error(error)) => return Err(error),
                Err(Refused::Contended) => pause(self, call, attempt).await,
            }
        }
        Err(too_contended())
    }

    fn new_key(&self) -> StoreKey {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(self.ids.commit_id().as_bytes());
        bytes[16..].copy_from_slice(self.ids.commit_id().as_bytes());
        StoreKey::from_bytes(bytes)
    }

    /// The store's key; `None` where no process has made it yet.
    pub(crate) async fn known_key(&self, call: Call<'_>) -> Result<Option<StoreKey>> {
        let record = match self.book.known() {
            Some(record) => Some(record),
            None => self.read_record(call).await?,
        };
        Ok(record.map(|record| record.key.clone()))
    }

    /// The store's key, made where there is none.
    pub(crate) async fn key(&self, call: Call<'_>) -> Result<StoreKey> {
        if let Some(key) = self.known_key(call).await? {
            return Ok(key);
        }
        self.store_written(call).await?;
        self.known_key(call).await?.ok_or_else(|| corrupt("store key"))
    }

    /// The name of an id's tombstone.
    pub(crate) fn tombstone_name(
        &self,
        key: &StoreKey,
        tenant: &TenantId,
        id: &MemoryId,
    ) -> String {
        self.names.tombstone(&digits(&tombstone(key, tenant, id.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(keys: &[(&str, bool)]) -> Carried {
        keys.iter().map(|(key, list)| ((*key).to_owned(), *list)).collect()
    }

    #[test]
    fn what_is_carried_covers_what_is_declared_or_not() {
        let stored = carried(&[("a", false), ("b", true), ("c", true)]);
        assert!(lacking(&carried(&[("a", false), ("b", false)]), &stored).is_empty());
        assert_eq!(lacking(&carried(&[("a", true), ("d", false)]), &stored), ["a", "d"]);
        let declared = carried(&[("b", false), ("c", true), ("d", true)]);
        assert_eq!(common(&declared, &stored), carried(&[("b", false), ("c", true)]));
    }

    #[test]
    fn a_tombstone_keeps_tenant_and_id_apart_and_shows_no_key() {
        let key = StoreKey::from_bytes([7; 32]);
        let tenant = |name: &str| TenantId::new(name).unwrap();
        let one = tombstone(&key, &tenant("a"), "bc");
        let same =
            memory_testkit::reference::tombstone(&key, &tenant("a"), &MemoryId::new("bc").unwrap());
        assert_eq!(one, same);
        assert_ne!(one, tombstone(&key, &tenant("ab"), "c"));
        assert_eq!(digits(&one).len(), 64);
        let record = Record { shape: 1, key, carried: Carried::new(), updated_at: 1 };
        assert!(!format!("{record:?}").contains("7, 7"));
    }
}
