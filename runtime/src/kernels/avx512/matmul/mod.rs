//! AVX-512 matrix products: the tables. Block types, strips and the one-token path are those of `avx2`.
//!
//! One token is bound by memory, which 256-bit vectors already keep up with; many tokens are where twice the width pays.

mod integer;
mod plain;

use satchel_gguf::TensorType;

use crate::kernels::avx2::matmul::{blocks, quantize};
use crate::kernels::matmul::{MatmulKernels, RowsKernel};

macro_rules! rows {
    ($integer:ident) => {
        &[
            (TensorType::F32, plain::rows::<plain::F32> as RowsKernel),
            (TensorType::F16, plain::rows::<plain::F16>),
            (TensorType::BF16, plain::rows::<plain::BF16>),
            (TensorType::Q8_0, integer::$integer::rows::<blocks::Q8_0>),
            (TensorType::Q4_0, integer::$integer::rows::<blocks::Q4_0>),
            (TensorType::Q4_1, integer::$integer::rows::<blocks::Q4_1>),
            (TensorType::Q5_0, integer::$integer::rows::<blocks::Q5_0>),
            (TensorType::Q5_1, integer::$integer::rows::<blocks::Q5_1>),
            (TensorType::Q4_K, integer::$integer::rows::<blocks::Q4K>),
            (TensorType::Q5_K, integer::$integer::rows::<blocks::Q5K>),
            (TensorType::Q6_K, integer::$integer::rows::<blocks::Q6K>),
        ]
    };
}

pub(super) const KERNELS: MatmulKernels = MatmulKernels { quantize, rows: rows!(bw) };
pub(super) const KERNELS_VNNI: MatmulKernels = MatmulKernels { quantize, rows: rows!(vnni) };
