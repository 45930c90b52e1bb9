//! What the guard logs: one line for each answer that breaks a rule, and nothing of what it held.

use std::fmt;
use std::sync::{Arc, Mutex};

use futures::executor::block_on;
use memory_core::Projection;
use memory_core::traits::MockRecordStore;
use memory_layers::Layer;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::{CANARY, bench, capabilities, ids, item};

/// Keeps every event as one line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Subscriber for Lines {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _attributes: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.0 += &format!(" {field}={value:?}");
            }
        }
        let metadata = event.metadata();
        assert_eq!(*metadata.level(), Level::ERROR);
        let mut line = Line(metadata.target().to_owned());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

#[test]
fn a_broken_rule_is_one_line_and_a_good_answer_none() {
    let lines = Lines::default();
    let bench = bench();
    let mut store = MockRecordStore::new();
    store.expect_capabilities().returning(capabilities);
    let mut answers = vec![item("b", 1), item("a", 1)];
    store.expect_fetch().times(2).returning(move |_, _, _| Ok(vec![answers.pop()]));
    let store = bench.guard.records(Arc::new(store));
    let fetch = || block_on(store.fetch(&bench.ctx, &ids(&["a"]), &Projection::full()));
    tracing::subscriber::with_default(lines.clone(), || {
        assert!(fetch().is_ok());
        assert_eq!(lines.0.lock().unwrap().len(), 0);
        assert!(fetch().is_err());
    });
    let lines = lines.0.lock().unwrap();
    let [line] = lines.as_slice() else { panic!("one line, not {lines:?}") };
    for part in ["memory_layers::guard", "\"fetch\"", "\"mock\"", "\"id\"", "something else"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(!line.contains(CANARY) && !line.contains("acme"), "{line}");
}
