//! Element-wise operations on NEON. The plain ones are compiled with NEON in any case.

use super::vector::F32x8;
use crate::kernels::elementwise::{ElementwiseKernels, lanes};

pub(super) const KERNELS: ElementwiseKernels = ElementwiseKernels {
    rms_norm: lanes::rms_norm::<F32x8>,
    layer_norm: lanes::layer_norm::<F32x8>,
    silu_mul: lanes::silu_mul::<F32x8>,
    gelu_mul: lanes::gelu_mul::<F32x8>,
    add: lanes::add,
    scale: lanes::scale,
    rope_normal: lanes::rope_normal,
    rope_neox: lanes::rope_neox,
};
