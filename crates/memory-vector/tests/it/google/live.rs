//! The same against the real service, where the environment names a project: see
//! `scripts/google-vector-conformance.sh`. Elsewhere it says so and ends.

use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::NoLedger;
use memory_core::{IdSource as _, ManualClock, RandomIds, SystemClock};
use memory_google_auth::{GoogleAuthSettings, ProcessEnvironment, find};
use memory_testkit::conformance::start;
use memory_vector::google::{GoogleVectorIndex, GoogleVectorSettings};

use super::suite;
use super::twin::TwinHarness;

/// How long a write may take to be seen; nothing is published of it.
const SETTLES_WITHIN: Duration = Duration::from_secs(120);

/// The settings that the environment has, if it names a project.
fn named() -> Option<GoogleVectorSettings> {
    let variable = |name: &str| {
        let value = std::env::var(format!("MEMORY_TEST_GOOGLE_VECTOR_{name}")).ok()?;
        (!value.is_empty()).then_some(value)
    };
    let project = variable("PROJECT")?;
    let location = variable("LOCATION").unwrap_or_else(|| "us-central1".to_owned());
    let mut settings = GoogleVectorSettings::new(project, location);
    settings.collection = variable("COLLECTION").unwrap_or_else(|| "memory-test".to_owned());
    settings.quota_project = variable("QUOTA_PROJECT");
    settings.exact = true;
    settings.filter_keys.extend(suite::keys());
    settings.validate().unwrap();
    Some(settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_on_the_real_service() {
    let Some(settings) = named() else {
        println!("MEMORY_TEST_GOOGLE_VECTOR_PROJECT is not set: not run on the real service");
        return;
    };
    let credentials =
        find(&GoogleAuthSettings::default(), &ProcessEnvironment, Arc::new(SystemClock::new()))
            .await
            .unwrap();
    let run = RandomIds.memory_id();
    println!("tenants of this run begin with {run}");
    let make = |name: &'static str| {
        let (settings, credentials) = (settings.clone(), Arc::clone(&credentials));
        let run = format!("{run}/{name}");
        async move {
            // The suite moves the clock on, and the index asks by it what has expired.
            let clock = Arc::new(ManualClock::new(start()));
            let ledger = Arc::new(NoLedger);
            let opened =
                GoogleVectorIndex::open(settings, credentials, Arc::clone(&clock) as _, ledger);
            let google = Arc::new(opened.await.unwrap());
            TwinHarness::new(google, clock, run, SETTLES_WITHIN)
        }
    };
    let passed = suite::run(make).await;
    println!("{passed} checks passed on the real service");
    assert!(passed >= 25, "{passed} checks");
}
