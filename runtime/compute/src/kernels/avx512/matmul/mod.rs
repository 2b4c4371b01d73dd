//! AVX-512 matrix products: the tables. Block types, strips and the single-token path are `avx2`'s.
//!
//! A single token is memory-bound, and 256-bit vectors already keep up; twice the width pays off with more.

mod integer;
mod plain;
mod sixteen;

use sixteen::Sixteen;

use crate::kernels::avx2::matmul as avx2;
use crate::kernels::matmul::{MatmulKernels, RowsKernel, kernel_of};
use crate::quant::by_type;

pub(super) const KERNELS: MatmulKernels = MatmulKernels {
    quantize: avx2::quantize,
    rows: &by_type!(RowsKernel: plain P => plain::rows::<P>, B: Sixteen => integer::bw::rows::<B>,
        else kernel_of(&avx2::KERNELS, B::TYPE)),
};
pub(super) const KERNELS_VNNI: MatmulKernels = MatmulKernels {
    quantize: avx2::quantize,
    rows: &by_type!(RowsKernel: plain P => plain::rows::<P>, B: Sixteen => integer::vnni::rows::<B>,
        else kernel_of(&avx2::KERNELS, B::TYPE)),
};
