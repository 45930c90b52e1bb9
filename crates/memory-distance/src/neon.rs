//! Kernels for 64-bit Arm with NEON: four f32 or sixteen int8 at a time.
#![expect(
    unsafe_code,
    reason = "vector loads take raw pointers; each stands in a helper whose argument proves it"
)]

use std::arch::aarch64::{
    float32x4_t, int8x16_t, vaddq_f32, vaddvq_f32, vaddvq_s32, vdupq_n_f32, vdupq_n_s32, vfmaq_f32,
    vget_low_s8, vld1q_f32, vld1q_s8, vmull_high_s8, vmull_s8, vpadalq_s16, vsubq_f32,
};
use std::arch::is_aarch64_feature_detected;

use crate::kernels::{Kernels, row_of, span_by_row};
use crate::scalar;

/// The kernel set, where the processor has NEON, as every 64-bit Arm in common use does.
pub(crate) fn kernels() -> Option<Kernels> {
    is_aarch64_feature_detected!("neon").then_some(Kernels {
        name: "neon",
        dot_f32,
        squared_l2_f32,
        dot_i8,
        dot_i8_rows,
        dot_i8_span,
    })
}

#[target_feature(enable = "neon")]
fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_tail) = a.as_chunks::<16>();
    let (b_chunks, b_tail) = b.as_chunks::<16>();
    let mut sums = [vdupq_n_f32(0.0); 4];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        let (x, y) = (x.as_chunks::<4>().0, y.as_chunks::<4>().0);
        for lane in 0..4 {
            sums[lane] = vfmaq_f32(sums[lane], load_f32(&x[lane]), load_f32(&y[lane]));
        }
    }
    sum_f32(sums) + scalar::dot_f32(a_tail, b_tail)
}

#[target_feature(enable = "neon")]
fn squared_l2_f32(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_tail) = a.as_chunks::<16>();
    let (b_chunks, b_tail) = b.as_chunks::<16>();
    let mut sums = [vdupq_n_f32(0.0); 4];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        let (x, y) = (x.as_chunks::<4>().0, y.as_chunks::<4>().0);
        for lane in 0..4 {
            let gap = vsubq_f32(load_f32(&x[lane]), load_f32(&y[lane]));
            sums[lane] = vfmaq_f32(sums[lane], gap, gap);
        }
    }
    sum_f32(sums) + scalar::squared_l2_f32(a_tail, b_tail)
}

/// A product of two i8 fits an i16, -128 x -128 included, and pairs of them are added as i32.
#[inline]
#[target_feature(enable = "neon")]
fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    let (a_chunks, a_tail) = a.as_chunks::<16>();
    let (b_chunks, b_tail) = b.as_chunks::<16>();
    let mut low = vdupq_n_s32(0);
    let mut high = vdupq_n_s32(0);
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        let (x, y) = (load_i8(x), load_i8(y));
        low = vpadalq_s16(low, vmull_s8(vget_low_s8(x), vget_low_s8(y)));
        high = vpadalq_s16(high, vmull_high_s8(x, y));
    }
    vaddvq_s32(low) + vaddvq_s32(high) + scalar::dot_i8(a_tail, b_tail)
}

#[target_feature(enable = "neon")]
fn dot_i8_rows(query: &[i8], codes: &[i8], rows: &[u32], out: &mut [i32]) {
    for (row, out) in rows.iter().zip(out) {
        *out = dot_i8(query, row_of(codes, query.len(), *row));
    }
}

#[target_feature(enable = "neon")]
fn dot_i8_span(query: &[i8], codes: &[i8], _sums: &[i32], out: &mut [i32]) {
    span_by_row(query, codes, out, |query, row| dot_i8(query, row));
}

#[inline]
#[target_feature(enable = "neon")]
fn load_f32(from: &[f32; 4]) -> float32x4_t {
    // SAFETY: the array holds the 16 bytes that are read, and the load needs no alignment.
    unsafe { vld1q_f32(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_i8(from: &[i8; 16]) -> int8x16_t {
    // SAFETY: the array holds the 16 bytes that are read, and the load needs no alignment.
    unsafe { vld1q_s8(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn sum_f32(sums: [float32x4_t; 4]) -> f32 {
    vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3])))
}
