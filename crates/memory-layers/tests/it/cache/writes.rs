//! What a write takes out of the cache, and how it ends where the cache or the store fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use async_trait::async_trait;
use memory_core::traits::{BulkObserver, BulkWriter, EraseScope, NoObserver, RecordStore as _};
use memory_core::{
    CallContext, Commit, CommitId, Deadline, Error, ErrorKind, MemoryId, Outcome, Precondition,
    Result, Revision, UserId, Write, WriteResult,
};
use memory_layers::{CacheCounts, CacheSettings, Layer as _};

use super::tools::{Fate, Watched, World, put};
use crate::support::{MS, Task, finish, step};

fn id(text: &str) -> MemoryId {
    MemoryId::new(text).unwrap()
}

fn counts(world: &World) -> CacheCounts {
    world.layers[0].counts()
}

#[test]
fn a_write_is_seen_at_once_in_every_process() {
    let world = World::new();
    let mut revision = world.add("a", "ada", "0");
    for round in 1..5 {
        world.warm("a", "ada");
        let item = world.item("a", "ada", &round.to_string());
        let writes = vec![put(item, Precondition::Revision(revision))];
        // Now by this process, now by the other one.
        let receipt = if round % 2 == 0 { world.write(writes) } else { world.write_there(writes) };
        revision = receipt.unwrap().results[0].revision.clone().unwrap();
        assert_eq!(world.text("a"), round.to_string());
        assert_eq!(world.history("ada", 10), [round.to_string()]);
    }
    world.write_there(vec![Write::delete(id("a"), Precondition::Revision(revision))]).unwrap();
    assert_eq!(world.get("a").unwrap(), [None]);
    assert!(world.history("ada", 10).is_empty());
    assert_eq!(counts(&world).unconfirmed, 0);
}

/// Which of the conversations of three users are still in the cache after a write.
fn kept(write: impl FnOnce(&World, Revision) -> Vec<Write>) -> Vec<&'static str> {
    let world = World::new();
    let revision = world.add("a", "ada", "of ada");
    world.add("b", "bob", "of bob");
    world.add("c", "cyd", "of cyd");
    for user in ["ada", "bob", "cyd"] {
        world.warm("a", user);
    }
    let writes = write(&world, revision);
    world.write(writes).unwrap();
    world.store.reads();
    let users = ["ada", "bob", "cyd"].into_iter();
    users
        .filter(|user| {
            world.history(user, 10);
            world.store.reads().is_empty()
        })
        .collect()
}

#[test]
fn a_write_takes_out_the_conversations_that_it_changes() {
    let new = |world: &World, user| world.item("n", user, "new");
    // The session of all is one, so none is left of it; users have their own.
    assert_eq!(kept(|world, _| vec![put(new(world, "bob"), Precondition::Absent)]), ["ada", "cyd"]);
    // From one user to another: both.
    let moved = |world: &World, revision| {
        vec![put(world.item("a", "cyd", "moved"), Precondition::Revision(revision))]
    };
    assert_eq!(kept(moved), ["bob"]);
    let gone = |_: &World, revision| vec![Write::delete(id("a"), Precondition::Revision(revision))];
    assert_eq!(kept(gone), ["bob", "cyd"]);
    // Where it is not known what is replaced: all.
    assert!(kept(|world, _| vec![put(new(world, "bob"), Precondition::Any)]).is_empty());
    assert!(kept(|_, _| vec![Write::delete(id("none"), Precondition::Any)]).is_empty());
}

#[test]
fn what_is_replaced_is_read_from_the_cache_or_once_from_the_store() {
    let world = World::new();
    let revision = world.add("a", "ada", "0");
    let item = || world.item("a", "bob", "1");
    let receipt = world.write(vec![put(item(), Precondition::Revision(revision))]).unwrap();
    assert_eq!(world.store.reads(), ["a"]);
    let revision = receipt.results[0].revision.clone().unwrap();
    world.text("a");
    world.store.reads();
    world.write(vec![put(item(), Precondition::Revision(revision.clone()))]).unwrap();
    assert_eq!(world.store.reads().len(), 0, "the cache had it");
    // At another revision the write is refused, and everything is taken out for it.
    world.history("cyd", 10);
    let refused = world.write(vec![put(item(), Precondition::Revision(revision))]);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    world.store.reads();
    world.history("cyd", 10);
    assert_eq!(world.store.reads().len(), 1);
}

#[test]
fn without_history_a_write_touches_its_items_alone() {
    let mut settings = CacheSettings::default();
    settings.history = false;
    let world = World::with(settings);
    let revision = world.add("a", "ada", "0");
    world.history("ada", 10);
    world.history("ada", 10);
    assert_eq!(world.store.reads().len(), 2, "pages come from the store");
    let item = world.item("a", "ada", "1");
    world.write(vec![put(item, Precondition::Revision(revision))]).unwrap();
    assert_eq!(world.store.reads().len(), 0, "nobody asks what is replaced");
}

#[test]
fn an_erasure_takes_out_everything() {
    let world = World::new();
    world.add("a", "ada", "0");
    world.warm("a", "ada");
    let scope = EraseScope::User(UserId::new("ada").unwrap());
    let mut resume = None;
    loop {
        let step = finish(world.there.erase(&world.context, &scope, resume)).unwrap();
        resume = step.next;
        if resume.is_none() {
            break;
        }
    }
    assert_eq!(world.get("a").unwrap(), [None]);
    assert!(world.history("ada", 10).is_empty());
}

#[test]
fn a_mark_that_cannot_be_put_is_made_good_by_the_end() {
    for fate in [Fate::Fails, Fate::Unheard] {
        let world = World::new();
        let revision = world.add("a", "ada", "old");
        world.warm("a", "ada");
        world.cache.set("begin", fate);
        let item = world.item("a", "ada", "new");
        world.write(vec![put(item, Precondition::Revision(revision))]).unwrap();
        assert_eq!(world.text("a"), "new", "{fate:?}");
        assert_eq!(world.history("ada", 10), ["new"]);
        assert_eq!((counts(&world).unconfirmed, counts(&world).failures), (0, 1));
    }
}

#[test]
fn an_end_that_fails_leaves_the_mark() {
    for fate in [Fate::Fails, Fate::Unheard] {
        let world = World::new();
        let revision = world.add("a", "ada", "old");
        world.warm("a", "ada");
        world.cache.set("end", fate);
        let item = world.item("a", "ada", "new");
        world.write(vec![put(item, Precondition::Revision(revision))]).unwrap();
        assert_eq!(world.is_marked("i:a"), fate == Fate::Fails);
        assert_eq!(world.text("a"), "new");
        assert_eq!(world.history("ada", 10), ["new"]);
        assert_eq!(counts(&world).unconfirmed, 0, "nothing old can be there");
        // When its time is over the key is kept again.
        world.time.clock.advance(world.layers[0].settings().mark());
        world.warm("a", "ada");
        world.text("a");
        assert_eq!(world.store.reads().len(), 0);
    }
}

#[test]
fn a_cache_that_is_away_leaves_old_values_for_the_bound_at_the_longest() {
    let world = World::new();
    let revision = world.add("a", "ada", "old");
    world.warm("a", "ada");
    world.cache.set("*", Fate::Fails);
    let item = world.item("a", "ada", "new");
    world.write(vec![put(item, Precondition::Revision(revision))]).unwrap();
    assert_eq!(counts(&world).unconfirmed, 1);
    assert_eq!(world.text("a"), "new", "while it is away the store answers");
    world.cache.set("*", Fate::Works);
    world.time.clock.advance(world.layers[0].settings().max_stale());
    assert_eq!(world.text("a"), "new");
    assert_eq!(world.history("ada", 10), ["new"]);
}

#[test]
fn a_commit_that_outlasts_its_mark_and_cannot_end_is_counted() {
    let world = World::new();
    world.cache.set("end", Fate::Fails);
    world.add("a", "ada", "one");
    assert_eq!(counts(&world).unconfirmed, 0, "the twin");
    world.cache.yields.store(2, Ordering::SeqCst);
    let commit = world.of(vec![put(world.item("b", "ada", "two"), Precondition::Absent)]);
    let mut task: Task<'_, _> = Box::pin(world.here.commit(&world.context, commit));
    world.store.yields.store(1, Ordering::SeqCst);
    let mark = world.layers[0].settings().mark();
    let mut steps = 0;
    loop {
        match step(&mut task) {
            Poll::Ready(answer) => break drop(answer.unwrap()),
            // While the store has it.
            Poll::Pending if steps == 5 => world.time.clock.advance(mark),
            Poll::Pending => {}
        }
        steps += 1;
    }
    assert_eq!(counts(&world).unconfirmed, 1);
}

#[test]
fn strict_writes_are_refused_before_they_happen() {
    for fate in [Fate::Fails, Fate::Unheard] {
        let mut settings = CacheSettings::default();
        settings.strict = true;
        let world = World::with(settings);
        world.add("a", "ada", "one");
        world.cache.set("begin", fate);
        let refused = world.write(vec![put(world.item("b", "ada", "two"), Precondition::Absent)]);
        let error = refused.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
        assert!(error.is_retryable());
        assert_eq!(world.get("b").unwrap(), [None]);
        assert_eq!((counts(&world).writes_refused, counts(&world).writes), (1, 1));
    }
}

#[test]
fn a_commit_that_is_refused_lets_the_key_be_kept_at_once() {
    let world = World::new();
    world.add("a", "ada", "one");
    let again = world.write(vec![put(world.item("a", "ada", "two"), Precondition::Absent)]);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(!world.is_marked("i:a"));
    world.warm("a", "ada");
    world.text("a");
    assert_eq!(world.store.reads().len(), 0);
}

#[test]
fn after_an_unknown_outcome_the_mark_stands_until_its_time() {
    for (fate, text) in [(Fate::Fails, "old"), (Fate::Unheard, "new")] {
        for begin in [Fate::Works, Fate::Fails] {
            let world = World::new();
            let revision = world.add("a", "ada", "old");
            world.warm("a", "ada");
            world.store.plan([fate]);
            world.cache.set("begin", begin);
            if begin == Fate::Fails {
                // It is away at first, and there when it is told of what is not known.
                world.cache.yields.store(1, Ordering::SeqCst);
            }
            let item = world.item("a", "ada", "new");
            let commit = world.of(vec![put(item, Precondition::Revision(revision))]);
            let mut task: Task<'_, _> = Box::pin(world.here.commit(&world.context, commit));
            let mut answer = None;
            while answer.is_none() {
                match step(&mut task) {
                    Poll::Ready(ended) => answer = Some(ended),
                    Poll::Pending => {
                        let asked = world.cache.asked();
                        if counts(&world).failures > 0 && asked.contains(&"begin") {
                            world.cache.set("begin", Fate::Works);
                        }
                    }
                }
            }
            assert_eq!(answer.unwrap().unwrap_err().outcome(), Outcome::Unknown);
            world.cache.yields.store(0, Ordering::SeqCst);
            world.cache.set("begin", Fate::Works);
            assert!(world.is_marked("i:a"), "{fate:?}, {begin:?}");
            assert_eq!((world.text("a").as_str(), world.text("a").as_str()), (text, text));
            world.time.clock.advance(world.layers[0].settings().mark());
            world.warm("a", "ada");
            assert_eq!(world.text("a"), text);
            assert_eq!(world.store.reads().len(), 0);
            assert_eq!(counts(&world).unconfirmed, 0);
        }
    }
}

#[test]
fn a_later_deadline_gets_a_longer_mark() {
    let mut settings = CacheSettings::default();
    settings.mark_ms = 100;
    let world = World::with(settings);
    world.cache.set("end", Fate::Fails);
    let end = Deadline::at(world.time.monotonic() + 1_000 * MS);
    let context = world.context.clone().with_deadline(Some(end));
    let commit = world.of(vec![put(world.item("a", "ada", "one"), Precondition::Absent)]);
    finish(world.here.commit(&context, commit)).unwrap();
    world.time.clock.advance(1_499 * MS);
    assert!(world.is_marked("i:a"));
    world.time.clock.advance(MS);
    assert!(!world.is_marked("i:a"));
}

/// Writes each by a commit of its own, and perhaps loses the first answer.
#[derive(Debug)]
struct Bulk {
    store: Arc<Watched>,
    loses: bool,
}

#[async_trait]
impl BulkWriter for Bulk {
    async fn write_many(
        &self,
        context: &CallContext,
        id: CommitId,
        writes: Vec<Write>,
        _resend: bool,
        _observer: &dyn BulkObserver,
    ) -> Result<Vec<Result<WriteResult>>> {
        let mut results = Vec::new();
        for write in writes {
            let commit = Commit::new(id, vec![write]);
            let receipt = self.store.inner.commit(context, commit).await;
            results.push(receipt.map(|mut receipt| receipt.results.remove(0)));
        }
        if self.loses {
            let lost = Error::new(ErrorKind::Timeout, "lost").with_unknown_outcome();
            results[0] = Err(lost);
        }
        Ok(results)
    }
}

#[test]
fn a_bulk_write_is_seen_at_once_too() {
    for loses in [false, true] {
        let world = World::new();
        world.add("a", "ada", "old");
        world.warm("a", "ada");
        let bulk: Arc<dyn BulkWriter> = Arc::new(Bulk { store: world.store.clone(), loses });
        let bulk = world.layers[1].bulk(bulk, "reference");
        let writes = vec![
            put(world.item("a", "ada", "new"), Precondition::Any),
            put(world.item("b", "ada", "added"), Precondition::Absent),
        ];
        let id = CommitId::from_bytes([9; 16]);
        finish(bulk.write_many(&world.context, id, writes, false, &NoObserver)).unwrap();
        assert_eq!((world.text("a").as_str(), world.text("b").as_str()), ("new", "added"));
        assert_eq!(world.history("ada", 10).len(), 2);
        assert_eq!(world.is_marked("i:a"), loses, "what is lost may yet happen");
    }
}
