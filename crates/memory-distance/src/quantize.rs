//! Symmetric int8 quantisation with a proven error.
//!
//! A vector `x` becomes codes `c` and a scale `s`, so that `x` is about `s c`. What was lost is
//! kept as one number, the residual `r >= ||x - s c||`. For a query `q` with codes `d`, scale `t`
//! and residual `p`, write `x^ = s c` and `q^ = t d`; then
//!
//! ```text
//! x.q - x^.q^ = (x - x^).q + x^.(q - q^)
//! |x.q - x^.q^| <= r ||q|| + ||x^|| p              (Cauchy-Schwarz)
//!               <= r ||q|| + ||x|| p + r p         (||x^|| <= ||x|| + r)
//! ```
//!
//! and `x^.q^ = s t (c.d)` with an exact integer `c.d`. So an interval certain to hold the true dot
//! product costs one integer dot product per row.
//!
//! # Rounding
//!
//! The algebra is that of real numbers; what is computed is off by this much, with v = 2^-53:
//!
//! - **r**: a code times a scale has at most 31 significant bits and is exact in f64, its difference
//!   from the value is off by v, the sum of up to 65,536 squares by 65,536 v = 7.3e-12, all relative;
//!   no square underflows, for the least f32 is 1.4e-45. The root is taken times 1 + 1e-10 and
//!   rounded up to f32, so r is a bound as it is stored.
//! - **the estimate**: s t has at most 48 bits and is exact, its product with c is off by v of
//!   itself. No code loses more than the whole component, so r <= ||x||, p <= ||q||, and the
//!   estimate is at most 4 ||x|| ||q||: it is off by 4.5e-16 ||x|| ||q||.
//! - **the norms** are off by 3.7e-12 of themselves, which the factor 1 + 1e-10 of
//!   [`dot_bound`] covers, and the product that the bound is compared with, [`crate::dot_f64`], by
//!   7.3e-12 ||x|| ||q||, which its term of 1e-10 ||x|| ||q|| does.

use crate::MAX_DIMS;
use crate::exact::norm_f64;

/// The largest code. -128 is left out so that the range is symmetric.
const LARGEST_CODE: f64 = 127.0;

/// Relative slack for the rounding of f64 itself, which the algebra above leaves out.
///
/// Sums of up to 65,536 terms are off by at most 65,536 x 2^-53 = 7.3e-12; the slack is more than
/// ten times that, and a hundred thousand times smaller than the error of int8, so it costs
/// nothing.
const SLACK: f64 = 1e-10;

/// What is kept of a quantised vector beside its codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantized {
    /// The factor from codes to values; zero or more, finite. Zero where every code is.
    pub scale: f32,
    /// An upper bound of the Euclidean norm of (vector - scale x codes); zero or more, finite.
    pub residual: f32,
    /// The Euclidean norm of the vector; zero or more, finite.
    pub norm: f64,
}

impl Quantized {
    /// Whether the three numbers are finite and not negative, as those made by [`quantize`] are.
    /// For values that were read back from a file.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let fine = |value: f64| value.is_finite() && value >= 0.0;
        fine(f64::from(self.scale)) && fine(f64::from(self.residual)) && fine(self.norm)
    }
}

/// Quantises `x` into `codes`, each in -127..=127.
///
/// The scale is the largest magnitude divided by 127. The residual is computed in f64 from the
/// codes as written and rounded up, so it holds for every finite input, subnormal ones included.
///
/// # Panics
///
/// If the lengths differ or exceed [`MAX_DIMS`], or if an element is NaN or infinite.
pub fn quantize(x: &[f32], codes: &mut [i8]) -> Quantized {
    assert_eq!(x.len(), codes.len(), "one code per dimension");
    assert!(x.len() <= MAX_DIMS, "more than {MAX_DIMS} dimensions");
    let norm = norm_f64(x);
    assert!(norm.is_finite(), "every element must be finite");

    let largest = x.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = nearest_f32(f64::from(largest) / LARGEST_CODE);
    let exact_scale = f64::from(scale);
    // A vector of zeros, or one so small that its scale is below the least f32: all codes are
    // zero then, and the residual is the whole vector.
    let per_unit = if scale > 0.0 { exact_scale.recip() } else { 0.0 };
    let mut lost = 0.0_f64;
    for (value, code) in x.iter().zip(codes) {
        let value = f64::from(*value);
        *code = nearest_code(value * per_unit);
        let gap = value - exact_scale * f64::from(*code);
        lost += gap * gap;
    }
    Quantized { scale, residual: round_up(lost.sqrt() * (1.0 + SLACK)), norm }
}

/// The estimate of the dot product of two vectors from that of their codes.
#[inline]
#[must_use]
pub fn dot_estimate(x: &Quantized, q: &Quantized, codes_dot: i32) -> f64 {
    f64::from(x.scale) * f64::from(q.scale) * f64::from(codes_dot)
}

/// How far [`dot_estimate`] can be from the true dot product of the two vectors, at most.
///
/// The bound is proven (see the head of the module) and includes slack of 1e-10 x ||x|| x ||q||
/// for rounding in f64, so that it also holds against [`crate::dot_f64`] of the same vectors.
#[inline]
#[must_use]
pub fn dot_bound(x: &Quantized, q: &Quantized) -> f64 {
    let (r, p) = (f64::from(x.residual), f64::from(q.residual));
    let lost = r * q.norm + x.norm * p + r * p;
    lost * (1.0 + SLACK) + x.norm * q.norm * SLACK
}

/// Rounds half away from zero. The compiler turns the cast into one instruction on every target,
/// which `f64::round` is not on x86-64 without SSE4.1.
#[expect(clippy::cast_possible_truncation, reason = "the value is clamped to the range of codes")]
fn nearest_code(value: f64) -> i8 {
    (value + 0.5_f64.copysign(value)).clamp(-LARGEST_CODE, LARGEST_CODE) as i8
}

#[expect(clippy::cast_possible_truncation, reason = "a 127th of an f32 fits an f32")]
fn nearest_f32(value: f64) -> f32 {
    value as f32
}

/// The least f32 that is not below `value`.
#[expect(clippy::cast_possible_truncation, reason = "rounding is corrected upwards")]
fn round_up(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) < value { nearest.next_up() } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_span_the_range() {
        let mut codes = [0_i8; 4];
        let meta = quantize(&[-2.0, 2.0, 0.0, 1.0], &mut codes);
        assert_eq!(codes, [-127, 127, 0, 64]);
        assert_eq!(meta.norm, 3.0);
        assert!(meta.residual > 0.0 && meta.residual < meta.scale);
        assert!(meta.is_valid());
    }

    #[test]
    fn zero_and_the_least_floats_keep_an_honest_residual() {
        let mut codes = [1_i8; 2];
        let zero = quantize(&[0.0, -0.0], &mut codes);
        assert_eq!((codes, zero.scale, zero.residual, zero.norm), ([0, 0], 0.0, 0.0, 0.0));

        let least = f32::from_bits(1);
        let meta = quantize(&[least, 0.0], &mut codes);
        assert!(
            f64::from(meta.residual) >= f64::from(least) * (1.0 - 127.0 * f64::from(meta.scale))
        );
        assert!(meta.is_valid());
    }

    #[test]
    fn the_largest_floats_stay_finite() {
        let x = [f32::MAX; 4_096];
        let mut codes = [0_i8; 4_096];
        let meta = quantize(&x, &mut codes);
        assert!(meta.is_valid());
        assert!(codes.iter().all(|code| *code == 127));
    }

    #[test]
    fn an_empty_vector_is_quantised_to_nothing() {
        let meta = quantize(&[], &mut []);
        assert_eq!((meta.scale, meta.residual, meta.norm), (0.0, 0.0, 0.0));
    }

    #[test]
    #[should_panic(expected = "finite")]
    fn nan_is_refused() {
        quantize(&[f32::NAN], &mut [0]);
    }

    #[test]
    fn bad_numbers_from_a_file_are_recognised() {
        let good = Quantized { scale: 0.1, residual: 0.0, norm: 1.0 };
        assert!(good.is_valid());
        assert!(!Quantized { scale: f32::NAN, ..good }.is_valid());
        assert!(!Quantized { residual: -1.0, ..good }.is_valid());
        assert!(!Quantized { norm: f64::INFINITY, ..good }.is_valid());
    }
}
