//! AVX-512 matrix products: the tables. Block types, strips and the path for few tokens are those of `avx2`.
//!
//! Few tokens are bound by memory, which 256-bit vectors already keep up with; many tokens are where twice the width pays.

mod integer;
mod plain;

use satchel_gguf::TensorType;

use crate::kernels::avx2::matmul::{blocks, quantize, rows};
use crate::kernels::matmul::{MatmulKernels, RowsKernel};

pub(super) const KERNELS: MatmulKernels = MatmulKernels { quantize, rows: rows!(integer::bw) };
pub(super) const KERNELS_VNNI: MatmulKernels = MatmulKernels { quantize, rows: rows!(integer::vnni) };
