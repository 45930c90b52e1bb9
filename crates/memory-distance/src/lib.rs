//! Distance and quantisation kernels: pure arithmetic over slices, without I/O, allocation of
//! note, or any other crate.
//!
//! Three families stand here, from cheap to exact:
//!
//! - **int8**: [`quantize`] turns a vector into one byte per dimension, a scale and a *proven*
//!   error ([`Quantized::residual`]). [`dot_i8`] is exact integer arithmetic, [`CodeMatrix`] holds
//!   many rows for a scan, and [`dot_bound`] says how far the estimate can be from the truth.
//! - **f32**: [`dot_f32`] and [`squared_l2_f32`], fast, rounded, and different in the last bits
//!   from one processor to the next.
//! - **f64 accumulation**: [`dot_f64`], [`squared_l2_f64`], [`norm_f64`], portable code with one
//!   order of summation, so that a score is the same number on every machine.
//!
//! The kernels of the first two families exist per instruction set ([`available`]); the best one
//! that the processor has is chosen once, on first use ([`active_name`]). This is the only crate
//! of the workspace that contains `unsafe` code.
//!
//! ```
//! use memory_distance::{dot_bound, dot_estimate, dot_f64, dot_i8, quantize};
//!
//! let (x, q) = ([0.1_f32, -0.7, 0.4], [0.3_f32, -0.2, 0.9]);
//! let (mut x_codes, mut q_codes) = ([0_i8; 3], [0_i8; 3]);
//! let x_meta = quantize(&x, &mut x_codes);
//! let q_meta = quantize(&q, &mut q_codes);
//!
//! let estimate = dot_estimate(&x_meta, &q_meta, dot_i8(&x_codes, &q_codes));
//! assert!((dot_f64(&x, &q) - estimate).abs() <= dot_bound(&x_meta, &q_meta));
//! ```

mod exact;
mod kernels;
mod matrix;
mod quantize;
mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

pub use exact::{dot_f64, norm_f32, norm_f64, normalize, squared_l2_f64};
pub use kernels::{Kernels, active_name, available, dot_f32, dot_i8, squared_l2_f32};
pub use matrix::CodeMatrix;
pub use quantize::{Quantized, dot_bound, dot_estimate, quantize};

/// The most dimensions a vector may have: 65,536.
///
/// At this length the int8 dot product still fits an `i32`, also in the form the VNNI kernel sums
/// it in: (255 x 128) x 65,536 = 2,139,095,040 < 2^31. The largest embedding in common use has
/// 4,096 dimensions.
pub const MAX_DIMS: usize = 65_536;
