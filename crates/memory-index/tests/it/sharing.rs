//! What may cross threads, and a cache under several of them.

use std::sync::PoisonError;

use memory_index::{Bm25, DocEntry, IndexCache, KeySet, KeywordPostings, TenantIndex, VectorScan};

#[test]
fn everything_crosses_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<KeywordPostings>();
    is_shared::<VectorScan>();
    is_shared::<TenantIndex>();
    is_shared::<KeySet>();
    is_shared::<IndexCache<String>>();
}

/// Each of four threads loads and searches the indexes of five tenants in a cache that has room
/// for about two of them. Whoever finds an index empty loads it, and every search sees it whole.
#[test]
fn threads_share_a_cache_that_is_too_small() {
    let probe = loaded(0).memory_bytes();
    let cache = IndexCache::new(probe * 5 / 2);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let cache = &cache;
            scope.spawn(move || {
                for round in 0..50 {
                    let tenant = (thread + round) % 5;
                    let index = cache.get_or_create(&tenant, TenantIndex::new);
                    {
                        let mut index = index.write().unwrap_or_else(PoisonError::into_inner);
                        if index.position() == 0 {
                            *index = loaded(tenant);
                        }
                    }
                    cache.settle(&tenant);
                    let index = index.read().unwrap_or_else(PoisonError::into_inner);
                    let hits =
                        index.keywords().search(&[("all", 1.0)], 1_000, Bm25::default(), |_| true);
                    assert_eq!(hits.len(), 100);
                    assert!(hits.iter().all(|hit| hit.key / 1_000 == tenant));
                }
            });
        }
    });
    let stats = cache.stats();
    assert_eq!(stats.hits + stats.misses, 200);
    assert!(stats.evictions > 0);
    cache.settle(&0);
    assert!(cache.stats().bytes <= cache.budget_bytes());
}

fn loaded(tenant: u64) -> TenantIndex {
    let mut index = TenantIndex::new();
    for document in 0..100 {
        let words = [("all".to_owned(), 1), (format!("word{document}"), 1)];
        index
            .upsert(&DocEntry::new(tenant * 1_000 + document, 2, &words))
            .expect("no vectors to refuse");
    }
    index.set_position(1);
    index
}
