//! Kernels for x86-64 with AVX-512: sixteen f32 at a time, and 64 int8 where VNNI is there (32
//! otherwise). The tail of a vector is one masked load, so that no scalar loop is left.
#![expect(
    unsafe_code,
    reason = "vector loads take raw pointers; each stands in a helper whose argument proves it"
)]

use std::arch::x86_64::{
    __m128i, __m256i, __m512, __m512i, _mm_add_epi32, _mm_loadu_si128, _mm_slli_epi32,
    _mm_storeu_si128, _mm_sub_epi32, _mm256_add_epi32, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_loadu_si256, _mm512_add_epi32, _mm512_add_ps,
    _mm512_castsi512_si256, _mm512_cvtepi8_epi16, _mm512_dpbusd_epi32, _mm512_extracti64x4_epi64,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_madd_epi16,
    _mm512_maskz_loadu_epi8, _mm512_maskz_loadu_ps, _mm512_reduce_add_epi32, _mm512_reduce_add_ps,
    _mm512_set1_epi8, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_sub_ps,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    _mm512_xor_si512,
};

use crate::kernels::{Kernels, row_of, span_by_row};
use crate::scalar;

/// The kernel set, where the processor has AVX-512 F, BW and VNNI.
pub(crate) fn with_vnni() -> Option<Kernels> {
    (has_base() && is_x86_feature_detected!("avx512vnni")).then_some(Kernels {
        name: "avx512vnni",
        dot_f32,
        squared_l2_f32,
        dot_i8: dot_i8_vnni,
        dot_i8_rows: dot_i8_rows_vnni,
        dot_i8_span: dot_i8_span_vnni,
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
        dot_i8_span: dot_i8_span_bw,
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

/// Four rows at a time, so that a register of the query serves four products and the sums of four
/// rows are folded together. Here it is the query that 128 is added to.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_i8_span_vnni(query: &[i8], codes: &[i8], sums: &[i32], out: &mut [i32]) {
    let dims = query.len();
    let (blocks, tail) = query.as_chunks::<64>();
    if blocks.is_empty() || !tail.is_empty() {
        span_by_row(query, codes, out, |query, row| dot_i8_vnni(row, query));
        return;
    }
    let flip = _mm512_set1_epi8(i8::MIN);
    let (sums, last_sums) = sums.as_chunks::<4>();
    let (out, last_out) = out.as_chunks_mut::<4>();
    let rows = codes.as_chunks::<64>().0;
    let (width, quads) = (blocks.len(), out.len());
    for ((quad, sums), out) in rows.chunks_exact(4 * width).zip(sums).zip(out) {
        let (a, rest) = quad.split_at(width);
        let (b, rest) = rest.split_at(width);
        let (c, d) = rest.split_at(width);
        let mut total = [_mm512_setzero_si512(); 4];
        for ((((query, a), b), c), d) in blocks.iter().zip(a).zip(b).zip(c).zip(d) {
            let query = _mm512_xor_si512(load_i8(query), flip);
            total[0] = _mm512_dpbusd_epi32(total[0], query, load_i8(a));
            total[1] = _mm512_dpbusd_epi32(total[1], query, load_i8(b));
            total[2] = _mm512_dpbusd_epi32(total[2], query, load_i8(c));
            total[3] = _mm512_dpbusd_epi32(total[3], query, load_i8(d));
        }
        let bias = _mm_slli_epi32::<7>(load_four(sums));
        store_four(out, _mm_sub_epi32(sum_four(total), bias));
    }
    let done = quads * 4 * dims;
    for ((row, sum), out) in codes[done..].chunks_exact(dims).zip(last_sums).zip(last_out) {
        *out = biased_dot(query, row) - 128 * sum;
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

#[target_feature(enable = "avx512f,avx512bw")]
fn dot_i8_span_bw(query: &[i8], codes: &[i8], _sums: &[i32], out: &mut [i32]) {
    span_by_row(query, codes, out, |query, row| dot_i8_bw(query, row));
}

/// The sums of four registers, in order.
#[inline]
#[target_feature(enable = "avx512f")]
fn sum_four(total: [__m512i; 4]) -> __m128i {
    let pair = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (ab, cd) = (pair(total[0], total[1]), pair(total[2], total[3]));
    // In each quarter of the register: the four sums over that quarter.
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
    _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_four(from: &[i32; 4]) -> __m128i {
    // SAFETY: the array holds the 16 bytes that are read, and the load needs no alignment.
    unsafe { _mm_loadu_si128(from.as_ptr().cast::<__m128i>()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_four(to: &mut [i32; 4], four: __m128i) {
    // SAFETY: the array holds the 16 bytes that are written, and the store needs no alignment.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast::<__m128i>(), four) }
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
