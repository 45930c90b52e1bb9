//! The conformance suite's checks about vectors, over a composition with the index.

use std::sync::Arc;
use std::time::Duration;

use memory_core::{Capability, ManualClock, MetaKey};
use memory_testkit::conformance::{CHECKS, FILTER_KEYS, Verdict, run_check, start};

use super::server::Server;
use super::twin::TwinHarness;
use super::{Book, index, settings};

/// Runs every check that is about vectors; how many passed.
pub(crate) async fn run<F>(mut make: impl FnMut(&'static str) -> F) -> usize
where
    F: Future<Output = TwinHarness>,
{
    let mut passed = 0;
    for check in CHECKS {
        // The service does not compare by distance.
        if !check.needs.contains(&Capability::VectorSearch) || check.name == "nearest_by_distance" {
            continue;
        }
        let harness = make(check.name).await;
        let twin = harness.twin();
        match run_check(check, Box::new(harness)).await {
            Verdict::Passed => passed += 1,
            Verdict::NotApplicable(why) => println!("{}: {why}", check.name),
            Verdict::Failed(failure) => panic!("{}: {failure:?}", check.name),
        }
        twin.clean().await;
    }
    passed
}

/// The keys that the suite's filters name.
pub(crate) fn keys() -> Vec<MetaKey> {
    FILTER_KEYS.iter().map(|key| MetaKey::new(key.0).unwrap()).collect()
}

async fn on_own_server(torn: bool, exact: bool) -> (usize, usize) {
    let server = Server::start();
    server.with(|state| state.torn = torn);
    let make = |name: &'static str| {
        let mut settings = settings(&server);
        settings.filter_keys.extend(keys());
        settings.exact = exact;
        // Batches are cut, and their parts are.
        settings.batch_objects = 7;
        async move {
            let clock = Arc::new(ManualClock::new(start()));
            let google = index(settings, &clock, &Arc::<Book>::default()).await;
            TwinHarness::new(Arc::new(google), clock, name.to_owned(), Duration::from_secs(5))
        }
    };
    let passed = run(make).await;
    let searches = server.lines().iter().filter(|line| *line == "POST :search").count();
    assert_eq!(server.objects(), 0, "what is left after every check was cleaned up");
    (passed, searches)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_where_batches_are_whole() {
    let (passed, searches) = on_own_server(false, true).await;
    println!("{passed} checks passed with {searches} searches");
    assert!(passed >= 25 && searches >= 60, "{passed} checks, {searches} searches");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_where_batches_are_torn() {
    let (passed, searches) = on_own_server(true, false).await;
    assert!(passed >= 25 && searches >= 60, "{passed} checks, {searches} searches");
}
