//! Every kernel set that this processor has, against a plain sum.

use memory_distance::{CodeMatrix, Kernels, MAX_DIMS, available};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

/// Two vectors of one length, 0 to 1000.
fn f32_pair() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
    let value = prop_oneof![
        4 => -1.0_f32..1.0,
        1 => -1e15_f32..1e15,
        1 => -1e-15_f32..1e-15,
        1 => proptest::strategy::Just(0.0_f32),
    ];
    vec((value.clone(), value), 0..1000).prop_map(|pairs| pairs.into_iter().unzip())
}

fn i8_pair() -> impl Strategy<Value = (Vec<i8>, Vec<i8>)> {
    vec((any::<i8>(), any::<i8>()), 0..1000).prop_map(|pairs| pairs.into_iter().unzip())
}

/// The sum of the terms in f64, and the most that n roundings in f32 can move it: each term and
/// each of n additions is off by at most half an epsilon (standard forward error analysis).
fn sum_and_tolerance(terms: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut sum, mut magnitude, mut count) = (0.0, 0.0, 4.0);
    for term in terms {
        sum += term;
        magnitude += term.abs();
        count += 1.0;
    }
    (sum, magnitude * count * f64::from(f32::EPSILON) + 1e-30)
}

fn check_f32(kernels: &Kernels, a: &[f32], b: &[f32]) {
    let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
    let (dot, tolerance) = sum_and_tolerance(pairs().map(|(x, y)| x * y));
    let found = f64::from(kernels.dot_f32(a, b));
    assert!(
        (found - dot).abs() <= tolerance,
        "{} dot of {}: {found} for {dot}",
        kernels.name(),
        a.len()
    );

    let (distance, tolerance) = sum_and_tolerance(pairs().map(|(x, y)| (x - y) * (x - y)));
    let found = f64::from(kernels.squared_l2_f32(a, b));
    assert!(
        (found - distance).abs() <= tolerance,
        "{} distance of {}: {found} for {distance}",
        kernels.name(),
        a.len()
    );
}

fn reference_i8(a: &[i8], b: &[i8]) -> i64 {
    a.iter().zip(b).map(|(x, y)| i64::from(*x) * i64::from(*y)).sum()
}

proptest! {
    #[test]
    fn f32_kernels_agree_with_f64((a, b) in f32_pair()) {
        for kernels in available() {
            check_f32(&kernels, &a, &b);
        }
    }

    #[test]
    fn i8_kernels_are_exact((a, b) in i8_pair()) {
        for kernels in available() {
            prop_assert_eq!(i64::from(kernels.dot_i8(&a, &b)), reference_i8(&a, &b), "{}", kernels.name());
        }
    }

    #[test]
    fn rows_agree_with_single_products(
        dims in 1_usize..300,
        seed in vec(any::<i8>(), 300 * 8),
        rows in vec(0_u32..7, 0..20),
    ) {
        let query = &seed[..dims];
        let codes = &seed[dims..dims * 8];
        let expected: Vec<i64> = rows
            .iter()
            .map(|row| reference_i8(query, &codes[*row as usize * dims..][..dims]))
            .collect();
        for kernels in available() {
            let mut out = vec![0; rows.len()];
            kernels.dot_i8_rows(query, codes, &rows, &mut out);
            prop_assert_eq!(out.iter().map(|dot| i64::from(*dot)).collect::<Vec<_>>(), expected.clone());

            let span = &codes[..rows.len().min(7) * dims];
            let sums: Vec<i32> = span
                .chunks_exact(dims)
                .map(|row| row.iter().map(|code| i32::from(*code)).sum())
                .collect();
            let mut out = vec![0; sums.len()];
            kernels.dot_i8_span(query, span, &sums, &mut out);
            for (row, dot) in span.chunks_exact(dims).zip(&out) {
                prop_assert_eq!(i64::from(*dot), reference_i8(query, row), "{}", kernels.name());
            }
        }

        let mut matrix = CodeMatrix::new(dims);
        codes.chunks_exact(dims).for_each(|row| matrix.push(row));
        let mut out = vec![0; rows.len()];
        matrix.dots(&matrix.padded(query), &rows, &mut out);
        prop_assert_eq!(out.iter().map(|dot| i64::from(*dot)).collect::<Vec<_>>(), expected);

        let mut out = vec![0; matrix.len()];
        matrix.dots_span(&matrix.padded(query), 0, &mut out);
        let rows: Vec<i64> =
            codes.chunks_exact(dims).map(|row| reference_i8(query, row)).collect();
        prop_assert_eq!(out.iter().map(|dot| i64::from(*dot)).collect::<Vec<_>>(), rows);
    }

    #[test]
    fn not_a_number_is_not_lost(position in 0_usize..200, length in 1_usize..200) {
        let mut a = vec![1.0_f32; length];
        a[position % length] = f32::NAN;
        for kernels in available() {
            prop_assert!(kernels.dot_f32(&a, &vec![1.0; length]).is_nan());
        }
    }
}

#[test]
fn every_length_near_the_register_widths() {
    for length in 0..200_u8 {
        let a: Vec<f32> = (0..length).map(|i| f32::from(i) - 60.5).collect();
        let b: Vec<f32> = (0..length).map(|i| 3.25 - f32::from(i)).collect();
        for kernels in available() {
            check_f32(&kernels, &a, &b);
        }
    }
}

#[test]
fn int8_extremes_at_the_largest_length_do_not_overflow() {
    for (x, y) in [(-128, -128), (127, -128), (-128, 127), (127, 127), (-127, 127)] {
        let (a, b) = (vec![x; MAX_DIMS], vec![y; MAX_DIMS]);
        for kernels in available() {
            assert_eq!(
                i64::from(kernels.dot_i8(&a, &b)),
                reference_i8(&a, &b),
                "{}",
                kernels.name()
            );
            // Six rows: one four of them and a rest.
            let (rows, sum) = (b.repeat(6), b.iter().map(|code| i32::from(*code)).sum());
            let mut out = [0; 6];
            kernels.dot_i8_span(&a, &rows, &[sum; 6], &mut out);
            assert_eq!(out.map(i64::from), [reference_i8(&a, &b); 6], "{}", kernels.name());
        }
    }
}
