//! The kernels against the scalar ones and against f64, over random and extreme input.

mod kernels;
mod quantisation;
