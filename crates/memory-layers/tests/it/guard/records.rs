//! Answers of a store of record.

use std::sync::Arc;

use futures::executor::block_on;
use memory_core::traits::{
    EraseReceipt, EraseScope, EraseStep, EraseToken, MockRecordStore, RecordStore, SweepStep,
};
use memory_core::{
    Commit, CommitId, CommitReceipt, Cursor, CursorKey, Error, Field, Filter, IdempotencyKey,
    MemoryItem, MetaKey, MetaValue, Order, Outcome, Page, Precondition, Projection, Query, Result,
    Revision, UserId, Vectors, Write, WriteResult,
};
use memory_layers::{GuardRule, Layer};

use super::{Bench, at, bench, capabilities, id, ids, item};

fn guarded(bench: &Bench, expect: impl FnOnce(&mut MockRecordStore)) -> Arc<dyn RecordStore> {
    let mut store = MockRecordStore::new();
    store.expect_capabilities().returning(capabilities);
    expect(&mut store);
    bench.guard.records(Arc::new(store))
}

/// A fetch of `a` and `b` that is answered like this.
fn fetched(bench: &Bench, answer: Vec<Option<MemoryItem>>) -> Result<Vec<Option<MemoryItem>>> {
    let store = guarded(bench, |store| {
        store.expect_fetch().times(1).return_once(|_, _, _| Ok(answer));
    });
    block_on(store.fetch(&bench.ctx, &ids(&["a", "b"]), &Projection::full()))
}

/// A page that is answered like this.
fn paged(bench: &Bench, query: &Query, items: Vec<MemoryItem>) -> Result<Page> {
    paged_to(bench, query, items, None)
}

fn paged_to(
    bench: &Bench,
    query: &Query,
    items: Vec<MemoryItem>,
    next: Option<Cursor>,
) -> Result<Page> {
    let store = guarded(bench, |store| {
        store.expect_query().times(1).return_once(|_, _| Ok(Page { items, next }));
    });
    block_on(store.query(&bench.ctx, query))
}

fn names(page: &Page) -> Vec<&str> {
    page.items.iter().map(|item| item.id.as_str()).collect()
}

#[test]
fn a_fetch_answers_each_id_in_its_place() {
    let bench = bench();
    let both = vec![Some(item("a", 1)), Some(item("b", 1))];
    assert_eq!(fetched(&bench, both.clone()).unwrap(), both);
    assert_eq!(fetched(&bench, vec![None, Some(item("b", 1))]).unwrap()[0], None);
    bench.clean();
}

#[test]
fn a_fetch_with_an_answer_too_few_is_corrupt() {
    for answer in [vec![], vec![None], vec![None, None, None]] {
        let bench = bench();
        let error = bench.broke(GuardRule::Count, fetched(&bench, answer));
        assert_eq!((error.operation(), error.outcome()), ("fetch", Outcome::NotApplied));
    }
}

#[test]
fn a_fetch_of_another_id_is_corrupt() {
    for answer in [vec![Some(item("c", 1)), None], vec![Some(item("b", 1)), Some(item("a", 1))]] {
        let bench = bench();
        bench.broke(GuardRule::Id, fetched(&bench, answer));
    }
}

#[test]
fn what_expired_on_its_way_is_absent() {
    let bench = bench();
    let mut gone = item("a", 1);
    gone.expires_at = Some(at(1_000));
    let mut there = item("b", 1);
    there.expires_at = Some(at(1_001));
    let found = fetched(&bench, vec![Some(gone.clone()), Some(there.clone())]).unwrap();
    assert_eq!(found, [None, Some(there.clone())]);
    let page = paged(&bench, &Query::new(5).with_order(Order::BY_ID), vec![gone, there]).unwrap();
    assert_eq!(names(&page), [id("b").as_str()]);
    let counts = bench.guard.counts();
    assert_eq!((counts.expired, counts.broken()), (2, 0));
}

#[test]
fn a_good_page_passes_in_every_order() {
    let bench = bench();
    let newest = Query::new(3);
    let page = paged(&bench, &newest, vec![item("c", 9), item("b", 5), item("a", 5)]).unwrap();
    assert_eq!(page.items.len(), 3);
    let oldest = newest.clone().with_order(Order::OLDEST);
    assert!(paged(&bench, &oldest, vec![item("a", 5), item("b", 5), item("c", 9)]).is_ok());
    let by_id = newest.clone().with_order(Order::BY_ID);
    assert!(paged(&bench, &by_id, vec![item("a", 9), item("b", 5), item("c", 7)]).is_ok());
    assert!(paged(&bench, &newest, vec![]).is_ok());
    bench.clean();
}

#[test]
fn a_page_in_another_order_is_corrupt() {
    let newest = Query::new(3);
    for (query, items) in [
        (newest.clone(), vec![item("b", 5), item("c", 9)]),
        (newest.clone(), vec![item("a", 5), item("b", 5)]),
        (newest.clone().with_order(Order::OLDEST), vec![item("b", 5), item("a", 5)]),
        (newest.with_order(Order::BY_ID), vec![item("b", 1), item("a", 2)]),
    ] {
        let bench = bench();
        bench.broke(GuardRule::Order, paged(&bench, &query, items));
    }
}

#[test]
fn a_page_above_its_limit_is_corrupt() {
    let bench = bench();
    let items = vec![item("c", 9), item("b", 5)];
    assert!(paged(&bench, &Query::new(2), items.clone()).is_ok());
    bench.broke(GuardRule::Limit, paged(&bench, &Query::new(1), items));
}

#[test]
fn a_row_that_the_filter_refuses_is_corrupt() {
    let bench = bench();
    let of = |user: &str| Query::new(2).with_filter(Filter::eq(Field::UserId, user));
    assert!(paged(&bench, &of("ada"), vec![item("a", 1)]).is_ok());
    bench.broke(GuardRule::Filter, paged(&bench, &of("bob"), vec![item("a", 1)]));
}

#[test]
fn metadata_that_was_not_asked_for_is_not_judged() {
    let bench = bench();
    let key = MetaKey::new("topic").unwrap();
    let mut row = item("a", 1);
    let query = Query::new(2).with_filter(Filter::eq(Field::Metadata(key.clone()), "tea"));
    let narrow = query.clone().with_projection(Projection::narrow());
    assert!(paged(&bench, &narrow, vec![row.clone()]).is_ok());
    row.metadata.insert(key, MetaValue::Text("tea".to_owned()));
    assert!(paged(&bench, &query, vec![row.clone()]).is_ok());
    // Every other field is there in any projection.
    let other = narrow.with_filter(Filter::eq(Field::UserId, "bob"));
    row.metadata.clear();
    let broken = bench.broke(GuardRule::Filter, paged(&bench, &other, vec![row.clone()]));
    assert_eq!(broken.operation(), "query");
    assert_eq!(paged(&bench, &query, vec![row]).unwrap_err().context()[0].1, "filter");
}

#[test]
fn a_row_twice_is_corrupt_in_a_page_of_any_size() {
    for many in [2, 40] {
        let bench = bench();
        let mut items: Vec<_> =
            (0..many).map(|n| item(&format!("{n:02}"), 900 - i64::from(n))).collect();
        assert!(paged(&bench, &Query::new(50), items.clone()).is_ok());
        bench.clean();
        // The same revision at another time, so that the order holds.
        let mut again = item("00", 1);
        items.push(again.clone());
        bench.broke(GuardRule::Duplicate, paged(&bench, &Query::new(50), items.clone()));

        // At another revision it is an item that was changed between two reads of the page.
        again.revision = Some(Revision::from_number(2));
        *items.last_mut().unwrap() = again;
        let page = paged(&bench, &Query::new(50), items).unwrap();
        assert_eq!(page.items.len(), usize::try_from(many).unwrap());
        assert_eq!(bench.guard.counts().changed, 1);
    }
    let bench = bench();
    let neighbours = vec![item("a", 1), item("a", 1)];
    bench.broke(GuardRule::Duplicate, paged(&bench, &Query::new(5), neighbours));
}

#[test]
fn a_page_follows_its_cursor_and_leads_on() {
    let bench = bench();
    let query = Query::new(2);
    let key = |name: &str, sort| CursorKey { sort, id: id(name) };
    let after = Cursor::issue(&bench.ctx.tenant, &query, &key("m", 5));
    let query = query.with_cursor(Some(after.clone()));
    let next = Cursor::issue(&bench.ctx.tenant, &query, &key("k", 4));
    let page = paged_to(&bench, &query, vec![item("l", 5), item("k", 4)], Some(next.clone()));
    assert_eq!(page.unwrap().next, Some(next));
    bench.clean();

    let error = paged_to(&bench, &query, vec![item("l", 5)], Some(after));
    bench.broke(GuardRule::Cursor, error);
    for row in [item("m", 5), item("n", 5), item("a", 6)] {
        let bench = super::bench();
        bench.broke(GuardRule::Order, paged(&bench, &query, vec![row]));
    }
}

fn put(name: &str) -> Write {
    Write::put(item(name, 1), Vectors::default(), Precondition::Any)
}

fn result(name: &str) -> WriteResult {
    WriteResult { id: id(name), revision: Some(Revision::from_number(1)), existed: false }
}

/// A commit of `a` and `b` that is answered with results about these.
fn committed(
    bench: &Bench,
    key: Option<IdempotencyKey>,
    replayed: bool,
    about: &[&str],
) -> Result<CommitReceipt> {
    let results = about.iter().map(|name| result(name)).collect();
    let receipt = CommitReceipt { results, position: None, replayed };
    let store = guarded(bench, |store| {
        store.expect_commit().times(1).return_once(|_, _| Ok(receipt));
    });
    let commit = Commit::new(CommitId::from_bytes([1; 16]), vec![put("a"), put("b")]);
    block_on(store.commit(&bench.ctx, commit.with_idempotency(key)))
}

#[test]
fn a_receipt_is_about_the_writes_and_a_wrong_one_leaves_the_outcome_unknown() {
    let bench = bench();
    assert!(committed(&bench, None, false, &["a", "b"]).is_ok());
    assert!(committed(&bench, None, true, &["a", "b"]).is_ok());
    bench.clean();
    for (rule, about) in [
        (GuardRule::Count, &["a"][..]),
        (GuardRule::Count, &["a", "b", "c"]),
        (GuardRule::Id, &["b", "a"]),
        (GuardRule::Id, &["a", "c"]),
    ] {
        let bench = super::bench();
        let error = bench.broke(rule, committed(&bench, None, false, about));
        assert_eq!((error.operation(), error.outcome()), ("commit", Outcome::Unknown));
    }
}

#[test]
fn the_answer_of_an_earlier_commit_under_the_key_is_about_that_ones_ids() {
    let bench = bench();
    let key = IdempotencyKey::new("request-1", [0; 32]).unwrap();
    assert!(committed(&bench, Some(key.clone()), true, &["c"]).is_ok());
    bench.clean();
    bench.broke(GuardRule::Count, committed(&bench, Some(key), false, &["c"]));
}

#[test]
fn a_sweep_removes_no_more_than_asked() {
    let bench = bench();
    let sweep = |removed| {
        let store = guarded(&bench, |store| {
            let step = SweepStep { removed, more: true };
            store.expect_sweep_expired().times(1).return_once(move |_, _| Ok(step));
        });
        block_on(store.sweep_expired(&bench.ctx, 10))
    };
    assert_eq!(sweep(10).unwrap().removed, 10);
    let error = bench.broke(GuardRule::Limit, sweep(11));
    assert_eq!(error.outcome(), Outcome::Unknown);
}

#[test]
fn a_step_of_an_erasure_goes_on_or_has_ended() {
    let erase = |next: bool, receipt: bool| {
        let bench = bench();
        let step = EraseStep {
            erased: 1,
            next: next.then(|| EraseToken("token".to_owned())),
            receipt: receipt.then(|| EraseReceipt {
                began_at: at(1),
                ended_at: at(2),
                bytes_cleared: true,
            }),
        };
        let store = guarded(&bench, |store| {
            store.expect_erase().times(1).return_once(|_, _, _| Ok(step));
        });
        let scope = EraseScope::User(UserId::new("ada").unwrap());
        let answer = block_on(store.erase(&bench.ctx, &scope, None));
        (bench, answer)
    };
    for (next, receipt) in [(true, false), (false, true)] {
        let (bench, answer) = erase(next, receipt);
        assert!(answer.is_ok());
        bench.clean();
    }
    for (next, receipt) in [(true, true), (false, false)] {
        let (bench, answer) = erase(next, receipt);
        bench.broke(GuardRule::Step, answer);
    }
}

#[test]
fn errors_of_the_store_pass_as_they_are() {
    let bench = bench();
    let store = guarded(&bench, |store| {
        store
            .expect_count()
            .times(1)
            .return_once(|_, _| Err(Error::unsupported("no such key").with_backend("mock")));
    });
    let error = block_on(store.count(&bench.ctx, &Filter::All)).unwrap_err();
    assert_eq!(error.message(), "no such key");
    bench.clean();
}
