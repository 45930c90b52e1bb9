//! Holds back rows whose cosine is below a threshold beyond all doubt, which most are: some
//! operations in f32 a row, sixteen rows at a time.
//!
//! # The bound
//!
//! Let a row x have the scale s, the residual r and the norm n, the query q likewise t, p and m, and
//! let c be the integer product of their codes. What [`memory_distance::dot_bound`] proves, divided
//! by n m, is
//!
//! ```text
//! cos(x, q) <= A (t/m) c + B (1 + p/m) + p/m        with A = s/n and B = r/n
//! ```
//!
//! A and B depend on the row alone, and are kept as f32.
//!
//! # Its rounding
//!
//! With u = 2^-24, the relative error of one rounding to f32: A, t/m, c and two products make five
//! factors of at most (1 + u) in the first term; B, 1 + p/m and a product make three in the second;
//! one more is made by the sum, and a fused operation leaves one out. Underflow adds nothing: where
//! s is not zero, its vector has at most 65,536 components of magnitude 191 s or less, so that A is
//! above 2^-16 and t/m is too; and of B less than 2^-126 is lost.
//! A code of 0 loses no more than the whole component, hence r <= n and p <= m, and what is
//! multiplied out stays small: the first term is at most (1 + r/n) (1 + p/m) <= 4, the second
//! at most 2. Together they are off by less than 4 x 6u + 2 x 4u + 6u = 38u < 2.3e-6. To this come
//! f64's own roundings, below 1e-9. [`SLACK`] is four times as much, and a hundredth of what int8
//! itself leaves open.
//!
//! So where the sum in f32 lies below (threshold - p/m - slack), rounded down, the cosine lies below
//! the threshold. Numbers that were read from a file and are not those of any vector may make the
//! sum infinite or NaN; then the row is not held back.

use memory_distance::Quantized;

/// See the head of the module.
const SLACK: f64 = 1e-5;

/// Rows that are looked at together.
const LANES: usize = 16;

/// What the sieve keeps of each row, in the order of rows; for the cosine alone.
#[derive(Clone, Default)]
pub(super) struct Shares {
    /// Scale by norm.
    scales: Vec<f32>,
    /// Residual by norm.
    residuals: Vec<f32>,
}

impl Shares {
    pub(super) fn reserve(&mut self, additional: usize) {
        self.scales.reserve(additional);
        self.residuals.reserve(additional);
    }

    pub(super) fn memory_bytes(&self) -> usize {
        (self.scales.capacity() + self.residuals.capacity()) * size_of::<f32>()
    }

    pub(super) fn push(&mut self, row: &Quantized) {
        let (scale, residual) = shares(row);
        self.scales.push(scale);
        self.residuals.push(residual);
    }

    pub(super) fn set(&mut self, index: usize, row: &Quantized) {
        (self.scales[index], self.residuals[index]) = shares(row);
    }

    pub(super) fn swap_remove(&mut self, index: usize) {
        self.scales.swap_remove(index);
        self.residuals.swap_remove(index);
    }

    pub(super) fn shrink_to(&mut self, room: usize) {
        self.scales.shrink_to(room);
        self.residuals.shrink_to(room);
    }
}

fn shares(row: &Quantized) -> (f32, f32) {
    let by_norm = |part: f32| to_f32(f64::from(part) / row.norm);
    (by_norm(row.scale), by_norm(row.residual))
}

/// The sieve for one query.
pub(super) struct Sieve {
    /// Scale by norm.
    scale: f32,
    /// One more than residual by norm.
    spread: f32,
    /// Residual by norm, and the slack.
    margin: f64,
    /// What a row has to reach.
    cut: f32,
}

impl Sieve {
    /// A sieve that lets everything through until it is raised.
    pub(super) fn new(query: &Quantized) -> Self {
        let residual = f64::from(query.residual) / query.norm;
        Self {
            scale: to_f32(f64::from(query.scale) / query.norm),
            spread: to_f32(1.0 + residual),
            margin: residual + SLACK,
            cut: f32::NEG_INFINITY,
        }
    }

    /// Holds back rows below `threshold` from now on.
    pub(super) fn raise(&mut self, threshold: f64) {
        self.cut = to_f32(threshold - self.margin).next_down();
    }

    /// Calls `reached` with the place in `dots` of each row that is not held back, in order, and
    /// raises the sieve to the threshold that it returns. `dots[i]` belongs to the row
    /// `first + i`.
    pub(super) fn span(
        &mut self,
        shares: &Shares,
        first: usize,
        dots: &[i32],
        mut reached: impl FnMut(usize) -> f64,
    ) {
        let scales = &shares.scales[first..first + dots.len()];
        let residuals = &shares.residuals[first..first + dots.len()];
        let rows = dots.chunks(LANES).zip(scales.chunks(LANES)).zip(residuals.chunks(LANES));
        for (at, ((dots, scales), residuals)) in rows.enumerate() {
            let mut sums = [f32::NEG_INFINITY; LANES];
            for (sum, ((dot, scale), residual)) in
                sums.iter_mut().zip(dots.iter().zip(scales).zip(residuals))
            {
                *sum = self.sum(*scale, *residual, *dot);
            }
            // Without a branch for each: mostly none is reached.
            let held = sums.iter().fold(true, |held, sum| held & (*sum < self.cut));
            if held {
                continue;
            }
            for (offset, sum) in sums.iter().take(dots.len()).enumerate() {
                if !self.is_below(*sum) {
                    let threshold = reached(at * LANES + offset);
                    self.raise(threshold);
                }
            }
        }
    }

    /// Whether a row is held back.
    pub(super) fn holds_back(&self, shares: &Shares, row: usize, dot: i32) -> bool {
        self.is_below(self.sum(shares.scales[row], shares.residuals[row], dot))
    }

    #[inline]
    fn is_below(&self, sum: f32) -> bool {
        sum < self.cut
    }

    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "the rounding is part of the bound")]
    fn sum(&self, scale: f32, residual: f32, dot: i32) -> f32 {
        scale * (self.scale * dot as f32) + residual * self.spread
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the rounding is part of the bound")]
fn to_f32(value: f64) -> f32 {
    value as f32
}
