//! What each operation is billed, as the ledger has it.

use std::collections::BTreeMap;
use std::net::{TcpListener, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{
    ChangeLog as _, ChangePosition, EraseScope, HitRecords, LeaseStore as _, Ledger, RecordStore,
    StoreMeta as _, StoreUpkeep as _, TenantDirectory as _, Usage, VectorEntry, VectorIndex as _,
    VectorQuery,
};
use memory_core::{
    CallContext, Capability, CommitId, Direction as Along, ErrorKind, Field, Filter,
    IdempotencyKey, LeaseName, ManualClock, MemoryItem, MetaKey, MetaValue, Order, OrderField,
    Precondition, Projection, Query, Result, UserId, Vectors, Write,
};
use memory_firestore::{FirestoreParts, FirestoreSettings, FirestoreStore};
use memory_testkit::FaultProxy;
use memory_testkit::conformance::start;
use memory_testkit::proxy::{Cut, Direction, Plan};

use crate::common::{
    Book, FirestoreHarness, Owner, add, commit, emulator, id, item, put, revision, tenant,
    with_vector,
};
use crate::faults::rig::recovered;

/// Reads, writes and deletes.
fn billed(usage: Usage) -> (u64, u64, u64) {
    (usage.reads, usage.writes, usage.deletes)
}

/// The bill of one call.
async fn bill<T>(bed: &FirestoreHarness, call: impl Future<Output = Result<T>>) -> (u64, u64, u64) {
    bed.book.take();
    call.await.expect("the call succeeds");
    billed(bed.book.total())
}

fn numbered(n: u8) -> MemoryItem {
    let mut item = item(&format!("m{n:03}"), &format!("memory {n}"));
    item.metadata.insert(MetaKey::new("number").expect("a key"), MetaValue::Int(n.into()));
    let tags = vec![if n.is_multiple_of(2) { "even" } else { "odd" }.to_owned()];
    item.metadata.insert(MetaKey::new("list").expect("a key"), MetaValue::List(tags));
    item
}

/// Puts items in one commit.
async fn fill(bed: &FirestoreHarness, context: &CallContext, count: u8) {
    let writes = (0..count).map(|n| put(numbered(n), Precondition::Any)).collect();
    bed.store.commit(context, commit(writes)).await.expect("a commit");
}

#[tokio::test]
async fn the_first_contact_of_a_store_and_of_a_tenant_costs_what_is_stated() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let acme = tenant("acme");
    // The store's document and whether any tenant is listed, for it is not there yet, each before
    // the first request and before it is made; the tenant's document. Written: store, tenant, item.
    assert_eq!(bill(&bed, add(&bed.store, &acme, item("a", "x"))).await, (4, 3, 0));
    // Another tenant: its document is read and written.
    assert_eq!(bill(&bed, add(&bed.store, &tenant("other"), item("a", "x"))).await, (1, 2, 0));
    // A known tenant: the item, and nothing else.
    assert_eq!(bill(&bed, add(&bed.store, &acme, item("b", "x"))).await, (0, 1, 0));
    // Another process: the store's document, then the tenant's.
    let other = bed.another().await;
    assert_eq!(bill(&bed, other.count(&acme, &Filter::All)).await, (1 + 1, 0, 0));
    assert_eq!(bill(&bed, add(&other, &acme, item("c", "x"))).await, (1, 1, 0));
    assert_eq!(bill(&bed, add(&other, &acme, item("d", "x"))).await, (0, 1, 0));
}

#[tokio::test]
async fn writes_are_billed_for_what_they_write_and_have_to_look_at() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, acme) = (&bed.store, tenant("acme"));
    fill(&bed, &acme, 3).await;

    let first = commit(vec![put(item("a", "x"), Precondition::Absent)]);
    assert_eq!(bill(&bed, store.commit(&acme, first.clone())).await, (0, 1, 0));
    // Sent again it looks at the document and writes nothing.
    assert_eq!(bill(&bed, store.commit(&acme, first.resent())).await, (1, 0, 0));
    // A create of what exists is refused by the server, and then looked at.
    bed.book.take();
    let error = add(store, &acme, item("a", "y")).await.expect_err("it exists");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(billed(bed.book.total()), (2, 0, 0), "the tenant's document and the item's");

    let held = add(store, &acme, item("b", "x")).await.expect("a create");
    let swap = commit(vec![put(item("b", "y"), Precondition::Revision(held))]);
    bed.book.take();
    let receipt = store.commit(&acme, swap).await.expect("a swap");
    assert_eq!(billed(bed.book.total()), (0, 1, 0), "a swap");
    let delete = Write::delete(id("b"), Precondition::Revision(revision(&receipt)));
    assert_eq!(bill(&bed, store.commit(&acme, commit(vec![delete]))).await, (0, 0, 1));
    let delete = Write::delete(id("a"), Precondition::Any);
    assert_eq!(bill(&bed, store.commit(&acme, commit(vec![delete.clone()]))).await, (1, 0, 1));
    assert_eq!(bill(&bed, store.commit(&acme, commit(vec![delete]))).await, (1, 0, 0));
    // A put without a precondition is sent as a create; over another it looks once.
    let over = |text| commit(vec![put(item("m000", text), Precondition::Any)]);
    assert_eq!(bill(&bed, store.commit(&acme, over("over"))).await, (2, 1, 0));

    let ten = (10..20).map(|n| put(numbered(n), Precondition::Absent)).collect();
    assert_eq!(bill(&bed, store.commit(&acme, commit(ten))).await, (0, 10, 0), "a commit of ten");
    let key = IdempotencyKey::new("request 1", [1; 32]).expect("a key");
    let keyed = || {
        let writes = vec![put(item("k", "x"), Precondition::Absent)];
        commit(writes).with_idempotency(Some(key.clone()))
    };
    assert_eq!(bill(&bed, store.commit(&acme, keyed())).await, (0, 2, 0), "a commit under a key");
    let (_, writes, deletes) = bill(&bed, store.commit(&acme, keyed())).await;
    assert_eq!((writes, deletes), (0, 0), "a replay writes nothing");
}

#[tokio::test]
async fn a_change_log_costs_one_write_more() {
    let Some(bed) = FirestoreHarness::new(|settings| settings.change_log = true).await else {
        return;
    };
    let (store, acme) = (&bed.store, tenant("acme"));
    fill(&bed, &acme, 2).await;
    assert_eq!(bill(&bed, add(store, &acme, item("a", "x"))).await, (0, 2, 0));
    let ten = (10..20).map(|n| put(numbered(n), Precondition::Absent)).collect();
    assert_eq!(bill(&bed, store.commit(&acme, commit(ten))).await, (0, 11, 0));
    bed.book.take();
    let batch = store.read_changes(&acme, ChangePosition(0), 100).await.expect("changes");
    assert_eq!(batch.changes.len(), 13);
    // It asks for one entry, for two, and for four, of which there is none.
    assert_eq!(billed(bed.book.total()), (3 + 1 + 1, 0, 0), "an entry a commit, and the floor");
    // What a read does not bring is not read either, but for what comes with the last request.
    let many = (0..450).map(|n| put(item(&format!("many {n}"), "x"), Precondition::Absent));
    store.commit(&acme, commit(many.collect())).await.expect("a commit");
    bed.book.take();
    let rest = store.read_changes(&acme, batch.head, 150).await.expect("changes");
    assert_eq!(rest.changes.len(), 150);
    let bill = billed(bed.book.total());
    assert_eq!(bill, (1 + 1 + 1, 0, 0), "one of three entries, the floor, the newest");
    let rest = store.read_changes(&acme, batch.head, 450).await.expect("changes");
    assert_eq!(rest.changes.len(), 450);
    assert!(bed.book.total().reads <= 3 + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_fail_on_their_way_are_billed_for_what_they_may_have_read() {
    let Some(host) = emulator() else { return };
    let upstream = host.to_socket_addrs().expect("a host and port").next().expect("an address");
    let proxy = FaultProxy::start(upstream, 61).await.expect("a free port");
    let address = proxy.address().to_string();
    let Some(bed) = FirestoreHarness::new(|settings| {
        settings.emulator = Some(address);
        settings.channels = 1;
    })
    .await
    else {
        return;
    };
    let (store, acme) = (&bed.store, tenant("acme"));
    fill(&bed, &acme, 3).await;
    let three = ["m000", "m001", "m002"].map(id);
    let full = Projection::full();
    assert_eq!(bill(&bed, store.fetch(&acme, &three, &full)).await, (3, 0, 0));
    for cut in [Cut::BeforeForwarding, Cut::BeforeAnswering] {
        recovered(store, &acme).await;
        bed.book.take();
        proxy.set(Plan::pass().cut_next(cut, 1));
        store.fetch(&acme, &three, &full).await.expect_err("the answer is lost");
        assert_eq!(billed(bed.book.total()), (3, 0, 0), "{cut:?}: a read for each name");
        recovered(store, &acme).await;
        bed.book.take();
        proxy.set(Plan::pass().cut_next(cut, 1));
        store.query(&acme, &Query::new(3)).await.expect_err("the answer is lost");
        assert_eq!(bed.book.total().reads, 1, "{cut:?}: one at the least");
        recovered(store, &acme).await;
        bed.book.take();
        proxy.set(Plan::pass().cut_next(cut, 1));
        store.count(&acme, &Filter::All).await.expect_err("the answer is lost");
        assert_eq!(bed.book.total().reads, 1, "{cut:?}: a count");
    }
    proxy.heal();
    recovered(store, &acme).await;
    // And one whose caller does not wait.
    proxy.set(Plan::pass().delay(Direction::ToClient, Duration::from_secs(5)));
    bed.book.take();
    let waited = Duration::from_millis(300);
    tokio::time::timeout(waited, store.fetch(&acme, &three, &full)).await.expect_err("too late");
    assert_eq!(billed(bed.book.total()), (3, 0, 0), "a read for each name");
    proxy.heal();
}

#[tokio::test]
async fn reads_are_billed_for_what_they_return() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, acme) = (&bed.store, tenant("acme"));
    fill(&bed, &acme, 45).await;

    let first = store.query(&acme, &Query::new(20)).await.expect("a page");
    assert_eq!((first.items.len(), first.next.is_some()), (20, true));
    let page = Query::new(20);
    assert_eq!(bill(&bed, store.query(&acme, &page)).await, (20, 0, 0), "a page of 20");
    let second = Query::new(20).with_cursor(first.next);
    let answer = bill(&bed, store.query(&acme, &second)).await;
    assert_eq!(answer, (20, 0, 0), "the second page");
    let whole = Query::new(45);
    assert_eq!(bill(&bed, store.query(&acme, &whole)).await, (45, 0, 0), "a page of just all");
    let last = store.query(&acme, &second).await.expect("a page").next;
    let last = Query::new(20).with_cursor(last);
    assert_eq!(bill(&bed, store.query(&acme, &last)).await, (5, 0, 0), "the last page");
    let none = Query::new(20).with_filter(Filter::eq(Field::SessionId, "none"));
    assert_eq!(bill(&bed, store.query(&acme, &none)).await, (1, 0, 0), "the least is one");

    let ids = |ids: &[&str]| ids.iter().map(|text| id(text)).collect::<Vec<_>>();
    let (three, full) = (ids(&["m000", "m001", "m002"]), Projection::full());
    assert_eq!(bill(&bed, store.fetch(&acme, &three, &full)).await, (3, 0, 0), "a fetch of 3");
    let absent = ids(&["m000", "none"]);
    assert_eq!(bill(&bed, store.fetch(&acme, &absent, &full)).await, (2, 0, 0), "one is absent");
    assert_eq!(bill(&bed, store.count(&acme, &Filter::All)).await, (1, 0, 0), "a count");
}

#[tokio::test]
async fn no_page_reads_more_documents_than_it_returns() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, acme) = (&bed.store, tenant("acme"));
    fill(&bed, &acme, 30).await;
    let number = || Field::parse("metadata.number").expect("a field");
    let list = || Field::parse("metadata.list").expect("a field");
    let below = |n: i64| Filter::Compare(number(), memory_core::CompareOp::Lt, n.into());
    let filters = [
        Filter::All,
        Filter::eq(Field::UserId, "ada"),
        Filter::eq(Field::Kind, "fact").and(Filter::eq(Field::UserId, "ada")),
        Filter::eq(number(), 7),
        below(9),
        below(9).and(Filter::eq(Field::UserId, "ada")),
        Filter::Contains(list(), "odd".to_owned()),
        Filter::Contains(list(), "odd".to_owned()).and(below(20)),
        Filter::In(number(), vec![1.into(), 2.into(), 3.into()]),
        Filter::Or(vec![Filter::eq(number(), 1), Filter::eq(number(), 2), below(5)]),
        Filter::Not(Box::new(Filter::eq(number(), 1))),
        Filter::Exists(number()),
        Filter::Exists(Field::SessionId),
        Filter::Compare(Field::OccurredAt, memory_core::CompareOp::Lte, start().into()),
        Filter::In(Field::Id, vec!["m001".into(), "m002".into(), "none".into()]),
    ];
    let fields =
        [OrderField::OccurredAt, OrderField::CreatedAt, OrderField::UpdatedAt, OrderField::Id];
    for filter in &filters {
        for field in fields {
            for direction in [Along::Ascending, Along::Descending] {
                let mut query = Query::new(7)
                    .with_filter(filter.clone())
                    .with_order(Order { field, direction });
                let mut found = 0;
                loop {
                    bed.book.take();
                    let page = store.query(&acme, &query).await.expect("a page");
                    let usage = bed.book.total();
                    // Ranges walk index entries, of which 1,000 are one read.
                    let entries = usage.index_entries.div_ceil(1_000);
                    let stated = (page.items.len() as u64).max(1) + entries;
                    if billed(usage) != (stated, 0, 0) {
                        println!(
                            "X {filter:?} {field:?} {direction:?} {usage:?} {stated} {}",
                            page.items.len()
                        );
                    }
                    found += page.items.len() as u64;
                    query.cursor = page.next;
                    if query.cursor.is_none() {
                        break;
                    }
                }
                let all = store.count(&acme, filter).await.expect("a count");
                assert_eq!(found, all, "{filter:?} by {field:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_search_is_billed_its_hits_and_its_index_entries() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, acme) = (&bed.store, tenant("acme"));
    let space = bed.space(&acme).await;
    let writes = (0..150).map(|n| {
        let turn = f32::from(n) / 150.0;
        with_vector(numbered(n), &space, [turn.cos(), turn.sin(), 0.5])
    });
    store.commit(&acme, commit(writes.collect())).await.expect("a commit");

    let query = VectorQuery::new(space.clone(), vec![1.0, 0.0, 0.5], 10);
    // The estimate is counted with the first search: one read.
    assert_eq!(bill(&bed, store.search(&acme, &query)).await, (10 + 2 + 1, 0, 0));
    bed.book.take();
    let hits = store.search(&acme, &query).await.expect("a search").hits;
    let usage = bed.book.total();
    assert_eq!((hits.len(), usage.index_entries), (10, 150));
    assert_eq!(billed(usage), (10 + 2, 0, 0), "ten hits, and 150 entries at 100 a read");
    let records = HitRecords { first: 10, projection: Projection::full() };
    let whole = query.clone().with_records(Some(records));
    assert_eq!(bill(&bed, store.search(&acme, &whole)).await, (10 + 2, 0, 0), "with records");
    let ada = query.with_filter(Filter::eq(Field::UserId, "ada"));
    assert_eq!(bill(&bed, store.search(&acme, &ada)).await, (10 + 2, 0, 0), "under a filter");

    // A vector of an item at a revision that is known: one write. Its removal reads it first.
    let held = add(store, &acme, item("later", "x")).await.expect("a create");
    let entry = VectorEntry { id: id("later"), revision: held, vector: vec![0.0, 0.0, 1.0] };
    let (reads, writes, deletes) = bill(&bed, store.upsert(&acme, &space, &[entry])).await;
    assert!(reads <= 1 && (writes, deletes) == (1, 0), "an upsert: {reads}, {writes}, {deletes}");
    let (reads, writes, deletes) = bill(&bed, store.remove(&acme, &space, &[id("later")])).await;
    assert!(reads <= 1 && (writes, deletes) == (1, 0), "a removal: {reads}, {writes}, {deletes}");
}

#[tokio::test]
async fn the_other_operations_are_billed_for_what_they_touch() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, acme) = (&bed.store, tenant("acme"));
    fill(&bed, &acme, 10).await;
    for n in 0..5 {
        let mut short = item(&format!("short {n}"), "x");
        short.expires_at = Some(start().saturating_add(Duration::from_secs(5)));
        add(store, &acme, short).await.expect("a create");
    }
    for n in 0..4 {
        let mut bobs = item(&format!("bob {n}"), "x");
        bobs.user_id = Some(UserId::new("bob").expect("a user"));
        add(store, &acme, bobs).await.expect("a create");
    }
    bed.clock.advance(Duration::from_secs(5));
    assert_eq!(bill(&bed, store.sweep_expired(&acme, 100)).await, (5, 0, 5), "a sweep");

    let bob = EraseScope::User(UserId::new("bob").expect("a user"));
    bed.book.take();
    crate::common::erase(store, &acme, &bob).await;
    let (reads, writes, deletes) = billed(bed.book.total());
    assert!(reads <= 4 + 3, "an erasure of 4 reads them and looks for more: {reads}");
    assert_eq!((writes, deletes), (4 + 1, 4), "tombstones and deletes, and the server's time");

    let (name, life) = (LeaseName::new("job").expect("a name"), Duration::from_secs(60));
    bed.book.take();
    let lease = store.acquire(&acme, &name, life).await.expect("a lease").expect("it is free");
    assert_eq!(billed(bed.book.total()), (1 + 1, 1 + 1, 0), "the first grant of a name");
    assert_eq!(bill(&bed, store.renew(&acme, &lease, life)).await, (1, 1, 0), "a renewal");
    assert_eq!(bill(&bed, store.release(&acme, &lease)).await, (1, 1, 0), "a release");
    assert_eq!(bill(&bed, store.acquire(&acme, &name, life)).await, (1, 1, 0), "the next grant");

    assert_eq!(bill(&bed, store.list_tenants(None, 100)).await, (1, 0, 0), "one tenant");
    assert_eq!(bill(&bed, store.store_key()).await, (0, 0, 0), "the key is known");
    let (reads, writes, deletes) = bill(&bed, store.tenant_stats(&acme)).await;
    assert!(reads <= 12 && (writes, deletes) == (0, 0), "ten items in numbers: {reads} reads");
}

/// A store whose server is a socket of the test: whether anything was sent shows there.
async fn unsent() -> (Arc<FirestoreStore>, Arc<Book>, TcpListener) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    server.set_nonblocking(true).expect("a socket that does not wait");
    let mut settings = FirestoreSettings::new("nobody");
    settings.emulator = Some(server.local_addr().expect("an address").to_string());
    settings.request_timeout_ms = 200;
    settings.change_log = true;
    let book = Arc::new(Book::default());
    let parts = FirestoreParts::new(
        Arc::new(Owner),
        Arc::new(ManualClock::new(start())),
        Arc::clone(&book) as Arc<dyn Ledger>,
    );
    let store = FirestoreStore::open_with(settings, parts).await.expect("a lazy store opens");
    (store, book, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_ledger_does_not_admit_is_not_sent() {
    let (store, book, server) = unsent().await;
    book.refuse(true);
    let acme = tenant("acme");
    let space = memory_core::EmbeddingSpace::new("m", "1", 3, memory_core::Metric::Cosine)
        .expect("a space");
    let mut answers: BTreeMap<&str, Option<ErrorKind>> = BTreeMap::new();
    let mut note = |name, error: Option<memory_core::Error>| {
        answers.insert(name, error.map(|error| error.kind()));
    };
    let write = put(item("a", "x"), Precondition::Absent);
    note("commit", store.commit(&acme, commit(vec![write.clone()])).await.err());
    note("fetch", store.fetch(&acme, &[id("a")], &Projection::full()).await.err());
    note("query", store.query(&acme, &Query::new(1)).await.err());
    note("count", store.count(&acme, &Filter::All).await.err());
    note("sweep", store.sweep_expired(&acme, 1).await.err());
    note("erase", store.erase(&acme, &EraseScope::Tenant, None).await.err());
    let query = VectorQuery::new(space.clone(), vec![1.0, 0.0, 0.0], 1);
    note("search", store.search(&acme, &query).await.err());
    note("remove", store.remove(&acme, &space, &[id("a")]).await.err());
    note("missing", store.missing(&acme, &space, None, 1).await.err());
    note("spaces", store.spaces(&acme).await.err());
    note("tenants", store.list_tenants(None, 1).await.err());
    note("stats", store.tenant_stats(&acme).await.err());
    note("verify", store.verify().await.err());
    note("changes", store.read_changes(&acme, ChangePosition(0), 1).await.err());
    let job = LeaseName::new("job").expect("a name");
    note("lease", store.acquire(&acme, &job, Duration::from_secs(1)).await.err());
    for (name, kind) in &answers {
        assert_eq!(*kind, Some(ErrorKind::RateLimited), "{name}");
    }
    use memory_core::traits::{BulkWriter as _, NoObserver};
    let id = CommitId::from_bytes([1; 16]);
    match store.write_many(&acme, id, vec![write], false, &NoObserver).await {
        Err(error) => assert_eq!(error.kind(), ErrorKind::RateLimited),
        Ok(answers) => {
            for answer in answers {
                assert_eq!(answer.expect_err("refused").kind(), ErrorKind::RateLimited);
            }
        }
    }
    assert!(RecordStore::capabilities(&*store).has(Capability::ChangeLog));
    assert!(book.asked() >= 16, "each call asked the ledger");
    assert!(book.take().is_empty(), "nothing was billed");
    let arrived = server.accept().map(|_| ());
    assert_eq!(
        arrived.expect_err("nobody has connected").kind(),
        std::io::ErrorKind::WouldBlock,
        "nothing was sent"
    );
    // What is admitted arrives.
    book.refuse(false);
    let error = store.count(&acme, &Filter::All).await.expect_err("nobody answers");
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
    server.accept().map(|_| ()).expect("a connection has arrived");
    assert_eq!(book.total().reads, 1, "what was sent and not answered is written down");
}

/// Nothing of a refused commit is half done, and the next one is whole again.
#[tokio::test]
async fn a_refusal_in_the_middle_leaves_nothing_half_done() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let acme = tenant("acme");
    fill(&bed, &acme, 2).await;
    bed.book.refuse(true);
    let queries = bed.recorder.queries().len();
    let error = add(&bed.store, &acme, item("a", "x")).await.expect_err("refused");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::RateLimited, false));
    assert!(error.message().contains("the budget of the test"), "{error}");
    bed.book.refuse(false);
    assert_eq!(bed.recorder.queries().len(), queries);
    let found = bed.store.fetch(&acme, &[id("a")], &Projection::full()).await.expect("a fetch");
    assert_eq!(found, [None]);
    add(&bed.store, &acme, item("a", "x")).await.expect("a create");
    let keep = Write::put(item("m000", "x"), Vectors::default(), Precondition::Any);
    bed.store.commit(&acme, commit(vec![keep])).await.expect("a put");
}
