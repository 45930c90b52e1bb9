//! Imports of plain texts, and of texts that are split into several memories.

use std::io::{self, BufRead, Read};
use std::sync::{Arc, Mutex};

use orchestra_memory::{
    Callback, CancelFlag, ErrorKind, ExportOptions, Filter, ImportFormat, ImportOptions,
    ImportReport, ListRequest, MemoryItem, MetaKey, MetaValue, OnConflict, SearchRequest,
    SplitOptions, TenantMemory,
};

use crate::support::{
    each_store, each_store_embedding, each_store_with, embedding, id, note, plain, user,
};
use crate::words::Words;

fn split() -> Option<SplitOptions> {
    Some(SplitOptions { target_tokens: 20, max_tokens: 30 })
}

/// So many sentences, each with a number.
fn sentences(count: usize) -> String {
    let sentence = |n| format!("This is sentence number {n} of a long text about tea.");
    (0..count).map(sentence).collect::<Vec<_>>().join(" ")
}

async fn import(tenant: &TenantMemory, text: &str, options: ImportOptions) -> ImportReport {
    tenant.import(text.as_bytes(), options).await
}

async fn all(tenant: &TenantMemory) -> Vec<MemoryItem> {
    let page = tenant.list(&ListRequest::new().with_limit(1_000)).await.unwrap();
    let mut items = page.items;
    items.sort_by_key(|item| item.occurred_at);
    items
}

fn meta(item: &MemoryItem, name: &str) -> Option<MetaValue> {
    item.metadata.get(&MetaKey::new(name).unwrap()).cloned()
}

#[test]
fn a_long_line_becomes_several_memories_and_a_short_one_stays_whole() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let text = sentences(9);
        let long = format!(
            "{{\"id\":\"doc\",\"user_id\":\"u\",\"session_id\":\"s\",\"content\":\"{text}\",\
             \"metadata\":{{\"topic\":\"tea\"}},\"payload\":[1],\"importance\":0.5,\
             \"occurred_at\":\"2025-01-02T03:04:05Z\"}}\n"
        );
        let lines = format!("{long}{{\"id\":\"short\",\"user_id\":\"u\",\"content\":\"Tea.\"}}\n");
        let options = ImportOptions::new("f").with_split(split());
        let report = import(&tenant, &lines, options.clone()).await;
        assert!(report.stopped.is_none() && report.bad == 0, "{report:?}");
        let parts = report.added - 1;
        assert!(report.lines == 2 && parts > 2, "{report:?}");
        let mut found = Vec::new();
        for n in 1..=parts {
            let part = tenant.get(&id(&format!("doc#{n}"))).await.unwrap().unwrap();
            let content = part.content().to_owned();
            let number = |n: u64| Some(MetaValue::Int(i64::try_from(n).unwrap()));
            assert_eq!((meta(&part, "part"), meta(&part, "parts")), (number(n), number(parts)));
            assert_eq!(meta(&part, "document"), Some(MetaValue::Text("doc".to_owned())));
            assert_eq!(meta(&part, "topic"), Some(MetaValue::Text("tea".to_owned())));
            assert_eq!(part.occurred_at.to_string(), "2025-01-02T03:04:05Z");
            assert_eq!((part.user_id, part.importance), (Some(user("u")), Some(0.5)));
            assert_eq!(part.session_id.unwrap().as_str(), "s");
            let payload = part.payload.map(|payload| payload.to_string());
            assert_eq!(payload.as_deref(), (n == 1).then_some("[1]"), "with the first alone");
            found.push(content);
        }
        assert_eq!(found.join(" "), text, "nothing is lost");
        assert!(tenant.get(&id("doc")).await.unwrap().is_none());
        let short = tenant.get(&id("short")).await.unwrap().unwrap();
        assert_eq!((short.content(), short.metadata.len()), ("Tea.", 0));

        let again = import(&tenant, &lines, options).await;
        assert_eq!((again.added, again.unchanged, again.lines), (0, parts + 1, 2));
        // The twin: without splitting it is one memory.
        let whole = stack.memory.tenant("whole").unwrap();
        assert_eq!(import(&whole, &lines, ImportOptions::new("f")).await.added, 2);
        assert_eq!(whole.get(&id("doc")).await.unwrap().unwrap().content(), text);
    });
}

#[test]
fn an_export_of_parts_is_imported_as_it_is() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let line = format!("{{\"user_id\":\"u\",\"content\":\"{}\"}}\n", sentences(9));
        let options = ImportOptions::new("f").with_split(split());
        let parts = import(&tenant, &line, options.clone()).await.added;
        assert!(parts > 2);
        let mut lines = Vec::new();
        tenant.export(&mut lines, ExportOptions::new()).await.unwrap();
        let other = stack.memory.tenant("other").unwrap();
        let default = options.with_split(Some(SplitOptions::default()));
        let report = other.import(&lines[..], default).await;
        assert_eq!((report.added, report.bad), (parts, 0), "each is short enough");
    });
}

#[test]
fn what_cannot_be_split_is_a_bad_line() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let text = sentences(9);
        let line = |fields: &str| format!("{{\"user_id\":\"u\",\"content\":\"{text}\"{fields}}}\n");
        let longest = "x".repeat(480);
        for (fields, part) in [
            (",\"embedding\":[1,2]".to_owned(), "`embedding`"),
            (",\"metadata\":{\"part\":1}".to_owned(), "`part`"),
            (",\"metadata\":{\"parts\":1}".to_owned(), "`parts`"),
            (",\"metadata\":{\"document\":\"x\"}".to_owned(), "`document`"),
            (format!(",\"id\":\"{longest}\""), "too long"),
        ] {
            let options = ImportOptions::new("f").with_split(split());
            let report = import(&tenant, &line(&fields), options).await;
            assert_eq!((report.lines, report.bad, report.added), (1, 1, 0), "{fields}");
            let error = &report.bad_lines[0].error;
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.message().contains(part), "{error}");
            assert!(!error.to_string().contains("sentence"), "{error}");
            // The twin: it is good where it is not split.
            let report = import(&tenant, &line(&fields), ImportOptions::new("f")).await;
            assert_eq!(report.bad, 0, "{fields}: {:?}", report.bad_lines);
        }
    });
}

#[test]
fn a_part_that_is_refused_does_not_take_the_others_with_it() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("taken").with_id(id("doc#2"))).await.unwrap();
        let text = sentences(9);
        let line = format!("\n{{\"id\":\"doc\",\"user_id\":\"u\",\"content\":\"{text}\"}}\n");
        let options = ImportOptions::new("f").with_split(split());
        let report = import(&tenant, &line, options.clone()).await;
        assert!(report.added > 1, "{report:?}");
        assert_eq!((report.lines, report.blank, report.bad), (2, 1, 1));
        assert_eq!(report.bad_lines[0].line, 2);
        let error = &report.bad_lines[0].error;
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("id=doc#2"), "{error}");
        let skip = options.clone().with_on_conflict(OnConflict::Skip);
        let report = import(&tenant, &line, skip).await;
        assert_eq!((report.added, report.skipped, report.bad), (0, 1, 0));
    });
}

#[test]
fn a_plain_text_is_one_document() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let text = format!("\u{feff}{}\r\n\r\n{}\n", sentences(2), sentences(30));
        let options = ImportOptions::new("notes.txt")
            .with_format(ImportFormat::Text)
            .with_default_user(user("u"));
        let report = import(&tenant, &text, options.clone()).await;
        assert_eq!((report.lines, report.added, report.bad), (1, 1, 0));
        assert_eq!(report.bytes, text.len() as u64);
        let whole = all(&tenant).await.remove(0);
        assert_eq!(whole.content(), &text['\u{feff}'.len_utf8()..], "but for the mark");
        assert!(whole.id.as_str().starts_with("line-") && whole.metadata.is_empty());
        let again = import(&tenant, &text, options.clone()).await;
        assert_eq!((again.added, again.unchanged), (0, 1));

        let split = options.clone().with_split(split()).with_batch_size(3);
        let report = import(&tenant, &text, split.clone()).await;
        let parts = report.added;
        assert!(parts > 6 && report.lines == 1 && report.bad == 0, "{report:?}");
        let first = tenant.get(&id(&format!("{}#1", whole.id))).await.unwrap().unwrap();
        assert!(text[3..].starts_with(first.content()), "{}", first.content());
        let again = import(&tenant, &text, split.clone()).await;
        assert_eq!((again.added, again.unchanged), (0, parts));
        let mut other = split;
        other.source = "other.txt".to_owned();
        assert_eq!(import(&tenant, &text, other).await.added, parts, "another document");

        for (text, blank, bad) in [("", 1, 0), (" \n\t", 1, 0), ("\u{feff}", 1, 0)] {
            let report = import(&tenant, text, options.clone()).await;
            assert_eq!((report.lines, report.blank, report.bad), (1, blank, bad), "{text:?}");
        }
        let mut ownerless = options.clone();
        ownerless.default_user = None;
        let report = tenant.import(&b"abc\xff"[..], options).await;
        assert!(report.bad_lines[0].error.message().contains("from its byte 4 on"));
        let report = import(&tenant, "nobody's", ownerless).await;
        assert_eq!((report.bad, report.added), (1, 0));
    });
}

#[test]
fn a_text_that_is_too_long_is_refused_and_a_long_one_is_split() {
    let mut settings = plain();
    settings.import.document_bytes = 1024 * 1024;
    each_store_with(&settings, async |stack| {
        let tenant = stack.memory.default_tenant();
        let options =
            ImportOptions::new("f").with_format(ImportFormat::Text).with_default_user(user("u"));
        // Larger than any memory can be, so that only its parts can be stored.
        let text = sentences(17_000);
        assert!(text.len() > 800 * 1024 && text.len() < 1024 * 1024, "{}", text.len());
        let report = import(&tenant, &text, options.clone()).await;
        assert_eq!((report.added, report.bad), (0, 1));
        let error = &report.bad_lines[0].error;
        assert!(error.message().contains("limit is 786432; splitting (`--split`)"), "{error}");
        let split = options.clone().with_split(Some(SplitOptions::default()));
        let report = import(&tenant, &text, split.clone()).await;
        assert!(report.added > 1_000 && report.bad == 0, "{report:?}");
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), report.added);
        let report = import(&tenant, &sentences(25_000), split).await;
        assert_eq!((report.added, report.bad), (0, 1));
        assert!(report.bad_lines[0].error.message().contains("import.document_bytes"));
    });
}

#[test]
fn splitting_is_named_only_where_it_helps() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let text = sentences(17_000);
        for (fields, helps) in [("", true), (",\"embedding\":[1,2]", false)] {
            let line = format!("{{\"user_id\":\"u\",\"content\":\"{text}\"{fields}}}\n");
            let report = import(&tenant, &line, ImportOptions::new("f")).await;
            let message = report.bad_lines[0].error.message().to_owned();
            assert!(message.contains("the limit is 786432"), "{message}");
            assert_eq!(message.contains("--split"), helps, "{message}");
            let options = ImportOptions::new("f").with_split(Some(SplitOptions::default()));
            let report = import(&tenant, &line, options).await;
            assert_eq!(report.bad == 0, helps, "{:?}", report.bad_lines);
        }
    });
}

/// A source that is not to be asked again once it has ended, as a terminal is not.
struct Once<'a>(&'a [u8], bool);

impl Read for Once<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut from = self.fill_buf()?;
        let read = from.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Once<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        assert!(!self.1, "the source has ended");
        self.1 = self.0.is_empty();
        Ok(&self.0[..self.0.len().min(7)])
    }

    fn consume(&mut self, bytes: usize) {
        self.0 = &self.0[bytes..];
    }
}

#[test]
fn a_source_that_has_ended_is_not_read_again() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let text = sentences(60);
        let line = format!("{{\"user_id\":\"u\",\"content\":\"{text}\"}}\n");
        for (format, text) in [(ImportFormat::Text, &text), (ImportFormat::JsonLines, &line)] {
            for split in [None, split()] {
                let options = ImportOptions::new(format!("{format:?} {split:?}"))
                    .with_format(format)
                    .with_default_user(user("u"))
                    .with_split(split);
                let report = tenant.import(Once(text.as_bytes(), false), options).await;
                assert!(report.stopped.is_none() && report.bad == 0, "{report:?}");
                assert_eq!((report.lines, report.blank), (1, 0));
                assert_eq!(report.bytes, text.len() as u64);
                assert_eq!(report.added > 1, split.is_some(), "{report:?}");
            }
        }
    });
}

#[test]
fn progress_is_told_before_vectors_are_made() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        let told = Arc::new(Mutex::new(Vec::new()));
        let (heard, embedder) = (told.clone(), words.clone());
        let options = ImportOptions::new("f")
            .with_format(ImportFormat::Text)
            .with_default_user(user("u"))
            .with_split(split())
            .with_batch_size(4)
            .with_progress(Callback::new(move |so_far: &ImportReport| {
                let report = (embedder.calls() > 0, so_far.added, so_far.pending);
                heard.lock().unwrap().push(report);
            }));
        let report = import(&tenant, &sentences(60), options).await;
        assert!(report.added > 8 && report.pending == 0, "{report:?}");
        let told = told.lock().unwrap().clone();
        assert_eq!(told[0], (false, 0, 4), "read, and nothing is embedded");
        assert_eq!(told[1], (true, 0, 8), "the next one beside it");
        assert_eq!(told[2], (true, 4, 4), "the first one is written");
        assert_eq!(told.last(), Some(&(true, report.added, 0)));
    });
}

#[test]
fn parts_that_are_not_reached_are_counted() {
    for embeds in [false, true] {
        let check = async |tenant: &TenantMemory| {
            let text = sentences(60);
            let options = ImportOptions::new("f")
                .with_format(ImportFormat::Text)
                .with_default_user(user("u"))
                .with_split(split())
                .with_batch_size(4);
            let flag = CancelFlag::new();
            let raise = flag.clone();
            let stopped = options.clone().with_cancel(flag).with_progress(Callback::new(
                move |so_far: &ImportReport| {
                    if so_far.added > 0 {
                        raise.cancel();
                    }
                },
            ));
            let report = import(tenant, &text, stopped).await;
            assert!(report.cancelled);
            // Where texts are embedded, the batch that is read beside the first one goes in, too.
            let written = if embeds { 8 } else { 4 };
            assert_eq!(report.added, written);
            let rest = import(tenant, &text, options).await;
            assert_eq!((rest.unchanged, rest.added, rest.pending), (written, report.pending, 0));
        };
        match embeds {
            true => each_store_embedding(&embedding(), Words::new, async |stack, _| {
                let tenant = stack.memory.default_tenant();
                check(&tenant).await;
                let stats = tenant.stats().await.unwrap();
                assert_eq!(stats.items, stats.embedded);
                let request = SearchRequest::new().with_text("sentence number 33");
                assert!(!tenant.search(&request).await.unwrap().hits.is_empty());
            }),
            false => each_store(async |stack| check(&stack.memory.default_tenant()).await),
        }
    }
}
