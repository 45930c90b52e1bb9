//! Documents that are imported again, split otherwise than before.

use orchestra_memory::{
    ErrorKind, Filter, ImportFormat, ImportOptions, ImportReport, ListRequest, MemoryItem, MetaKey,
    NewMemory, OnConflict, SplitOptions, TenantMemory,
};

use crate::support::{each_store, each_store_embedding, embedding, id, note, user};
use crate::words::Words;

/// So many sentences, each with a number.
fn sentences(count: usize) -> String {
    let sentence = |n| format!("This is sentence number {n} of a long text about tea.");
    (0..count).map(sentence).collect::<Vec<_>>().join(" ")
}

fn line(id: &str, content: &str) -> String {
    format!("{{\"id\":\"{id}\",\"user_id\":\"u\",\"content\":\"{content}\"}}\n")
}

/// Parts of about so many tokens.
fn parts_of(tokens: usize) -> ImportOptions {
    let split = SplitOptions { target_tokens: tokens, max_tokens: tokens + tokens / 2 };
    ImportOptions::new("f").with_split(Some(split))
}

fn replacing(tokens: usize) -> ImportOptions {
    parts_of(tokens).with_on_conflict(OnConflict::Replace)
}

async fn import(tenant: &TenantMemory, text: &str, options: ImportOptions) -> ImportReport {
    let report = tenant.import(text.as_bytes(), options).await;
    assert!(report.stopped.is_none() && report.pending == 0, "{report:?}");
    report
}

async fn all(tenant: &TenantMemory) -> Vec<MemoryItem> {
    tenant.list(&ListRequest::new().with_limit(1_000)).await.unwrap().items
}

/// The text of a document's parts, in order; each is there once.
async fn text_of(tenant: &TenantMemory, document: &str) -> String {
    let mut texts = Vec::new();
    while let Some(part) =
        tenant.get(&id(&format!("{document}#{}", texts.len() + 1))).await.unwrap()
    {
        texts.push(part.content().to_owned());
    }
    texts.join(" ")
}

#[test]
fn fewer_parts_leave_nothing_of_more() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let text = sentences(60);
        tenant.add(note("the twin").with_id(id("doc#x"))).await.unwrap();
        // It has such metadata, and is no part by its id.
        let key = |name: &str| MetaKey::new(name).unwrap();
        let other = NewMemory::new("other").with_user(user("u")).with_id(id("other"));
        let other = other.with_meta(key("document"), "doc").with_meta(key("part"), 99);
        tenant.add(other).await.unwrap();
        let report = import(&tenant, &line("doc", &text), replacing(20).with_batch_size(7)).await;
        let (many, before) = (report.added, report.removed);
        assert!(many > 20 && before == 0, "{report:?}");
        let report = import(&tenant, &line("doc", &text), replacing(60).with_batch_size(3)).await;
        let few = report.replaced;
        assert!(few > 3 && few < many && report.added == 0 && report.bad == 0, "{report:?}");
        assert_eq!((report.removed, report.lines), (many - few, 1));
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), few + 2);
        assert_eq!(text_of(&tenant, "doc").await, text);
        // A hole in what is left changes nothing, and more parts than before are all there.
        let report = import(&tenant, &line("doc", &text), replacing(20)).await;
        assert_eq!((report.replaced, report.added, report.removed), (few, many - few, 0));
        assert!(tenant.delete(&id(&format!("doc#{}", few + 2)), None).await.unwrap());
        let report = import(&tenant, &line("doc", &text), replacing(60)).await;
        assert_eq!((report.replaced, report.removed), (few, many - few - 1));
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), few + 2);
        // Without an id the document is known by its text.
        let plain = |tokens| {
            let options = replacing(tokens).with_format(ImportFormat::Text);
            options.with_default_user(user("u"))
        };
        let other = stack.memory.tenant("other").unwrap();
        let many = import(&other, &text, plain(20)).await.added;
        let report = import(&other, &text, plain(60)).await;
        assert_eq!(report.removed, many - report.replaced);
        assert_eq!(other.count(&Filter::All).await.unwrap(), report.replaced);
    });
}

#[test]
fn a_document_is_stored_whole_or_in_parts() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let text = sentences(30);
        let both = line("doc", &text) + &line("short", "Tea.");
        let parts = import(&tenant, &both, replacing(20)).await.added - 1;
        assert!(parts > 5);
        let report = import(&tenant, &both, replacing(5_000)).await;
        assert_eq!((report.added, report.replaced, report.removed), (1, 1, parts));
        let ids: Vec<_> = all(&tenant).await.into_iter().map(|item| item.id).collect();
        assert!(ids.len() == 2 && ids.contains(&id("doc")) && ids.contains(&id("short")));
        let report = import(&tenant, &both, replacing(20)).await;
        assert_eq!((report.added, report.replaced, report.removed), (parts, 1, 1));
        assert!(tenant.get(&id("doc")).await.unwrap().is_none());
        assert_eq!(text_of(&tenant, "doc").await, text);
        // Under other policies, and without splitting, nothing goes.
        for options in [
            parts_of(5_000),
            parts_of(5_000).with_on_conflict(OnConflict::Skip),
            ImportOptions::new("f").with_on_conflict(OnConflict::Replace),
        ] {
            let report = import(&tenant, &both, options).await;
            assert_eq!(report.removed, 0);
            assert_eq!(text_of(&tenant, "doc").await, text);
        }
    });
}

#[test]
fn a_document_that_comes_twice_in_a_source_is_the_later_one() {
    let check = async |tenant: &TenantMemory, batch: usize| {
        for (first, second) in [(40, 12), (12, 40), (1, 40), (40, 1)] {
            let text = line("doc", &sentences(first)) + &line("doc", &sentences(second));
            let report = import(tenant, &text, replacing(20).with_batch_size(batch)).await;
            assert_eq!(report.bad, 0, "{report:?}");
            let items = all(tenant).await;
            match second {
                1 => assert_eq!((items.len(), items[0].content()), (1, &*sentences(1))),
                _ => {
                    assert_eq!(text_of(tenant, "doc").await, sentences(second));
                    assert!(items.iter().all(|item| item.id.as_str().starts_with("doc#")));
                }
            }
        }
    };
    for batch in [1, 3, 500] {
        each_store(async |stack| check(&stack.memory.default_tenant(), batch).await);
        each_store_embedding(&embedding(), Words::new, async |stack, _| {
            check(&stack.memory.default_tenant(), batch).await;
        });
    }
}

#[test]
fn a_part_takes_the_place_of_no_stranger() {
    let check = async |tenant: &TenantMemory, batch: usize| {
        let long = line("doc", &sentences(30));
        let stranger = line("doc#2", "Nothing but tea.");
        let options = || replacing(20).with_batch_size(batch);
        // In the store, or earlier in the same source: it stays.
        tenant.add(note("Nothing but tea.").with_id(id("doc#2"))).await.unwrap();
        let sources = [long.clone(), format!("{stranger}{long}")];
        for source in sources {
            let report = import(tenant, &source, options()).await;
            assert!(report.bad == 1 && report.removed == 0, "{report:?}");
            let bad = &report.bad_lines[0];
            assert_eq!(bad.line, report.lines);
            assert_eq!(bad.error.kind(), ErrorKind::AlreadyExists);
            assert!(bad.error.message().contains("no part of the document"), "{}", bad.error);
            assert!(bad.error.to_string().contains("id=doc#2"), "{}", bad.error);
            let there = tenant.get(&id("doc#2")).await.unwrap().unwrap();
            assert_eq!(there.content(), "Nothing but tea.");
            assert!(tenant.get(&id("doc#3")).await.unwrap().is_some(), "the others go in");
        }
        assert!(tenant.delete(&id("doc#2"), None).await.unwrap());
        // The document first: its part stays.
        let whole = import(tenant, &long, options()).await;
        assert_eq!(whole.bad, 0);
        for source in [stranger.clone(), format!("{long}{stranger}")] {
            let report = import(tenant, &source, options()).await;
            assert_eq!(report.bad, 1, "{report:?}");
            let error = &report.bad_lines[0].error;
            assert!(error.message().contains("that of a part of a document"), "{error}");
            assert_eq!(text_of(tenant, "doc").await, sentences(30));
        }
        // The twin: a memory that is no part takes the place of another one.
        let tea = line("doc#x", "Tea.") + &line("doc#x", "Coffee.");
        let report = import(tenant, &tea, options()).await;
        assert_eq!((report.added, report.replaced, report.bad), (1, 1, 0));
    };
    for batch in [1, 4, 500] {
        each_store(async |stack| check(&stack.memory.default_tenant(), batch).await);
        each_store_embedding(&embedding(), Words::new, async |stack, _| {
            check(&stack.memory.default_tenant(), batch).await;
        });
    }
}

#[test]
fn large_payloads_do_not_fill_a_batch() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let (text, payload) = (sentences(300), "x".repeat(100_000));
        let long: String = (0..6)
            .map(|n| {
                format!(
                    "{{\"id\":\"d{n}\",\"user_id\":\"u\",\"content\":\"{text}\",\
                     \"payload\":\"{payload}\",\"metadata\":{{\"k\":\"{}\"}}}}\n",
                    "m".repeat(1_400)
                )
            })
            .collect();
        let report = import(&tenant, &long, replacing(20)).await;
        assert!(report.bad == 0 && report.added > 600, "{report:?}");
        let mut with = 0;
        let mut request = ListRequest::new().with_limit(1_000);
        loop {
            let page = tenant.list(&request).await.unwrap();
            for item in page.items {
                with += u64::from(item.payload.is_some());
                assert_eq!(item.payload.is_some(), item.id.as_str().ends_with("#1"));
            }
            let Some(next) = page.next else { break };
            request = request.with_cursor(Some(next));
        }
        assert_eq!(with, 6, "each document's is there once");
    });
}
