//! The model test: the reference agrees with itself, also through a wrapper.

use std::sync::Arc;

use memory_testkit::{Forwarding, Overlay, ReferenceHarness, run_model};

#[test]
fn the_reference_agrees_with_itself() {
    run_model(|| async { ReferenceHarness::new() }, 200);
}

#[test]
fn the_reference_agrees_through_a_wrapper() {
    let make = || async {
        Overlay::new(ReferenceHarness::new()).map_records(|inner| Arc::new(Forwarding::new(inner)))
    };
    run_model(make, 50);
}
