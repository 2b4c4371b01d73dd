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

use crate::kernels::avx2::matmul as avx2;
use crate::kernels::matmul::{MatmulKernels, PromptKernels, RowsKernel, kernel_of};
use crate::quant::{self, BF16, by_type};
pub(in crate::kernels) use tiles::thread_bytes as tiles_thread_bytes;

pub(super) const KERNELS: MatmulKernels = MatmulKernels {
    quantize: avx2::quantize,
    round: None,
    rows: &by_type!(RowsKernel: plain P => plain::wide::rows::<P>, B: Sixteen => integer::bw::rows::<B>,
        else kernel_of(&avx2::KERNELS, B::TYPE)),
    prompts: None,
};
pub(super) const KERNELS_VNNI: MatmulKernels = MatmulKernels {
    quantize: avx2::quantize,
    round: None,
    rows: &by_type!(RowsKernel: plain P => plain::wide::rows::<P>, B: Sixteen => integer::vnni::rows::<B>,
        else kernel_of(&avx2::KERNELS, B::TYPE)),
    prompts: None,
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
    prompts: None,
};
/// [`KERNELS_VNNI`] with the tokens of prompts multiplied in tiles.
pub(super) const KERNELS_AMX: MatmulKernels = MatmulKernels {
    prompts: Some(&PromptKernels {
        lay_out: tiles::lay_out,
        rows: &[
            (TensorType::F16, tiles::rows::<quant::F16>),
            (TensorType::BF16, tiles::rows::<BF16>),
            (TensorType::Q8_0, tiles::rows::<quant::Q8_0>),
            (TensorType::Q4_0, tiles::rows::<quant::Q4_0>),
            (TensorType::Q4_1, tiles::rows::<quant::Q4_1>),
            (TensorType::Q5_0, tiles::rows::<quant::Q5_0>),
            (TensorType::Q5_1, tiles::rows::<quant::Q5_1>),
            (TensorType::Q2_K, tiles::rows::<quant::Q2K>),
            (TensorType::Q3_K, tiles::rows::<quant::Q3K>),
            (TensorType::Q4_K, tiles::rows::<quant::Q4K>),
            (TensorType::Q5_K, tiles::rows::<quant::Q5K>),
            (TensorType::Q6_K, tiles::rows::<quant::Q6K>),
            (TensorType::IQ4_NL, tiles::rows::<quant::IQ4NL>),
            (TensorType::IQ4_XS, tiles::rows::<quant::IQ4XS>),
            (TensorType::MXFP4, tiles::rows::<quant::MXFP4>),
        ],
        strip: tiles::STRIP,
        unpacking: tiles::UNPACKING,
    }),
    ..KERNELS_VNNI
};
