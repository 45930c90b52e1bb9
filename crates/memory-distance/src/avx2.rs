//! Kernels for x86-64 with AVX2 and FMA: eight f32 or sixteen int8 at a time.
#![expect(
    unsafe_code,
    reason = "vector loads take raw pointers; each stands in a helper whose argument proves it"
)]

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_add_epi32, _mm_add_ps, _mm_add_ss, _mm_cvtsi128_si32,
    _mm_cvtss_f32, _mm_loadu_si128, _mm_movehl_ps, _mm_shuffle_epi32, _mm_shuffle_ps,
    _mm256_add_epi32, _mm256_add_ps, _mm256_castps256_ps128, _mm256_castsi256_si128,
    _mm256_cvtepi8_epi16, _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_madd_epi16, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sub_ps,
};

use crate::kernels::{Kernels, row_of, span_by_row};
use crate::scalar;

/// The kernel set, where the processor has AVX2 and FMA.
pub(crate) fn kernels() -> Option<Kernels> {
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Kernels {
        name: "avx2",
        dot_f32,
        squared_l2_f32,
        dot_i8,
        dot_i8_rows,
        dot_i8_span,
    })
}

#[target_feature(enable = "avx2,fma")]
fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    // Four sums hide the latency of the fused multiply-add (four cycles, two a cycle).
    let (a_chunks, a_tail) = a.as_chunks::<32>();
    let (b_chunks, b_tail) = b.as_chunks::<32>();
    let mut sums = [_mm256_setzero_ps(); 4];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        let (x, y) = (x.as_chunks::<8>().0, y.as_chunks::<8>().0);
        for lane in 0..4 {
            sums[lane] = _mm256_fmadd_ps(load_f32(&x[lane]), load_f32(&y[lane]), sums[lane]);
        }
    }
    let (a_chunks, a_tail) = a_tail.as_chunks::<8>();
    let (b_chunks, b_tail) = b_tail.as_chunks::<8>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        sums[0] = _mm256_fmadd_ps(load_f32(x), load_f32(y), sums[0]);
    }
    sum_f32(sums) + scalar::dot_f32(a_tail, b_tail)
}

#[target_feature(enable = "avx2,fma")]
fn squared_l2_f32(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_tail) = a.as_chunks::<32>();
    let (b_chunks, b_tail) = b.as_chunks::<32>();
    let mut sums = [_mm256_setzero_ps(); 4];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        let (x, y) = (x.as_chunks::<8>().0, y.as_chunks::<8>().0);
        for lane in 0..4 {
            let gap = _mm256_sub_ps(load_f32(&x[lane]), load_f32(&y[lane]));
            sums[lane] = _mm256_fmadd_ps(gap, gap, sums[lane]);
        }
    }
    let (a_chunks, a_tail) = a_tail.as_chunks::<8>();
    let (b_chunks, b_tail) = b_tail.as_chunks::<8>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        let gap = _mm256_sub_ps(load_f32(x), load_f32(y));
        sums[0] = _mm256_fmadd_ps(gap, gap, sums[0]);
    }
    sum_f32(sums) + scalar::squared_l2_f32(a_tail, b_tail)
}

/// Widening to i16 keeps every product exact, -128 included; the byte multiply of AVX2 would
/// saturate.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    let (a_chunks, a_tail) = a.as_chunks::<32>();
    let (b_chunks, b_tail) = b.as_chunks::<32>();
    let mut sums = [_mm256_setzero_si256(); 2];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        let (x, y) = (x.as_chunks::<16>().0, y.as_chunks::<16>().0);
        for lane in 0..2 {
            let products = _mm256_madd_epi16(load_i8(&x[lane]), load_i8(&y[lane]));
            sums[lane] = _mm256_add_epi32(sums[lane], products);
        }
    }
    sum_i32(_mm256_add_epi32(sums[0], sums[1])) + scalar::dot_i8(a_tail, b_tail)
}

#[target_feature(enable = "avx2")]
fn dot_i8_rows(query: &[i8], codes: &[i8], rows: &[u32], out: &mut [i32]) {
    for (row, out) in rows.iter().zip(out) {
        *out = dot_i8(query, row_of(codes, query.len(), *row));
    }
}

#[target_feature(enable = "avx2")]
fn dot_i8_span(query: &[i8], codes: &[i8], _sums: &[i32], out: &mut [i32]) {
    span_by_row(query, codes, out, |query, row| dot_i8(query, row));
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_f32(from: &[f32; 8]) -> __m256 {
    // SAFETY: the array holds the 32 bytes that are read, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_i8(from: &[i8; 16]) -> __m256i {
    // SAFETY: the array holds the 16 bytes that are read, and the load needs no alignment.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(from.as_ptr().cast::<__m128i>()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_f32(sums: [__m256; 4]) -> f32 {
    let all = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let four = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_i32(sums: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}
