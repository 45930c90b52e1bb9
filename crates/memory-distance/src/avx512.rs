//! Kernels for x86-64 with AVX-512: sixteen f32 at a time, and 64 int8 where VNNI is there (32
//! otherwise). The tail of a vector is one masked load, so that no scalar loop is left.
#![expect(
    unsafe_code,
    reason = "vector loads take raw pointers; each stands in a helper whose argument proves it"
)]

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _mm256_loadu_si256, _mm512_add_epi32, _mm512_add_ps,
    _mm512_cvtepi8_epi16, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_madd_epi16, _mm512_maskz_loadu_epi8, _mm512_maskz_loadu_ps,
    _mm512_reduce_add_epi32, _mm512_reduce_add_ps, _mm512_set1_epi8, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_sub_ps, _mm512_xor_si512,
};

use crate::kernels::{Kernels, row_of};
use crate::scalar;

/// The kernel set, where the processor has AVX-512 F, BW and VNNI.
pub(crate) fn with_vnni() -> Option<Kernels> {
    (has_base() && is_x86_feature_detected!("avx512vnni")).then_some(Kernels {
        name: "avx512vnni",
        dot_f32,
        squared_l2_f32,
        dot_i8: dot_i8_vnni,
        dot_i8_rows: dot_i8_rows_vnni,
    })
}

/// The kernel set, where the processor has AVX-512 F and BW.
pub(crate) fn without_vnni() -> Option<Kernels> {
    has_base().then_some(Kernels {
        name: "avx512",
        dot_f32,
        squared_l2_f32,
        dot_i8: dot_i8_bw,
        dot_i8_rows: dot_i8_rows_bw,
    })
}

fn has_base() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

#[target_feature(enable = "avx512f")]
fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_tail) = a.as_chunks::<64>();
    let (b_chunks, b_tail) = b.as_chunks::<64>();
    let mut sums = [_mm512_setzero_ps(); 4];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        let (x, y) = (x.as_chunks::<16>().0, y.as_chunks::<16>().0);
        for lane in 0..4 {
            sums[lane] = _mm512_fmadd_ps(load_f32(&x[lane]), load_f32(&y[lane]), sums[lane]);
        }
    }
    for (x, y) in a_tail.chunks(16).zip(b_tail.chunks(16)) {
        sums[0] = _mm512_fmadd_ps(load_f32_tail(x), load_f32_tail(y), sums[0]);
    }
    sum_f32(sums)
}

#[target_feature(enable = "avx512f")]
fn squared_l2_f32(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_tail) = a.as_chunks::<64>();
    let (b_chunks, b_tail) = b.as_chunks::<64>();
    let mut sums = [_mm512_setzero_ps(); 4];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        let (x, y) = (x.as_chunks::<16>().0, y.as_chunks::<16>().0);
        for lane in 0..4 {
            let gap = _mm512_sub_ps(load_f32(&x[lane]), load_f32(&y[lane]));
            sums[lane] = _mm512_fmadd_ps(gap, gap, sums[lane]);
        }
    }
    for (x, y) in a_tail.chunks(16).zip(b_tail.chunks(16)) {
        let gap = _mm512_sub_ps(load_f32_tail(x), load_f32_tail(y));
        sums[0] = _mm512_fmadd_ps(gap, gap, sums[0]);
    }
    sum_f32(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_i8_vnni(a: &[i8], b: &[i8]) -> i32 {
    biased_dot(a, b) - 128 * sum_of(b)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_i8_rows_vnni(query: &[i8], codes: &[i8], rows: &[u32], out: &mut [i32]) {
    let bias = 128 * sum_of(query);
    for (row, out) in rows.iter().zip(out) {
        *out = biased_dot(row_of(codes, query.len(), *row), query) - bias;
    }
}

/// The sum of (a + 128) x b. VNNI multiplies unsigned by signed bytes; flipping the top bit of `a`
/// adds 128 to it and makes it unsigned, and the caller takes 128 x sum(b) off again. With at most
/// `MAX_DIMS` dimensions nothing overflows (see there). Masked-out bytes of `b` are zero, so what
/// the flip makes of those of `a` does not count.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn biased_dot(a: &[i8], b: &[i8]) -> i32 {
    let flip = _mm512_set1_epi8(i8::MIN);
    let (a_chunks, a_tail) = a.as_chunks::<64>();
    let (b_chunks, b_tail) = b.as_chunks::<64>();
    let mut sum = _mm512_setzero_si512();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        let x = _mm512_xor_si512(load_i8(x), flip);
        sum = _mm512_dpbusd_epi32(sum, x, load_i8(y));
    }
    if !a_tail.is_empty() {
        let x = _mm512_xor_si512(load_i8_tail(a_tail), flip);
        sum = _mm512_dpbusd_epi32(sum, x, load_i8_tail(b_tail));
    }
    _mm512_reduce_add_epi32(sum)
}

fn sum_of(codes: &[i8]) -> i32 {
    codes.iter().map(|code| i32::from(*code)).sum()
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn dot_i8_bw(a: &[i8], b: &[i8]) -> i32 {
    let (a_chunks, a_tail) = a.as_chunks::<32>();
    let (b_chunks, b_tail) = b.as_chunks::<32>();
    let mut sum = _mm512_setzero_si512();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(load_i8_wide(x), load_i8_wide(y)));
    }
    _mm512_reduce_add_epi32(sum) + scalar::dot_i8(a_tail, b_tail)
}

#[target_feature(enable = "avx512f,avx512bw")]
fn dot_i8_rows_bw(query: &[i8], codes: &[i8], rows: &[u32], out: &mut [i32]) {
    for (row, out) in rows.iter().zip(out) {
        *out = dot_i8_bw(query, row_of(codes, query.len(), *row));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32(from: &[f32; 16]) -> __m512 {
    // SAFETY: the array holds the 64 bytes that are read, and the load needs no alignment.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

/// At most 16 numbers; the lanes beyond them are zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32_tail(from: &[f32]) -> __m512 {
    let mask = u16::MAX >> (16 - from.len().min(16));
    // SAFETY: the mask has one bit per number of the slice, and lanes that are masked out are not
    // read.
    unsafe { _mm512_maskz_loadu_ps(mask, from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_i8(from: &[i8; 64]) -> __m512i {
    // SAFETY: the array holds the 64 bytes that are read, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast::<__m512i>()) }
}

/// At least 1 and at most 64 codes; the lanes beyond them are zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_i8_tail(from: &[i8]) -> __m512i {
    let mask = u64::MAX >> (64 - from.len().clamp(1, 64));
    // SAFETY: callers pass a slice that is not empty; the mask has one bit per code of it, and
    // lanes that are masked out are not read.
    unsafe { _mm512_maskz_loadu_epi8(mask, from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_i8_wide(from: &[i8; 32]) -> __m512i {
    // SAFETY: the array holds the 32 bytes that are read, and the load needs no alignment.
    _mm512_cvtepi8_epi16(unsafe { _mm256_loadu_si256(from.as_ptr().cast::<__m256i>()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sum_f32(sums: [__m512; 4]) -> f32 {
    _mm512_reduce_add_ps(_mm512_add_ps(
        _mm512_add_ps(sums[0], sums[1]),
        _mm512_add_ps(sums[2], sums[3]),
    ))
}
