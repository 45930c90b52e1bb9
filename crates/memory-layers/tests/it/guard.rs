//! The tenant guard against stores that break one rule each, and the same stores when they do not.

mod indexes;
mod log;
mod parts;
mod records;
mod requests;

use std::sync::Arc;

use memory_core::traits::IndexHit;
use memory_core::{
    CallContext, Capabilities, Capability, Durability, Error, ErrorKind, ManualClock, MemoryId,
    MemoryItem, Revision, TenantId, Timestamp, UserId,
};
use memory_layers::{GuardRule, GuardSettings, TenantGuardLayer};

/// What no message may hold: it stands in the content and the ids of every row.
const CANARY: &str = "cnry";

/// A guard on a clock that stands still.
pub(crate) struct Bench {
    pub(crate) guard: TenantGuardLayer,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ctx: CallContext,
}

pub(crate) fn bench() -> Bench {
    bench_with(GuardSettings::default())
}

pub(crate) fn bench_with(settings: GuardSettings) -> Bench {
    let clock = Arc::new(ManualClock::new(at(1_000)));
    let guard = TenantGuardLayer::new(settings, clock.clone());
    Bench { guard, clock, ctx: context("acme") }
}

impl Bench {
    /// That an answer was refused by a rule, once, and that the error says no more than it may.
    #[track_caller]
    pub(crate) fn broke<T: std::fmt::Debug>(
        &self,
        rule: GuardRule,
        answer: Result<T, Error>,
    ) -> Error {
        let error = answer.expect_err("the answer breaks a rule");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(!error.is_retryable(), "{error}");
        assert_eq!(error.context(), [("rule", rule.name().to_owned())]);
        assert_eq!(error.backend(), "mock");
        assert!(!error.operation().is_empty());
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(CANARY) && !shown.contains("acme"), "{shown}");
        let counts = self.guard.counts();
        assert_eq!((counts.of(rule), counts.broken()), (1, 1), "{counts:?}");
        error
    }

    /// That nothing was amiss so far.
    #[track_caller]
    pub(crate) fn clean(&self) {
        assert_eq!(
            self.guard.counts(),
            TenantGuardLayer::new(GuardSettings::default(), self.clock.clone()).counts()
        );
    }
}

pub(crate) fn context(tenant: &str) -> CallContext {
    CallContext::new(TenantId::new(tenant).unwrap())
}

pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

pub(crate) fn id(name: &str) -> MemoryId {
    MemoryId::new(format!("{CANARY}-{name}")).unwrap()
}

pub(crate) fn ids(names: &[&str]) -> Vec<MemoryId> {
    names.iter().map(|name| id(name)).collect()
}

/// An item of the user `ada` at a time, as a store shows it, at revision 1.
pub(crate) fn item(name: &str, micros: i64) -> MemoryItem {
    let content = format!("{CANARY} text of {name}");
    let mut item = MemoryItem::new(id(name), content, at(micros))
        .unwrap()
        .with_user(UserId::new("ada").unwrap());
    item.revision = Some(Revision::from_number(1));
    item
}

pub(crate) fn hit(name: &str, score: f64) -> IndexHit {
    IndexHit {
        id: id(name),
        revision: Revision::from_number(1),
        score,
        terms: Vec::new(),
        item: None,
        context: None,
    }
}

/// A hit that brings its record along.
pub(crate) fn full_hit(name: &str, score: f64) -> IndexHit {
    IndexHit { item: Some(Box::new(item(name, 5))), ..hit(name, score) }
}

pub(crate) fn by_id() -> memory_core::Order {
    memory_core::Order::BY_ID
}

pub(crate) fn capabilities() -> Capabilities {
    Capabilities::new("mock", Capability::ALL, Durability::Volatile)
}
