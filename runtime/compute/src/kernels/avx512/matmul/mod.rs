//! AVX-512 matrix products: the tables. Block types, strips and the single-token path are `avx2`'s.
//!
//! A single token is memory-bound, and 256-bit vectors already keep up; twice the width pays off with more.

mod integer;
mod plain;
mod sixteen;
mod tiles;
mod units;

use satchel_gguf::TensorType;

use sixteen::Sixteen;
use tiles::Tiled;

use crate::kernels::avx2::matmul as avx2;
use crate::kernels::matmul::{MatmulKernels, RowsKernel, kernel_of};
use crate::quant::{BF16, by_type};

pub(super) const KERNELS: MatmulKernels = MatmulKernels {
    quantize: avx2::quantize,
    round: None,
    rows: &by_type!(RowsKernel: plain P => plain::wide::rows::<P>, B: Sixteen => integer::bw::rows::<B>,
        else kernel_of(&avx2::KERNELS, B::TYPE)),
};
pub(super) const KERNELS_VNNI: MatmulKernels = MatmulKernels {
    quantize: avx2::quantize,
    round: None,
    rows: &by_type!(RowsKernel: plain P => plain::wide::rows::<P>, B: Sixteen => integer::vnni::rows::<B>,
        else kernel_of(&avx2::KERNELS, B::TYPE)),
};
/// [`KERNELS_VNNI`] with BF16 weights' activations in BF16, too.
pub(super) const KERNELS_BF16: MatmulKernels = MatmulKernels {
    quantize: avx2::quantize,
    round: Some(units::round),
    rows: &{
        let mut rows = by_type!(RowsKernel: plain P => plain::wide::rows::<P>, B: Sixteen => integer::vnni::rows::<B>,
            else kernel_of(&avx2::KERNELS, B::TYPE));
        let mut at = 0;
        while at < rows.len() {
            rows[at].1 = match rows[at].0 {
                TensorType::BF16 => plain::narrow::rows::<BF16>,
                _ => rows[at].1,
            };
            at += 1;
        }
        rows
    },
};
/// [`KERNELS_VNNI`] with products of many tokens in tiles.
pub(super) const KERNELS_AMX: MatmulKernels = MatmulKernels {
    quantize: avx2::quantize,
    round: None,
    rows: &by_type!(RowsKernel: plain P => plain::wide::rows::<P>, B: Tiled => tiles::rows::<B>,
        else kernel_of(&KERNELS_VNNI, B::TYPE)),
};
