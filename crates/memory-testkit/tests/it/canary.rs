//! A leak on purpose, for the search that has to find it.

use memory_testkit::canary::{FOLDER, TEXT, watch};

/// With this variable the test leaks: `cargo xtask test` runs it so once more, and has to find it.
const LEAK: &str = "ORCHESTRA_MEMORY_TEST_LEAK";

#[test]
fn canary_leaks_where_it_is_told_to() {
    watch();
    if std::env::var_os(LEAK).is_some() {
        assert!(std::env::var_os(FOLDER).is_some(), "a leak needs a place to go to");
        println!("{TEXT}");
        tracing::trace!("{TEXT}");
    }
}
