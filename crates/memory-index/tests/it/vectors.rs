//! The vector scan against brute force in f64.

use std::collections::BTreeMap;

use memory_distance::{dot_f64, norm_f64, quantize, squared_l2_f64};
use memory_index::{DocKey, KeyedRow, Metric, ScoredDoc, Storage, VectorError, VectorScan};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

type Rows = BTreeMap<DocKey, Vec<f32>>;
/// Dimensions, rows to insert in turn, and a query.
type Data = (usize, Vec<KeyedRow>, Vec<f32>);

fn metric() -> impl Strategy<Value = Metric> {
    prop_oneof![Just(Metric::Cosine), Just(Metric::Dot), Just(Metric::Euclidean)]
}

/// Vectors that lie near a few centres at a chosen distance: 0 makes duplicates, a small number
/// scores that int8 cannot tell apart, 1 makes clusters, and large numbers anything.
fn data() -> impl Strategy<Value = Data> {
    let spread = prop_oneof![Just(0.0_f32), Just(1e-4), Just(0.05), Just(1.0), Just(100.0)];
    (1_usize..90, spread, any::<bool>()).prop_flat_map(|(dims, spread, large)| {
        let unit = if large { 1e12_f32 } else { 1.0 };
        let centres = vec(vec(-1.0_f32..1.0, dims), 4);
        let rows = vec((0_u64..300, 0_usize..3, vec(-1.0_f32..1.0, dims)), 1..200);
        (centres, rows).prop_map(move |(centres, rows)| {
            let near = |centre: &[f32], offset: &[f32]| -> Vec<f32> {
                centre.iter().zip(offset).map(|(c, o)| (c + o * spread) * unit).collect()
            };
            let rows: Vec<_> = rows
                .iter()
                .map(|(key, centre, offset)| (*key, near(&centres[*centre], offset)))
                .collect();
            (dims, rows, near(&centres[0], &centres[3]))
        })
    })
}

fn score(metric: Metric, query: &[f32], row: &[f32]) -> f64 {
    match metric {
        Metric::Cosine => {
            (dot_f64(query, row) / (norm_f64(query) * norm_f64(row))).clamp(-1.0, 1.0)
        }
        Metric::Dot => dot_f64(query, row),
        _ => -squared_l2_f64(query, row),
    }
}

fn brute_force(
    metric: Metric,
    rows: &Rows,
    query: &[f32],
    k: usize,
    accept: impl Fn(DocKey) -> bool,
) -> Vec<(DocKey, f64)> {
    let mut all: Vec<_> = rows
        .iter()
        .filter(|(key, _)| accept(**key))
        .map(|(key, row)| (*key, score(metric, query, row) + 0.0))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

fn pairs(found: Vec<ScoredDoc>) -> Vec<(DocKey, f64)> {
    found.into_iter().map(|doc| (doc.key, doc.score)).collect()
}

fn fetch_from(rows: &Rows) -> impl FnMut(&[DocKey]) -> Result<Vec<KeyedRow>, VectorError> {
    |keys| Ok(keys.iter().filter_map(|key| Some((*key, rows.get(key)?.clone()))).collect())
}

fn check(scan: &VectorScan, rows: &Rows, query: &[f32], k: usize, accept: impl Fn(DocKey) -> bool) {
    let expected = brute_force(scan.metric(), rows, query, k, &accept);
    let candidates = scan.candidates(query, k, &accept).expect("a good query");
    for candidate in &candidates {
        assert!(accept(candidate.key));
        let exact = score(scan.metric(), query, &rows[&candidate.key]);
        assert!(candidate.lower <= exact && exact <= candidate.upper, "{candidate:?}, {exact}");
    }
    for (key, _) in &expected {
        assert!(candidates.iter().any(|candidate| candidate.key == *key), "{key} is missing");
    }
    let found = scan.search_exact(query, k, &accept, fetch_from(rows)).expect("a good query");
    assert_eq!(pairs(found), expected);
}

proptest! {
    #[test]
    fn the_scan_agrees_with_brute_force(
        metric in metric(),
        (dims, data, query) in data(),
        removed in vec(0_u64..300, 0..150),
        k in 0_usize..30,
        divisor in 1_u64..5,
    ) {
        let has_direction = |row: &[f32]| metric != Metric::Cosine || norm_f64(row) > 0.0;
        if !has_direction(&query) {
            return Ok(());
        }
        let mut rows = Rows::new();
        let mut codes_only = VectorScan::new(dims, metric, Storage::CodesOnly).expect("good dims");
        let mut with_rows = VectorScan::new(dims, metric, Storage::CodesAndRows).expect("good dims");
        for (key, row) in data.into_iter().filter(|(_, row)| has_direction(row)) {
            with_rows.insert(key, &row).expect("a good row");
            let mut codes = vec![0; dims];
            let quantized = quantize(&row, &mut codes);
            codes_only.insert_quantized(key, &codes, quantized, None).expect("a good row");
            rows.insert(key, row);
        }
        for step in [false, true] {
            if step {
                for key in &removed {
                    let was_there = rows.remove(key).is_some();
                    assert_eq!(codes_only.remove(*key), was_there);
                    assert_eq!(with_rows.remove(*key), was_there);
                }
            }
            assert_eq!(codes_only.len(), rows.len());
            for scan in [&codes_only, &with_rows] {
                check(scan, &rows, &query, k, |_| true);
                check(scan, &rows, &query, k, |key| key % divisor == 0);
            }
        }
    }
}

/// A generator without ambient randomness: numbers in [-1, 1) from a linear congruence.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 12_345_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).expect("16 bits")) / 32_768.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn large(storage: Storage) -> (VectorScan, Rows, Vec<f32>) {
    let dims = 384;
    let numbers = noise(dims * 3_001);
    let mut scan = VectorScan::new(dims, Metric::Cosine, storage).expect("good dims");
    scan.reserve(3_000);
    let mut rows = Rows::new();
    for (key, row) in (0..3_000).zip(numbers.chunks_exact(dims)) {
        scan.insert(key, row).expect("a good row");
        rows.insert(key, row.to_vec());
    }
    (scan, rows, numbers[dims * 3_000..].to_vec())
}

#[test]
fn few_rows_are_fetched_for_an_exact_answer() {
    let (scan, rows, query) = large(Storage::CodesOnly);
    let mut fetched = 0;
    let mut fetch = fetch_from(&rows);
    let found = scan
        .search_exact(
            &query,
            10,
            |_| true,
            |keys| {
                fetched += keys.len();
                fetch(keys)
            },
        )
        .expect("a good query");
    assert_eq!(pairs(found), brute_force(Metric::Cosine, &rows, &query, 10, |_| true));
    assert!((10..300).contains(&fetched), "{fetched} rows");
    assert!(scan.candidates(&query, 10, |_| true).expect("a good query").len() < 300);
}

#[test]
fn rows_in_memory_are_never_fetched() {
    let (scan, rows, query) = large(Storage::CodesAndRows);
    let found = scan
        .search_exact::<VectorError>(&query, 10, |_| true, |_| panic!("no need to fetch"))
        .expect("a good query");
    assert_eq!(pairs(found.clone()), brute_force(Metric::Cosine, &rows, &query, 10, |_| true));
    assert_eq!(scan.search(&query, 10, |_| true), Ok(found));
}

#[test]
fn rows_that_are_gone_from_the_store_leave_room_for_others() {
    let (scan, mut rows, query) = large(Storage::CodesOnly);
    let best = brute_force(Metric::Cosine, &rows, &query, 200, |_| true);
    for (key, _) in &best {
        rows.remove(key);
    }
    let found = scan.search_exact(&query, 10, |_| true, fetch_from(&rows)).expect("a good query");
    assert_eq!(pairs(found), brute_force(Metric::Cosine, &rows, &query, 10, |_| true));
}

#[test]
fn errors_of_the_query_and_of_the_fetch_come_through() {
    #[derive(Debug, PartialEq)]
    enum Failure {
        Disk,
        Vector(VectorError),
    }
    impl From<VectorError> for Failure {
        fn from(error: VectorError) -> Self {
            Self::Vector(error)
        }
    }
    let mut scan = VectorScan::new(2, Metric::Cosine, Storage::CodesOnly).expect("good dims");
    scan.insert(1, &[1.0, 1.0]).expect("a good row");
    let ask = |query: &[f32], row: Result<Vec<f32>, Failure>| {
        let mut row = Some(row);
        scan.search_exact(
            query,
            1,
            |_| true,
            |_| row.take().expect("one call").map(|row| vec![(1, row)]),
        )
    };
    let good = [1.0, 0.0];
    assert_eq!(ask(&good, Ok(vec![2.0, 0.0])), Ok(vec![ScoredDoc { key: 1, score: 1.0 }]));
    assert_eq!(ask(&good, Err(Failure::Disk)), Err(Failure::Disk));
    assert_eq!(ask(&good, Ok(vec![0.0, 0.0])), Err(Failure::Vector(VectorError::ZeroNorm)));
    assert_eq!(ask(&[0.0, 0.0], Ok(vec![])), Err(Failure::Vector(VectorError::ZeroNorm)));
    assert_eq!(ask(&[f32::NAN, 0.0], Ok(vec![])), Err(Failure::Vector(VectorError::NotFinite)));
    let short = VectorError::Dimensions { expected: 2, actual: 1 };
    assert_eq!(ask(&[1.0], Ok(vec![])), Err(Failure::Vector(short.clone())));
    assert_eq!(scan.candidates(&[1.0], 1, |_| true), Err(short));
    assert_eq!(scan.search(&good, 1, |_| true), Err(VectorError::RowMissing));
}

#[test]
fn an_absurd_limit_returns_all_there_is() {
    let mut scan = VectorScan::new(1, Metric::Euclidean, Storage::CodesAndRows).expect("good dims");
    for key in 0..10_u8 {
        scan.insert(key.into(), &[f32::from(key)]).expect("a good row");
    }
    let found = scan.search(&[3.0], usize::MAX, |_| true).expect("a good query");
    assert_eq!(found.len(), 10);
    assert_eq!((found[0].key, found[0].score), (3, 0.0));
    assert_eq!((found[1].key, found[1].score), (2, -1.0));
    assert_eq!(scan.search(&[3.0], 0, |_| true), Ok(vec![]));
    assert_eq!(scan.candidates(&[3.0], 5, |_| false), Ok(vec![]));
}

/// Vectors made to be hard: each is one of these kinds.
fn hard_vector(dims: usize) -> impl Strategy<Value = Vec<f32>> {
    let one = |size: f32| vec(-1.0_f32..1.0, dims).prop_map(move |x| scaled(&x, size));
    prop_oneof![
        4 => one(1.0),
        1 => one(1e-30),
        1 => one(1e18),
        // Subnormal: the scale of its codes is rounded hard, or to nothing.
        1 => one(1e-41),
        1 => one(1e-44),
        // One component outweighs all others, which then have the code 0.
        1 => (one(1e-3), 0..dims, prop_oneof![Just(1.0_f32), Just(-1.0)]).prop_map(|(mut x, at, peak)| {
            x[at] = peak;
            x
        }),
        // The same direction at several lengths, and a step of the last bit: ties and near ties.
        2 => (1_u8..4, 0..dims, any::<bool>()).prop_map(move |(length, at, step)| {
            let mut x: Vec<f32> = (0_u8..).take(dims).map(|i| f32::from(length) * (f32::from(i) * 0.37).sin()).collect();
            if step {
                x[at] = x[at].next_up();
            }
            x
        }),
        1 => vec(prop_oneof![Just(0.5_f32), Just(-0.5)], dims),
    ]
}

fn scaled(x: &[f32], size: f32) -> Vec<f32> {
    x.iter().map(|component| component * size).collect()
}

proptest! {
    /// More rows than a block, so that the sieve has a threshold and both forms of the scan run:
    /// nothing that brute force finds is ever held back.
    #[test]
    fn hard_vectors_are_found_exactly(
        metric in metric(),
        (dims, kinds, query) in (1_usize..70).prop_flat_map(|dims| {
            (Just(dims), vec(hard_vector(dims), 1..12), hard_vector(dims))
        }),
        picks in vec((any::<proptest::sample::Index>(), -3_i8..4), 1..500),
        k in 1_usize..25,
        divisor in 1_u64..4,
    ) {
        let has_direction = |row: &[f32]| metric != Metric::Cosine || norm_f64(row) > 0.0;
        if !has_direction(&query) {
            return Ok(());
        }
        let mut rows = Rows::new();
        let mut codes_only = VectorScan::new(dims, metric, Storage::CodesOnly).expect("good dims");
        let mut with_rows = VectorScan::new(dims, metric, Storage::CodesAndRows).expect("good dims");
        for (key, (kind, power)) in (0..).zip(&picks) {
            // Many rows of few kinds: duplicates, and copies at powers of two of the length.
            let row = scaled(&kinds[kind.index(kinds.len())], f32::from(*power).exp2());
            if !has_direction(&row) || !norm_f64(&row).is_finite() {
                continue;
            }
            codes_only.insert(key, &row).expect("a good row");
            with_rows.insert(key, &row).expect("a good row");
            rows.insert(key, row);
        }
        for scan in [&codes_only, &with_rows] {
            check(scan, &rows, &query, k, |_| true);
            check(scan, &rows, &query, k, |key| key % divisor == 0);
        }
    }
}

/// Rows and queries as embeddings lie, at a size where most rows are held back.
#[test]
fn thousands_of_rows_and_many_queries_are_answered_exactly() {
    let dims = 96;
    let numbers = noise(dims * 4_200);
    let (data, queries) = numbers.split_at(dims * 4_000);
    let centre = |number: usize| &data[number % 20 * dims..][..dims];
    let mut scan = VectorScan::new(dims, Metric::Cosine, Storage::CodesAndRows).expect("good dims");
    let mut rows = Rows::new();
    let near = |number: usize, offset: &[f32]| -> Vec<f32> {
        centre(number).iter().zip(offset).map(|(c, o)| c + o * 0.7).collect()
    };
    for (number, offset) in data.chunks_exact(dims).enumerate() {
        let row = near(number, offset);
        let key = DocKey::try_from(number).expect("a small number");
        scan.insert(key, &row).expect("a good row");
        rows.insert(key, row);
    }
    let mut candidates = 0;
    for (number, offset) in queries.chunks_exact(dims).enumerate() {
        let query = near(number * 7, offset);
        check(&scan, &rows, &query, 10, |_| true);
        check(&scan, &rows, &query, 10, |key| key % 3 != 0);
        candidates += scan.candidates(&query, 10, |_| true).expect("a good query").len();
    }
    assert!(candidates < 200 * 200, "{candidates} candidates of 200 queries");
}
