//! Distances accumulated in f64, in portable code with one fixed order of summation.
//!
//! The product of two f32 is exact in f64, and no sum of finite f32 squares overflows it, so what
//! these return is off by at most `n x 2^-53` relative to the sum of the terms' magnitudes, and is
//! the same bits on every machine. Final scores come from here.

/// Independent partial sums: enough that the compiler may keep them in vector registers.
const LANES: usize = 8;

/// The dot product of two vectors of the same length. Zero for empty ones.
///
/// # Panics
///
/// If the lengths differ.
#[must_use]
pub fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    fold(a, b, |x, y| x * y)
}

/// The squared Euclidean distance of two vectors of the same length. Zero for empty ones.
///
/// # Panics
///
/// If the lengths differ.
#[must_use]
pub fn squared_l2_f64(a: &[f32], b: &[f32]) -> f64 {
    fold(a, b, |x, y| (x - y) * (x - y))
}

/// The Euclidean norm. It is finite if and only if every element is.
#[must_use]
pub fn norm_f64(x: &[f32]) -> f64 {
    dot_f64(x, x).sqrt()
}

/// The Euclidean norm, accumulated in f64 and rounded to f32: infinite where it exceeds
/// [`f32::MAX`].
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what the function is for")]
pub fn norm_f32(x: &[f32]) -> f32 {
    norm_f64(x) as f32
}

/// Scales a vector to length 1, in place, and returns the norm it had. `None` leaves the vector as
/// it is: its norm is zero or not finite, so it has no direction.
#[expect(clippy::cast_possible_truncation, reason = "a unit vector's elements fit f32")]
pub fn normalize(x: &mut [f32]) -> Option<f64> {
    let norm = norm_f64(x);
    if norm == 0.0 || !norm.is_finite() {
        return None;
    }
    for value in x {
        *value = (f64::from(*value) / norm) as f32;
    }
    Some(norm)
}

fn fold(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors of different lengths");
    let (a_chunks, a_tail) = a.as_chunks::<LANES>();
    let (b_chunks, b_tail) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f64; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += term(f64::from(*x), f64::from(*y));
        }
    }
    for (sum, (x, y)) in sums.iter_mut().zip(a_tail.iter().zip(b_tail)) {
        *sum += term(f64::from(*x), f64::from(*y));
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_vectors_come_out_right() {
        assert_eq!(dot_f64(&[1.0, 2.0, 3.0], &[4.0, -5.0, 6.0]), 12.0);
        assert_eq!(squared_l2_f64(&[1.0, 2.0], &[4.0, -2.0]), 25.0);
        assert_eq!(norm_f64(&[3.0, 4.0]), 5.0);
        assert_eq!(norm_f32(&[3.0, 4.0]), 5.0);
        assert_eq!(dot_f64(&[], &[]), 0.0);
    }

    #[test]
    fn the_largest_floats_do_not_overflow() {
        let big = [f32::MAX; 1_000];
        assert!(dot_f64(&big, &big).is_finite());
        assert!(squared_l2_f64(&big, &[f32::MIN; 1_000]).is_finite());
        assert!(norm_f32(&big).is_infinite());
    }

    #[test]
    fn a_vector_is_normalised_or_left_alone() {
        let mut x = [3.0, 0.0, -4.0];
        assert_eq!(normalize(&mut x), Some(5.0));
        assert_eq!(x, [0.6, 0.0, -0.8]);

        for bad in [[0.0_f32, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0]] {
            let mut x = bad;
            assert_eq!(normalize(&mut x), None);
            assert_eq!(x.map(f32::to_bits), bad.map(f32::to_bits));
        }
    }

    #[test]
    fn subnormal_vectors_have_a_direction() {
        let mut x = [f32::from_bits(1), 0.0];
        assert!(normalize(&mut x).is_some());
        assert_eq!(x, [1.0, 0.0]);
    }
}
