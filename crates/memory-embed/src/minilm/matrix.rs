//! Weights in the precision that was chosen, and the products with them.

use super::Precision;
use super::int8::{self, Int8Dense, Int8Kernels, Int8Room};
use super::kernels::{Dense, Kernels};
use super::math;

/// What computes: the loops of f32, and those of whole numbers where the weights are such.
#[derive(Clone, Copy)]
pub(super) struct Arithmetic {
    pub(super) kernels: Kernels,
    int8: Option<Int8Kernels>,
}

/// Weights of a dense layer.
pub(super) enum Matrix {
    F32(Dense),
    Int8(Int8Dense, Int8Kernels),
}

/// Room that products work in, kept between them.
#[derive(Default)]
pub(super) struct MatrixRoom {
    packed: Vec<f32>,
    int8: Int8Room,
}

impl Arithmetic {
    /// The loops of `kernels`, and the whole numbers that go with them.
    pub(super) fn new(kernels: Kernels, precision: Precision) -> Self {
        let int8 = match precision {
            Precision::F32 => None,
            Precision::Int8 => Some(int8::beside(kernels.name())),
        };
        Self { kernels, int8 }
    }

    /// The instruction set of the matrix products.
    pub(super) fn products(&self) -> &'static str {
        self.int8.as_ref().map_or(self.kernels.name(), Int8Kernels::name)
    }

    /// A matrix of zeros; rows are set as they are read, so that several can be joined into one and
    /// none is held twice.
    pub(super) fn matrix(&self, inputs: usize, outputs: usize) -> Matrix {
        match self.int8 {
            None => Matrix::F32(Dense::new(&self.kernels, inputs, outputs)),
            Some(int8) => Matrix::Int8(Int8Dense::new(&int8, inputs, outputs), int8),
        }
    }

    /// No rows of embeddings.
    pub(super) fn table(&self, width: usize) -> Table {
        match self.int8 {
            None => Table::F32 { width, rows: Vec::new() },
            Some(_) => Table::Int8 { width, codes: Vec::new(), scales: Vec::new() },
        }
    }

    /// `out = x W' + b` for each token.
    pub(super) fn product(&self, by: &Matrix, x: &[f32], out: &mut [f32], room: &mut MatrixRoom) {
        match by {
            Matrix::F32(dense) => self.kernels.dense(dense, x, out, &mut room.packed),
            Matrix::Int8(dense, kernels) => kernels.dense(dense, x, out, &mut room.int8),
        }
    }

    /// The sum of the stored numbers, codes where they are such: what reading them costs.
    pub(super) fn sum(&self, matrix: &Matrix) -> f32 {
        match matrix {
            Matrix::F32(dense) => self.kernels.sum(dense.panels()),
            Matrix::Int8(dense, kernels) => kernels.sum(dense.panels()),
        }
    }
}

impl Matrix {
    /// Sets the weights of an output, each times `scale`.
    pub(super) fn set_row(&mut self, by: &Arithmetic, output: usize, row: &[f32], scale: f32) {
        match self {
            Self::F32(dense) => dense.set_row(&by.kernels, output, row, scale),
            Self::Int8(dense, kernels) => dense.set_row(kernels, output, row, scale),
        }
    }

    /// Sets the biases from `output` on, each times `scale`.
    pub(super) fn set_bias(&mut self, output: usize, bias: &[f32], scale: f32) {
        match self {
            Self::F32(dense) => dense.set_bias(output, bias, scale),
            Self::Int8(dense, _) => dense.set_bias(output, bias, scale),
        }
    }

    /// Numbers of one token before it.
    pub(super) fn inputs(&self) -> usize {
        match self {
            Self::F32(dense) => dense.inputs(),
            Self::Int8(dense, _) => dense.inputs(),
        }
    }

    /// Numbers of one token behind it.
    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::F32(dense) => dense.outputs(),
            Self::Int8(dense, _) => dense.outputs(),
        }
    }

    /// Bytes of its weights, as a product reads them.
    pub(super) fn weight_bytes(&self) -> usize {
        match self {
            Self::F32(dense) => size_of_val(dense.panels()),
            Self::Int8(dense, _) => size_of_val(dense.panels()),
        }
    }
}

/// Rows of embeddings. In eight bits each row has a scale of its own.
pub(super) enum Table {
    F32 { width: usize, rows: Vec<f32> },
    Int8 { width: usize, codes: Vec<i8>, scales: Vec<f32> },
}

impl Table {
    /// Room for a number of rows.
    pub(super) fn reserve(&mut self, count: usize) {
        match self {
            Self::F32 { width, rows } => rows.reserve_exact(count * *width),
            Self::Int8 { width, codes, scales } => {
                codes.reserve_exact(count * *width);
                scales.reserve_exact(count);
            }
        }
    }

    /// Adds whole rows.
    pub(super) fn extend(&mut self, values: &[f32]) {
        match self {
            Self::F32 { rows, .. } => rows.extend_from_slice(values),
            Self::Int8 { width, codes, scales } => {
                for row in values.chunks_exact(*width) {
                    let from = codes.len();
                    codes.resize(from + *width, 0);
                    scales.push(math::quantise_signed(row, &mut codes[from..]));
                }
            }
        }
    }

    /// Adds a row to numbers, and appends what that gives to `to`.
    pub(super) fn add_row(&self, at: usize, numbers: &[f32], to: &mut Vec<f32>) {
        match self {
            Self::F32 { width, rows } => {
                let row = &rows[at * width..][..*width];
                to.extend(row.iter().zip(numbers).map(|(x, more)| x + more));
            }
            Self::Int8 { width, codes, scales } => {
                let (row, scale) = (&codes[at * width..][..*width], scales[at]);
                let number = |(code, more): (&i8, &f32)| f32::from(*code) * scale + more;
                to.extend(row.iter().zip(numbers).map(number));
            }
        }
    }

    /// Bytes of all that is held.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::F32 { rows, .. } => size_of_val(rows.as_slice()),
            Self::Int8 { codes, scales, .. } => codes.len() + size_of_val(scales.as_slice()),
        }
    }
}
