//! Rows of int8 codes in one contiguous buffer, each row on a cache line of its own.
#![expect(
    unsafe_code,
    reason = "aligned blocks are read as the flat codes they consist of; one cast each way"
)]

use std::fmt;

use crate::MAX_DIMS;
use crate::kernels::active;

/// Codes per block: one cache line of every x86-64 and most Arm processors, and one register of
/// AVX-512, so that no load crosses a line.
const BLOCK: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Block([i8; BLOCK]);

/// A growing matrix `[rows, dims]` of int8 codes for scans.
///
/// Rows are padded with zeros to a multiple of 64 codes ([`CodeMatrix::stride`]) and start on a
/// multiple of 64 bytes. Zeros add nothing to a dot product, so the kernels need no tail.
#[derive(Clone)]
pub struct CodeMatrix {
    dims: usize,
    rows: usize,
    blocks: Vec<Block>,
    /// The sum of the codes of each row, which [`CodeMatrix::dots_span`] needs.
    sums: Vec<i32>,
}

impl CodeMatrix {
    /// A matrix without rows.
    ///
    /// # Panics
    ///
    /// If `dims` is zero or exceeds [`MAX_DIMS`].
    #[must_use]
    pub fn new(dims: usize) -> Self {
        assert!((1..=MAX_DIMS).contains(&dims), "dimensions must be in 1..={MAX_DIMS}");
        Self { dims, rows: 0, blocks: Vec::new(), sums: Vec::new() }
    }

    /// The number of dimensions of a row.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The length of a row with its padding: `dims`, rounded up to a multiple of 64.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.blocks_per_row() * BLOCK
    }

    /// The bytes that the buffer occupies, spare capacity included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>() + self.sums.capacity() * size_of::<i32>()
    }

    /// Makes room for `additional` more rows.
    pub fn reserve(&mut self, additional: usize) {
        self.blocks.reserve(additional * self.blocks_per_row());
        self.sums.reserve(additional);
    }

    /// Appends a row of `dims` codes.
    ///
    /// # Panics
    ///
    /// If `codes` has another length.
    pub fn push(&mut self, codes: &[i8]) {
        assert_eq!(codes.len(), self.dims, "a row has one code per dimension");
        let blocks = self.blocks.len() + self.blocks_per_row();
        self.blocks.resize(blocks, Block([0; BLOCK]));
        self.sums.push(0);
        self.rows += 1;
        self.set(self.rows - 1, codes);
    }

    /// Overwrites a row with `dims` codes.
    ///
    /// # Panics
    ///
    /// If `codes` has another length, or there is no such row.
    pub fn set(&mut self, row: usize, codes: &[i8]) {
        assert_eq!(codes.len(), self.dims, "a row has one code per dimension");
        let start = row * self.stride();
        self.flat_mut()[start..start + codes.len()].copy_from_slice(codes);
        self.sums[row] = codes.iter().map(|code| i32::from(*code)).sum();
    }

    /// The `dims` codes of a row.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[i8] {
        let start = row * self.stride();
        &self.flat()[start..start + self.dims]
    }

    /// Removes a row and puts the last one in its place. Memory is given back once less than a
    /// quarter of the buffer is in use.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn swap_remove(&mut self, row: usize) {
        assert!(row < self.rows, "no row {row} of {}", self.rows);
        let last = self.rows - 1;
        let width = self.blocks_per_row();
        self.blocks.copy_within(last * width..self.rows * width, row * width);
        self.blocks.truncate(last * width);
        self.sums.swap_remove(row);
        self.rows = last;
        if self.blocks.len() < self.blocks.capacity() / 4 {
            self.blocks.shrink_to(self.blocks.len() * 2);
            self.sums.shrink_to(last * 2);
        }
    }

    /// A query of `dims` codes, padded as the rows are, for [`CodeMatrix::dots`].
    ///
    /// # Panics
    ///
    /// If `codes` has another length.
    #[must_use]
    pub fn padded(&self, codes: &[i8]) -> Vec<i8> {
        assert_eq!(codes.len(), self.dims, "a query has one code per dimension");
        let mut padded = codes.to_vec();
        padded.resize(self.stride(), 0);
        padded
    }

    /// The dot products of a padded query with chosen rows: `out[i] = query . rows[i]`, exact.
    ///
    /// # Panics
    ///
    /// If the query is not [`CodeMatrix::stride`] codes long, `rows` and `out` differ in length, or
    /// a row does not exist.
    pub fn dots(&self, padded_query: &[i8], rows: &[u32], out: &mut [i32]) {
        assert_eq!(padded_query.len(), self.stride(), "the query must be padded");
        active().dot_i8_rows(padded_query, self.flat(), rows, out);
    }

    /// The dot products of a padded query with the rows from `first` on:
    /// `out[i] = query . rows[first + i]`, exact. Quicker than [`CodeMatrix::dots`] over the same
    /// rows.
    ///
    /// # Panics
    ///
    /// If the query is not [`CodeMatrix::stride`] codes long, or there are not as many rows.
    pub fn dots_span(&self, padded_query: &[i8], first: usize, out: &mut [i32]) {
        let stride = self.stride();
        assert_eq!(padded_query.len(), stride, "the query must be padded");
        let end = first + out.len();
        let codes = &self.flat()[first * stride..end * stride];
        active().dot_i8_span(padded_query, codes, &self.sums[first..end], out);
    }

    fn blocks_per_row(&self) -> usize {
        self.dims.div_ceil(BLOCK)
    }

    fn flat(&self) -> &[i8] {
        // SAFETY: a block is 64 codes and nothing else (its size is its alignment), all of them
        // initialised, and the slice borrows from the vector that owns them.
        unsafe {
            std::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.blocks.len() * BLOCK)
        }
    }

    fn flat_mut(&mut self) -> &mut [i8] {
        // SAFETY: as in `flat`, and the mutable borrow of the vector is exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.blocks.as_mut_ptr().cast(),
                self.blocks.len() * BLOCK,
            )
        }
    }
}

/// Prints the shape alone; the codes are a caller's data.
impl fmt::Debug for CodeMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeMatrix")
            .field("rows", &self.rows)
            .field("dims", &self.dims)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_kept_replaced_and_swapped() {
        let mut matrix = CodeMatrix::new(65);
        assert_eq!(matrix.stride(), 128);
        for value in 0..4_i8 {
            matrix.push(&[value; 65]);
        }
        matrix.set(2, &[9; 65]);
        matrix.swap_remove(0);
        assert_eq!(matrix.len(), 3);
        assert_eq!(matrix.row(0), [3; 65]);
        assert_eq!(matrix.row(1), [1; 65]);
        assert_eq!(matrix.row(2), [9; 65]);

        let query = matrix.padded(&[2; 65]);
        let mut out = [0; 2];
        matrix.dots(&query, &[2, 0], &mut out);
        assert_eq!(out, [2 * 9 * 65, 2 * 3 * 65]);
        let mut out = [0; 2];
        matrix.dots_span(&query, 1, &mut out);
        assert_eq!(out, [2 * 65, 2 * 9 * 65]);
    }

    #[test]
    fn rows_start_on_cache_lines() {
        let mut matrix = CodeMatrix::new(3);
        matrix.push(&[1, 2, 3]);
        matrix.push(&[4, 5, 6]);
        assert_eq!(matrix.row(1).as_ptr().align_offset(64), 0);
        assert_eq!(matrix.row(1), [4, 5, 6]);
    }

    #[test]
    fn memory_is_given_back() {
        let mut matrix = CodeMatrix::new(64);
        for _ in 0..1_000 {
            matrix.push(&[1; 64]);
        }
        let full = matrix.memory_bytes();
        assert!(full >= 64_000);
        while matrix.len() > 10 {
            matrix.swap_remove(0);
        }
        assert!(matrix.memory_bytes() < full / 10);
        assert_eq!(matrix.row(9), [1; 64]);
    }

    #[test]
    #[should_panic(expected = "no row 1")]
    fn a_missing_row_is_not_removed() {
        let mut matrix = CodeMatrix::new(1);
        matrix.push(&[1]);
        matrix.swap_remove(1);
    }
}
