//! The inner loops for each instruction set, and the choice of one at run time.
//!
//! A matrix of weights is packed once into panels: `width` outputs side by side, one row of them
//! an input. A kernel holds a tile of `rows` tokens by `width` outputs in registers, reads the
//! panel once from the front to the back, and multiplies each of its rows with one number of each
//! token. So weights are read in order, once for every `rows` tokens: a sentence of 13 tokens
//! reads them once with AVX-512.
#![expect(
    unsafe_code,
    reason = "functions compiled for an instruction set may be called only where it exists; this \
              module proves that once, when a table is built"
)]

use std::fmt;
use std::sync::OnceLock;

use super::math::{self, AttentionRoom};

/// Tokens side by side for each input, inputs, panel, tile to be filled, its stride, bias.
type Tile = unsafe fn(&[f32], usize, &[f32], &mut [f32], usize, &[f32]);

/// See [`math::add_and_norm`].
type AddAndNorm = unsafe fn(&mut [f32], Option<&[f32]>, &[f32], &[f32]);

/// The inner loops of one instruction set.
///
/// A value exists only for an instruction set that this processor has: the constructors below look
/// before they build one. That is the invariant which makes the safe methods sound.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    name: &'static str,
    /// Outputs of a panel; divides 384.
    width: usize,
    /// Most tokens of a tile.
    rows: usize,
    /// By the number of tokens less one.
    tiles: &'static [Tile],
    gelu: unsafe fn(&mut [f32]),
    add_and_norm: AddAndNorm,
    attend: unsafe fn(&[f32], usize, &mut AttentionRoom, &mut [f32]),
    sum: unsafe fn(&[f32]) -> f32,
}

/// Weights of a dense layer, packed for the kernels of one instruction set.
pub(super) struct Dense {
    inputs: usize,
    outputs: usize,
    /// `[outputs / width][inputs][width]`.
    panels: Vec<f32>,
    bias: Vec<f32>,
}

impl Dense {
    /// A layer of zeros. Rows are set as they are read, so that several matrices can be joined
    /// into one and none is held twice.
    pub(super) fn new(kernels: &Kernels, inputs: usize, outputs: usize) -> Self {
        assert_eq!(outputs % kernels.width, 0, "whole panels only");
        Self { inputs, outputs, panels: vec![0.0; inputs * outputs], bias: vec![0.0; outputs] }
    }

    /// Sets the weights of an output.
    pub(super) fn set_row(&mut self, kernels: &Kernels, output: usize, row: &[f32], scale: f32) {
        let (panel, lane) = (output / kernels.width, output % kernels.width);
        let panel = &mut self.panels[panel * self.inputs * kernels.width..];
        for (slot, weight) in panel[lane..].iter_mut().step_by(kernels.width).zip(row) {
            *slot = weight * scale;
        }
    }

    /// Sets the biases from `output` on.
    pub(super) fn set_bias(&mut self, output: usize, bias: &[f32], scale: f32) {
        for (slot, bias) in self.bias[output..].iter_mut().zip(bias) {
            *slot = bias * scale;
        }
    }

    /// Numbers of one token before the layer.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Numbers of one token behind the layer.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Every weight once, as a product reads them; what reading them costs is the floor of its
    /// time.
    pub(super) fn panels(&self) -> &[f32] {
        &self.panels
    }
}

/// Puts the tokens of each tile side by side, one input after another, so that a tile reads them
/// in order as it does the weights.
fn pack(x: &[f32], inputs: usize, tiles: impl Iterator<Item = (usize, usize)>, to: &mut Vec<f32>) {
    to.resize(x.len(), 0.0);
    for (begin, end) in tiles {
        let packed = &mut to[begin * inputs..end * inputs];
        for (token, row) in x[begin * inputs..end * inputs].chunks_exact(inputs).enumerate() {
            for (slot, number) in packed[token..].iter_mut().step_by(end - begin).zip(row) {
                *slot = *number;
            }
        }
    }
}

impl Kernels {
    /// `avx512`, `avx2`, `neon` or `portable`.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// `out = x W' + b` for each token; `x` has `inputs` numbers a token, `out` `outputs`. `room` is
    /// room to work in.
    pub(super) fn dense(&self, layer: &Dense, x: &[f32], out: &mut [f32], room: &mut Vec<f32>) {
        let (inputs, outputs, width) = (layer.inputs, layer.outputs, self.width);
        assert!(x.len().is_multiple_of(inputs) && out.len() == x.len() / inputs * outputs);
        let tokens = x.len() / inputs;
        if tokens == 0 {
            return;
        }
        // Tiles of equal height, rather than full ones and a low one, which would read the panel
        // for little.
        let tiles = tokens.div_ceil(self.rows);
        let tile = |at: usize| (at * tokens / tiles, (at + 1) * tokens / tiles);
        pack(x, inputs, (0..tiles).map(tile), room);
        for (at, panel) in layer.panels.chunks_exact(inputs * width).enumerate() {
            let bias = &layer.bias[at * width..][..width];
            for (from, to) in (0..tiles).map(tile) {
                let kernel = self.tiles[to - from - 1];
                let x = &room[from * inputs..to * inputs];
                let out =
                    &mut out[from * outputs + at * width..(to - 1) * outputs + (at + 1) * width];
                // SAFETY: the processor has the instruction set (invariant of the type). The tile's
                // kernel is the one for `to - from` tokens: `x` holds `inputs` rows of that many,
                // `out` ends with the last of that many rows that are `outputs` apart, the panel
                // has `inputs` rows of `width`, and the bias `width` numbers.
                unsafe { kernel(x, inputs, panel, out, outputs, bias) }
            }
        }
    }

    /// See [`math::gelu`].
    pub(super) fn gelu(&self, values: &mut [f32]) {
        // SAFETY: the processor has the instruction set (invariant of the type).
        unsafe { (self.gelu)(values) }
    }

    /// See [`math::add_and_norm`].
    pub(super) fn add_and_norm(
        &self,
        rows: &mut [f32],
        added: Option<&[f32]>,
        scale: &[f32],
        shift: &[f32],
    ) {
        // SAFETY: the processor has the instruction set (invariant of the type).
        unsafe { (self.add_and_norm)(rows, added, scale, shift) }
    }

    /// See [`math::attend`].
    pub(super) fn attend(
        &self,
        joined: &[f32],
        heads: usize,
        room: &mut AttentionRoom,
        out: &mut [f32],
    ) {
        // SAFETY: the processor has the instruction set (invariant of the type).
        unsafe { (self.attend)(joined, heads, room, out) }
    }

    /// The sum of numbers, read from memory as fast as this processor does.
    pub(super) fn sum(&self, values: &[f32]) -> f32 {
        // SAFETY: the processor has the instruction set (invariant of the type).
        unsafe { (self.sum)(values) }
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernels").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Every set that this processor can run, the fastest first; `portable` is always the last.
pub(super) fn available() -> Vec<Kernels> {
    let mut found = Vec::with_capacity(3);
    #[cfg(target_arch = "x86_64")]
    {
        found.extend(is_x86_feature_detected!("avx512f").then_some(avx512::KERNELS));
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        found.extend(avx2.then_some(avx2::KERNELS));
    }
    #[cfg(target_arch = "aarch64")]
    found.extend(std::arch::is_aarch64_feature_detected!("neon").then_some(neon::KERNELS));
    found.push(portable::KERNELS);
    found
}

/// The set in use: the first of [`available`], found once.
pub(super) fn active() -> &'static Kernels {
    static ACTIVE: OnceLock<Kernels> = OnceLock::new();
    ACTIVE.get_or_init(|| available().first().copied().unwrap_or(portable::KERNELS))
}

/// The loops of [`math`], compiled for an instruction set.
macro_rules! plain_loops {
    ($(#[$feature:meta])*) => {
        $(#[$feature])*
        fn gelu(values: &mut [f32]) {
            math::gelu(values);
        }

        $(#[$feature])*
        fn add_and_norm(rows: &mut [f32], added: Option<&[f32]>, scale: &[f32], shift: &[f32]) {
            math::add_and_norm(rows, added, scale, shift);
        }

        $(#[$feature])*
        fn attend(joined: &[f32], heads: usize, room: &mut AttentionRoom, out: &mut [f32]) {
            math::attend(joined, heads, room, out);
        }

        $(#[$feature])*
        fn sum(values: &[f32]) -> f32 {
            math::sum(values)
        }
    };
}

/// The tile of an instruction set: `$registers` registers of `$lanes` outputs for each token.
macro_rules! tile {
    ($feature:literal, $lanes:literal x $registers:literal, $zero:ident, $load:ident, $splat:ident, $fma:ident, $store:ident, $ahead:ident) => {
        /// See [`Tile`]. `ROWS` tokens by `$lanes x $registers` outputs.
        ///
        /// # Safety
        /// `x` has `inputs` rows of `ROWS` numbers, the panel `inputs` rows of the tile's width,
        /// the bias one; `out` has `ROWS` rows of the width, whose beginnings are `stride` apart.
        #[target_feature(enable = $feature)]
        unsafe fn tile<const ROWS: usize>(
            x: &[f32],
            inputs: usize,
            panel: &[f32],
            out: &mut [f32],
            stride: usize,
            bias: &[f32],
        ) {
            const WIDTH: usize = $lanes * $registers;
            debug_assert!(x.len() == ROWS * inputs && panel.len() == inputs * WIDTH);
            debug_assert!(bias.len() == WIDTH && out.len() == (ROWS - 1) * stride + WIDTH);
            let mut sums = [[$zero(); $registers]; ROWS];
            let (x, mut weights) = (x.as_ptr(), panel.as_ptr());
            for input in 0..inputs {
                $ahead(weights, WIDTH);
                let mut row = [$zero(); $registers];
                for (at, register) in row.iter_mut().enumerate() {
                    // SAFETY: `input < inputs`, and each row of the panel has WIDTH numbers.
                    *register = unsafe { $load(weights.add(at * $lanes)) };
                }
                for (token, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: `token < ROWS` and `input < inputs`.
                    let one = $splat(unsafe { *x.add(input * ROWS + token) });
                    for (sum, weights) in sums.iter_mut().zip(row) {
                        *sum = $fma(one, weights, *sum);
                    }
                }
                // SAFETY: at most one past the end of the panel.
                weights = unsafe { weights.add(WIDTH) };
            }
            for (token, sums) in sums.into_iter().enumerate() {
                for (at, sum) in sums.into_iter().enumerate() {
                    // SAFETY: `token < ROWS`, and a row of `out` and the bias have WIDTH numbers.
                    unsafe {
                        let biased = $fma($load(bias.as_ptr().add(at * $lanes)), $splat(1.0), sum);
                        $store(out.as_mut_ptr().add(token * stride + at * $lanes), biased);
                    }
                }
            }
        }
    };
}

/// Asks for the weights that are needed some rows later. Processors fetch ahead by themselves, but
/// not beyond a page of 4 KiB, and would wait for memory at the beginning of each.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn fetch_ahead(weights: *const f32, width: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    /// Bytes ahead: what a core works through in the time that memory takes to answer.
    const AHEAD: usize = 2_048;
    /// Numbers of a cache line.
    const LINE: usize = 16;
    for at in (0..width).step_by(LINE) {
        let there = weights.wrapping_add(AHEAD / size_of::<f32>() + at);
        // SAFETY: every x86-64 has the instruction, and it reads nothing that a program could see,
        // wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(there.cast::<i8>()) }
    }
}

/// Nothing is asked for: no instruction for it is stable on this architecture.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn leave_to_processor(_: *const f32, _: usize) {}

/// Sixteen numbers at a time, 32 registers: 13 tokens by 32 outputs take 26 of them.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{AttentionRoom, Kernels, fetch_ahead, math};

    pub(super) const KERNELS: Kernels = Kernels {
        name: "avx512",
        width: 32,
        rows: 13,
        tiles: &[
            tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>, tile::<7>, tile::<8>,
            tile::<9>, tile::<10>, tile::<11>, tile::<12>, tile::<13>,
        ],
        gelu,
        add_and_norm,
        attend,
        sum,
    };

    plain_loops!(#[target_feature(enable = "avx512f")]);
    tile!(
        "avx512f", 16 x 2,
        _mm512_setzero_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_storeu_ps,
        fetch_ahead
    );
}

/// Eight numbers at a time, 16 registers: 6 tokens by 16 outputs take 12 of them.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    use super::{AttentionRoom, Kernels, fetch_ahead, math};

    pub(super) const KERNELS: Kernels = Kernels {
        name: "avx2",
        width: 16,
        rows: 6,
        tiles: &[tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>],
        gelu,
        add_and_norm,
        attend,
        sum,
    };

    plain_loops!(#[target_feature(enable = "avx2,fma")]);
    tile!(
        "avx2,fma", 8 x 2,
        _mm256_setzero_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps,
        fetch_ahead
    );
}

/// Four numbers at a time, 32 registers: 6 tokens by 16 outputs take 24 of them.
#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_f32, vld1q_f32, vst1q_f32};

    use super::{AttentionRoom, Kernels, leave_to_processor, math};

    pub(super) const KERNELS: Kernels = Kernels {
        name: "neon",
        width: 16,
        rows: 6,
        tiles: &[tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>],
        gelu,
        add_and_norm,
        attend,
        sum,
    };

    #[target_feature(enable = "neon")]
    fn zero() -> float32x4_t {
        vdupq_n_f32(0.0)
    }

    #[target_feature(enable = "neon")]
    fn fma(a: float32x4_t, b: float32x4_t, sum: float32x4_t) -> float32x4_t {
        vfmaq_f32(sum, a, b)
    }

    plain_loops!(#[target_feature(enable = "neon")]);
    tile!("neon", 4 x 4, zero, vld1q_f32, vdupq_n_f32, fma, vst1q_f32, leave_to_processor);
}

/// Plain loops, for every processor.
mod portable {
    use super::{AttentionRoom, Kernels, math};

    const WIDTH: usize = 16;

    pub(super) const KERNELS: Kernels = Kernels {
        name: "portable",
        width: WIDTH,
        rows: 2,
        tiles: &[tile::<1>, tile::<2>],
        gelu,
        add_and_norm,
        attend,
        sum,
    };

    plain_loops!();

    fn tile<const ROWS: usize>(
        x: &[f32],
        _: usize,
        panel: &[f32],
        out: &mut [f32],
        stride: usize,
        bias: &[f32],
    ) {
        let mut sums = [[0.0_f32; WIDTH]; ROWS];
        for (input, weights) in panel.as_chunks::<WIDTH>().0.iter().enumerate() {
            for (token, sums) in sums.iter_mut().enumerate() {
                let one = x[input * ROWS + token];
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += one * weight;
                }
            }
        }
        for (token, sums) in sums.iter().enumerate() {
            for ((out, sum), bias) in out[token * stride..].iter_mut().zip(sums).zip(bias) {
                *out = sum + bias;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from((state >> 24) as u8) / 128.0 - 1.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn portable_is_the_last_resort_and_the_first_is_in_use() {
        let names: Vec<_> = available().iter().map(Kernels::name).collect();
        assert_eq!(names.last(), Some(&"portable"));
        assert_eq!(names.first(), Some(&active().name()));
    }

    #[test]
    fn every_set_multiplies_as_the_definition_says() {
        let (inputs, outputs) = (40, 96);
        let (weights, bias) = (numbers(inputs * outputs, 1), numbers(outputs, 2));
        for kernels in available() {
            let mut layer = Dense::new(&kernels, inputs, outputs);
            for (output, row) in weights.chunks(inputs).enumerate() {
                layer.set_row(&kernels, output, row, 2.0);
            }
            layer.set_bias(0, &bias, 1.0);
            assert_eq!((layer.outputs(), layer.panels().len()), (outputs, inputs * outputs));
            for tokens in (0..=15).chain([26, 27, 40]) {
                let x = numbers(tokens * inputs, 3);
                let mut out = vec![f32::NAN; tokens * outputs];
                kernels.dense(&layer, &x, &mut out, &mut Vec::new());
                for (at, got) in out.iter().enumerate() {
                    let (token, output) = (at / outputs, at % outputs);
                    let products = x[token * inputs..][..inputs]
                        .iter()
                        .zip(&weights[output * inputs..][..inputs])
                        .map(|(x, w)| f64::from(*x) * f64::from(*w) * 2.0);
                    let want = products.sum::<f64>() + f64::from(bias[output]);
                    let name = kernels.name();
                    assert!((f64::from(*got) - want).abs() < 1e-4, "{name} {tokens} {at}");
                }
            }
        }
    }

    #[test]
    fn the_plain_loops_agree_between_sets() {
        let reference = portable::KERNELS;
        for kernels in available() {
            let mut one = numbers(96, 4);
            let mut other = one.clone();
            kernels.gelu(&mut one);
            reference.gelu(&mut other);
            kernels.add_and_norm(&mut one, None, &[1.0; 48], &[0.0; 48]);
            reference.add_and_norm(&mut other, None, &[1.0; 48], &[0.0; 48]);
            let joined = numbers(5 * 3 * 64, 5);
            let (mut first, mut second) = (vec![0.0; 5 * 64], vec![0.0; 5 * 64]);
            kernels.attend(&joined, 2, &mut AttentionRoom::default(), &mut first);
            reference.attend(&joined, 2, &mut AttentionRoom::default(), &mut second);
            for (a, b) in one.iter().chain(&first).zip(other.iter().chain(&second)) {
                assert!((a - b).abs() < 1e-5, "{}: {a} {b}", kernels.name());
            }
        }
    }
}
