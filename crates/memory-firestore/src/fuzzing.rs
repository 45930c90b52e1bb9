//! What the fuzz target of the stored documents checks: what a damaged or foreign database may
//! answer.

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::{MemoryItem, Precondition, Put, SpaceId, TenantId, Vectors};
use prost::Message as _;

use crate::model;
use crate::names::Names;
use crate::settings::FirestoreSettings;
use crate::wire::{self, Found};

/// Bytes are read as a document in the encoding of the wire. A document is refused, or gives an item
/// and a row, the same each time; an item that is valid comes back from the document that a put of
/// it writes.
///
/// # Panics
/// Where an invariant is broken.
pub fn documents(data: &[u8]) {
    let Ok(document) = proto::Document::decode(data) else { return };
    let found = found(document);
    let space = SpaceId::new("test@1/3/cosine").expect("a valid space");
    let spaces = [space];
    match (model::Row::read(&found), model::Row::read(&found)) {
        (Ok(row), Ok(again)) => {
            assert!(row.revision == again.revision && row.spaces == again.spaces);
        }
        (Err(error), Err(_)) => assert!(!error.message().is_empty()),
        _ => panic!("a document was read once and refused once"),
    }
    match (model::item(&found, &spaces), model::item(&found, &spaces)) {
        (Ok(item), Ok(again)) => {
            let item = plain(item);
            assert!(item == plain(again), "the same document gives the same item");
            if item.validate().is_ok() {
                written(item);
            }
        }
        (Err(error), Err(_)) => assert!(!error.message().is_empty()),
        _ => panic!("a document was read once and refused once"),
    }
}

/// Writes an item, reads it back and compares.
fn written(item: MemoryItem) {
    let settings = FirestoreSettings::new("project");
    let names = Names::new("project", "(default)", "");
    let tenant = TenantId::new("t").expect("a valid tenant");
    let put = Put { item, vectors: Vectors::default(), precondition: Precondition::Any };
    let name = names.memory(&tenant, &put.item.id);
    let document = model::document(&settings, name, &put, &[3; 16]);
    let bytes = document.encode_to_vec();
    let document = proto::Document::decode(bytes.as_slice()).expect("a written document is read");
    let found = found(document);
    let row = model::Row::read(&found).expect("a written document has a row");
    assert!(row.commit == [3; 16] && row.hash == put.item.content_hash());
    let back = plain(model::item(&found, &[]).expect("a written document has an item"));
    assert!(back == put.item, "an item comes back from its document");
}

/// An item without what a put of it does not write: its revision, and vectors, which may hold NaN.
fn plain(mut item: MemoryItem) -> MemoryItem {
    item.revision = None;
    item.vectors.clear();
    item
}

fn found(document: proto::Document) -> Found {
    let time = |time: Option<&prost_types::Timestamp>| time.map_or(0, wire::micros);
    Found {
        created_at: time(document.create_time.as_ref()),
        updated_at: time(document.update_time.as_ref()),
        name: document.name,
        fields: document.fields,
    }
}
