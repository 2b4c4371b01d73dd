//! Element-wise operations on NEON. The plain ones are compiled with NEON anyway.

use super::vector::F32x8;
use crate::kernels::elementwise::{ElementwiseKernels, lanes};

pub(super) const KERNELS: ElementwiseKernels = ElementwiseKernels {
    rms_norm: lanes::rms_norm::<F32x8>,
    layer_norm: lanes::layer_norm::<F32x8>,
    l2_norm: lanes::l2_norm::<F32x8>,
    softmax: lanes::softmax::<F32x8>,
    activate: lanes::activate::<F32x8>,
    gate: lanes::gate::<F32x8>,
    swiglu_oai: lanes::swiglu_oai::<F32x8>,
    softcap: lanes::softcap::<F32x8>,
    add: lanes::add,
    add_scaled: lanes::add_scaled,
    multiply: lanes::multiply,
    scale: lanes::scale,
    clamp: lanes::clamp,
    rope_normal: lanes::rope_normal,
    rope_neox: lanes::rope_neox,
};
