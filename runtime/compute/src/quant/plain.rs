//! F32, F16 and BF16: one value per element, no blocks.
//!
//! Their matrix products run in f32: a row is widened, never quantised.

use half::{bf16, f16};

/// A type that stores each element on its own.
pub trait Plain {
    /// Bytes of an element.
    const BYTES: usize;

    /// One element from its `BYTES` bytes.
    fn value(bytes: &[u8]) -> f32;

    /// Widens elements to f32; `bytes` and `out` hold equally many.
    fn widen(bytes: &[u8], out: &mut [f32]) {
        for (bytes, out) in bytes.chunks_exact(Self::BYTES).zip(out) {
            *out = Self::value(bytes);
        }
    }
}

/// IEEE single precision.
pub struct F32;
/// IEEE half precision.
pub struct F16;
/// The upper half of an f32.
pub struct BF16;

impl Plain for F32 {
    const BYTES: usize = 4;
    fn value(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

impl Plain for F16 {
    const BYTES: usize = 2;
    fn value(bytes: &[u8]) -> f32 {
        f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }
}

impl Plain for BF16 {
    const BYTES: usize = 2;
    fn value(bytes: &[u8]) -> f32 {
        bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }
}
