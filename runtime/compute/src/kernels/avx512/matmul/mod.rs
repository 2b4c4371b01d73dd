//! AVX-512 matrix products: the tables. Block types, strips and the single-token path are `avx2`'s.
//!
//! A single token is memory-bound, and 256-bit vectors already keep up; twice the width pays off with more.

mod integer;
mod plain;
mod sixteen;

use satchel_gguf::TensorType;

use crate::kernels::avx2::matmul::{blocks, quantize, rows};
use crate::kernels::matmul::{MatmulKernels, RowsKernel};

pub(super) const KERNELS: MatmulKernels = MatmulKernels { quantize, rows: rows!(integer::bw) };
pub(super) const KERNELS_VNNI: MatmulKernels = MatmulKernels { quantize, rows: rows!(integer::vnni) };
