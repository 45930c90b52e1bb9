//! The table of kernels per instruction set, and the choice of one at run time.
#![expect(
    unsafe_code,
    reason = "kernels compiled for an instruction set may be called only where it exists; \
              this module proves that once, when a table is built"
)]

use std::fmt;
use std::sync::OnceLock;

use crate::{MAX_DIMS, scalar};

/// Query, matrix, rows, output: see [`Kernels::dot_i8_rows`].
type RowsKernel = unsafe fn(&[i8], &[i8], &[u32], &mut [i32]);

/// Query, rows, their sums, output: see [`Kernels::dot_i8_span`].
type SpanKernel = unsafe fn(&[i8], &[i8], &[i32], &mut [i32]);

/// The kernels of one instruction set.
///
/// A value exists only for an instruction set that this processor has: the constructors in the
/// modules of the instruction sets look before they build one, and there is no other way to get
/// one. That is the invariant which makes the safe methods here sound.
#[derive(Clone, Copy)]
pub struct Kernels {
    pub(crate) name: &'static str,
    pub(crate) dot_f32: unsafe fn(&[f32], &[f32]) -> f32,
    pub(crate) squared_l2_f32: unsafe fn(&[f32], &[f32]) -> f32,
    pub(crate) dot_i8: unsafe fn(&[i8], &[i8]) -> i32,
    pub(crate) dot_i8_rows: RowsKernel,
    pub(crate) dot_i8_span: SpanKernel,
}

impl Kernels {
    /// The name of the instruction set: `avx512vnni`, `avx512`, `avx2`, `neon` or `scalar`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The dot product of two vectors of the same length, accumulated in f32. Zero for empty ones.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    #[must_use]
    pub fn dot_f32(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "vectors of different lengths");
        // SAFETY: the processor has the instruction set (invariant of the type).
        unsafe { (self.dot_f32)(a, b) }
    }

    /// The squared Euclidean distance of two vectors of the same length, accumulated in f32. Zero
    /// for empty ones.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    #[must_use]
    pub fn squared_l2_f32(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "vectors of different lengths");
        // SAFETY: the processor has the instruction set (invariant of the type).
        unsafe { (self.squared_l2_f32)(a, b) }
    }

    /// The dot product of two int8 vectors of the same length, exact for every `i8`.
    ///
    /// # Panics
    ///
    /// If the lengths differ, or exceed [`MAX_DIMS`].
    #[must_use]
    pub fn dot_i8(&self, a: &[i8], b: &[i8]) -> i32 {
        assert_eq!(a.len(), b.len(), "vectors of different lengths");
        assert!(a.len() <= MAX_DIMS, "more than {MAX_DIMS} dimensions");
        // SAFETY: the processor has the instruction set (invariant of the type).
        unsafe { (self.dot_i8)(a, b) }
    }

    /// The dot products of `query` with chosen rows of a row-major matrix of codes:
    /// `out[i] = query . codes[rows[i]]`, exact. A row is `query.len()` codes long.
    ///
    /// One call for many rows lets a kernel do once what depends on the query alone.
    ///
    /// # Panics
    ///
    /// If `rows` and `out` differ in length, a row lies outside `codes`, or the query is longer
    /// than [`MAX_DIMS`].
    pub fn dot_i8_rows(&self, query: &[i8], codes: &[i8], rows: &[u32], out: &mut [i32]) {
        assert_eq!(rows.len(), out.len(), "one output per row");
        assert!(query.len() <= MAX_DIMS, "more than {MAX_DIMS} dimensions");
        // SAFETY: the processor has the instruction set (invariant of the type).
        unsafe { (self.dot_i8_rows)(query, codes, rows, out) }
    }

    /// The dot products of `query` with rows that lie one after the other, which is the quickest
    /// way over many: `out[i] = query . codes[i]`, exact. A row is `query.len()` codes long.
    ///
    /// `sums[i]` has to be the sum of the codes of row `i`: where the processor multiplies unsigned
    /// by signed bytes, 128 is added to each code of the query and taken off again by the sums.
    ///
    /// # Panics
    ///
    /// If `sums` and `out` differ in length, `codes` does not hold as many rows, or the query is
    /// longer than [`MAX_DIMS`].
    pub fn dot_i8_span(&self, query: &[i8], codes: &[i8], sums: &[i32], out: &mut [i32]) {
        assert_eq!(sums.len(), out.len(), "one output per row");
        assert_eq!(codes.len(), query.len() * out.len(), "as many rows as outputs");
        assert!(query.len() <= MAX_DIMS, "more than {MAX_DIMS} dimensions");
        // SAFETY: the processor has the instruction set (invariant of the type).
        unsafe { (self.dot_i8_span)(query, codes, sums, out) }
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernels").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Every kernel set this processor can run, the fastest first; `scalar` is always the last.
#[must_use]
pub fn available() -> Vec<Kernels> {
    let mut found = Vec::with_capacity(4);
    #[cfg(target_arch = "x86_64")]
    {
        found.extend(crate::avx512::with_vnni());
        found.extend(crate::avx512::without_vnni());
        found.extend(crate::avx2::kernels());
    }
    #[cfg(target_arch = "aarch64")]
    found.extend(crate::neon::kernels());
    found.push(scalar::KERNELS);
    found
}

/// The name of the kernel set in use on this processor, for diagnostics.
#[must_use]
pub fn active_name() -> &'static str {
    active().name
}

/// [`Kernels::dot_f32`] of the kernel set in use.
///
/// # Panics
///
/// If the lengths differ.
#[must_use]
pub fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    active().dot_f32(a, b)
}

/// [`Kernels::squared_l2_f32`] of the kernel set in use.
///
/// # Panics
///
/// If the lengths differ.
#[must_use]
pub fn squared_l2_f32(a: &[f32], b: &[f32]) -> f32 {
    active().squared_l2_f32(a, b)
}

/// [`Kernels::dot_i8`] of the kernel set in use.
///
/// # Panics
///
/// If the lengths differ, or exceed [`MAX_DIMS`].
#[must_use]
pub fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    active().dot_i8(a, b)
}

/// The kernel set in use: the first of [`available`], found once.
pub(crate) fn active() -> &'static Kernels {
    static ACTIVE: OnceLock<Kernels> = OnceLock::new();
    ACTIVE.get_or_init(|| available().first().copied().unwrap_or(scalar::KERNELS))
}

/// Row `row` of a row-major matrix. The bounds check costs little beside the row itself.
#[inline]
pub(crate) fn row_of(codes: &[i8], stride: usize, row: u32) -> &[i8] {
    let start = row as usize * stride;
    &codes[start..start + stride]
}

/// Each row of a span by itself, for kernels that need no sums. Zero for rows of no codes.
#[inline(always)]
pub(crate) fn span_by_row(
    query: &[i8],
    codes: &[i8],
    out: &mut [i32],
    dot: impl Fn(&[i8], &[i8]) -> i32,
) {
    if query.is_empty() {
        out.fill(0);
        return;
    }
    for (row, out) in codes.chunks_exact(query.len()).zip(out) {
        *out = dot(query, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scalar_kernels_are_the_last_resort() {
        let names: Vec<_> = available().iter().map(Kernels::name).collect();
        assert_eq!(names.last(), Some(&"scalar"));
        assert_eq!(names.first(), Some(&active_name()));
    }

    #[test]
    #[should_panic(expected = "different lengths")]
    fn different_lengths_are_refused() {
        let _ = dot_f32(&[1.0, 2.0], &[1.0]);
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn a_row_outside_the_matrix_is_refused() {
        active().dot_i8_rows(&[1, 2], &[1, 2, 3, 4], &[2], &mut [0]);
    }
}
