//! Adding, reading and changing memories, over every real store.

use std::time::Duration;

use orchestra_memory::{
    AddManyOptions, AddOptions, AddOutcome, Change, Direction, ErrorKind, Field, Filter,
    HistoryRequest, Kind, ListRequest, MetaKey, MetadataChange, NewMemory, OnConflict, Order,
    OrderField, Patch, Projection, Role, SessionId, Timestamp, UpdateOptions, VectorProjection,
};

use crate::support::{each_store, id, note, start, user};

#[test]
fn a_memory_comes_back_as_it_was_added() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let added = tenant
            .add(
                NewMemory::message(Role::User, "I prefer tea.")
                    .with_user(user("ada"))
                    .with_session(SessionId::new("s/1").unwrap())
                    .with_author("Ada")
                    .with_meta(MetaKey::new("topic").unwrap(), "drinks")
                    .with_payload(serde_json::json!({"deep": [1, {"x": null}]}))
                    .with_importance(0.5)
                    .with_occurred_at(Timestamp::parse("2025-02-01T00:00:00Z").unwrap()),
            )
            .await
            .unwrap();
        assert!(added.revision.is_some());
        assert_eq!((added.created_at, added.updated_at), (start(), start()));
        assert_eq!(tenant.get(&added.id).await.unwrap().unwrap(), added);
        assert!(tenant.get(&id("none")).await.unwrap().is_none());
        let found =
            tenant.get_many(&[id("none"), added.id.clone()], &Projection::full()).await.unwrap();
        assert_eq!(found, [None, Some(added)]);
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 1);
        let stats = tenant.stats().await.unwrap();
        assert_eq!((stats.items, stats.by_kind["message"], stats.embedded), (1, 1, 0));
    });
}

#[test]
fn ids_of_every_kind_are_kept_and_bad_input_is_refused() {
    each_store(async |stack| {
        let tenant = stack.memory.tenant("../%2F tenant 😀").unwrap();
        let names = ["a/b", "..", "%2F", "😀", "x".repeat(480).as_str(), "e\u{301}", "é", " "]
            .map(str::to_owned);
        for name in &names {
            tenant.add(note(name).with_id(id(name))).await.unwrap();
        }
        for name in &names {
            let item = tenant.get(&id(name)).await.unwrap().unwrap();
            assert_eq!(item.content(), name);
        }
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), names.len() as u64);
        for bad in [
            note(""),
            note(&"x".repeat(768 * 1024 + 1)),
            NewMemory::new("nobody's"),
            note("x").with_importance(f64::NAN),
            note("x").with_importance(1.5),
            note("x").with_payload(serde_json::json!("x".repeat(128 * 1024))),
            note("x").with_embedding(vec![]),
        ] {
            assert_eq!(tenant.add(bad).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        tenant.add(note(&"x".repeat(768 * 1024))).await.unwrap();
    });
}

#[test]
fn tenants_do_not_see_each_other() {
    each_store(async |stack| {
        let (one, two) = (stack.memory.tenant("one").unwrap(), stack.memory.tenant("two").unwrap());
        one.add(note("of one").with_id(id("m"))).await.unwrap();
        assert!(two.get(&id("m")).await.unwrap().is_none());
        assert_eq!(two.count(&Filter::All).await.unwrap(), 0);
        assert!(!two.delete(&id("m"), None).await.unwrap());
        two.add(note("of two").with_id(id("m"))).await.unwrap();
        assert_eq!(one.get(&id("m")).await.unwrap().unwrap().content(), "of one");
        let first = ListRequest::new().with_limit(1);
        one.add(note("more")).await.unwrap();
        let cursor = one.list(&first).await.unwrap().next;
        assert!(cursor.is_some());
        let error = two.list(&first.clone().with_cursor(cursor)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "a cursor of another tenant");
        let tenants = stack.memory.admin().tenants().await.unwrap();
        assert_eq!(tenants.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["one", "two"]);
    });
}

#[test]
fn a_taken_id_fails_skips_or_is_replaced() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let with = |on_conflict| AddOptions::new().with_on_conflict(on_conflict);
        let first = note("first").with_id(id("m")).with_importance(0.5);
        tenant.add(first).await.unwrap();
        let second = note("second").with_id(id("m"));
        let error = tenant.add(second.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let receipt = tenant.add_with(second.clone(), with(OnConflict::Skip)).await.unwrap();
        assert_eq!((receipt.outcome, receipt.revision), (AddOutcome::Skipped, None));
        assert_eq!(tenant.get(&id("m")).await.unwrap().unwrap().content(), "first");
        let receipt = tenant.add_with(second.clone(), with(OnConflict::Replace)).await.unwrap();
        assert_eq!(receipt.outcome, AddOutcome::Replaced);
        let item = tenant.get(&id("m")).await.unwrap().unwrap();
        assert_eq!((item.content(), item.importance), ("second", None), "nothing old stays");
        assert_eq!(item.revision, receipt.revision);
        let other = second.clone().with_id(id("n"));
        let receipt = tenant.add_with(other, with(OnConflict::Replace)).await.unwrap();
        assert_eq!(receipt.outcome, AddOutcome::Added);
        // An expired memory is absent: its id is free.
        let brief = note("brief")
            .with_id(id("b"))
            .with_expires_at(start().saturating_add(Duration::from_secs(1)));
        tenant.add(brief).await.unwrap();
        stack.clock.advance(Duration::from_secs(1));
        assert!(tenant.get(&id("b")).await.unwrap().is_none());
        tenant.add(note("anew").with_id(id("b"))).await.unwrap();
        assert_eq!(tenant.get(&id("b")).await.unwrap().unwrap().content(), "anew");
    });
}

#[test]
fn an_idempotency_key_gives_the_first_answer_again() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let options = || AddOptions::new().with_idempotency_key("request 1");
        let first = tenant.add_with(note("once"), options()).await.unwrap();
        stack.clock.advance(Duration::from_secs(60));
        let again = tenant.add_with(note("once"), options()).await.unwrap();
        assert_eq!((&again.id, &again.revision), (&first.id, &first.revision));
        assert_eq!((first.replayed, again.replayed), (false, true));
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 1);
        let error = tenant.add_with(note("another"), options()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let other = stack.memory.tenant("other").unwrap();
        assert!(!other.add_with(note("another"), options()).await.unwrap().replayed);
    });
}

#[test]
fn many_are_added_and_bad_ones_stand_alone() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("there").with_id(id("m5"))).await.unwrap();
        let many = |n: u32| match n {
            3 => NewMemory::new("nobody's").with_id(id("m3")),
            8 => note("x").with_id(id("m8")).with_embedding(vec![1.0, 2.0, 3.0]),
            n => note(&format!("text {n}"))
                .with_id(id(&format!("m{}", n.min(18))))
                .with_embedding(vec![1.0, 0.5]),
        };
        let options = AddManyOptions::new().with_batch_size(6).with_ids();
        let report = tenant.add_many((0..20).map(many), options.clone()).await;
        assert!(report.stopped.is_none(), "{:?}", report.stopped);
        let failed: Vec<_> =
            report.failures.iter().map(|failed| (failed.index, failed.error.kind())).collect();
        assert_eq!(
            failed,
            [
                (3, ErrorKind::InvalidInput),
                (5, ErrorKind::AlreadyExists),
                (8, ErrorKind::InvalidInput),
                (19, ErrorKind::AlreadyExists),
            ]
        );
        assert_eq!((report.seen, report.added, report.failed), (20, 16, 4));
        assert_eq!(report.ids.len(), 20);
        let wrong = &report.failures[2].error;
        assert!(wrong.to_string().contains('3') && wrong.to_string().contains("space"), "{wrong}");
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 17);
        assert_eq!(tenant.stats().await.unwrap().embedded, 16);
        let again = options.with_on_conflict(OnConflict::Skip);
        let report = tenant.add_many((0..20).map(many), again).await;
        assert_eq!((report.added, report.skipped, report.failed), (0, 18, 2));
        let replace = AddManyOptions::new().with_on_conflict(OnConflict::Replace);
        let report = tenant.add_many((4..8).map(many), replace).await;
        assert_eq!((report.added, report.replaced), (0, 4));
    });
}

#[test]
fn a_patch_changes_what_it_names() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let key = |name: &str| MetaKey::new(name).unwrap();
        let vectors = Projection::full().with_vectors(VectorProjection::All);
        let held = async |wanted: &str| {
            let found = tenant.get_many(&[id(wanted)], &vectors).await.unwrap();
            found[0].as_ref().unwrap().vectors.values().next().cloned()
        };
        let added = tenant
            .add(
                note("old")
                    .with_id(id("m"))
                    .with_meta(key("a"), 1)
                    .with_author("Ada")
                    .with_embedding(vec![3.0, 4.0]),
            )
            .await
            .unwrap();
        stack.clock.advance(Duration::from_secs(5));
        let patch = Patch::new().with_author(Change::Clear).with_metadata(MetadataChange::Merge {
            set: [(key("b"), 2.into())].into(),
            remove: [key("a")].into(),
        });
        let item = tenant.update(&id("m"), &patch, UpdateOptions::new()).await.unwrap();
        assert_ne!(item.revision, added.revision);
        assert_eq!(tenant.get(&id("m")).await.unwrap().unwrap(), item);
        assert_eq!((item.content(), item.author.as_deref()), ("old", None));
        assert_eq!(item.metadata, [(key("b"), 2.into())].into());
        assert_eq!(item.created_at, start());
        assert_eq!(item.updated_at, start().saturating_add(Duration::from_secs(5)));
        assert_eq!(held("m").await, Some(vec![3.0, 4.0]), "the text is the same");

        let stale = UpdateOptions::new().with_if_revision(added.revision.unwrap());
        let error = tenant.update(&id("m"), &patch, stale).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let fresh = UpdateOptions::new().with_if_revision(item.revision.unwrap());
        let patch = Patch::new().with_content("new");
        tenant.update(&id("m"), &patch, fresh).await.unwrap();
        assert_eq!(held("m").await, None, "a vector goes with its text");
        let patch = Patch::new().with_content("newer").with_embedding(vec![1.0, 0.0]);
        tenant.update(&id("m"), &patch, UpdateOptions::new()).await.unwrap();
        assert_eq!(held("m").await, Some(vec![1.0, 0.0]));
        let patch = Patch::new().with_embedding(Change::Clear);
        tenant.update(&id("m"), &patch, UpdateOptions::new()).await.unwrap();
        assert_eq!(held("m").await, None);

        let wrong = Patch::new().with_embedding(vec![1.0]);
        for (target, patch, kind) in [
            ("none", patch, ErrorKind::NotFound),
            ("m", wrong, ErrorKind::InvalidInput),
            ("m", Patch::new(), ErrorKind::InvalidInput),
            ("m", Patch::new().with_user(Change::Clear), ErrorKind::InvalidInput),
            ("m", Patch::new().with_content(""), ErrorKind::InvalidInput),
        ] {
            let error = tenant.update(&id(target), &patch, UpdateOptions::new()).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{patch:?}");
        }
        assert_eq!(tenant.get(&id("m")).await.unwrap().unwrap().content(), "newer");
    });
}

#[test]
fn lists_and_histories_come_in_pages() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let turn = |n: u64| {
            let time = start().saturating_add(Duration::from_secs(n));
            NewMemory::message(Role::User, format!("turn {n}"))
                .with_id(id(&format!("t{n}")))
                .with_user(user(if n < 6 { "ada" } else { "bob" }))
                .with_session(
                    SessionId::new(if n.is_multiple_of(2) { "even" } else { "odd" }).unwrap(),
                )
                .with_occurred_at(time)
        };
        let report = tenant.add_many((0..10).map(turn), AddManyOptions::new()).await;
        assert_eq!(report.added, 10);
        tenant.add(note("a fact").with_id(id("f"))).await.unwrap();

        let ids = |page: &orchestra_memory::Page| -> Vec<String> {
            page.items.iter().map(|item| item.id.to_string()).collect()
        };
        let page = tenant.history(&HistoryRequest::new().with_limit(3)).await.unwrap();
        assert_eq!(ids(&page), ["t9", "t8", "t7"]);
        let even = HistoryRequest::new()
            .with_user(user("ada"))
            .with_session(SessionId::new("even").unwrap())
            .oldest_first();
        assert_eq!(ids(&tenant.history(&even).await.unwrap()), ["t0", "t2", "t4"]);
        let mut request = HistoryRequest::new().oldest_first().with_limit(4);
        let mut seen = Vec::new();
        loop {
            let page = tenant.history(&request).await.unwrap();
            seen.extend(ids(&page));
            if page.next.is_none() {
                break;
            }
            request = request.with_cursor(page.next);
        }
        assert_eq!(seen, (0..10).map(|n| format!("t{n}")).collect::<Vec<_>>());
        let facts = HistoryRequest::new().with_kinds([Kind::Fact]);
        assert_eq!(ids(&tenant.history(&facts).await.unwrap()), ["f"]);
        let all = HistoryRequest::new().with_kinds([]);
        assert_eq!(tenant.history(&all).await.unwrap().items.len(), 11);

        let list = ListRequest::new()
            .with_filter(Filter::eq(Field::UserId, "bob"))
            .with_order(Order { field: OrderField::Id, direction: Direction::Descending })
            .with_limit(2);
        let page = tenant.list(&list).await.unwrap();
        assert_eq!(ids(&page), ["t9", "t8"]);
        let rest = tenant.list(&list.clone().with_cursor(page.next)).await.unwrap();
        assert_eq!(ids(&rest), ["t7", "t6"]);
        for limit in [0, 1_000_000_000] {
            let error = tenant.list(&ListRequest::new().with_limit(limit)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        let broken = ListRequest::new().with_cursor(Some("nonsense".parse().unwrap()));
        assert_eq!(tenant.list(&broken).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn duplicates_are_found_by_text_within_a_scope() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("the same").with_id(id("first"))).await.unwrap();
        stack.clock.advance(Duration::from_secs(1));
        tenant.add(note("the same").with_id(id("second"))).await.unwrap();
        let found = tenant.find_duplicate("the same", Filter::All).await.unwrap();
        assert_eq!(found.unwrap().id, id("first"));
        assert!(tenant.find_duplicate("The same", Filter::All).await.unwrap().is_none());
        let bobs = Filter::eq(Field::UserId, "bob");
        assert!(tenant.find_duplicate("the same", bobs).await.unwrap().is_none());
        let adas = Filter::eq(Field::UserId, "ada");
        assert!(tenant.find_duplicate("the same", adas).await.unwrap().is_some());
    });
}
