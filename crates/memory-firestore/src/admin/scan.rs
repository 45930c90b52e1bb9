//! Queries of the collections beside the memories.

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::{Direction, Result};
use proto::value::ValueType;
use proto::{Cursor, StructuredQuery, Value};

use crate::model;
pub(crate) use crate::query::parts::Op;
use crate::query::parts::{self, NAME};
use crate::store::FirestoreStore;
use crate::wire::{Call, Entries, Found};

/// A query of one collection. Without an order it comes by document name.
///
/// All that can be built is served by the indexes that the service keeps of every single field.
pub(crate) struct Scan(StructuredQuery);

impl Scan {
    /// Everything of a collection.
    pub(crate) fn of(collection: &str) -> Self {
        Self(parts::from(collection))
    }

    /// Where a field compares so.
    pub(crate) fn filter(mut self, path: &str, op: Op, value: Value) -> Self {
        self.0.r#where = Some(parts::compare(path, op, value));
        self
    }

    /// The least of a field first.
    pub(crate) fn earliest(self, path: &str) -> Self {
        self.ordered(path, Direction::Ascending)
    }

    /// The greatest of a field first.
    pub(crate) fn latest(self, path: &str) -> Self {
        self.ordered(path, Direction::Descending)
    }

    fn ordered(mut self, path: &str, direction: Direction) -> Self {
        self.0.order_by = vec![parts::ordered(path, direction)];
        self
    }

    /// By document name, after the document of this full name.
    pub(crate) fn after(self, name: Option<&str>) -> Self {
        let mut scan = self.earliest(NAME);
        scan.0.start_at = name.map(|name| Cursor {
            values: vec![model::value(ValueType::ReferenceValue(name.to_owned()))],
            before: false,
        });
        scan
    }

    /// As many at the most.
    pub(crate) fn limit(mut self, most: usize) -> Self {
        self.0.limit = Some(i32::try_from(most).unwrap_or(i32::MAX));
        self
    }

    /// These fields alone; none brings names alone. Without this, all.
    pub(crate) fn select(mut self, paths: &[&str]) -> Self {
        let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
        self.0.select = Some(parts::select(&paths));
        self
    }
}

impl FirestoreStore {
    /// Runs a scan below a document.
    ///
    /// Billed: one read for each document, one at the least.
    pub(crate) async fn scan(
        &self,
        call: Call<'_>,
        parent: &str,
        scan: Scan,
    ) -> Result<Vec<Found>> {
        self.wire.query(call, parent, scan.0, Entries::FREE).await
    }

    /// Counts what a scan below a document finds.
    ///
    /// Billed: one read for up to 1,000.
    pub(crate) async fn scan_count(&self, call: Call<'_>, parent: &str, scan: Scan) -> Result<u64> {
        self.wire.count(call, parent, scan.0).await
    }
}
