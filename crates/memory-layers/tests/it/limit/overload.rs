//! A server whose capacity halves and recovers, with a limited and an unlimited client, in virtual
//! time; the page's tables are the ones of this run.

#[path = "../../../examples/overload/experiment.rs"]
mod experiment;

use experiment::{PER_WORKER, PHASE, WORKERS, run, settings, tables};

#[test]
fn the_limited_client_keeps_its_goodput_and_the_unlimited_one_collapses() {
    let limited = run(Some(settings())).unwrap();
    let unlimited = run(None).unwrap();
    let calm = limited.figures(0, PHASE);
    let calm_p99 = calm.p99.unwrap();
    for (phase, workers) in (0_u64..).zip(WORKERS) {
        let figures = limited.figures(phase * PHASE, (phase + 1) * PHASE);
        let share = figures.goodput / f64::from(workers * PER_WORKER);
        assert!((0.8..=1.2).contains(&share), "phase {phase}: {share:.2} of the capacity");
        let p99 = figures.p99.unwrap();
        assert!(p99 <= 3 * calm_p99, "phase {phase}: {p99} ms beside {calm_p99}");
        assert!(figures.timed_out < 0.01 * figures.goodput, "phase {phase}: {figures:?}");
    }
    // Uncongested the two are alike, then one works for callers who are gone, and goes on doing so
    // after the capacity is back.
    let same = unlimited.figures(0, PHASE);
    assert!((same.goodput - calm.goodput).abs() < 1.0 && same.timed_out < 1.0, "{same:?}");
    for phase in 1..3 {
        let figures = unlimited.figures(phase * PHASE, (phase + 1) * PHASE);
        assert!(figures.goodput < 0.05 * figures.timed_out, "phase {phase}: {figures:?}");
    }
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/overload.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains(&tables(&limited, &unlimited)),
        "docs/overload.md shows other figures: run \
         `cargo run --release -p memory-layers --example overload -- --save docs/overload.md`"
    );
}
