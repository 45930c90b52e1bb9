//! Answers of indexes.

use std::sync::Arc;

use futures::executor::block_on;
use memory_core::traits::{
    HitRecords, IndexHit, IndexHits, KeywordEntry, KeywordIndex, KeywordQuery, MockKeywordIndex,
    MockVectorIndex, UpsertOutcome, VectorEntry, VectorIndex, VectorQuery,
};
use memory_core::{
    EmbeddingSpace, Field, Filter, MemoryId, Metric, Outcome, Projection, Result, Revision,
};
use memory_layers::{GuardRule, Layer};

use super::{Bench, at, bench, capabilities, full_hit, hit, id, ids};

fn space() -> EmbeddingSpace {
    EmbeddingSpace::new("model", "1", 2, Metric::Cosine).unwrap()
}

fn vectors(bench: &Bench, expect: impl FnOnce(&mut MockVectorIndex)) -> Arc<dyn VectorIndex> {
    let mut index = MockVectorIndex::new();
    index.expect_capabilities().returning(capabilities);
    expect(&mut index);
    bench.guard.vectors(Arc::new(index))
}

fn keywords(bench: &Bench, expect: impl FnOnce(&mut MockKeywordIndex)) -> Arc<dyn KeywordIndex> {
    let mut index = MockKeywordIndex::new();
    index.expect_capabilities().returning(capabilities);
    expect(&mut index);
    bench.guard.keywords(Arc::new(index))
}

/// The same search of both kinds, answered with these hits; the answers have to agree.
fn searched(
    limit: u32,
    filter: &Filter,
    records: Option<&HitRecords>,
    hits: &[IndexHit],
) -> [(Bench, Result<IndexHits>); 2] {
    let found = IndexHits { hits: hits.to_vec(), exact: true };
    let near = {
        let (bench, found) = (bench(), found.clone());
        let index = vectors(&bench, |index| {
            index.expect_search().times(1).return_once(|_, _| Ok(found));
        });
        let query = VectorQuery::new(space(), vec![1.0, 0.0], limit)
            .with_filter(filter.clone())
            .with_records(records.cloned());
        let answer = block_on(index.search(&bench.ctx, &query));
        (bench, answer)
    };
    let words = {
        let bench = bench();
        let index = keywords(&bench, |index| {
            index.expect_search().times(1).return_once(|_, _| Ok(found));
        });
        let query = KeywordQuery::new("tea", limit)
            .with_filter(filter.clone())
            .with_records(records.cloned());
        let answer = block_on(index.search(&bench.ctx, &query));
        (bench, answer)
    };
    [near, words]
}

#[track_caller]
fn broke(rule: GuardRule, limit: u32, records: Option<&HitRecords>, hits: &[IndexHit]) {
    for (bench, answer) in searched(limit, &Filter::All, records, hits) {
        bench.broke(rule, answer);
    }
}

#[track_caller]
fn passed(limit: u32, records: Option<&HitRecords>, hits: &[IndexHit]) {
    for (bench, answer) in searched(limit, &Filter::All, records, hits) {
        assert_eq!(answer.unwrap().hits, hits);
        bench.clean();
    }
}

fn all_records() -> HitRecords {
    HitRecords { first: 10, projection: Projection::full() }
}

#[test]
fn hits_are_few_enough_and_the_best_first() {
    let good = [hit("b", 2.0), hit("a", 1.0), hit("c", 1.0)];
    passed(3, None, &good);
    broke(GuardRule::Limit, 2, None, &good);
    broke(GuardRule::Order, 3, None, &[hit("a", 1.0), hit("b", 2.0)]);
    broke(GuardRule::Order, 3, None, &[hit("b", 1.0), hit("a", 1.0)]);
    broke(GuardRule::Order, 3, None, &[hit("a", f64::NAN)]);
    broke(GuardRule::Order, 3, None, &[hit("a", f64::INFINITY), hit("b", 1.0)]);
}

#[test]
fn a_hit_twice_is_corrupt() {
    broke(GuardRule::Duplicate, 3, None, &[hit("a", 2.0), hit("a", 1.0)]);
    broke(GuardRule::Duplicate, 3, None, &[hit("a", 1.0), hit("a", 1.0)]);
    let many = |last: IndexHit| -> Vec<IndexHit> {
        let score = |n: u8| 100.0 - f64::from(n);
        (0..30).map(|n| hit(&format!("{n:02}"), score(n))).chain([last]).collect()
    };
    passed(50, None, &many(hit("x", 1.0)));
    broke(GuardRule::Duplicate, 50, None, &many(hit("07", 1.0)));

    // At another revision it was changed between two requests of the search.
    let changed = IndexHit { revision: Revision::from_number(2), ..hit("a", 1.0) };
    for (bench, answer) in searched(3, &Filter::All, None, &[hit("a", 2.0), changed]) {
        assert_eq!(answer.unwrap().hits, [hit("a", 2.0)]);
        assert_eq!(bench.guard.counts().changed, 1);
    }
}

#[test]
fn a_record_is_the_hits_own_and_was_asked_for() {
    let records = all_records();
    passed(3, Some(&records), &[full_hit("a", 1.0), hit("b", 0.5)]);
    broke(GuardRule::Unasked, 3, None, &[full_hit("a", 1.0)]);
    let other = IndexHit { id: id("b"), ..full_hit("a", 1.0) };
    broke(GuardRule::Id, 3, Some(&records), &[other]);
    let older = IndexHit { revision: Revision::from_number(2), ..full_hit("a", 1.0) };
    broke(GuardRule::Revision, 3, Some(&records), &[older]);
}

#[test]
fn a_record_passes_the_filter() {
    let records = all_records();
    let of = |user: &str| Filter::eq(Field::UserId, user);
    let hits = [full_hit("a", 1.0)];
    for (bench, answer) in searched(3, &of("ada"), Some(&records), &hits) {
        assert_eq!(answer.unwrap().hits.len(), 1);
        bench.clean();
    }
    for (bench, answer) in searched(3, &of("bob"), Some(&records), &hits) {
        bench.broke(GuardRule::Filter, answer);
    }
    // Without its record a hit shows nothing to hold against a filter.
    for (bench, answer) in searched(3, &of("bob"), Some(&records), &[hit("a", 1.0)]) {
        assert_eq!(answer.unwrap().hits.len(), 1);
        bench.clean();
    }
}

#[test]
fn a_hit_whose_record_expired_on_its_way_is_left_out() {
    let until = |micros| {
        let mut found = full_hit("a", 1.0);
        found.item.as_mut().unwrap().expires_at = Some(at(micros));
        found
    };
    for (micros, left, expired) in [(1_000, 1, 1), (1_001, 2, 0)] {
        let hits = [until(micros), hit("b", 0.5)];
        for (bench, answer) in searched(3, &Filter::All, Some(&all_records()), &hits) {
            assert_eq!(answer.unwrap().hits.len(), left);
            assert_eq!(bench.guard.counts().expired, expired);
        }
    }
}

#[test]
fn what_lacks_a_vector_stands_in_order_behind_the_last_one() {
    let missing = |found: Vec<MemoryId>| {
        let bench = bench();
        let index = vectors(&bench, |index| {
            index.expect_missing().times(1).return_once(|_, _, _, _| Ok(found));
        });
        let answer = block_on(index.missing(&bench.ctx, &space(), Some(id("c")), 2));
        (bench, answer)
    };
    let (bench, answer) = missing(ids(&["d", "e"]));
    assert_eq!(answer.unwrap(), ids(&["d", "e"]));
    bench.clean();
    for (rule, found) in [
        (GuardRule::Limit, ids(&["d", "e", "f"])),
        (GuardRule::Order, ids(&["e", "d"])),
        (GuardRule::Order, ids(&["d", "d"])),
        (GuardRule::Order, ids(&["c", "d"])),
        (GuardRule::Order, ids(&["b"])),
    ] {
        let (bench, answer) = missing(found);
        bench.broke(rule, answer);
    }
}

#[test]
fn each_entry_has_an_outcome() {
    for (outcomes, good) in [(2, true), (1, false), (3, false)] {
        let outcomes = vec![UpsertOutcome::Stored; outcomes];
        let revision = Revision::from_number(1);
        let (near, words) = (bench(), bench());
        let answers = {
            let (first, second) = (outcomes.clone(), outcomes);
            let index = vectors(&near, |index| {
                index.expect_upsert().times(1).return_once(|_, _, _| Ok(first));
            });
            let entry = |name| VectorEntry {
                id: id(name),
                revision: revision.clone(),
                vector: vec![1.0, 0.0],
            };
            let entries = [entry("a"), entry("b")];
            let first = block_on(index.upsert(&near.ctx, &space(), &entries));
            let index = keywords(&words, |index| {
                index.expect_upsert().times(1).return_once(|_, _| Ok(second));
            });
            let entry = |name| KeywordEntry {
                id: id(name),
                revision: revision.clone(),
                text: "tea".to_owned(),
            };
            let entries = [entry("a"), entry("b")];
            [first, block_on(index.upsert(&words.ctx, &entries))]
        };
        for (bench, answer) in [near, words].iter().zip(answers) {
            if good {
                assert_eq!(answer.unwrap().len(), 2);
                bench.clean();
            } else {
                let error = bench.broke(GuardRule::Count, answer);
                assert_eq!(error.outcome(), Outcome::Unknown);
            }
        }
    }
}

#[test]
fn authors_are_among_the_names_asked() {
    let asked = |found: &[&str]| {
        let bench = bench();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let index = keywords(&bench, |index| {
            index.expect_authors().times(1).return_once(|_, _| Ok(found));
        });
        let names = ["Ada".to_owned(), "Bob".to_owned(), "Eve".to_owned()];
        let answer = block_on(index.authors(&bench.ctx, &names));
        (bench, answer)
    };
    let (bench, answer) = asked(&["Ada", "Eve"]);
    assert_eq!(answer.unwrap().len(), 2);
    bench.clean();
    for found in [&["Eve", "Ada"][..], &["Mallory"], &["Ada", "Ada"]] {
        let (bench, answer) = asked(found);
        bench.broke(GuardRule::Unasked, answer);
    }
}
