//! What is read through the cache, and how often the store is asked.

use std::task::Poll;

use memory_core::{
    CallContext, Clock as _, Deadline, ErrorKind, Filter, MemoryId, Precondition, Projection,
    TenantId, VectorProjection,
};

use super::tools::{Fate, World, conversation, put};
use crate::support::{MS, Task, finish, step};

#[test]
fn an_item_is_read_from_the_store_once() {
    let world = World::new();
    world.add("a", "ada", "one");
    world.add("b", "ada", "two");
    assert_eq!(world.text("a"), "one");
    assert_eq!(world.store.reads(), ["a"]);
    assert_eq!(world.text("a"), "one");
    // Only what is missing is read, in one call, and an id that is asked for twice is one.
    let found = world.get("b,a,none,b").unwrap();
    assert_eq!(found, [Some("two".into()), Some("one".into()), None, Some("two".into())]);
    assert_eq!(world.store.reads(), ["b,none"]);
    // What is not there is not kept.
    assert_eq!(world.get("a,none,b").unwrap()[1], None);
    assert_eq!(world.store.reads(), ["none"]);
    let counts = world.layers[0].counts().items;
    assert_eq!((counts.hits, counts.misses, counts.fills), (4, 4, 2));
    assert!((counts.hit_rate() - 0.5).abs() < 1e-9);
    assert!(counts.bytes_read > counts.bytes_written && counts.bytes_written > 100);
}

#[test]
fn each_projection_is_a_value_of_its_own_and_vectors_are_none() {
    let world = World::new();
    world.add("a", "ada", "one");
    let ids = [MemoryId::new("a").unwrap()];
    let read = |projection: &Projection| {
        finish(world.here.fetch(&world.context, &ids, projection)).unwrap().remove(0).unwrap()
    };
    let narrow = read(&Projection::narrow());
    let full = read(&Projection::full());
    assert_eq!((narrow.content(), full.content()), ("", "one"));
    assert_eq!(world.store.reads().len(), 2);
    assert_eq!(read(&Projection::narrow()), narrow);
    assert_eq!(read(&Projection::full()), full);
    assert_eq!(world.store.reads().len(), 0);
    let with = Projection::full().with_vectors(VectorProjection::All);
    read(&with);
    read(&with);
    assert_eq!(world.store.reads().len(), 2, "vectors come from the store");
}

#[test]
fn a_page_of_a_conversation_is_kept_with_its_cursor() {
    let world = World::new();
    for number in 0..5 {
        world.add(&format!("m{number}"), "ada", &format!("text {number}"));
        world.time.clock.advance(MS);
    }
    let query = conversation("ada", 2);
    let first = finish(world.here.query(&world.context, &query)).unwrap();
    let again = finish(world.here.query(&world.context, &query)).unwrap();
    assert_eq!(first, again);
    assert_eq!(world.store.reads(), ["?"]);
    // The cursor leads on, and what follows comes from the store.
    let next = query.with_cursor(again.next);
    let second = finish(world.here.query(&world.context, &next)).unwrap();
    assert_eq!(second.items[0].content(), "text 2");
    // A short page does not answer for a longer one, nor the other way round.
    assert_eq!(world.history("ada", 3), ["text 4", "text 3", "text 2"]);
    assert_eq!(world.history("ada", 10).len(), 5);
    assert_eq!(world.history("ada", 2), ["text 4", "text 3"]);
    assert_eq!(world.store.reads().len(), 3);
    // Nobody else's conversation, and no other query.
    let all = conversation("ada", 2).with_filter(Filter::All);
    for _ in 0..2 {
        finish(world.here.query(&world.context, &all)).unwrap();
    }
    assert_eq!(world.store.reads().len(), 2);
    assert_eq!(world.layers[0].counts().history.hits, 2);
}

#[test]
fn what_has_expired_is_never_served() {
    let world = World::new();
    let mut item = world.item("a", "ada", "soon gone");
    item.expires_at = Some(world.time.clock.now().saturating_add(10 * MS));
    world.write(vec![put(item, Precondition::Absent)]).unwrap();
    world.add("b", "ada", "stays");
    world.warm("a", "ada");
    assert_eq!(world.text("a"), "soon gone", "the twin");
    assert_eq!(world.history("ada", 10).len(), 2);
    assert_eq!(world.store.reads().len(), 0);
    world.time.clock.advance(10 * MS);
    assert_eq!(world.get("a").unwrap(), [None]);
    assert_eq!(world.history("ada", 10), ["stays"]);
    let counts = world.layers[0].counts();
    assert_eq!((counts.items.expired, counts.history.expired), (1, 1));
    // What had expired is out of the way.
    world.store.reads();
    world.history("ada", 10);
    assert_eq!(world.store.reads().len(), 1);
    world.history("ada", 10);
    assert_eq!(world.store.reads().len(), 0);
}

#[test]
fn nothing_is_kept_longer_than_the_bound() {
    let world = World::new();
    world.add("a", "ada", "one");
    world.warm("a", "ada");
    let bound = world.layers[0].settings().max_stale();
    world.time.clock.advance(bound - MS);
    world.warm("a", "ada");
    world.text("a");
    assert_eq!(world.store.reads().len(), 0);
    world.time.clock.advance(2 * MS);
    world.text("a");
    assert_eq!(world.store.reads(), ["a"]);
}

#[test]
fn callers_of_one_key_share_one_read_of_the_store() {
    let world = World::new();
    world.add("a", "ada", "one");
    let ids = [MemoryId::new("a").unwrap()];
    let full = Projection::full();
    let read = || -> Task<'_, _> { Box::pin(world.here.fetch(&world.context, &ids, &full)) };
    world.store.hold(true);
    let mut tasks: Vec<_> = (0..5).map(|_| read()).collect();
    assert!(tasks.iter_mut().all(|task| step(task).is_pending()));
    assert_eq!(world.store.reads(), ["a"]);
    assert_eq!(world.layers[0].loading(), 1);
    world.store.hold(false);
    for task in &mut tasks {
        let Poll::Ready(Ok(found)) = step(task) else { panic!("it does not end") };
        assert_eq!(found[0].as_ref().unwrap().content(), "one");
    }
    assert_eq!(world.store.reads().len(), 0);
    assert_eq!((world.layers[0].counts().items.joined, world.layers[0].loading()), (4, 0));
}

#[test]
fn a_leader_that_is_dropped_or_fails_strands_nobody() {
    for fails in [false, true] {
        let world = World::new();
        world.add("a", "ada", "one");
        let ids = [MemoryId::new("a").unwrap()];
        let full = Projection::full();
        let read = || -> Task<'_, _> { Box::pin(world.here.fetch(&world.context, &ids, &full)) };
        world.store.hold(true);
        let (mut leader, mut second, mut third) = (read(), read(), read());
        for task in [&mut leader, &mut second, &mut third] {
            assert!(step(task).is_pending());
        }
        world.store.reads();
        if fails {
            world.store.fail_reads(1);
            world.store.hold(false);
            let Poll::Ready(answer) = step(&mut leader) else { panic!("it does not end") };
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
        } else {
            drop(leader);
            for task in [&mut second, &mut third] {
                assert!(step(task).is_pending(), "the second leads, the third joins it");
            }
            world.store.hold(false);
        }
        for task in [&mut second, &mut third] {
            let Poll::Ready(answer) = step(task) else { panic!("it does not end") };
            assert_eq!(answer.unwrap()[0].as_ref().unwrap().content(), "one");
        }
        assert_eq!(world.layers[0].loading(), 0);
        // After a failure each reads by itself.
        assert_eq!(world.store.reads().len(), if fails { 2 } else { 1 });
    }
}

#[test]
fn who_begins_after_a_write_does_not_join_a_read_from_before() {
    let world = World::new();
    let revision = world.add("a", "ada", "old");
    let ids = [MemoryId::new("a").unwrap()];
    let full = Projection::full();
    world.store.hold(true);
    let mut before: Task<'_, _> = Box::pin(world.here.fetch(&world.context, &ids, &full));
    assert!(step(&mut before).is_pending(), "it has read the old one");
    world.store.hold(false);
    let item = world.item("a", "ada", "new");
    world.store.plan([Fate::Works]);
    world.write_there(vec![put(item, Precondition::Revision(revision))]).unwrap();
    assert_eq!(world.text("a"), "new");
    let Poll::Ready(Ok(found)) = step(&mut before) else { panic!("it does not end") };
    assert_eq!(found[0].as_ref().unwrap().content(), "old", "it began before");
    assert_eq!(world.layers[0].counts().items.fills_refused, 1);
    assert_eq!(world.text("a"), "new", "what it had read was not kept");
}

#[test]
fn a_waiter_keeps_to_its_own_deadline() {
    let world = World::new();
    world.add("a", "ada", "one");
    let ids = [MemoryId::new("a").unwrap()];
    let full = Projection::full();
    world.store.hold(true);
    let mut leader: Task<'_, _> = Box::pin(world.here.fetch(&world.context, &ids, &full));
    assert!(step(&mut leader).is_pending());
    let end = Deadline::at(world.time.monotonic() + 50 * MS);
    let short = world.context.clone().with_deadline(Some(end));
    let mut waiter: Task<'_, _> = Box::pin(world.here.fetch(&short, &ids, &full));
    assert!(step(&mut waiter).is_pending());
    world.time.clock.advance(50 * MS);
    let Poll::Ready(Err(error)) = step(&mut waiter) else { panic!("it waits on") };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(step(&mut leader).is_pending());
    world.store.hold(false);
    assert!(matches!(step(&mut leader), Poll::Ready(Ok(_))));
    // A hit after the deadline is none.
    let late = finish(world.here.fetch(&short, &ids, &full)).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout);
    assert_eq!(world.time.live(), 0);
}

#[test]
fn tenants_with_hostile_names_share_nothing() {
    let world = World::new();
    let long = "x".repeat(480);
    let names = [
        "a",
        "a:",
        "{a}",
        "a}{b",
        "*",
        "a*",
        "[a-z]",
        "i:a",
        "1:a",
        "a\\",
        "%7Ba%7D",
        "é",
        "e\u{301}",
        long.as_str(),
        "all",
        "~store",
    ];
    let contexts: Vec<_> =
        names.iter().map(|name| CallContext::new(TenantId::new(name).unwrap())).collect();
    let ids = [MemoryId::new("a*{b}:\\").unwrap()];
    let full = Projection::full();
    let query = conversation("ada:{*}", 10);
    for (number, context) in contexts.iter().enumerate() {
        let item = world.item(ids[0].as_str(), "ada:{*}", &format!("of {number}"));
        let commit = world.of(vec![put(item, Precondition::Absent)]);
        finish(world.here.commit(context, commit)).unwrap();
    }
    for round in 0..2 {
        for (number, context) in contexts.iter().enumerate() {
            let text = format!("of {number}");
            let item = finish(world.here.fetch(context, &ids, &full)).unwrap().remove(0).unwrap();
            assert_eq!(item.content(), text, "round {round}");
            let page = finish(world.here.query(context, &query)).unwrap();
            assert_eq!(page.items.len(), 1);
            assert_eq!(page.items[0].content(), text);
        }
        assert_eq!(world.store.reads().len(), if round == 0 { 2 * names.len() } else { 0 });
    }
    for text in ["", "a\nb", "a\0", "x".repeat(10_240).as_str()] {
        assert!(TenantId::new(text).is_err(), "no such tenant reaches a cache");
    }
}

#[test]
fn a_closed_layer_serves_nothing() {
    let world = World::new();
    world.add("a", "ada", "one");
    world.warm("a", "ada");
    finish(world.here.close()).unwrap();
    assert_eq!(world.get("a").unwrap_err().kind(), ErrorKind::Unavailable);
    let page = finish(world.here.query(&world.context, &conversation("ada", 10)));
    assert_eq!(page.unwrap_err().kind(), ErrorKind::Unavailable);
    finish(world.here.close()).unwrap();
}
