//! The composed stack of the simulation: the layers in their order, with bounds so small that a
//! run meets all of them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use memory_layers::{
    ConcurrencyLimitLayer, GuardSettings, Layer, LimitMutant, LimitSettings, RetryLayer,
    RetrySettings, TenantGuardLayer, TimeoutLayer,
};
use memory_testkit::sim::{Built, Parts, Promises, Stack, Surroundings};

use crate::mutants::{Mutant, Twist};

/// The longest call and the longest attempt.
const CALL: Duration = Duration::from_millis(4_000);
const ATTEMPT: Duration = Duration::from_millis(700);
/// Attempts at one call.
const ATTEMPTS: u32 = 4;
/// Tokens of the retry budget, half of which are for retries, and what a success gives back.
const BUDGET: u32 = 20;
const PER_SUCCESS: f64 = 0.1;

/// Tenant guard, timeout of the call, retry, concurrency limit, timeout of the attempt.
#[derive(Debug)]
pub(crate) struct Composed {
    mutant: Option<Mutant>,
}

impl Composed {
    pub(crate) fn new(mutant: Option<Mutant>) -> Self {
        Self { mutant }
    }

    fn retry_settings(&self) -> RetrySettings {
        let mut settings = RetrySettings::default();
        settings.attempts = ATTEMPTS;
        settings.first_wait_ms = 20;
        settings.longest_wait_ms = 500;
        settings.budget = BUDGET;
        settings.budget_per_success = PER_SUCCESS;
        match self.mutant {
            Some(Mutant::BudgetIgnored) => settings.budget = 100_000,
            Some(Mutant::AttemptsIgnored) => settings.attempts = 10,
            _ => {}
        }
        settings
    }

    /// The layers, outside in, and the limit among them.
    fn layers(&self, around: &Surroundings) -> (Vec<Arc<dyn Layer>>, ConcurrencyLimitLayer) {
        let (clock, timer) = (|| Arc::clone(&around.clock), || Arc::clone(&around.timer));
        let is = |mutant| self.mutant == Some(mutant);
        let ids = Arc::clone(&around.ids);
        let retry = RetryLayer::new(self.retry_settings(), clock(), timer(), ids).unwrap();
        let limit = LimitSettings {
            min: 2,
            max: 16,
            start: 4,
            queue: 8,
            queue_wait_ms: 1_000,
            ..LimitSettings::default()
        };
        let mut limit = ConcurrencyLimitLayer::new(limit, clock(), timer()).unwrap();
        if is(Mutant::PermitLeaked) {
            limit = limit.with_mutant(LimitMutant::LeakOnCancel);
        }
        let mut layers: Vec<Arc<dyn Layer>> = Vec::new();
        layers.push(Arc::new(TenantGuardLayer::new(GuardSettings::default(), clock())));
        if is(Mutant::UnknownReportedAsFailure) {
            layers.push(Arc::new(Twist::OutcomeHidden));
        }
        if !is(Mutant::DeadlineIgnored) {
            layers.push(Arc::new(TimeoutLayer::new(CALL, clock(), timer())));
        }
        if is(Mutant::UnsafeRetried) {
            layers.push(Arc::new(Twist::SentAgain));
        }
        layers.push(Arc::new(retry));
        if is(Mutant::ResendUnsaid) {
            layers.push(Arc::new(Twist::ResendHidden));
        }
        if is(Mutant::PaceIgnored) {
            layers.push(Arc::new(Twist::PaceHidden));
        }
        if is(Mutant::AttemptReportedAsFailure) {
            layers.push(Arc::new(Twist::OutcomeHidden));
        }
        if !is(Mutant::GateMissing) {
            layers.push(Arc::new(limit.clone()));
        }
        if is(Mutant::DeadlineIgnored) {
            layers.push(Arc::new(Twist::DeadlineHidden));
        }
        layers.push(Arc::new(TimeoutLayer::new(ATTEMPT, clock(), timer())));
        (layers, limit)
    }
}

impl Stack for Composed {
    fn promises(&self) -> Promises {
        Promises {
            call_limit: Some(CALL),
            deadlines: true,
            attempts: Some(ATTEMPTS),
            budget: Some((f64::from(BUDGET) / 2.0, PER_SUCCESS)),
            gate: true,
        }
    }

    fn build(&self, mut parts: Parts, around: &Surroundings) -> Built {
        let (layers, limit) = self.layers(around);
        for layer in layers.iter().rev() {
            parts = Parts {
                records: layer.records(parts.records),
                vectors: layer.vectors(parts.vectors),
                keywords: layer.keywords(parts.keywords),
                changes: layer.changes(parts.changes, "sim"),
                leases: layer.leases(parts.leases, "sim"),
                meta: layer.meta(parts.meta, "sim"),
            };
        }
        let held = move || {
            let stats = limit.stats();
            usize::try_from(stats.in_flight).unwrap() + usize::try_from(stats.queued).unwrap()
        };
        Built { parts, held: Some(Box::new(held)) }
    }
}
