//! The proven error of int8 against the exact dot product.

use memory_distance::{dot_bound, dot_estimate, dot_f64, dot_i8, norm_f64, quantize};
use proptest::collection::vec;
use proptest::num::f32 as proptest_f32;
use proptest::prelude::{Strategy, prop_assert, prop_oneof, proptest};

/// Finite values over the whole range of f32: ordinary ones, any magnitude, subnormal, huge.
fn value() -> impl Strategy<Value = f32> + Clone {
    prop_oneof![
        6 => -1.0_f32..1.0,
        2 => proptest_f32::NORMAL | proptest_f32::ZERO | proptest_f32::POSITIVE | proptest_f32::NEGATIVE,
        1 => proptest_f32::SUBNORMAL | proptest_f32::POSITIVE | proptest_f32::NEGATIVE,
        1 => proptest::sample::select(vec![f32::MAX, f32::MIN, f32::MIN_POSITIVE, f32::from_bits(1)]),
    ]
}

fn vectors(
    value: impl Strategy<Value = f32> + Clone,
) -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
    vec((value.clone(), value), 0..600).prop_map(|pairs| pairs.into_iter().unzip())
}

fn check(x: &[f32], q: &[f32]) -> (f64, f64) {
    let (mut x_codes, mut q_codes) = (vec![0_i8; x.len()], vec![0_i8; q.len()]);
    let x_meta = quantize(x, &mut x_codes);
    let q_meta = quantize(q, &mut q_codes);
    assert!(x_meta.is_valid() && q_meta.is_valid());
    assert!(x_codes.iter().all(|code| *code >= -127));
    assert!((x_meta.norm - norm_f64(x)).abs() <= 0.0);

    let estimate = dot_estimate(&x_meta, &q_meta, dot_i8(&x_codes, &q_codes));
    let bound = dot_bound(&x_meta, &q_meta);
    let gap = (dot_f64(x, q) - estimate).abs();
    assert!(gap <= bound, "off by {gap}, promised {bound}");
    (gap, bound)
}

proptest! {
    #[test]
    fn the_bound_holds_for_ordinary_vectors((x, q) in vectors(-1.0_f32..1.0)) {
        check(&x, &q);
    }

    #[test]
    fn the_bound_holds_for_every_finite_vector((x, q) in vectors(value())) {
        check(&x, &q);
    }

    #[test]
    fn the_residual_is_a_bound_and_a_tight_one(x in vec(-1.0_f32..1.0, 1..600)) {
        let mut codes = vec![0_i8; x.len()];
        let meta = quantize(&x, &mut codes);
        let lost: f64 = x
            .iter()
            .zip(&codes)
            .map(|(value, code)| f64::from(*value) - f64::from(meta.scale) * f64::from(*code))
            .map(|gap| gap * gap)
            .sum();
        let residual = f64::from(meta.residual);
        prop_assert!(residual >= lost.sqrt());
        prop_assert!(residual <= lost.sqrt() * 1.000_001 + 1e-30);
    }
}

#[test]
fn the_bound_is_narrow_enough_to_be_of_use() {
    // Two unit-like vectors of 384 dimensions: the interval must stay within a few hundredths of
    // the product of the norms, else a scan would have to look at every row again.
    let x: Vec<f32> = (0..384_u16).map(|i| (f32::from(i) * 0.37).sin()).collect();
    let q: Vec<f32> = (0..384_u16).map(|i| (f32::from(i) * 0.91).cos()).collect();
    let (_, bound) = check(&x, &q);
    assert!(bound < 0.03 * norm_f64(&x) * norm_f64(&q));
}
