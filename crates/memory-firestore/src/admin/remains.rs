//! What outlasts a tenant's erasure: the last numbers that were given out, so that none is given
//! twice. Under a name that does not tell the tenant's.

use std::collections::HashMap;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::{Result, TenantId};
use proto::value::ValueType;

use super::book::{digits, tombstone};
use crate::error::corrupt;
use crate::model;
use crate::store::FirestoreStore;
use crate::wire::{Call, Write};

const FLOOR: &str = "floor";
const BORN: &str = "born";
const TOKEN: &str = "token";
const VERSION: &str = "version";

/// The numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Remains {
    /// The update time of its document; `None` where there is none.
    pub(super) updated_at: Option<i64>,
    /// Entries of the change log up to this number have been dropped.
    pub(super) floor: u64,
    /// The floor when the tenant was last erased: who has read nothing has missed nothing up to it.
    pub(super) born: u64,
    /// The greatest token of a lease whose document is gone, and of a first grant of a name.
    pub(super) token: u64,
    /// The greatest version of spaces whose document is gone.
    pub(super) version: u64,
}

impl Remains {
    /// The write of the document, if it is still as it was read.
    pub(super) fn write(&self, name: String) -> Write {
        let number = |number: u64| model::value(ValueType::IntegerValue(number.cast_signed()));
        let fields = HashMap::from([
            model::shape_field(),
            (FLOOR.to_owned(), number(self.floor)),
            (BORN.to_owned(), number(self.born)),
            (TOKEN.to_owned(), number(self.token)),
            (VERSION.to_owned(), number(self.version)),
        ]);
        let write =
            Write::update(proto::Document { name, fields, create_time: None, update_time: None });
        self.held(write)
    }

    /// A write that does nothing but hold the commit to the document as it was read.
    pub(super) fn verify(&self, name: String) -> Write {
        self.held(Write::verify(name))
    }

    fn held(&self, write: Write) -> Write {
        write.if_still(self.updated_at)
    }
}

impl FirestoreStore {
    /// The name of the document; the store's key is made where there is none.
    pub(super) async fn remains_name(&self, call: Call<'_>, tenant: &TenantId) -> Result<String> {
        let key = self.key(call).await?;
        Ok(self.names.below_store(&format!("tenant-{}", digits(&tombstone(&key, tenant, "")))))
    }

    /// What outlasted the tenant.
    ///
    /// Billed: one read, and none in a store that has never been written to.
    pub(super) async fn remains(&self, call: Call<'_>, tenant: &TenantId) -> Result<Remains> {
        if self.known_key(call).await?.is_none() {
            return Ok(Remains::default());
        }
        let name = self.remains_name(call, tenant).await?;
        let Some(found) = self.wire.get(call, vec![name], None).await?.into_iter().next().flatten()
        else {
            return Ok(Remains::default());
        };
        model::check_shape(&found.fields)?;
        let number = |name| match found.fields.get(name).and_then(|v| v.value_type.as_ref()) {
            Some(ValueType::IntegerValue(number)) => Ok(number.unsigned_abs()),
            _ => Err(corrupt("number of a tenant")),
        };
        Ok(Remains {
            updated_at: Some(found.updated_at),
            floor: number(FLOOR)?,
            born: number(BORN)?,
            token: number(TOKEN)?,
            version: number(VERSION)?,
        })
    }
}
