//! The network: token ids to a vector.

use std::io::Read;

use memory_core::Result;

use super::Precision;
use super::kernels::Kernels;
use super::math::{AttentionRoom, HEAD};
use super::matrix::{Arithmetic, Matrix, MatrixRoom, Table};
use super::weights::{Piece, corrupt, read_tensors};
use super::wordpiece::TokenId;

/// Numbers of a token between layers, and of a vector.
pub(super) const WIDTH: usize = 384;
/// Numbers of a token within a layer.
const INNER: usize = 1_536;
/// Layers.
const LAYERS: usize = 6;
/// Heads of attention.
const HEADS: usize = WIDTH / HEAD;
/// Most tokens of a sequence, the brackets among them; the model was trained with as many.
pub(super) const POSITIONS: usize = 256;

/// Scale and shift behind a norm.
struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

struct Layer {
    /// Queries, keys and values in one; the queries are scaled by `1 / sqrt(HEAD)`.
    joined: Matrix,
    attended: Matrix,
    first_norm: Norm,
    widen: Matrix,
    narrow: Matrix,
    second_norm: Norm,
}

/// The loaded network.
pub(super) struct Network {
    arithmetic: Arithmetic,
    /// `[tokens][WIDTH]`.
    words: Table,
    /// `[POSITIONS][WIDTH]`, the type of a first sentence added, for there is no second one.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

/// Buffers of one pass, kept for the next.
#[derive(Default)]
pub(super) struct Room {
    states: Vec<f32>,
    wide: Vec<f32>,
    other: Vec<f32>,
    products: MatrixRoom,
    attention: AttentionRoom,
}

impl Network {
    /// Reads the weights, packing them for `kernels` in this precision as they come: at no time are
    /// they held twice.
    ///
    /// # Errors
    /// `Corrupt`: not the file of this model. `Unavailable`: it cannot be read.
    pub(super) fn read<R: Read>(
        file: R,
        vocabulary: usize,
        kernels: Kernels,
        precision: Precision,
    ) -> Result<Self> {
        let arithmetic = Arithmetic::new(kernels, precision);
        let norm = || Norm { scale: Vec::new(), shift: Vec::new() };
        let dense = |inputs, outputs| arithmetic.matrix(inputs, outputs);
        let layer = |_| Layer {
            joined: dense(WIDTH, 3 * WIDTH),
            attended: dense(WIDTH, WIDTH),
            first_norm: norm(),
            widen: dense(WIDTH, INNER),
            narrow: dense(INNER, WIDTH),
            second_norm: norm(),
        };
        let mut network = Self {
            arithmetic,
            words: arithmetic.table(WIDTH),
            positions: Vec::new(),
            norm: norm(),
            layers: (0..LAYERS).map(layer).collect(),
        };
        let mut first_type = Vec::new();
        let mut taken = 0;
        read_tensors(file, |piece| {
            let used = match piece.name {
                "embeddings.word_embeddings.weight" => {
                    check(&piece, vocabulary * WIDTH)?;
                    if piece.from == 0 {
                        network.words.reserve(vocabulary);
                    }
                    // Pieces are whole rows.
                    network.words.extend(piece.values);
                    true
                }
                // The file has 512, of which sentences use the first half.
                "embeddings.position_embeddings.weight" => {
                    keep(&mut network.positions, &piece, 2 * POSITIONS * WIDTH)?
                }
                "embeddings.token_type_embeddings.weight" => {
                    keep(&mut first_type, &piece, 2 * WIDTH)?
                }
                "embeddings.LayerNorm.weight" => keep(&mut network.norm.scale, &piece, WIDTH)?,
                "embeddings.LayerNorm.bias" => keep(&mut network.norm.shift, &piece, WIDTH)?,
                _ => network.take_of_layer(&piece)?,
            };
            taken += usize::from(used && piece.from == 0);
            Ok(())
        })?;
        network.positions.truncate(POSITIONS * WIDTH);
        network.positions.shrink_to_fit();
        // Five of the embeddings, sixteen of each layer; each is there once, for names are keys.
        if taken != 5 + 16 * LAYERS {
            return Err(corrupt("lacks tensors of this model"));
        }
        for row in network.positions.chunks_exact_mut(WIDTH) {
            row.iter_mut().zip(&first_type).for_each(|(x, more)| *x += more);
        }
        Ok(network)
    }

    /// Takes a tensor of a layer; `false` for one that is not used.
    fn take_of_layer(&mut self, piece: &Piece<'_>) -> Result<bool> {
        let Some((number, part)) =
            piece.name.strip_prefix("encoder.layer.").and_then(|rest| rest.split_once('.'))
        else {
            return Ok(false);
        };
        let arithmetic = self.arithmetic;
        let layer = number.parse().ok().and_then(|at: usize| self.layers.get_mut(at));
        let Some(layer) = layer else { return Ok(false) };
        #[expect(clippy::cast_precision_loss, reason = "32")]
        let scale = 1.0 / (HEAD as f32).sqrt();
        // Where a tensor of weights goes: the layer, its first output, and by what it is scaled.
        let (dense, from, scale) = match part.rsplit_once('.').map_or(part, |(module, _)| module) {
            "attention.self.query" => (&mut layer.joined, 0, scale),
            "attention.self.key" => (&mut layer.joined, WIDTH, 1.0),
            "attention.self.value" => (&mut layer.joined, 2 * WIDTH, 1.0),
            "attention.output.dense" => (&mut layer.attended, 0, 1.0),
            "intermediate.dense" => (&mut layer.widen, 0, 1.0),
            "output.dense" => (&mut layer.narrow, 0, 1.0),
            "attention.output.LayerNorm" => {
                return take_norm(&mut layer.first_norm, piece);
            }
            "output.LayerNorm" => return take_norm(&mut layer.second_norm, piece),
            _ => return Ok(false),
        };
        let inputs = dense.inputs();
        let outputs = if dense.outputs() == 3 * WIDTH { WIDTH } else { dense.outputs() };
        if part.ends_with(".bias") {
            check(piece, outputs)?;
            dense.set_bias(from, piece.values, scale);
        } else {
            // Pieces are whole rows.
            check(piece, outputs * inputs)?;
            let from = from + piece.from / inputs;
            for (output, row) in (from..).zip(piece.values.chunks_exact(inputs)) {
                dense.set_row(&arithmetic, output, row, scale);
            }
        }
        Ok(true)
    }

    /// The instruction set of its matrix products.
    pub(super) fn kernels(&self) -> &'static str {
        self.arithmetic.products()
    }

    /// The sum of every layer's weights as they are stored, and their bytes.
    pub(super) fn sum(&self) -> (f32, usize) {
        let sum = self.matrices().map(|matrix| self.arithmetic.sum(matrix)).sum();
        (sum, self.matrices().map(Matrix::weight_bytes).sum())
    }

    /// Bytes of all weights.
    pub(super) fn bytes(&self) -> usize {
        let matrices: usize = self.matrices().map(Matrix::weight_bytes).sum();
        self.words.bytes() + size_of_val(self.positions.as_slice()) + matrices
    }

    /// Every layer's weights, in the order in which a pass reads them.
    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.layers
            .iter()
            .flat_map(|layer| [&layer.joined, &layer.attended, &layer.widen, &layer.narrow])
    }

    /// A vector of length 1 for each sequence: the mean of its tokens behind the last layer. A
    /// sequence has 1 to [`POSITIONS`] ids of the vocabulary. All go through each layer together,
    /// so that its weights are read once for many; a sequence never sees another one, nor padding.
    pub(super) fn forward(&self, sequences: &[Vec<TokenId>], room: &mut Room) -> Vec<Vec<f32>> {
        let tokens: usize = sequences.iter().map(Vec::len).sum();
        let Room { states, wide, other, products, attention } = room;
        states.clear();
        for sequence in sequences {
            for (id, position) in sequence.iter().zip(self.positions.chunks_exact(WIDTH)) {
                self.words.add_row(*id as usize, position, states);
            }
        }
        let Arithmetic { kernels, .. } = &self.arithmetic;
        kernels.add_and_norm(states, None, &self.norm.scale, &self.norm.shift);
        wide.resize(tokens * INNER, 0.0);
        other.resize(tokens * WIDTH, 0.0);
        for layer in &self.layers {
            let joined = &mut wide[..tokens * 3 * WIDTH];
            self.arithmetic.product(&layer.joined, states, joined, products);
            let mut from = 0;
            for sequence in sequences {
                let to = from + sequence.len();
                let out = &mut other[from * WIDTH..to * WIDTH];
                kernels.attend(&joined[from * 3 * WIDTH..to * 3 * WIDTH], HEADS, attention, out);
                from = to;
            }
            let attended = &mut wide[..tokens * WIDTH];
            self.arithmetic.product(&layer.attended, &other[..tokens * WIDTH], attended, products);
            let Norm { scale, shift } = &layer.first_norm;
            kernels.add_and_norm(states, Some(attended), scale, shift);
            let inner = &mut wide[..tokens * INNER];
            self.arithmetic.product(&layer.widen, states, inner, products);
            kernels.gelu(inner);
            let narrow = &mut other[..tokens * WIDTH];
            self.arithmetic.product(&layer.narrow, inner, narrow, products);
            let Norm { scale, shift } = &layer.second_norm;
            kernels.add_and_norm(states, Some(narrow), scale, shift);
        }
        let mut from = 0;
        let mean = |sequence: &Vec<TokenId>| {
            let mut sum = vec![0.0; WIDTH];
            for row in states[from..][..sequence.len() * WIDTH].chunks_exact(WIDTH) {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            from += sequence.len() * WIDTH;
            normalise(&mut sum);
            sum
        };
        sequences.iter().map(mean).collect()
    }
}

/// Brings a vector to length 1; one of zeros stays as it is.
pub(super) fn normalise(vector: &mut [f32]) {
    let squared: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    if squared > 0.0 {
        let inverse = 1.0 / squared.sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "components of a vector of length 1")]
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) * inverse) as f32);
    }
}

fn take_norm(norm: &mut Norm, piece: &Piece<'_>) -> Result<bool> {
    let bias = piece.name.ends_with(".bias");
    keep(if bias { &mut norm.shift } else { &mut norm.scale }, piece, WIDTH)
}

fn keep(to: &mut Vec<f32>, piece: &Piece<'_>, count: usize) -> Result<bool> {
    check(piece, count)?;
    if piece.from == 0 {
        *to = Vec::with_capacity(count);
    }
    to.extend_from_slice(piece.values);
    Ok(true)
}

fn check(piece: &Piece<'_>, count: usize) -> Result<()> {
    match piece.total == count {
        true => Ok(()),
        false => Err(corrupt("has a tensor of another size than this model's")),
    }
}
