//! Pages: round trips, orders within an owner, and writers beside them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memory_core::traits::{Ledger, RecordStore as _, Usage};
use memory_core::{
    CallContext, Direction, Field, Filter, MemoryItem, MetaKey, MetaValue, Order, OrderField,
    Precondition, Projection, Query, Result, SessionId, UserId,
};
use memory_redis::RedisStore;

use super::rig::{Rig, SERVERS, commit, id, item, put, put_one, tenant, time};

/// Counts requests.
#[derive(Debug, Default)]
struct Requests(AtomicU64);

impl Requests {
    fn since(&self, before: u64) -> u64 {
        self.0.load(Ordering::Relaxed) - before
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Ledger for Requests {
    fn admit(&self, _backend: &'static str, _operation: &'static str) -> Result<()> {
        Ok(())
    }

    fn record(&self, _backend: &'static str, _operation: &'static str, _usage: Usage) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The `n`-th memory of a user: its three times run against each other, and repeat.
fn numbered(user: &str, n: i64) -> MemoryItem {
    let at = |seconds: i64| {
        let base = time("2025-01-01T00:00:00Z").as_micros();
        memory_core::Timestamp::from_micros(base + seconds * 1_000_000).unwrap()
    };
    let mut item = item(&format!("{user}-{:04}", (n * 7_919) % 10_000), &format!("text {n}"))
        .with_user(UserId::new(user).unwrap())
        .with_session(SessionId::new(format!("s{}", n % 2)).unwrap());
    item.occurred_at = at(n / 3);
    item.created_at = at(1_000 - n / 2);
    item.updated_at = at((n * 31) % 97);
    item
}

async fn load(store: &RedisStore, context: &CallContext, items: &[MemoryItem]) {
    for some in items.chunks(500) {
        let writes = some.iter().map(|item| put(item.clone(), Precondition::Absent)).collect();
        store.commit(context, commit(writes)).await.unwrap();
    }
}

/// All pages of a query: ids.
async fn walked(store: &RedisStore, context: &CallContext, query: &Query) -> Vec<String> {
    let (mut found, mut query) = (Vec::new(), query.clone());
    loop {
        let page = store.query(context, &query).await.unwrap();
        assert!(page.items.len() <= query.limit as usize);
        found.extend(page.items.iter().map(|item| item.id.to_string()));
        match page.next {
            Some(next) => query = query.with_cursor(Some(next)),
            None => return found,
        }
    }
}

const ORDERS: [OrderField; 4] =
    [OrderField::OccurredAt, OrderField::CreatedAt, OrderField::UpdatedAt, OrderField::Id];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_is_one_round_trip_and_other_orders_of_few_are_two() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let requests = Arc::new(Requests::default());
        let store = rig.counted(requests.clone()).await;
        let context = tenant("t");
        let items: Vec<_> = (0..100).map(|n| numbered("ada", n)).collect();
        load(&store, &context, &items).await;
        let session = Filter::eq(Field::SessionId, "s1");
        for (order, trips) in [
            (Order::NEWEST, 1),
            (Order { field: OrderField::UpdatedAt, direction: Direction::Descending }, 2),
            (Order::BY_ID, 2),
        ] {
            let query = Query::new(20).with_filter(session.clone()).with_order(order);
            let before = requests.now();
            let page = store.query(&context, &query).await.unwrap();
            assert_eq!((page.items.len(), requests.since(before)), (20, trips), "{order:?}");
            assert!(page.items.iter().all(|item| !item.content().is_empty()));
            let before = requests.now();
            let narrow = query.with_projection(Projection::narrow());
            assert_eq!(store.query(&context, &narrow).await.unwrap().items.len(), 20);
            assert_eq!(requests.since(before), 1, "{order:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_the_whole_in_every_order_of_many_and_of_few() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (store, context) = (&rig.store, tenant("t"));
        let mut items: Vec<_> = (0..1_050).map(|n| numbered("ada", n)).collect();
        items.extend((0..330).map(|n| numbered("bob", n)));
        load(store, &context, &items).await;
        let ada = Filter::eq(Field::UserId, "ada");
        for filter in [
            Filter::eq(Field::UserId, "bob"),
            ada.clone(),
            ada.and(Filter::eq(Field::SessionId, "s1")),
            Filter::eq(Field::UserId, "nobody"),
        ] {
            for field in ORDERS {
                for direction in [Direction::Ascending, Direction::Descending] {
                    let order = Order { field, direction };
                    let mut wanted: Vec<_> = items
                        .iter()
                        .filter(|item| filter.matches(item))
                        .map(|item| (order.sort_value(item), item.id.to_string()))
                        .collect();
                    wanted.sort();
                    if direction == Direction::Descending {
                        wanted.reverse();
                    }
                    let wanted: Vec<_> = wanted.into_iter().map(|(_, id)| id).collect();
                    let query = Query::new(300)
                        .with_filter(filter.clone())
                        .with_order(order)
                        .with_projection(Projection::narrow());
                    assert_eq!(walked(store, &context, &query).await, wanted, "{order:?}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_written_appears_once_beside_writers() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (store, context) = (rig.store.clone(), tenant("t"));
        let calm: Vec<_> = (0..300).map(|n| numbered("calm", n)).collect();
        load(&store, &context, &calm).await;
        let wanted: BTreeSet<_> = calm.iter().map(|item| item.id.to_string()).collect();
        let ends = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn({
            let (store, context, ends) = (rig.another().await, context.clone(), ends.clone());
            async move {
                let mut writes = 0_i64;
                while !ends.load(Ordering::Relaxed) {
                    // The same memory wanders through all orders.
                    let mut wild = numbered("calm", writes % 300);
                    wild.id = id(&format!("wild-{}", writes % 10));
                    put_one(&store, &context, wild).await.unwrap();
                    writes += 1;
                }
                writes
            }
        });
        for field in ORDERS {
            for filter in [Filter::All, Filter::eq(Field::UserId, "calm")] {
                let order = Order { field, direction: Direction::Ascending };
                let query = Query::new(17).with_filter(filter).with_order(order);
                let found = walked(&store, &context, &query).await;
                let calm: Vec<_> = found.iter().filter(|id| id.starts_with("calm")).collect();
                assert_eq!(calm.len(), 300, "{order:?}");
                assert_eq!(calm.into_iter().cloned().collect::<BTreeSet<_>>(), wanted);
            }
        }
        ends.store(true, Ordering::Relaxed);
        assert!(writer.await.unwrap() > 20, "somebody wrote");
        rig.raw("t").check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_numbers_beyond_those_of_a_double_are_told_apart() {
    const BIG: i64 = 1 << 53;
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (store, context) = (&rig.store, tenant("t"));
        let numbers = [i64::MIN, -BIG - 1, -BIG, 0, BIG, BIG + 1, i64::MAX - 1, i64::MAX];
        for (place, number) in numbers.into_iter().enumerate() {
            let mut item = item(&format!("n{place}"), "x");
            item.metadata.insert(MetaKey::new("number").unwrap(), MetaValue::Int(number));
            put_one(store, &context, item).await.unwrap();
        }
        for (place, number) in numbers.into_iter().enumerate() {
            let field = Field::Metadata(MetaKey::new("number").unwrap());
            let query = Query::new(20).with_filter(Filter::eq(field, number));
            let found = walked(store, &context, &query).await;
            assert_eq!(found, [format!("n{place}")], "{number}");
        }
    }
}
