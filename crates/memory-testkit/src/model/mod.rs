//! The model test: random operations, done to a store and to the reference, with one answer.
//!
//! Few ids, users and tenants meet again and again, so that operations collide. Revisions are
//! compared by their pattern: each of the store's stands for one of the reference's. Scores of
//! vectors are compared with a tolerance, keyword answers by the set of ids. The change log is
//! folded into a map of revisions, as an index would do it, and that map is compared.

mod ops;
mod run;

use std::future::Future;

use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::conformance::Harness;

pub use ops::{FilterOp, Op, Revised, VectorOp, WriteOp};
pub use run::run_ops;

/// The environment variable that sets another seed: a decimal number.
pub const SEED_VARIABLE: &str = "MEMORY_MODEL_SEED";

/// The seed where the variable sets none, so that a run is repeated by running it again.
const SEED: u64 = 20_250_301;

/// Operations of one case, at the most.
const LONGEST: usize = 60;

/// Runs `cases` random sequences of operations on fresh stores and on the reference, and prints
/// the seed. To be called from a `#[test]`, outside of any runtime.
///
/// # Panics
/// A store answers otherwise than the reference; the message holds the seed and the shortest
/// sequence that was found to show it. No runtime can be started.
#[expect(clippy::print_stderr, reason = "a failing test shows the seed to repeat it with")]
pub fn run_model<H, F>(make_subject: impl Fn() -> F, cases: u32)
where
    H: Harness + 'static,
    F: Future<Output = H>,
{
    crate::canary::watch();
    let seed = std::env::var(SEED_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(SEED);
    eprintln!("model: {cases} cases from seed {seed} ({SEED_VARIABLE} sets another)");
    if let Err(failure) = check_model(make_subject, cases, seed) {
        panic!("model: seed {seed}: {failure}");
    }
}

/// As [`run_model`] with a seed, for tests that expect a difference.
///
/// # Errors
/// The difference, with the shortest sequence that was found to show it.
///
/// # Panics
/// No runtime can be started.
#[expect(clippy::expect_used, reason = "a test without a runtime cannot go on")]
pub fn check_model<H, F>(make_subject: impl Fn() -> F, cases: u32, seed: u64) -> Result<(), String>
where
    H: Harness + 'static,
    F: Future<Output = H>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime starts");
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, random);
    runner
        .run(&vec(ops::op(), 1..LONGEST), |ops| {
            runtime
                .block_on(async { run_ops(make_subject().await, &ops).await })
                .map_err(|failure| TestCaseError::fail(failure.to_string()))
        })
        .map_err(|error| error.to_string())
}
