//! Import and export, over every real store.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orchestra_memory::{
    AddManyOptions, BadLine, Callback, CancelFlag, EraseOptions, ErrorKind, ExportOptions, Field,
    Filter, ImportOptions, ImportReport, Kind, MemoryItem, MetaKey, MetaValue, NewMemory,
    OnConflict, Order, Projection, Role, SearchRequest, SessionId, TenantMemory, Timestamp,
    VectorProjection,
};

use crate::support::{each_store, each_store_with, id, note, plain, start, user};

async fn import(tenant: &TenantMemory, text: &str, options: ImportOptions) -> ImportReport {
    tenant.import(text.as_bytes(), options).await
}

async fn all(tenant: &TenantMemory) -> BTreeMap<String, MemoryItem> {
    let request = orchestra_memory::ListRequest::new()
        .with_limit(1_000)
        .with_projection(Projection::full().with_vectors(VectorProjection::All));
    let page = tenant.list(&request).await.unwrap();
    assert!(page.next.is_none());
    // Revisions are each store's own.
    let plain = |mut item: MemoryItem| {
        item.revision = None;
        (item.id.to_string(), item)
    };
    page.items.into_iter().map(plain).collect()
}

#[test]
fn good_lines_go_in_and_bad_ones_are_named_by_number() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let text = "\u{feff}{\"id\":\"a\",\"user_id\":\"u\",\"content\":\"one\"}\r\n\
                    \n\
                    not json\n\
                    {\"user_id\":\"u\",\"content\":\"two\",\"colour\":\"red\"}\n\
                    {\"content\":\"nobody's\"}\n\
                    {\"user_id\":\"u\",\"content\":\"three\",\"embedding\":[1,2]}\n\
                    {\"user_id\":\"u\",\"content\":\"four\",\"embedding\":[1,2,3]}\n\
                    {\"id\":\"a\",\"user_id\":\"u\",\"content\":\"another\"}\n\
                    {\"id\":\"a\",\"user_id\":\"u\",\"content\":\"one\"}\n\
                    {\"user_id\":\"u\",\"content\":\"cut o";
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        let options =
            ImportOptions::new("a file").with_on_bad_line(Callback::new(move |bad: &BadLine| {
                heard.lock().unwrap().push(bad.line)
            }));
        let report = import(&tenant, text, options).await;
        assert!(report.stopped.is_none(), "{:?}", report.stopped);
        let bad: Vec<_> = report.bad_lines.iter().map(|bad| (bad.line, bad.error.kind())).collect();
        let invalid = ErrorKind::InvalidInput;
        assert_eq!(
            bad,
            [
                (3, invalid),
                (4, invalid),
                (5, invalid),
                (7, invalid),
                (8, ErrorKind::AlreadyExists),
                (10, invalid)
            ]
        );
        assert_eq!((report.lines, report.blank, report.bad), (10, 1, 6));
        assert_eq!((report.added, report.unchanged, report.pending), (2, 1, 0));
        assert_eq!(report.bytes, text.len() as u64);
        let mut told = told.lock().unwrap().clone();
        told.sort_unstable();
        assert_eq!(told, [3, 4, 5, 7, 8, 10]);
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 2);
        let item = tenant.get(&id("a")).await.unwrap().unwrap();
        assert_eq!((item.content(), item.occurred_at), ("one", start()));
    });
}

#[test]
fn an_import_that_was_stopped_is_resumed_without_duplicates() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let text: String = (0..25)
            .map(|n| format!("{{\"user_id\":\"u\",\"content\":\"line {}\"}}\n", n % 5))
            .collect();
        let flag = CancelFlag::new();
        let raise = flag.clone();
        let options = ImportOptions::new("f").with_batch_size(10);
        let stopped = options.clone().with_cancel(flag).with_progress(Callback::new(
            move |so_far: &ImportReport| {
                if so_far.added > 0 {
                    raise.cancel();
                }
            },
        ));
        let report = import(&tenant, &text, stopped).await;
        assert!(report.cancelled);
        assert_eq!((report.added, tenant.count(&Filter::All).await.unwrap()), (10, 10));
        stack.clock.advance(Duration::from_secs(60));
        let report = import(&tenant, &text, options.clone()).await;
        assert_eq!((report.added, report.unchanged, report.bad), (15, 10, 0));
        let report = import(&tenant, &text, options).await;
        assert_eq!((report.added, report.unchanged), (0, 25));
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 25);
        let first = Filter::eq(Field::OccurredAt, start());
        assert_eq!(tenant.count(&first).await.unwrap(), 10, "an unchanged line changes nothing");
        let other = import(&tenant, &text, ImportOptions::new("another file")).await;
        assert_eq!(other.added, 25, "another source has other lines");
    });
}

#[test]
fn a_source_that_breaks_off_is_resumed_too() {
    /// Gives its text and then fails instead of ending.
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("unused"))
        }
    }
    impl BufRead for Broken<'_> {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            match self.0.is_empty() {
                true => Err(io::Error::other("the cable was pulled")),
                false => Ok(self.0),
            }
        }
        fn consume(&mut self, bytes: usize) {
            self.0 = &self.0[bytes..];
        }
    }
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let text = "{\"user_id\":\"u\",\"content\":\"x\"}\n".repeat(5);
        let options = ImportOptions::new("f").with_batch_size(2);
        let report = tenant.import(Broken(text.as_bytes()), options.clone()).await;
        let stopped = report.stopped.unwrap();
        assert_eq!(stopped.kind(), ErrorKind::Unavailable);
        assert_eq!((report.lines, report.added, report.pending), (5, 4, 1));
        let report = import(&tenant, &text, options).await;
        assert_eq!((report.added, report.unchanged), (1, 4));
    });
}

#[test]
fn conflicts_are_treated_as_asked_and_long_lines_are_bad() {
    let mut settings = plain();
    settings.import.line_bytes = 1_024;
    settings.import.bad_lines_kept = 1;
    each_store_with(&settings, async |stack| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("there").with_id(id("a"))).await.unwrap();
        let text = "{\"id\":\"a\",\"user_id\":\"u\",\"content\":\"new\"}\n";
        let with = |on_conflict| ImportOptions::new("f").with_on_conflict(on_conflict);
        let report = import(&tenant, text, with(OnConflict::Skip)).await;
        assert_eq!((report.skipped, report.bad), (1, 0));
        let report = import(&tenant, text, with(OnConflict::Replace)).await;
        assert_eq!((report.replaced, report.bad), (1, 0));
        assert_eq!(tenant.get(&id("a")).await.unwrap().unwrap().content(), "new");
        let long = format!("{{\"user_id\":\"u\",\"content\":\"{}\"}}\n", "x".repeat(2_000));
        let report = import(&tenant, &format!("{long}{text}{long}"), with(OnConflict::Fail)).await;
        assert_eq!((report.unchanged, report.bad, report.bad_lines.len()), (1, 2, 1));
        assert!(report.bad_lines[0].error.message().contains("1024"));
        let plain = "{\"content\":\"whose?\"}\n";
        let report =
            import(&tenant, plain, ImportOptions::new("p").with_default_user(user("u"))).await;
        assert_eq!(report.added, 1);
    });
}

#[test]
fn what_was_erased_stays_erased_unless_asked_for() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let text = "{\"id\":\"a\",\"user_id\":\"ada\",\"content\":\"hers\"}\n\
                    {\"id\":\"b\",\"user_id\":\"bob\",\"content\":\"his\"}\n";
        assert_eq!(import(&tenant, text, ImportOptions::new("f")).await.added, 2);
        tenant.erase_user(&user("ada"), EraseOptions::new()).await.unwrap();
        assert!(tenant.delete(&id("b"), None).await.unwrap());
        let report = import(&tenant, text, ImportOptions::new("f")).await;
        assert_eq!((report.added, report.erased), (1, 1), "a delete leaves no tombstone");
        assert!(tenant.get(&id("a")).await.unwrap().is_none());
        let options = ImportOptions::new("f").with_include_erased(true);
        let report = import(&tenant, text, options).await;
        assert_eq!((report.added, report.unchanged, report.erased), (1, 1, 0));
    });
}

fn rich(n: u64) -> NewMemory {
    let key = |name: &str| MetaKey::new(name).unwrap();
    let at = |seconds| start().saturating_sub(Duration::from_secs(seconds));
    let small = |n: u64| f32::from(u16::try_from(n).unwrap());
    let mut memory = NewMemory::message(Role::Assistant, format!("line\n\"{n}\" \u{1F600} \u{7}"))
        .with_id(id(&format!("m/{n}")))
        .with_user(user("ada"))
        .with_session(SessionId::new("s").unwrap())
        .with_author("Ada")
        .with_payload(serde_json::json!({"n": n, "f": 0.1, "deep": [null, {"x": "é"}]}))
        .with_meta(key("int"), i64::MAX)
        .with_meta(key("float"), MetaValue::Float(1.0))
        .with_meta(key("tiny"), MetaValue::Float(f64::MIN_POSITIVE))
        .with_meta(key("list"), MetaValue::List(vec!["a".into(), "b".into()]))
        .with_importance(0.1 + 0.2)
        .with_occurred_at(at(n))
        .with_expires_at(Timestamp::parse("2099-12-31T23:59:59.999999Z").unwrap())
        .with_embedding(vec![0.1 + small(n), 1.0 / 3.0, -1e-7, f32::MIN_POSITIVE]);
    memory.created_at = Some(at(1_000 + n));
    memory.updated_at = Some(at(500 + n));
    memory
}

#[test]
fn an_export_imported_elsewhere_gives_equal_memories() {
    let mut settings = plain();
    settings.export.page_size = 3;
    each_store_with(&settings, async |stack| {
        let tenant = stack.memory.tenant("from").unwrap();
        assert_eq!(tenant.add_many((0..10).map(rich), AddManyOptions::new()).await.added, 10);
        tenant.add(note("plain").with_kind(Kind::Custom("own".parse().unwrap()))).await.unwrap();
        let mut lines = Vec::new();
        let options = ExportOptions::new().with_vectors(true);
        let report = tenant.export(&mut lines, options).await.unwrap();
        assert_eq!((report.items, report.vectors, report.bytes), (11, 10, lines.len() as u64));

        stack.clock.advance(Duration::from_secs(1_000));
        let other = stack.memory.tenant("to").unwrap();
        let imported = other.import(&lines[..], ImportOptions::new("export")).await;
        assert_eq!((imported.added, imported.bad), (11, 0), "{:?}", imported.bad_lines);
        assert_eq!(all(&other).await, all(&tenant).await);
        let mut again = Vec::new();
        other.export(&mut again, ExportOptions::new().with_vectors(true)).await.unwrap();
        assert_eq!(again, lines);

        let mut some = Vec::new();
        let options = ExportOptions::new()
            .with_filter(Filter::eq(Field::Kind, "message"))
            .with_order(Order::OLDEST);
        let report = tenant.export(&mut some, options).await.unwrap();
        assert_eq!((report.items, report.vectors), (10, 0));
        let text = String::from_utf8(some).unwrap();
        assert!(text.starts_with("{\"id\":\"m/9\""), "oldest first: {text:.80}");
        assert!(!text.contains("embedding"));
    });
}

#[test]
fn an_export_can_be_stopped_and_says_when_its_target_breaks() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::StorageFull, "full"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("x")).await.unwrap();
        let error = tenant.export(&mut Full, ExportOptions::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let source = std::error::Error::source(&error).unwrap();
        let cause = source.downcast_ref::<io::Error>().unwrap();
        assert_eq!(cause.kind(), io::ErrorKind::StorageFull);
        let flag = CancelFlag::new();
        flag.cancel();
        let mut lines = Vec::new();
        let options = ExportOptions::new().with_cancel(flag);
        let report = tenant.export(&mut lines, options).await.unwrap();
        assert!(report.cancelled && lines.is_empty());
    });
}

#[test]
fn the_sample_conversation_goes_in_twice_and_is_there_once() {
    let text = include_str!("../../../../samples/conversation.jsonl");
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let lines = text.lines().count() as u64;
        let first = import(&tenant, text, ImportOptions::new("conversation")).await;
        assert_eq!((first.added, first.bad), (lines, 0), "{:?}", first.bad_lines);
        let second = import(&tenant, text, ImportOptions::new("conversation")).await;
        assert_eq!((second.added, second.unchanged), (0, lines));
        let question = SearchRequest::new().with_text("When does the removal van come?");
        let answer = tenant.search(&question).await.unwrap();
        let found = answer.hits.iter().take(3).any(|hit| hit.item.id == id("s1-t03"));
        assert!(found, "{:?}", answer.hits.iter().map(|hit| &hit.item.id).collect::<Vec<_>>());
    });
}
