//! What handles promise: they can go to other threads, race each other, and leave nothing behind.

use std::future::Future;

use memory_core::traits::{MockRecordStore, MockStoreMeta};
use orchestra_memory::{
    AddManyOptions, ErrorKind, ExportOptions, HistoryRequest, ImportOptions, Memory, MetaKey,
    MetaValue, MetadataChange, Patch, SearchRequest, TenantMemory, UpdateOptions,
};

use crate::support::{block_on, each_store, id, mock_memory, note};

/// Fails to compile if a future cannot go to another thread.
fn sendable<F: Future + Send>(_: F) {}

#[test]
fn futures_and_handles_go_to_other_threads() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let memory = mock_memory(MockRecordStore::new(), MockStoreMeta::new());
    let tenant = memory.default_tenant();
    shared(&memory);
    shared(&tenant);
    shared(&memory.admin());
    sendable(Memory::open("memory:"));
    sendable(tenant.add(note("x")));
    sendable(tenant.add_many([note("x")], AddManyOptions::new()));
    sendable(tenant.update(&id("m"), &Patch::new(), UpdateOptions::new()));
    sendable(tenant.history(&HistoryRequest::new()));
    sendable(tenant.search(&SearchRequest::new()));
    sendable(tenant.import(&b""[..], ImportOptions::new("x")));
    sendable(tenant.export(&mut Vec::new(), ExportOptions::new()));
    // A future that was never polled has done nothing: the mocks would have failed the test.
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::sync::Arc;

    use memory_core::SystemClock;
    use memory_core::traits::NoLedger;
    use orchestra_memory::Backend;
    use orchestra_memory::memory_sqlite::{SqliteSettings, SqliteStore};

    use crate::support::{block_on, builder, note};

    #[test]
    fn the_last_handle_lets_go_of_the_store() {
        let clock = Arc::new(SystemClock::new());
        let store = SqliteStore::open(SqliteSettings::in_memory(), clock, Arc::new(NoLedger));
        let store = store.unwrap();
        let watch = Arc::downgrade(&store);
        let memory = block_on(builder().backend(Backend::of(store)).open()).unwrap();
        let tenant = memory.default_tenant();
        let admin = memory.admin();
        block_on(tenant.add(note("x"))).unwrap();
        drop(memory);
        drop(admin);
        assert!(watch.upgrade().is_some(), "a tenant's handle keeps it");
        drop(tenant);
        assert!(watch.upgrade().is_none());
    }
}

/// Adds 1 to the memory's counter under its revision, until it succeeds.
async fn count_up(tenant: &TenantMemory, key: &MetaKey) {
    loop {
        let item = tenant.get(&id("m")).await.unwrap().unwrap();
        let MetaValue::Int(count) = item.metadata[key] else { panic!("a number") };
        let patch = Patch::new().with_metadata(MetadataChange::Merge {
            set: [(key.clone(), (count + 1).into())].into(),
            remove: [].into(),
        });
        let options = UpdateOptions::new().with_if_revision(item.revision.unwrap());
        match tenant.update(&id("m"), &patch, options).await {
            Ok(_) => return,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
        }
    }
}

#[test]
fn updates_that_race_lose_nothing() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let key = MetaKey::new("count").unwrap();
        let own = |n: usize| MetaKey::new(format!("thread-{n}")).unwrap();
        tenant.add(note("x").with_id(id("m")).with_meta(key.clone(), 0)).await.unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (tenant, key) = (tenant.clone(), key.clone());
                scope.spawn(move || (0..10).for_each(|_| block_on(count_up(&tenant, &key))));
            }
        });
        // Without a precondition a patch goes onto whatever is there. Each of four writers
        // can lose to three others, which is within the attempts that there are.
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (tenant, own) = (tenant.clone(), own(n));
                scope.spawn(move || {
                    let patch = Patch::new().with_metadata(MetadataChange::Merge {
                        set: [(own, true.into())].into(),
                        remove: [].into(),
                    });
                    block_on(tenant.update(&id("m"), &patch, UpdateOptions::new())).unwrap();
                });
            }
        });
        let item = tenant.get(&id("m")).await.unwrap().unwrap();
        assert_eq!(item.metadata[&key], MetaValue::Int(40));
        for n in 0..4 {
            assert_eq!(item.metadata[&own(n)], MetaValue::Bool(true));
        }
    });
}
