//! The portable kernels: the reference that the others are tested against, and the fallback where
//! the processor has nothing better.

use crate::kernels::{Kernels, row_of, span_by_row};

/// The portable kernel set. Always available.
pub(crate) const KERNELS: Kernels =
    Kernels { name: "scalar", dot_f32, squared_l2_f32, dot_i8, dot_i8_rows, dot_i8_span };

/// Independent partial sums: enough that the compiler may keep them in vector registers.
const LANES: usize = 8;

pub(crate) fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    fold(a, b, |x, y| x * y)
}

pub(crate) fn squared_l2_f32(a: &[f32], b: &[f32]) -> f32 {
    fold(a, b, |x, y| (x - y) * (x - y))
}

pub(crate) fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum()
}

fn dot_i8_rows(query: &[i8], codes: &[i8], rows: &[u32], out: &mut [i32]) {
    for (row, out) in rows.iter().zip(out) {
        *out = dot_i8(query, row_of(codes, query.len(), *row));
    }
}

fn dot_i8_span(query: &[i8], codes: &[i8], _sums: &[i32], out: &mut [i32]) {
    span_by_row(query, codes, out, dot_i8);
}

fn fold(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (a_chunks, a_tail) = a.as_chunks::<LANES>();
    let (b_chunks, b_tail) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += term(*x, *y);
        }
    }
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(x, y)| term(*x, *y)).sum();
    sums.iter().sum::<f32>() + tail
}
