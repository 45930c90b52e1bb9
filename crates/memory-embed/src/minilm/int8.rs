//! Matrix products in whole numbers: weights of eight bits, the tokens brought to eight bits for
//! each product.
//!
//! The weights of an output share a scale, `largest / 127`, and lie in [-127, 127]. The numbers of
//! a token share a scale and a lowest number, `(highest - lowest) / 255`, and lie in [0, 255]. So
//!
//! ```text
//! sum(w x) = scale of w * (scale of x * sum(codes of w * codes of x) + lowest x * sum(codes of w))
//! ```
//!
//! where the first sum is of whole numbers below 2^26 and exact: no set of instructions saturates
//! or rounds it. All that is rounded runs in plain loops whose order is fixed, so that every set
//! gives the same bits.
//!
//! A panel holds `width` outputs side by side, `group` inputs of each output together:
//! `[inputs / group][width][group]`. The tokens of a tile lie the same way:
//! `[inputs / group][tokens][group]`.
#![expect(
    unsafe_code,
    reason = "functions compiled for an instruction set may be called only where it exists; this \
              module proves that once, when a table is built"
)]

use super::math;

/// Codes of the tokens, steps (inputs by `group`), panel, sums to be set: `[tokens][width]`.
type Tile = unsafe fn(&[u8], usize, &[i8], &mut [i32]);

/// The inner loops of one instruction set.
///
/// A value exists only for an instruction set that this processor has: [`available`] looks before
/// it gives one. That is the invariant which makes the safe methods sound.
#[derive(Clone, Copy)]
pub(super) struct Int8Kernels {
    name: &'static str,
    /// Outputs of a panel; divides 384.
    width: usize,
    /// Most tokens of a tile.
    rows: usize,
    /// Inputs of one step: 4, or 2, whose codes take two bytes each in a tile; 0 is all of them.
    group: usize,
    /// By the number of tokens less one.
    tiles: &'static [Tile],
    quantise: unsafe fn(&[f32], &mut [u8]) -> Token,
    finish: unsafe fn(&[i32], &[Token], Outputs<'_>, &mut [f32], usize),
    sum: unsafe fn(&[i8]) -> f32,
}

/// How the codes of a token become numbers: `lowest + scale * code`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Token {
    scale: f32,
    lowest: f32,
}

/// What the outputs of a panel have besides their weights.
#[derive(Clone, Copy)]
struct Outputs<'a> {
    /// What a code of a weight counts.
    scales: &'a [f32],
    /// The sum of the weights, as their codes have it.
    totals: &'a [f32],
    bias: &'a [f32],
}

/// Room that products work in, kept between them.
#[derive(Debug, Default)]
pub(super) struct Int8Room {
    /// Codes of one token.
    codes: Vec<u8>,
    /// Codes of all tokens, tile by tile.
    packed: Vec<u8>,
    tokens: Vec<Token>,
    /// Sums of a tile.
    sums: Vec<i32>,
}

/// Weights of a dense layer in eight bits, packed for the kernels of one instruction set.
pub(super) struct Int8Dense {
    inputs: usize,
    outputs: usize,
    /// `[outputs / width][inputs / group][width][group]`.
    panels: Vec<i8>,
    scales: Vec<f32>,
    totals: Vec<f32>,
    bias: Vec<f32>,
}

impl Int8Dense {
    /// A layer of zeros; rows are set as they are read.
    pub(super) fn new(kernels: &Int8Kernels, inputs: usize, outputs: usize) -> Self {
        assert!(outputs.is_multiple_of(kernels.width) && inputs.is_multiple_of(4), "whole panels");
        // A sum of that many products stays below 2^26.
        assert!(inputs <= 2_048, "whole numbers of 32 bits hold the sums");
        Self {
            inputs,
            outputs,
            panels: vec![0; inputs * outputs],
            scales: vec![0.0; outputs],
            totals: vec![0.0; outputs],
            bias: vec![0.0; outputs],
        }
    }

    /// Sets the weights of an output.
    pub(super) fn set_row(
        &mut self,
        kernels: &Int8Kernels,
        output: usize,
        row: &[f32],
        scale: f32,
    ) {
        let (width, group) = (kernels.width, kernels.group_of(self.inputs));
        let mut codes = vec![0; row.len()];
        let of_code = math::quantise_signed(row, &mut codes);
        let panel = &mut self.panels[output / width * self.inputs * width..];
        let lane = output % width * group;
        for (step, codes) in codes.chunks_exact(group).enumerate() {
            panel[step * width * group + lane..][..group].copy_from_slice(codes);
        }
        let total: i32 = codes.iter().map(|code| i32::from(*code)).sum();
        self.scales[output] = of_code * scale;
        #[expect(clippy::cast_precision_loss, reason = "below 2^18")]
        let total = total as f32;
        self.totals[output] = total * self.scales[output];
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

    /// Every weight once, as a product reads them.
    pub(super) fn panels(&self) -> &[i8] {
        &self.panels
    }
}

impl Int8Kernels {
    /// `avx512vnni`, `avx2` or `portable`.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// `out = x W' + b` for each token, as the head of this file says; `x` has `inputs` numbers a
    /// token, `out` `outputs`.
    pub(super) fn dense(&self, layer: &Int8Dense, x: &[f32], out: &mut [f32], room: &mut Int8Room) {
        let (outputs, width) = (layer.outputs, self.width);
        assert!(x.len().is_multiple_of(layer.inputs));
        assert_eq!(out.len(), x.len() / layer.inputs * outputs);
        self.pack(layer.inputs, x, room);
        self.each_tile(layer, room, |at, from, tokens, sums| {
            let beside = at * width..(at + 1) * width;
            let of_panel = Outputs {
                scales: &layer.scales[beside.clone()],
                totals: &layer.totals[beside.clone()],
                bias: &layer.bias[beside],
            };
            let out = &mut out[from * outputs + at * width..];
            // SAFETY: the processor has the instruction set (invariant of the type).
            unsafe { (self.finish)(sums, tokens, of_panel, out, outputs) }
        });
    }

    /// A sum that takes every code in, read from memory as fast as this processor does.
    pub(super) fn sum(&self, codes: &[i8]) -> f32 {
        // SAFETY: the processor has the instruction set (invariant of the type).
        unsafe { (self.sum)(codes) }
    }

    /// The tokens of each tile: equal heights, rather than full ones and a low one, which would
    /// read the panel for little.
    fn tiles(&self, tokens: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let tiles = tokens.div_ceil(self.rows);
        (0..tiles).map(move |at| (at * tokens / tiles, (at + 1) * tokens / tiles))
    }

    /// Inputs of one step.
    fn group_of(&self, inputs: usize) -> usize {
        if self.group == 0 { inputs } else { self.group }
    }

    /// Bytes of a token in a tile.
    fn packed_bytes(&self, inputs: usize) -> usize {
        if self.group == 2 { 2 * inputs } else { inputs }
    }

    /// Brings the tokens to eight bits, those of each tile side by side.
    fn pack(&self, inputs: usize, x: &[f32], room: &mut Int8Room) {
        let bytes = self.packed_bytes(inputs);
        room.tokens.clear();
        room.codes.resize(inputs, 0);
        room.packed.resize(x.len() / inputs * bytes, 0);
        for (from, to) in self.tiles(x.len() / inputs) {
            let packed = &mut room.packed[from * bytes..to * bytes];
            for (token, row) in x[from * inputs..to * inputs].chunks_exact(inputs).enumerate() {
                // SAFETY: the processor has the instruction set (invariant of the type).
                room.tokens.push(unsafe { (self.quantise)(row, &mut room.codes) });
                let codes = &room.codes;
                if self.group == 0 {
                    packed[token * inputs..][..inputs].copy_from_slice(codes);
                    continue;
                }
                let slots = packed.as_chunks_mut::<4>().0.iter_mut().skip(token).step_by(to - from);
                if self.group == 2 {
                    for (slot, [one, other]) in slots.zip(codes.as_chunks::<2>().0) {
                        *slot = [*one, 0, *other, 0];
                    }
                } else {
                    slots.zip(codes.as_chunks::<4>().0).for_each(|(slot, four)| *slot = *four);
                }
            }
        }
    }

    /// The sums of codes, panel by panel and tile by tile: the panel, the tile's first token, its
    /// tokens, and `[tokens][width]` sums.
    fn each_tile(
        &self,
        layer: &Int8Dense,
        room: &mut Int8Room,
        mut take: impl FnMut(usize, usize, &[Token], &[i32]),
    ) {
        let (inputs, width) = (layer.inputs, self.width);
        let (steps, bytes) = (inputs / self.group_of(inputs), self.packed_bytes(inputs));
        assert_eq!(room.packed.len(), room.tokens.len() * bytes);
        room.sums.resize(self.rows * width, 0);
        for (at, panel) in layer.panels.chunks_exact(inputs * width).enumerate() {
            for (from, to) in self.tiles(room.tokens.len()) {
                let kernel = self.tiles[to - from - 1];
                let x = &room.packed[from * bytes..to * bytes];
                let sums = &mut room.sums[..(to - from) * width];
                // SAFETY: the processor has the instruction set (invariant of the type). The tile's
                // kernel is the one for `to - from` tokens: `x` holds `steps` rows of that many
                // groups, `sums` that many rows of `width`, and the panel `steps` rows of `width`
                // groups.
                unsafe { kernel(x, steps, panel, sums) }
                take(at, from, &room.tokens[from..to], sums);
            }
        }
    }
}

/// Every set that this processor can run, the fastest first; `portable` is always the last.
pub(super) fn available() -> Vec<Int8Kernels> {
    let mut found = Vec::with_capacity(3);
    #[cfg(target_arch = "x86_64")]
    {
        let vnni = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
        found.extend(vnni.then_some(vnni::KERNELS));
        found.extend(is_x86_feature_detected!("avx2").then_some(avx2::KERNELS));
    }
    found.push(portable::KERNELS);
    found
}

/// The fastest set that needs no more than the set of [`super::kernels`] of this name does:
/// `avx512` takes `avx512vnni`, or `avx2` on a processor without it.
pub(super) fn beside(name: &str) -> Int8Kernels {
    let fits = |set: &Int8Kernels| match set.name {
        "avx512vnni" => name == "avx512",
        "avx2" => name == "avx512" || name == "avx2",
        _ => true,
    };
    available().into_iter().find(fits).unwrap_or(portable::KERNELS)
}

/// Numbers of each token from the sums of its codes; rows of `out` begin `stride` apart.
#[inline(always)]
fn finish(sums: &[i32], tokens: &[Token], outputs: Outputs<'_>, out: &mut [f32], stride: usize) {
    let Outputs { scales, totals, bias } = outputs;
    let width = scales.len();
    for (at, (token, sums)) in tokens.iter().zip(sums.chunks_exact(width)).enumerate() {
        let out = &mut out[at * stride..][..width];
        let weights = scales.iter().zip(totals).zip(bias);
        for ((out, sum), ((scale, total), bias)) in out.iter_mut().zip(sums).zip(weights) {
            #[expect(clippy::cast_precision_loss, reason = "rounded to 24 bits on every processor")]
            let sum = *sum as f32;
            *out = sum * token.scale * scale + (token.lowest * total + bias);
        }
    }
}

/// The sum of codes in lanes of eight bits, which overflow: that shows what reading costs as well.
#[inline(always)]
fn sum(codes: &[i8]) -> f32 {
    const LANES: usize = 512;
    let mut sums = [0_u8; LANES];
    let (chunks, rest) = codes.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, code) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(code.cast_unsigned());
        }
    }
    let rest = rest.iter().map(|code| f32::from(code.cast_unsigned()));
    sums.iter().map(|sum| f32::from(*sum)).chain(rest).sum()
}

/// The plain loops, compiled for an instruction set.
macro_rules! plain_loops {
    ($(#[$feature:meta])*) => {
        $(#[$feature])*
        fn quantise(row: &[f32], codes: &mut [u8]) -> Token {
            let (scale, lowest) = math::quantise(row, codes);
            Token { scale, lowest }
        }

        $(#[$feature])*
        fn finish(
            sums: &[i32],
            tokens: &[Token],
            outputs: Outputs<'_>,
            out: &mut [f32],
            stride: usize,
        ) {
            super::finish(sums, tokens, outputs, out, stride);
        }

        $(#[$feature])*
        fn sum(codes: &[i8]) -> f32 {
            super::sum(codes)
        }
    };
}

/// The tile of an instruction set: `$registers` registers of `$lanes` outputs for each token,
/// `$group` inputs a step.
#[cfg(target_arch = "x86_64")]
macro_rules! tile {
    ($feature:literal, $lanes:literal x $registers:literal, $group:literal, $zero:ident, $load:ident, $splat:ident, $add_products:ident, $store:ident) => {
        /// See [`Tile`]. `ROWS` tokens by `$lanes x $registers` outputs.
        ///
        /// # Safety
        /// `x` has `steps` rows of `ROWS` times four bytes, the panel `steps` rows of `$group` bytes
        /// for each output, `out` `ROWS` rows of a number for each output.
        #[target_feature(enable = $feature)]
        unsafe fn tile<const ROWS: usize>(x: &[u8], steps: usize, panel: &[i8], out: &mut [i32]) {
            const WIDTH: usize = $lanes * $registers;
            debug_assert!(x.len() == ROWS * steps * 4 && panel.len() == steps * WIDTH * $group);
            debug_assert!(out.len() == ROWS * WIDTH);
            let mut sums = [[$zero(); $registers]; ROWS];
            let (x, mut weights) = (x.as_ptr().cast::<i32>(), panel.as_ptr());
            for step in 0..steps {
                super::super::kernels::fetch_ahead(weights.cast(), WIDTH * $group / 4);
                let mut row = [$zero(); $registers];
                for (at, register) in row.iter_mut().enumerate() {
                    // SAFETY: `step < steps`, and each row of the panel has WIDTH groups.
                    *register = unsafe { $load(weights.add(at * $lanes * $group).cast()) };
                }
                for (token, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: `token < ROWS` and `step < steps`.
                    let one = $splat(unsafe { x.add(step * ROWS + token).read_unaligned() });
                    for (sum, weights) in sums.iter_mut().zip(row) {
                        *sum = $add_products(*sum, one, weights);
                    }
                }
                // SAFETY: at most one past the end of the panel.
                weights = unsafe { weights.add(WIDTH * $group) };
            }
            for (token, sums) in sums.into_iter().enumerate() {
                for (at, sum) in sums.into_iter().enumerate() {
                    // SAFETY: `token < ROWS`, and a row of `out` has WIDTH numbers.
                    unsafe { $store(out.as_mut_ptr().add(token * WIDTH + at * $lanes).cast(), sum) }
                }
            }
        }
    };
}

/// Sixteen outputs at a time, four inputs of each in one instruction; 13 tokens by 32 outputs take
/// 26 of 32 registers.
#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::arch::x86_64::{
        _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
        _mm512_storeu_si512,
    };

    use super::{Int8Kernels, Outputs, Token, math};

    pub(super) const KERNELS: Int8Kernels = Int8Kernels {
        name: "avx512vnni",
        width: 32,
        rows: 13,
        group: 4,
        tiles: &[
            tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>, tile::<7>, tile::<8>,
            tile::<9>, tile::<10>, tile::<11>, tile::<12>, tile::<13>,
        ],
        quantise,
        finish,
        sum,
    };

    plain_loops!(#[target_feature(enable = "avx512f,avx512vnni")]);
    tile!(
        "avx512f,avx512vnni", 16 x 2, 4,
        _mm512_setzero_si512, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_dpbusd_epi32,
        _mm512_storeu_si512
    );
}

/// Eight outputs at a time, two inputs of each. The codes are widened to 16 bits first: products
/// of bytes, added in pairs, saturate on these processors.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16,
        _mm256_madd_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_storeu_si256,
    };

    use super::{Int8Kernels, Outputs, Token, math};

    pub(super) const KERNELS: Int8Kernels = Int8Kernels {
        name: "avx2",
        width: 16,
        rows: 6,
        group: 2,
        tiles: &[tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>],
        quantise,
        finish,
        sum,
    };

    /// # Safety
    /// Sixteen bytes lie there.
    #[target_feature(enable = "avx2")]
    unsafe fn load(weights: *const __m128i) -> __m256i {
        // SAFETY: the caller's.
        _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(weights) })
    }

    #[target_feature(enable = "avx2")]
    fn add_products(sums: __m256i, one: __m256i, weights: __m256i) -> __m256i {
        _mm256_add_epi32(sums, _mm256_madd_epi16(one, weights))
    }

    plain_loops!(#[target_feature(enable = "avx2")]);
    tile!(
        "avx2", 8 x 2, 2,
        _mm256_setzero_si256, load, _mm256_set1_epi32, add_products, _mm256_storeu_si256
    );
}

/// Plain loops, for every processor: an output's weights lie side by side, for compilers make the
/// best of products of two rows. Where NEON is, as on every 64-bit ARM, they use it; its products
/// of bytes are not stable in the standard library.
mod portable {
    use super::{Int8Kernels, Outputs, Token, math};

    const WIDTH: usize = 16;

    pub(super) const KERNELS: Int8Kernels = Int8Kernels {
        name: "portable",
        width: WIDTH,
        rows: 4,
        group: 0,
        tiles: &[tile, tile, tile, tile],
        quantise,
        finish,
        sum,
    };

    plain_loops!();

    fn tile(x: &[u8], _: usize, panel: &[i8], out: &mut [i32]) {
        let inputs = panel.len() / WIDTH;
        for (x, out) in x.chunks_exact(inputs).zip(out.as_chunks_mut::<WIDTH>().0) {
            for (weights, out) in panel.chunks_exact(inputs).zip(out) {
                // The products of 16 bits that processors add in pairs.
                let products = x.iter().zip(weights).map(|(code, weight)| {
                    i32::from(i16::from(*code)) * i32::from(i16::from(*weight))
                });
                *out = products.sum();
            }
        }
    }
}

#[cfg(test)]
mod tests;
