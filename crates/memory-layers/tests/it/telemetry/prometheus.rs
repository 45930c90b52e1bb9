//! Prometheus text.

use std::sync::Arc;
use std::time::Duration;

use memory_core::{Error, ErrorKind};
use memory_layers::{Operation, Prometheus, Scope, SharedRecorder};

use super::{clock, layer, one};

/// Sample lines as (name, labels, value); fails where a line is none of the format.
fn parse(text: &str) -> Vec<(String, String, f64)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            assert!(!name.is_empty() && name.chars().all(valid), "{line}");
            let labels = labels.strip_suffix('}').unwrap();
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (key, value) = label.split_once('=').unwrap();
                assert!(key.chars().all(valid), "{line}");
                assert!(value.starts_with('"') && value.ends_with('"'), "{line}");
            }
            let value = if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap() };
            (name.to_owned(), labels.to_owned(), value)
        })
        .collect()
}

#[test]
fn the_text_parses_and_holds_the_documented_names_and_buckets() {
    let prometheus = Prometheus::new().unwrap();
    let (recorder, clock): (SharedRecorder, _) = (Arc::new(prometheus.clone()), clock());
    let layer = layer(&recorder, clock.clone(), Scope::Call);
    for _ in 0..2 {
        one(&layer, &clock, Operation::Fetch, Duration::from_millis(20), || Ok(vec![])).unwrap();
    }
    let away = || Err(Error::new(ErrorKind::Unavailable, "away"));
    one(&layer, &clock, Operation::Fetch, Duration::ZERO, away).unwrap_err();
    let text = prometheus.render();
    assert!(text.contains("# TYPE db_client_operation_duration histogram"), "{text}");
    let samples = parse(&text);
    let ends: Vec<_> = samples
        .iter()
        .filter(|(name, labels, _)| {
            name == "db_client_operation_duration_bucket"
                && labels.contains(r#"orchestra_memory_outcome="ok""#)
        })
        .map(|(_, labels, value)| {
            let end = labels.split(r#"le=""#).nth(1).unwrap().split('"').next().unwrap();
            (end.to_owned(), *value)
        })
        .collect();
    let expected: Vec<_> = ["0.001", "0.005", "0.01", "0.05", "0.1", "0.5", "1", "5", "10", "+Inf"]
        .iter()
        .zip([0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
        .map(|(end, value)| ((*end).to_owned(), value))
        .collect();
    assert_eq!(ends, expected);
    assert!(samples.iter().any(|(name, labels, value)| {
        name == "db_client_operation_duration_count"
            && labels.contains(r#"error_type="unavailable""#)
            && (value - 1.0).abs() < f64::EPSILON
    }));
}

#[test]
fn what_nobody_scrapes_is_taken_in_and_none_is_lost() {
    const CALLS: u32 = 40_000;
    let prometheus = Prometheus::new().unwrap();
    let (recorder, clock): (SharedRecorder, _) = (Arc::new(prometheus.clone()), clock());
    let layer = layer(&recorder, clock.clone(), Scope::Attempt);
    for _ in 0..CALLS {
        one(&layer, &clock, Operation::Fetch, Duration::ZERO, || Ok(vec![])).unwrap();
    }
    let samples = parse(&prometheus.render());
    let name = "orchestra_memory_attempt_duration_count";
    let count = samples.iter().find(|sample| sample.0 == name).unwrap().2;
    assert!((count - f64::from(CALLS)).abs() < f64::EPSILON);
}
