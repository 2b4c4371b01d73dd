//! AVX-512 matrix products: the tables. Block types, strips and the path for one token are those of `avx2`.
//!
//! One token is bound by memory, which 256-bit vectors already keep up with; more are where twice the width pays.

mod integer;
mod plain;
mod sixteen;

use satchel_gguf::TensorType;

use crate::kernels::avx2::matmul::{blocks, quantize, rows};
use crate::kernels::matmul::{MatmulKernels, RowsKernel};

pub(super) const KERNELS: MatmulKernels = MatmulKernels { quantize, rows: rows!(integer::bw) };
pub(super) const KERNELS_VNNI: MatmulKernels = MatmulKernels { quantize, rows: rows!(integer::vnni) };
