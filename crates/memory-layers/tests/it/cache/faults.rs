//! A cache that is away, hangs, lies or forgets costs no read its answer; and a call that is dropped
//! leaves nothing that does not pass.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use memory_core::traits::{Cache as _, CacheFill, CacheKey, CacheRead, RecordStore as _};
use memory_core::{
    Deadline, ErrorKind, HealthStatus, MemoryId, Precondition, Projection, RandomIds, TenantId,
};
use memory_layers::{
    CacheLayer, CacheSettings, Layer as _, LayersSettings, LocalCache, Stack, Waiting,
};

use super::tools::{Fate, World, put};
use crate::support::{Drawn, MS, Task, Time, finish, step};

/// Runs a future to its end; where it waits, time goes on.
fn run<'a, T>(world: &World, task: impl Future<Output = T> + Send + 'a) -> T {
    let mut task: Task<'a, T> = Box::pin(task);
    for _ in 0..10_000 {
        if let Poll::Ready(answer) = step(&mut task) {
            return answer;
        }
        world.time.clock.advance(MS);
    }
    panic!("it does not end");
}

fn read(world: &World, id: &str) -> String {
    let ids = [MemoryId::new(id).unwrap()];
    let full = Projection::full();
    let found = run(world, world.here.fetch(&world.context, &ids, &full)).unwrap();
    found[0].as_ref().unwrap().content().to_owned()
}

#[test]
fn every_failure_of_the_cache_is_survived() {
    for fate in [Fate::Fails, Fate::Unheard, Fate::Hangs, Fate::Garbles, Fate::Miscounts] {
        let world = World::new();
        let mut revision = world.add("a", "ada", "0");
        world.warm("a", "ada");
        world.cache.set("*", fate);
        for round in 1..4 {
            assert_eq!(read(&world, "a"), (round - 1).to_string(), "{fate:?}");
            assert!(!world.store.reads().is_empty(), "{fate:?}: the store answers");
            let item = world.item("a", "ada", &round.to_string());
            let commit = world.of(vec![put(item, Precondition::Revision(revision))]);
            let receipt = run(&world, world.here.commit(&world.context, commit)).unwrap();
            revision = receipt.results[0].revision.clone().unwrap();
            world.store.reads();
        }
        let counts = world.layers[0].counts();
        match fate {
            Fate::Garbles => assert!(counts.items.undecodable > 0),
            Fate::Miscounts => assert!(counts.items.bypasses > 0),
            _ => assert!(counts.items.bypasses > 0 && counts.failures > 0, "{fate:?}"),
        }
        // What nobody heard may have been done, and is counted as if it had not.
        let is_away = matches!(fate, Fate::Fails | Fate::Unheard | Fate::Hangs);
        assert_eq!(counts.unconfirmed, if is_away { 3 } else { 0 }, "{fate:?}");
        // And it is used again, when what could not be told it is over.
        world.cache.set("*", Fate::Works);
        world.time.clock.advance(world.layers[0].settings().max_stale());
        read(&world, "a");
        world.store.reads();
        assert_eq!(read(&world, "a"), "3");
        assert_eq!(world.store.reads().len(), 0, "{fate:?}");
        assert_eq!(world.time.live(), 0);
    }
}

#[test]
fn a_cache_that_hangs_costs_its_timeout_and_then_nothing() {
    let world = World::new();
    world.add("a", "ada", "one");
    world.cache.set("*", Fate::Hangs);
    let settings = world.layers[0].settings();
    let mut spent = Vec::new();
    for _ in 0..20 {
        let begun = world.time.monotonic();
        assert_eq!(read(&world, "a"), "one");
        spent.push(world.time.monotonic() - begun);
    }
    let timeout = Duration::from_millis(settings.timeout_ms);
    let failures = usize::try_from(settings.failures).unwrap();
    assert!(spent[..failures].iter().all(|it| *it == timeout), "{spent:?}");
    assert!(spent[failures..].iter().all(Duration::is_zero), "{spent:?}");
    assert_eq!(world.layers[0].counts().pauses, 1);
    // After the pause one read tries, and finds it well.
    world.cache.set("*", Fate::Works);
    world.cache.asked();
    read(&world, "a");
    assert!(world.cache.asked().is_empty(), "the twin: within the pause nobody asks");
    world.time.clock.advance(Duration::from_millis(settings.pause_ms));
    read(&world, "a");
    assert_eq!(world.cache.asked(), ["read", "fill"]);
    // Never beyond the call's own deadline.
    world.cache.set("*", Fate::Hangs);
    let end = Deadline::at(world.time.monotonic() + timeout / 2);
    let context = world.context.clone().with_deadline(Some(end));
    let begun = world.time.monotonic();
    let ids = [MemoryId::new("a").unwrap()];
    let answer = run(&world, world.here.fetch(&context, &ids, &Projection::full()));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(world.time.monotonic() - begun, timeout / 2);
}

#[test]
fn writes_tell_the_cache_while_reads_leave_it_alone() {
    let world = World::new();
    world.add("a", "ada", "one");
    world.cache.set("read", Fate::Fails);
    for _ in 0..world.layers[0].settings().failures {
        world.text("a");
    }
    world.cache.asked();
    world.text("a");
    assert!(world.cache.asked().is_empty());
    world.add("b", "ada", "two");
    assert_eq!(world.cache.asked(), ["begin", "end"]);
}

#[test]
fn a_flush_or_an_eviction_at_any_step_leaves_nothing_stale() {
    for at in 0..40 {
        for flush in [false, true] {
            let world = World::new();
            let revision = world.add("a", "ada", "old");
            world.warm("a", "ada");
            world.cache.yields.store(2, Ordering::SeqCst);
            world.store.yields.store(2, Ordering::SeqCst);
            let item = world.item("a", "ada", "new");
            let commit = world.of(vec![put(item, Precondition::Revision(revision))]);
            let mut write: Task<'_, _> = Box::pin(world.here.commit(&world.context, commit));
            let ids = [MemoryId::new("a").unwrap()];
            let full = Projection::full();
            let mut beside: Task<'_, _> = Box::pin(world.there.fetch(&world.context, &ids, &full));
            let (mut steps, mut is_read) = (0, false);
            loop {
                if steps == at && flush {
                    world.cache.inner.flush();
                } else if steps == at {
                    world.cache.inner.evict(&world.context.tenant, "i:a");
                }
                is_read = is_read || step(&mut beside).is_ready();
                if let Poll::Ready(answer) = step(&mut write) {
                    break drop(answer.unwrap());
                }
                steps += 1;
            }
            assert_eq!(read(&world, "a"), "new", "at step {at}");
            while !is_read {
                is_read = step(&mut beside).is_ready();
            }
            assert_eq!(read(&world, "a"), "new", "at step {at}, after the other reader");
        }
    }
}

#[test]
fn a_value_under_a_wrong_key_is_not_served() {
    let world = World::new();
    world.add("a", "ada", "of a");
    world.add("b", "ada", "of b");
    world.text("a");
    // Somebody copies the value of one key to another, and to another tenant's.
    let inner = &world.cache.inner;
    let key = |group: &str| CacheKey {
        group: group.to_owned(),
        under: "all".to_owned(),
        entry: "1cpm".to_owned(),
    };
    let life = Duration::from_secs(60);
    let value = match finish(inner.read(&world.context, &[key("i:a")], life)).unwrap().remove(0) {
        CacheRead::Hit(value) => value,
        other => panic!("{other:?}"),
    };
    let mut elsewhere = world.context.clone();
    elsewhere.tenant = TenantId::new("other").unwrap();
    for (context, group) in [(&world.context, "i:b"), (&elsewhere, "i:a")] {
        let seen = finish(inner.read(context, &[key(group)], life)).unwrap().remove(0);
        let CacheRead::Miss(token) = seen else { panic!("{seen:?}") };
        let fill = CacheFill { key: key(group), token, value: value.clone() };
        assert_eq!(finish(inner.fill(context, vec![fill])).unwrap(), [true]);
    }
    assert_eq!(world.text("b"), "of b");
    let ids = [MemoryId::new("a").unwrap()];
    let found = finish(world.here.fetch(&elsewhere, &ids, &Projection::full())).unwrap();
    assert!(found[0].is_none());
    assert_eq!(world.layers[0].counts().items.undecodable, 2);
    assert_eq!(world.text("a"), "of a", "the twin");
}

/// How many steps a call takes that gives way at each of its requests.
const MOST_STEPS: usize = 200;

#[test]
fn a_write_dropped_at_every_await_point_leaves_nothing_that_does_not_pass() {
    let mut seen = [0, 0];
    for place in 0..MOST_STEPS {
        let world = World::new();
        let revision = world.add("a", "ada", "old");
        world.warm("a", "ada");
        world.cache.yields.store(2, Ordering::SeqCst);
        world.store.yields.store(2, Ordering::SeqCst);
        let item = world.item("a", "ada", "new");
        let commit = world.of(vec![put(item, Precondition::Revision(revision))]);
        let mut task: Task<'_, _> = Box::pin(world.here.commit(&world.context, commit));
        let is_done = (0..=place).any(|_| step(&mut task).is_ready());
        drop(task);
        world.cache.yields.store(0, Ordering::SeqCst);
        world.store.yields.store(0, Ordering::SeqCst);
        let stored = finish(world.store.inner.fetch(
            &world.context,
            &[MemoryId::new("a").unwrap()],
            &Projection::full(),
        ));
        let stored = stored.unwrap()[0].as_ref().unwrap().content().to_owned();
        seen[usize::from(stored == "new")] += 1;
        // Whatever happened, what is read is what is stored, and it can be kept again.
        assert_eq!(read(&world, "a"), stored, "dropped at {place}");
        assert_eq!(world.history("ada", 10), [stored.as_str()]);
        world.time.clock.advance(world.layers[0].settings().mark());
        world.warm("a", "ada");
        assert_eq!(world.text("a"), stored);
        assert_eq!(world.store.reads().len(), 0, "dropped at {place}: it cannot be kept");
        if is_done {
            assert!(seen[0] > 5 && seen[1] > 5, "{seen:?}");
            return;
        }
    }
    panic!("the write does not end");
}

#[test]
fn a_read_dropped_at_every_await_point_leaves_nothing() {
    for place in 0..MOST_STEPS {
        let world = World::new();
        world.add("a", "ada", "one");
        world.cache.yields.store(2, Ordering::SeqCst);
        world.store.yields.store(2, Ordering::SeqCst);
        let ids = [MemoryId::new("a").unwrap()];
        let full = Projection::full();
        let mut task: Task<'_, _> = Box::pin(world.here.fetch(&world.context, &ids, &full));
        let is_done = (0..=place).any(|_| step(&mut task).is_ready());
        drop(task);
        assert_eq!((world.layers[0].loading(), world.time.live()), (0, 0), "dropped at {place}");
        assert_eq!(read(&world, "a"), "one");
        world.store.reads();
        assert_eq!(read(&world, "a"), "one");
        assert_eq!(world.store.reads().len(), 0, "dropped at {place}: it cannot be kept");
        if is_done {
            assert!(place > 8);
            return;
        }
    }
    panic!("the read does not end");
}

#[test]
fn health_tells_of_the_cache_and_is_never_worse_than_degraded() {
    let world = World::new();
    assert_eq!(run(&world, world.here.health()).status, HealthStatus::Healthy);
    world.cache.set("*", Fate::Hangs);
    let health = run(&world, world.here.health());
    assert_eq!(health.status, HealthStatus::Degraded);
    assert!(health.reasons[0].starts_with("cache: "), "{:?}", health.reasons);
}

#[test]
fn the_cache_in_the_process_holds_its_bounds() {
    let time = Time::by_hand();
    let cache = LocalCache::new(time.clock.clone(), Drawn::new(3), 20, 20_000);
    let context = crate::support::tenant();
    let life = Duration::from_secs(60);
    let key = |number: usize| CacheKey {
        group: format!("i:{number}"),
        under: "all".to_owned(),
        entry: "e".to_owned(),
    };
    let read = |number| finish(cache.read(&context, &[key(number)], life)).unwrap().remove(0);
    for number in 0..100 {
        let CacheRead::Miss(token) = read(number) else { panic!("a hit") };
        let fill = CacheFill { key: key(number), token, value: vec![7; 1_000] };
        assert_eq!(finish(cache.fill(&context, vec![fill])).unwrap(), [true]);
        let (groups, bytes) = cache.size();
        assert!(groups <= 20 && bytes <= 20_000, "{groups} groups, {bytes} bytes");
    }
    assert!(matches!(read(99), CacheRead::Hit(_)), "the newest is there");
    assert!(matches!(read(0), CacheRead::Miss(_)), "the oldest is not");
    cache.flush();
    assert_eq!(cache.size(), (0, 0));
}

#[test]
fn settings_out_of_range_are_refused() {
    let time = Time::by_hand();
    let cache = Arc::new(LocalCache::new(time.clock.clone(), Drawn::new(3), 20, 20_000));
    let mut settings = CacheSettings::default();
    settings.timeout_ms = 0;
    let made = CacheLayer::new(settings, cache, time.clock.clone(), time.clone(), None);
    assert_eq!(made.unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn a_stack_has_its_cache_between_guard_and_timeout() {
    let world = World::new();
    let waiting = Waiting { timer: world.time.clone(), ids: Arc::new(RandomIds) };
    let settings = LayersSettings::default();
    let stack = Stack::remote(&settings, world.time.clock.clone(), &waiting, None).unwrap();
    assert_eq!(stack.stats().cache, None);
    let stack = stack.with_cache(world.layers[0].clone());
    let records = stack.records(world.store.clone());
    world.add("a", "ada", "one");
    let ids = [MemoryId::new("a").unwrap()];
    for _ in 0..3 {
        finish(records.fetch(&world.context, &ids, &Projection::full())).unwrap();
    }
    assert_eq!(world.store.reads(), ["a"]);
    let stats = stack.stats();
    assert_eq!(stats.cache.unwrap().items.hits, 2);
    // A hit takes no permit and no attempt: it stands outside of the limit.
    assert_eq!(stats.limit.unwrap().in_flight, 0);
    let many = vec![ids[0].clone(); 1_001];
    let refused = finish(records.fetch(&world.context, &many, &Projection::full()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(stack.stats().guard.refused, 1, "the guard stands before it");
}

#[cfg(feature = "prometheus")]
#[test]
fn what_is_counted_goes_to_the_recorder() {
    let prometheus = memory_layers::Prometheus::new().unwrap();
    let world = World::new();
    let layer = CacheLayer::new(
        CacheSettings::default(),
        world.cache.clone(),
        world.time.clock.clone(),
        world.time.clone(),
        Some(Arc::new(prometheus.clone())),
    );
    let records = layer.unwrap().records(world.store.clone());
    let commit = world.of(vec![put(world.item("a", "ada", "hush"), Precondition::Absent)]);
    finish(records.commit(&world.context, commit)).unwrap();
    let ids = [MemoryId::new("a").unwrap()];
    for _ in 0..3 {
        finish(records.fetch(&world.context, &ids, &Projection::full())).unwrap();
        world.time.clock.advance(7 * MS);
    }
    let text = prometheus.render();
    for line in [
        "orchestra_memory_cache_hits{orchestra_memory_cache_kind=\"item\"} 2",
        "orchestra_memory_cache_misses{orchestra_memory_cache_kind=\"item\"} 1",
        "orchestra_memory_cache_writes 1",
        "orchestra_memory_cache_age_bucket{orchestra_memory_cache_kind=\"item\",le=\"0.01\"} 1",
        "orchestra_memory_cache_age_bucket{orchestra_memory_cache_kind=\"item\",le=\"0.1\"} 2",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("hush"));
}
