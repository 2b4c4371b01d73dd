//! Recurrences on NEON.

use super::vector::F32x8;
use crate::kernels::recurrence::{RecurrenceKernels, lanes};

pub(super) const KERNELS: RecurrenceKernels = RecurrenceKernels {
    convolve: lanes::convolve::<F32x8>,
    mamba1: lanes::mamba1::<F32x8>,
    mamba2: lanes::mamba2::<F32x8>,
    gated_delta: lanes::gated_delta::<F32x8>,
};
