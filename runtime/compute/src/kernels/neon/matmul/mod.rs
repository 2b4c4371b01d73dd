//! NEON matrix products: the tables, and quantising activations.
//!
//! `blocks` unpacks 32 columns of each quantised type, `strip` lays out rows for many tokens, `dot` multiplies int8 in one of
//! three ways, `integer` combines these into products; `plain` is the f32 family.
//! ARCHITECTURE.md, "Matrix products", draws the idea of the tiling.

mod blocks;
mod dot;
mod integer;
mod plain;
mod strip;
#[cfg(test)]
mod tests;

use std::arch::aarch64::*;

use blocks::Block;

use crate::kernels::matmul::{ActivationGroup, MatmulKernels, RowsKernel, Scales, kernel_of};
use crate::kernels::scalar::matmul as scalar;
use crate::quant::{GROUP, by_type};

/// Every type with its function; `$dot` is the way to multiply int8.
macro_rules! rows {
    ($dot:ident) => {
        &by_type!(RowsKernel: plain P => plain::rows::<P>, B: Block => integer::rows::<B, dot::$dot>,
            else kernel_of(&scalar::KERNELS, B::TYPE))
    };
}

pub(super) const KERNELS: MatmulKernels = MatmulKernels { quantize, round: None, rows: rows!(Widening), prompts: None };
pub(super) const KERNELS_DOTPROD: MatmulKernels =
    MatmulKernels { quantize, round: None, rows: rows!(Dotprod), prompts: None };
pub(super) const KERNELS_I8MM: MatmulKernels =
    MatmulKernels { quantize, round: None, rows: rows!(I8mm), prompts: None };

/// Bit-identical to the scalar `quantize`.
#[target_feature(enable = "neon")]
fn quantize(x: &[f32], groups: &mut [ActivationGroup]) {
    for (x, group) in x.chunks_exact(GROUP).zip(groups) {
        // SAFETY: `x` has 32 values.
        let values: [float32x4_t; 8] = std::array::from_fn(|part| unsafe { vld1q_f32(x.as_ptr().add(4 * part)) });
        let magnitude = |part: usize| vandq_u32(vreinterpretq_u32_f32(values[part]), vdupq_n_u32(i32::MAX as u32));
        let largest = |half: usize| {
            let (first, second) = (
                vmaxq_u32(magnitude(4 * half), magnitude(4 * half + 1)),
                vmaxq_u32(magnitude(4 * half + 2), magnitude(4 * half + 3)),
            );
            vmaxvq_u32(vmaxq_u32(first, second))
        };
        let scales = Scales::new([largest(0), largest(1)]);
        let mut half_sums = [0; 2];
        for (half, sum) in half_sums.iter_mut().enumerate() {
            let eight = |part: usize| {
                let round = |part: usize| vcvtnq_s32_f32(vmulq_n_f32(values[part], scales.inverses[half]));
                vcombine_s16(vmovn_s32(round(part)), vmovn_s32(round(part + 1)))
            };
            let packed = vcombine_s8(vmovn_s16(eight(4 * half)), vmovn_s16(eight(4 * half + 2)));
            // SAFETY: `levels` has 32 bytes.
            unsafe { vst1q_s8(group.levels.0.as_mut_ptr().add(16 * half), packed) };
            *sum = i32::from(vaddlvq_s8(packed));
        }
        group.facts = scales.facts(half_sums);
    }
}
