//! The arithmetic of the network that is no matrix product, in plain loops.
//!
//! Every function is inlined into a caller that is compiled for an instruction set, and its loops
//! become that set's vector instructions there; so nothing here may call into a library, and sums
//! run in lanes side by side.

/// Sums that run side by side: one AVX-512 register of f32, two of AVX2, four of NEON.
const LANES: usize = 16;

/// Dimensions of an attention head.
pub(super) const HEAD: usize = 32;

/// `e^x`, to two units in the last place, for `x` in [-87, 88]; clamped to that.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding it moves the whole number nearest to the sum into the low bits of the mantissa.
    const MAGIC: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let whole = shifted - MAGIC;
    // ln 2 in two parts, the first of which has few enough bits that its product is exact.
    let rest = x - whole * 0.693_359_4 - whole * -2.121_944_4e-4;
    // The Taylor series; |rest| is at most ln 2 / 2, so the first term left out is below 2e-9.
    let mut sum = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * rest + coefficient;
    }
    let power = shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127) << 23;
    sum * f32::from_bits(power)
}

/// GELU by the error function, as the model was trained: `x/2 (1 + erf(x / sqrt 2))`.
///
/// erf is formula 7.1.26 of Abramowitz and Stegun, off by 1.5e-7 at the most.
#[inline(always)]
fn gelu_of(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = ((((1.061_405_4 * t - 1.453_152_1) * t + 1.421_413_8) * t - 0.284_496_72) * t
        + 0.254_829_6)
        * t;
    let erf = 1.0 - series * exp(-z * z);
    0.5 * x * (1.0 + erf.copysign(x))
}

/// GELU of each number, in place.
#[inline(always)]
pub(super) fn gelu(values: &mut [f32]) {
    for value in values {
        *value = gelu_of(*value);
    }
}

/// The sum of `of` over a row whose length is a multiple of [`LANES`].
#[inline(always)]
fn lane_sum(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for chunk in row.as_chunks::<LANES>().0 {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += of(*x);
        }
    }
    sums.iter().sum()
}

/// The sum of numbers, in eight times as many lanes, for additions wait for one another.
#[inline(always)]
pub(super) fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<{ 8 * LANES }>();
    let mut sums = [0.0_f32; 8 * LANES];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x;
        }
    }
    sums.iter().chain(rest).sum()
}

/// Adds `added` to `rows` where it is given, and brings each row to mean 0 and variance 1, then
/// scales and shifts it. A row is `scale.len()` long, a multiple of 16.
#[inline(always)]
pub(super) fn add_and_norm(rows: &mut [f32], added: Option<&[f32]>, scale: &[f32], shift: &[f32]) {
    // As the model's configuration says.
    const EPSILON: f32 = 1e-12;
    if let Some(added) = added {
        for (x, more) in rows.iter_mut().zip(added) {
            *x += more;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a row has 384 numbers")]
    let count = scale.len() as f32;
    for row in rows.chunks_exact_mut(scale.len()) {
        let mean = lane_sum(row, |x| x) / count;
        let variance = lane_sum(row, |x| (x - mean) * (x - mean)) / count;
        let inverse = 1.0 / (variance + EPSILON).sqrt();
        for ((x, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
            *x = (*x - mean) * inverse * scale + shift;
        }
    }
}

/// Adding it to a number of at most 2^21 moves the whole number nearest to it, of two the even one,
/// into the low bits of the mantissa.
const TO_WHOLE: f32 = 12_582_912.0;

/// A range below it counts as none: its inverse is beyond the numbers.
const NO_RANGE: f32 = 1e-30;

/// Brings numbers to eight bits, `lowest + scale * code`, and gives scale and lowest number.
#[inline(always)]
pub(super) fn quantise(row: &[f32], codes: &mut [u8]) -> (f32, f32) {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let (mut lows, mut highs) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let lower = |low: f32, x: f32| if x < low { x } else { low };
    let higher = |high: f32, x: f32| if x > high { x } else { high };
    for chunk in chunks {
        for ((low, high), x) in lows.iter_mut().zip(&mut highs).zip(chunk) {
            *low = lower(*low, *x);
            *high = higher(*high, *x);
        }
    }
    let lowest = lows.iter().chain(rest).fold(f32::INFINITY, |low, x| lower(low, *x));
    let highest = highs.iter().chain(rest).fold(f32::NEG_INFINITY, |high, x| higher(high, *x));
    let range = highest - lowest;
    let inverse = if range > NO_RANGE { 255.0 / range } else { 0.0 };
    for (code, x) in codes.iter_mut().zip(row) {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits hold 0 to 255")]
        let low_bits = ((x - lowest) * inverse + TO_WHOLE).to_bits() as u8;
        *code = low_bits;
    }
    (range / 255.0, lowest)
}

/// Brings numbers to eight bits, `scale * code` with codes in [-127, 127], and gives the scale.
#[inline(always)]
pub(super) fn quantise_signed(row: &[f32], codes: &mut [i8]) -> f32 {
    let largest = row.iter().fold(0.0_f32, |most, x| if x.abs() > most { x.abs() } else { most });
    let inverse = if largest > NO_RANGE { 127.0 / largest } else { 0.0 };
    for (code, x) in codes.iter_mut().zip(row) {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits hold -127 to 127")]
        let low_bits = (x * inverse + TO_WHOLE).to_bits() as u8;
        *code = low_bits.cast_signed();
    }
    largest / 127.0
}

/// Room that attention works in, kept between calls.
#[derive(Debug, Default)]
pub(super) struct AttentionRoom {
    /// Keys of a head, one dimension after another: `[HEAD][padded]`.
    keys: Vec<f32>,
    /// Values of a head: `[tokens][HEAD]`.
    values: Vec<f32>,
    /// Weights of one token: `[padded]`.
    weights: Vec<f32>,
}

/// Attention of one sequence: each token's queries against all keys, head by head.
///
/// `joined` has a row a token: queries, keys and values, each `heads x HEAD`; the queries are
/// scaled already. `out` has a row a token of `heads x HEAD`.
#[inline(always)]
pub(super) fn attend(joined: &[f32], heads: usize, room: &mut AttentionRoom, out: &mut [f32]) {
    let width = heads * HEAD;
    let tokens = out.len() / width;
    let padded = tokens.next_multiple_of(LANES);
    room.keys.clear();
    room.keys.resize(HEAD * padded, 0.0);
    room.weights.clear();
    room.weights.resize(padded, 0.0);
    room.values.resize(tokens * HEAD, 0.0);
    for head in 0..heads {
        for (token, row) in joined.chunks_exact(3 * width).enumerate() {
            let keys = &row[width + head * HEAD..][..HEAD];
            for (dimension, key) in keys.iter().enumerate() {
                room.keys[dimension * padded + token] = *key;
            }
            let values = &row[2 * width + head * HEAD..][..HEAD];
            room.values[token * HEAD..][..HEAD].copy_from_slice(values);
        }
        for (token, row) in joined.chunks_exact(3 * width).enumerate() {
            let queries = &row[head * HEAD..][..HEAD];
            weigh(queries, &room.keys, tokens, &mut room.weights);
            let mut sums = [0.0_f32; HEAD];
            for (weight, values) in room.weights.iter().zip(room.values.as_chunks::<HEAD>().0) {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += weight * value;
                }
            }
            out[token * width + head * HEAD..][..HEAD].copy_from_slice(&sums);
        }
    }
}

/// The softmax of one query's products with all keys; what pads the row is zero.
#[inline(always)]
fn weigh(queries: &[f32], keys: &[f32], tokens: usize, weights: &mut [f32]) {
    let padded = weights.len();
    for (block, weights) in weights.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let mut sums = [0.0_f32; LANES];
        for (dimension, query) in queries.iter().enumerate() {
            let keys = &keys[dimension * padded + block * LANES..][..LANES];
            for (sum, key) in sums.iter_mut().zip(keys) {
                *sum += query * key;
            }
        }
        *weights = sums;
    }
    let highest = weights[..tokens].iter().fold(f32::NEG_INFINITY, |high, x| high.max(*x));
    for weight in weights.iter_mut() {
        *weight = exp(*weight - highest);
    }
    weights[tokens..].fill(0.0);
    let inverse = 1.0 / lane_sum(weights, |x| x);
    for weight in weights {
        *weight *= inverse;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_right_to_a_few_parts_in_ten_million() {
        for step in -8_700..=8_800_i16 {
            let x = f32::from(step) / 100.0;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got - want).abs() <= want * 3e-7, "{x}: {got} {want}");
        }
        assert!(exp(-1e30) > 0.0 && exp(-1e30) < 1e-37);
        assert!(exp(1e30).is_finite());
    }

    #[test]
    fn sums_take_in_every_number() {
        for count in [0, 1, 127, 128, 300_u16] {
            let values: Vec<f32> = (0..count).map(f32::from).collect();
            let want = f32::from(count) * (f32::from(count) - 1.0) / 2.0;
            assert!((sum(&values) - want).abs() < 0.5, "{count}");
        }
    }

    #[test]
    fn gelu_by_table() {
        // x, then x times the normal distribution at x.
        for (x, want) in [
            (0.0, 0.0),
            (1.0, 0.841_344_7),
            (-1.0, -0.158_655_25),
            (2.0, 1.954_499_7),
            (-3.0, -0.004_049_694),
            (10.0, 10.0),
            (-10.0, 0.0),
        ] {
            let mut values = [x];
            gelu(&mut values);
            assert!((values[0] - want).abs() < 1e-6, "{x}: {} {want}", values[0]);
        }
    }

    #[test]
    fn rows_are_normed_after_the_sum() {
        let mut rows: Vec<f32> = (0..32_u8).map(f32::from).collect();
        let added = vec![1.0; 32];
        add_and_norm(&mut rows, Some(&added), &[2.0; 16], &[1.0; 16]);
        // Both rows are an arithmetic series of 16 with the variance (16^2 - 1) / 12.
        let deviation = (255.0_f32 / 12.0).sqrt();
        for (at, x) in rows.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "below 16")]
            let want = ((at % 16) as f32 - 7.5) / deviation * 2.0 + 1.0;
            assert!((x - want).abs() < 1e-5, "{at}: {x} {want}");
        }
    }

    #[test]
    fn codes_of_eight_bits_are_the_nearest() {
        let mut state = 7_u32;
        let mut row = vec![0.0_f32; 83];
        for x in &mut row {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *x = f32::from((state >> 16) as u16) / 8_192.0 - 3.0;
        }
        let (mut codes, mut signed) = (vec![0; row.len()], vec![0; row.len()]);
        let (scale, lowest) = quantise(&row, &mut codes);
        let of_signed = quantise_signed(&row, &mut signed);
        assert!(codes.contains(&0) && codes.contains(&255) && signed.iter().any(|c| *c < 0));
        for (x, (code, signed)) in row.iter().zip(codes.iter().zip(&signed)) {
            let back = lowest + scale * f32::from(*code);
            assert!((x - back).abs() <= scale * 0.501, "{x}: {back}");
            let back = of_signed * f32::from(*signed);
            assert!((x - back).abs() <= of_signed * 0.501, "{x}: {back}");
        }
        // Numbers without a range.
        assert_eq!(quantise(&[3.0; 20], &mut [9; 20]), (0.0, 3.0));
        let mut zeros = [1; 20];
        assert_eq!((quantise_signed(&[0.0; 20], &mut zeros), zeros), (0.0, [0; 20]));
        // Whole numbers of the right range are their own codes.
        let whole: Vec<f32> = (0..=255_u8).map(f32::from).collect();
        let mut codes = vec![0; 256];
        assert_eq!(quantise(&whole, &mut codes), (1.0, 0.0));
        assert!(codes.iter().copied().eq(0..=255));
    }

    #[test]
    fn attention_by_the_definition() {
        let (heads, tokens) = (2, 19);
        let width = heads * HEAD;
        let mut state = 1_u32;
        let mut joined = vec![0.0_f32; tokens * 3 * width];
        for x in &mut joined {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *x = f32::from((state >> 24) as u8) / 128.0 - 1.0;
        }
        let mut out = vec![0.0; tokens * width];
        attend(&joined, heads, &mut AttentionRoom::default(), &mut out);
        let at = |token: usize, part: usize, head: usize, dimension: usize| {
            f64::from(joined[token * 3 * width + part * width + head * HEAD + dimension])
        };
        for token in 0..tokens {
            for head in 0..heads {
                let product = |other: usize| -> f64 {
                    (0..HEAD).map(|d| at(token, 0, head, d) * at(other, 1, head, d)).sum()
                };
                let weights: Vec<f64> = (0..tokens).map(|other| product(other).exp()).collect();
                let total: f64 = weights.iter().sum();
                for d in 0..HEAD {
                    let want: f64 =
                        (0..tokens).map(|o| weights[o] / total * at(o, 2, head, d)).sum();
                    let got = f64::from(out[token * width + head * HEAD + d]);
                    assert!((got - want).abs() < 1e-5, "{token} {head} {d}: {got} {want}");
                }
            }
        }
    }
}
