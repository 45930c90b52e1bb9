//! The exact vector index of one embedding space: what it stores, and how vectors come and go.

mod search;
mod shared;
mod sieve;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use memory_distance::{CodeMatrix, MAX_DIMS, Quantized, norm_f64, quantize};

pub use self::search::Candidate;
pub use self::shared::SharedSearch;
use self::sieve::Shares;
use crate::hash::{KeyMap, map_bytes};
use crate::{DocKey, VectorError};

/// How vectors are compared. For each the higher score is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Metric {
    /// The cosine of the angle, in [-1, 1]. Vectors of norm zero are refused.
    Cosine,
    /// The dot product.
    Dot,
    /// The negative squared Euclidean distance: 0 for an equal vector, less for any other.
    Euclidean,
}

/// What of a vector is kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// One byte per dimension; an exact search fetches a few dozen f32 rows from the caller.
    #[default]
    CodesOnly,
    /// Five bytes per dimension; a search needs no fetch.
    CodesAndRows,
}

/// A vector on its way into an index.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum VectorInput<'a> {
    /// The vector itself.
    Row(&'a [f32]),
    /// What [`memory_distance::quantize`] once made of it.
    Quantized {
        /// One code per dimension.
        codes: &'a [i8],
        /// Scale, residual and norm of the vector as it was given, not of a normalised one.
        quantized: Quantized,
        /// The vector itself, which [`Storage::CodesAndRows`] needs.
        row: Option<&'a [f32]>,
    },
}

/// The vectors of one embedding space, searched exactly by a scan over their int8 codes.
///
/// Vectors are quantised as they are given; for [`Metric::Cosine`] the norms are divided out when
/// they are compared, so that stored codes serve every metric. Rows are dense: a removal puts the
/// last row in the place of the removed one. At most 4,294,967,295 vectors fit.
#[derive(Clone)]
pub struct VectorScan {
    metric: Metric,
    storage: Storage,
    codes: CodeMatrix,
    /// Parallel to the rows of `codes`.
    quantized: Vec<Quantized>,
    /// Parallel to them under the cosine, empty otherwise.
    shares: Shares,
    keys: Vec<DocKey>,
    /// `[rows, dims]` where rows are kept, empty otherwise.
    rows: Vec<f32>,
    slots: KeyMap<u32>,
    /// The codes of the vector being inserted.
    incoming: Vec<i8>,
    /// Of these rows in this order: no other rows of the process have the same.
    stamp: u64,
}

/// A number that was not given before.
fn next_stamp() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl VectorScan {
    /// An empty index for vectors of `dims` dimensions.
    ///
    /// # Errors
    ///
    /// [`VectorError::UnsupportedDimensions`] unless `dims` is in 1 to
    /// [`memory_distance::MAX_DIMS`].
    pub fn new(dims: usize, metric: Metric, storage: Storage) -> Result<Self, VectorError> {
        if !(1..=MAX_DIMS).contains(&dims) {
            return Err(VectorError::UnsupportedDimensions { dims });
        }
        Ok(Self::empty(dims, metric, storage))
    }

    /// The number of dimensions.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.codes.dims()
    }

    /// How vectors are compared.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// What of a vector is kept in memory.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// The number of vectors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no vector.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether the document has a vector here.
    #[must_use]
    pub fn contains(&self, key: DocKey) -> bool {
        self.slots.contains_key(&key)
    }

    /// The f32 row of a document, where rows are kept.
    #[must_use]
    pub fn row(&self, key: DocKey) -> Option<&[f32]> {
        match self.storage {
            Storage::CodesOnly => None,
            Storage::CodesAndRows => self.slots.get(&key).map(|slot| self.row_at(*slot)),
        }
    }

    /// Makes room for `additional` more vectors, so that loading many does not move them.
    pub fn reserve(&mut self, additional: usize) {
        self.codes.reserve(additional);
        self.quantized.reserve(additional);
        if self.metric == Metric::Cosine {
            self.shares.reserve(additional);
        }
        self.keys.reserve(additional);
        self.slots.reserve(additional);
        if self.storage == Storage::CodesAndRows {
            self.rows.reserve(additional * self.dims());
        }
    }

    /// An estimate of the bytes the index occupies, spare capacity included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.codes.memory_bytes()
            + self.quantized.capacity() * size_of::<Quantized>()
            + self.shares.memory_bytes()
            + self.keys.capacity() * size_of::<DocKey>()
            + self.rows.capacity() * size_of::<f32>()
            + map_bytes::<DocKey, u32>(self.slots.capacity())
            + self.incoming.capacity()
    }

    /// Adds the vector of a document, replacing the one it had.
    ///
    /// # Errors
    ///
    /// [`VectorError::Dimensions`], [`VectorError::NotFinite`], or [`VectorError::ZeroNorm`] under
    /// [`Metric::Cosine`]; the index is then as it was.
    pub fn insert(&mut self, key: DocKey, row: &[f32]) -> Result<(), VectorError> {
        self.put(key, VectorInput::Row(row))
    }

    /// Adds a vector that is quantised already, replacing the one the document had: the quick way
    /// to load what a store keeps.
    ///
    /// The codes and numbers must be those that [`memory_distance::quantize`] made of the vector;
    /// were the residual too small, searches might miss the best rows. `row` is the vector itself
    /// and is needed where rows are kept, ignored otherwise.
    ///
    /// # Errors
    ///
    /// As [`VectorScan::insert`], and [`VectorError::InvalidQuantization`] or
    /// [`VectorError::RowMissing`]; the index is then as it was.
    pub fn insert_quantized(
        &mut self,
        key: DocKey,
        codes: &[i8],
        quantized: Quantized,
        row: Option<&[f32]>,
    ) -> Result<(), VectorError> {
        self.put(key, VectorInput::Quantized { codes, quantized, row })
    }

    /// Removes the vector of a document, and says whether there was one.
    pub fn remove(&mut self, key: DocKey) -> bool {
        let Some(slot) = self.slots.remove(&key) else { return false };
        self.stamp = next_stamp();
        let index = slot as usize;
        self.codes.swap_remove(index);
        self.quantized.swap_remove(index);
        if self.metric == Metric::Cosine {
            self.shares.swap_remove(index);
        }
        self.keys.swap_remove(index);
        if self.storage == Storage::CodesAndRows {
            let (dims, last) = (self.dims(), self.keys.len());
            self.rows.copy_within(last * dims..(last + 1) * dims, index * dims);
            self.rows.truncate(last * dims);
        }
        if let Some(moved) = self.keys.get(index) {
            self.slots.insert(*moved, slot);
        }
        if self.keys.len() < self.keys.capacity() / 4 {
            let room = self.keys.len() * 2;
            self.quantized.shrink_to(room);
            self.shares.shrink_to(room);
            self.keys.shrink_to(room);
            self.slots.shrink_to(room);
            self.rows.shrink_to(self.rows.len() * 2);
        }
        true
    }

    /// Whether a vector can be inserted.
    ///
    /// # Errors
    ///
    /// Those of [`VectorScan::insert`] and [`VectorScan::insert_quantized`].
    pub fn check(&self, input: VectorInput<'_>) -> Result<(), VectorError> {
        match input {
            VectorInput::Row(row) => self.check_row(row).map(|_| ()),
            VectorInput::Quantized { codes, quantized, row } => {
                self.check_dims(codes.len())?;
                if !quantized.is_valid() {
                    return Err(VectorError::InvalidQuantization);
                }
                if self.metric == Metric::Cosine && quantized.norm == 0.0 {
                    return Err(VectorError::ZeroNorm);
                }
                match (self.storage, row) {
                    (Storage::CodesOnly, _) => Ok(()),
                    (Storage::CodesAndRows, None) => Err(VectorError::RowMissing),
                    (Storage::CodesAndRows, Some(row)) => self.check_row(row).map(|_| ()),
                }
            }
        }
    }

    /// Inserts a vector in either form.
    ///
    /// # Errors
    ///
    /// Those of [`VectorScan::insert`] and [`VectorScan::insert_quantized`].
    pub fn put(&mut self, key: DocKey, input: VectorInput<'_>) -> Result<(), VectorError> {
        self.check(input)?;
        match input {
            VectorInput::Row(row) => {
                let mut codes = std::mem::take(&mut self.incoming);
                let quantized = quantize(row, &mut codes);
                self.store(key, &codes, quantized, Some(row));
                self.incoming = codes;
            }
            VectorInput::Quantized { codes, quantized, row } => {
                self.store(key, codes, quantized, row);
            }
        }
        Ok(())
    }

    /// An empty index for the same space.
    pub(crate) fn emptied(&self) -> Self {
        Self::empty(self.dims(), self.metric, self.storage)
    }

    fn empty(dims: usize, metric: Metric, storage: Storage) -> Self {
        Self {
            metric,
            storage,
            codes: CodeMatrix::new(dims),
            quantized: Vec::new(),
            shares: Shares::default(),
            keys: Vec::new(),
            rows: Vec::new(),
            slots: KeyMap::default(),
            incoming: vec![0; dims],
            stamp: next_stamp(),
        }
    }

    fn store(&mut self, key: DocKey, codes: &[i8], quantized: Quantized, row: Option<&[f32]>) {
        let row = row.filter(|_| self.storage == Storage::CodesAndRows);
        self.stamp = next_stamp();
        if let Some(slot) = self.slots.get(&key) {
            let index = *slot as usize;
            self.codes.set(index, codes);
            self.quantized[index] = quantized;
            if self.metric == Metric::Cosine {
                self.shares.set(index, &quantized);
            }
            if let Some(row) = row {
                self.rows[index * row.len()..][..row.len()].copy_from_slice(row);
            }
            return;
        }
        let Ok(slot) = u32::try_from(self.keys.len()) else {
            panic!("an index holds at most {} vectors", u32::MAX)
        };
        self.codes.push(codes);
        if self.metric == Metric::Cosine {
            self.shares.push(&quantized);
        }
        self.quantized.push(quantized);
        self.keys.push(key);
        if let Some(row) = row {
            self.rows.extend_from_slice(row);
        }
        self.slots.insert(key, slot);
    }

    fn row_at(&self, slot: u32) -> &[f32] {
        &self.rows[slot as usize * self.dims()..][..self.dims()]
    }

    fn check_dims(&self, actual: usize) -> Result<(), VectorError> {
        let expected = self.dims();
        if actual == expected { Ok(()) } else { Err(VectorError::Dimensions { expected, actual }) }
    }

    /// Checks a vector against the space and returns its norm.
    fn check_row(&self, row: &[f32]) -> Result<f64, VectorError> {
        self.check_dims(row.len())?;
        let norm = norm_f64(row);
        if !norm.is_finite() {
            return Err(VectorError::NotFinite);
        }
        if self.metric == Metric::Cosine && norm == 0.0 {
            return Err(VectorError::ZeroNorm);
        }
        Ok(norm)
    }
}

/// Prints the form alone, for the reason that [`VectorScan`] does.
impl fmt::Debug for VectorInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(row) => write!(f, "Row of {} dimensions", row.len()),
            Self::Quantized { codes, .. } => write!(f, "Quantized of {} dimensions", codes.len()),
        }
    }
}

/// Prints the shape alone: an embedding gives away much of the text it was made from.
impl fmt::Debug for VectorScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VectorScan")
            .field("vectors", &self.len())
            .field("dims", &self.dims())
            .field("metric", &self.metric)
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(metric: Metric, storage: Storage) -> VectorScan {
        VectorScan::new(2, metric, storage).unwrap()
    }

    #[test]
    fn vectors_that_do_not_fit_are_refused_and_change_nothing() {
        let mut scan = scan(Metric::Cosine, Storage::CodesAndRows);
        scan.insert(1, &[1.0, 0.0]).unwrap();
        let wrong = VectorError::Dimensions { expected: 2, actual: 3 };
        assert_eq!(scan.insert(1, &[1.0; 3]), Err(wrong.clone()));
        assert_eq!(scan.insert(1, &[f32::NAN, 0.0]), Err(VectorError::NotFinite));
        assert_eq!(scan.insert(1, &[f32::INFINITY, 0.0]), Err(VectorError::NotFinite));
        assert_eq!(scan.insert(1, &[0.0, 0.0]), Err(VectorError::ZeroNorm));

        let good = Quantized { scale: 0.1, residual: 0.1, norm: 1.0 };
        let bad = Quantized { residual: f32::NAN, ..good };
        assert_eq!(scan.insert_quantized(1, &[1, 2], good, None), Err(VectorError::RowMissing));
        assert_eq!(scan.insert_quantized(1, &[1, 2, 3], good, None), Err(wrong));
        let row = Some([1.0, 1.0]);
        let row = row.as_ref().map(|row| row.as_slice());
        assert_eq!(
            scan.insert_quantized(1, &[1, 2], bad, row),
            Err(VectorError::InvalidQuantization)
        );
        let zero = Quantized { norm: 0.0, ..good };
        assert_eq!(scan.insert_quantized(1, &[1, 2], zero, row), Err(VectorError::ZeroNorm));
        assert_eq!(scan.row(1), Some([1.0, 0.0].as_slice()));
        scan.insert_quantized(1, &[1, 2], good, row).unwrap();
        assert_eq!(scan.row(1), row);
    }

    #[test]
    fn zero_vectors_are_fine_where_they_mean_something() {
        for metric in [Metric::Dot, Metric::Euclidean] {
            let mut scan = scan(metric, Storage::CodesOnly);
            scan.insert(1, &[0.0, 0.0]).unwrap();
            assert!(scan.contains(1));
            assert_eq!(scan.row(1), None);
        }
    }

    #[test]
    fn the_dimensions_of_a_space_are_bounded() {
        for dims in [0, MAX_DIMS + 1] {
            let made = VectorScan::new(dims, Metric::Dot, Storage::CodesOnly);
            assert_eq!(made.err(), Some(VectorError::UnsupportedDimensions { dims }));
        }
        assert!(VectorScan::new(MAX_DIMS, Metric::Dot, Storage::CodesOnly).is_ok());
    }

    #[test]
    fn removal_moves_the_last_row_and_gives_memory_back() {
        let mut scan = scan(Metric::Dot, Storage::CodesAndRows);
        for key in 0..1_000_u16 {
            scan.insert(key.into(), &[f32::from(key), 1.0]).unwrap();
        }
        let full = scan.memory_bytes();
        for key in 0..990 {
            assert!(scan.remove(key));
            assert!(!scan.remove(key));
        }
        assert_eq!(scan.len(), 10);
        assert!(scan.memory_bytes() < full / 10);
        for key in 990..1_000_u16 {
            assert_eq!(scan.row(key.into()), Some([f32::from(key), 1.0].as_slice()));
        }
        assert_eq!(scan.row(5), None);
    }
}
